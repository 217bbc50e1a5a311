//! The runtime of OCI containers, through the Docker API.
//!
//! Each lease has one container, one network and some volumes in the engine, all labelled with the lease and this runtime, and a
//! folder here with what is known of it and its output. They outlive the agent; an agent that comes back finds them.
//!
//! What fences a workload: an image by digest only; memory (swap included), processes, open files, processor time and the size of
//! a file by the kernel; the disk by looking once a second, and by ending what uses more; a read-only root (writable are
//! `/workspace`, the volumes, both on disk, and `/tmp` and `/dev/shm`, in its memory); no capabilities, no new privileges, the
//! engine's seccomp profile; namespaces of its own for processes, IPC, cgroups and network, users as the daemon is set up; a
//! bridge of its own, on which nothing else is; no port on the host; GPUs only when they are asked for.
//!
//! What does not: it reaches whatever the host's network reaches, the host's own services on the bridge's address included. Put
//! rules into the chain `DOCKER-USER` where that matters. While no agent runs, nobody looks at the disk. The kernel is shared.
//! Who may use the engine's socket is as good as root, so the agent is.
//!
//! | file | holds |
//! |---|---|
//! | `engine` | the engine's socket, its words, and what in it is ours |
//! | `image` | pinned images |
//! | `container` | how a container is made: every fence |
//! | `lease` | a lease's records and its life: prepare, start, status, stop |
//! | `output` | from the engine's log to files with offsets |
//! | `exec` | commands beside the workload |
//! | `files` | copying in and out |
//! | `disk` | who uses more than it may |
//!
//! | file of a lease's folder | says |
//! |---|---|
//! | image.json | whether its image was pulled for it |
//! | spec.json | the workload |
//! | began.json | that it began, and in which life of the machine |
//! | end.json | how it ended |
//! | cursor.json, log.* | its output, and how far the engine's log was read |

mod container;
mod disk;
mod engine;
mod exec;
mod files;
mod image;
mod lease;
mod output;

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture, stream::BoxStream};
use tokio::{
    io::AsyncRead,
    net::TcpStream,
    sync::Mutex,
    task::{AbortHandle, JoinHandle},
    time,
};

use self::engine::Engine;
use crate::{Chunk, Exec, Id, Progress, Runtime, RuntimeError, Status, Workload, error::failed, log};

/// Longest wait for a port of a workload to answer.
const CONNECT: Duration = Duration::from_secs(10);

/// Runs OCI containers.
#[derive(Clone)]
pub struct Containers(Arc<Inner>);

struct Inner {
    engine: Engine,
    root: PathBuf,
    /// Whether the engine can give GPUs to containers.
    gpus: bool,
    /// Starting and stopping are one after the other.
    changing: Mutex<()>,
    /// The lease that is being started: no container is no loss then.
    starting: std::sync::Mutex<Option<Id>>,
    /// Who reads the engine's log of a lease.
    readers: std::sync::Mutex<HashMap<Id, JoinHandle<()>>>,
    disk: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.disk.abort();
        for reader in self.readers.get_mut().unwrap_or_else(PoisonError::into_inner).values() {
            reader.abort();
        }
    }
}

impl Containers {
    /// Workloads with their records in this folder, in the engine at this unix socket. What an earlier agent left running runs
    /// on. Needs tokio's runtime.
    ///
    /// # Errors
    /// The folder cannot be made or used; the engine does not answer, or cannot keep the limits.
    pub async fn open(root: &Path, socket: &Path) -> Result<Self, RuntimeError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed("make the folder of workloads"))?;
        let root = root.canonicalize().map_err(failed("find the folder of workloads"))?;
        let mut engine = Engine::new(socket, &root)?;
        let info = engine.greet().await?;
        let disk = tokio::spawn(disk::watch(engine.clone(), root.clone())).abort_handle();
        let runtime = Self(Arc::new(Inner {
            engine,
            root,
            gpus: info.runtimes.unwrap_or_default().contains_key("nvidia"),
            changing: Mutex::default(),
            starting: Default::default(),
            readers: Default::default(),
            disk,
        }));
        for id in runtime.0.list().await? {
            // Notes what happened meanwhile.
            runtime.0.status(&id).await?;
            runtime.0.read_output(&id)?;
        }
        Ok(runtime)
    }
}

impl Inner {
    /// What is running, or why it is not.
    async fn running(&self, id: &Id) -> Result<(), RuntimeError> {
        match self.status(id).await? {
            Status::Absent => Err(RuntimeError::Absent(id.clone())),
            Status::Ended(_) => Err(RuntimeError::Ended(id.clone())),
            Status::Running => Ok(()),
        }
    }

    async fn connect(&self, id: &Id, port: &str) -> Result<TcpStream, RuntimeError> {
        self.running(id).await?;
        let spec = self.spec(id)?.ok_or_else(|| RuntimeError::Absent(id.clone()))?;
        let number = container::ports(&spec).get(port).copied().ok_or_else(|| RuntimeError::NoPort(port.to_owned()))?;
        let inspected = self.engine.inspect(id).await?.and_then(|container| container.network_settings);
        let networks = inspected.and_then(|settings| settings.networks).unwrap_or_default();
        let address = networks.into_values().filter_map(|network| network.ip_address).find(|address| !address.is_empty());
        let address = address.ok_or_else(|| RuntimeError::Ended(id.clone()))?;
        let what = "connect to the workload's port";
        let connecting = TcpStream::connect(format!("{address}:{number}"));
        let connected = time::timeout(CONNECT, connecting).await.unwrap_or_else(|late| Err(late.into()));
        connected.map_err(failed(what))
    }
}

impl Runtime for Containers {
    fn prepare<'a>(
        &'a self,
        id: &'a Id,
        workload: &'a Workload,
        progress: &'a Progress<'a>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async move { self.0.prepare(id, workload, progress).await.map(drop) }.boxed()
    }

    fn start<'a>(&'a self, id: &'a Id, workload: &'a Workload) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.0.start(id, workload).boxed()
    }

    fn status<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<Status, RuntimeError>> {
        self.0.status(id).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Id>, RuntimeError>> {
        self.0.list().boxed()
    }

    fn logs(&self, id: &Id, from: u64, follow: bool) -> BoxStream<'static, Result<Chunk, RuntimeError>> {
        let (runtime, id) = (self.clone(), id.clone());
        log::follow(self.0.folder(&id), from, follow, move || {
            let goes_on = runtime.0.spec(&id).and_then(|spec| spec.ok_or_else(|| RuntimeError::Absent(id.clone())));
            std::future::ready(goes_on.map(|_| runtime.0.is_read(&id)))
        })
    }

    fn exec<'a>(&'a self, id: &'a Id, command: &'a [String]) -> BoxFuture<'a, Result<Exec, RuntimeError>> {
        self.0.exec(id, command).boxed()
    }

    fn connect<'a>(&'a self, id: &'a Id, port: &'a str) -> BoxFuture<'a, Result<TcpStream, RuntimeError>> {
        self.0.connect(id, port).boxed()
    }

    fn copy_in<'a>(
        &'a self,
        id: &'a Id,
        path: &'a str,
        from: &'a mut (dyn AsyncRead + Send + Unpin),
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.0.copy_in(id, path, from).boxed()
    }

    fn copy_out<'a>(&'a self, id: &'a Id, path: &'a str) -> BoxFuture<'a, Result<Exec, RuntimeError>> {
        self.0.copy_out(id, path).boxed()
    }

    fn traffic<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<Option<u64>, RuntimeError>> {
        self.0.traffic(id).boxed()
    }

    fn stop<'a>(&'a self, id: &'a Id, grace: Duration) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.0.stop(id, grace).boxed()
    }
}
