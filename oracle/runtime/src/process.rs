//! The runtime of plain processes: for development, and for hosts without a container engine.
//!
//! Each lease has a folder of its own under the runtime's, and a user of its own where the agent is root. It sees the host's
//! files as that user does, and shares the host's network: it is a fence around resources and around what others own, not a
//! container. Without users of their own, workloads run as the agent's user and could read its keys, so that has to be asked
//! for by name ([`Isolation::SameUser`]) and is for development only.
//!
//! What it bounds: resident memory, processes and disk of a lease together, by looking (some ten times a second; what is taken
//! between two looks is bounded by the process: its data, its files' size, the user's processes). What it does not: shares of
//! processor and network. Under systemd the agent's unit needs `KillMode=process`, so that supervisors outlive a restart.
//!
//! | file of a lease's folder | says |
//! |---|---|
//! | spec.json | the workload, and its user |
//! | lock | held by the supervisor as long as it lives |
//! | began.json, end.json | that it began, with its ports; how it ended |
//! | stop.json | that it is to end |
//! | log.* | its output |
//! | home/ | its own folder |

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, TryLockError},
    io,
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{self, BoxFuture},
    stream::BoxStream,
};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
    process::Command,
    sync::Mutex,
    task, time,
};

use crate::{
    Chunk, End, Exec, Id, MAX_LEASES, Progress, Runtime, RuntimeError, Status, Workload,
    error::failed,
    log, record,
    shim::{self, Spec, Stop},
};

/// How often a state on disk is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(50);
/// The same of what comes within milliseconds.
const SOON: Duration = Duration::from_millis(5);
/// Longest wait for a supervisor to start its workload.
const BEGIN: Duration = Duration::from_secs(20);
/// What a supervisor gets beyond the grace period before it is killed itself.
const BEYOND_GRACE: Duration = Duration::from_secs(10);

/// As whom workloads run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Each as a user of its own, of the 64 from this number on, which nothing else on the host may use. Needs root.
    Users(u32),
    /// As the agent's own user: it can read whatever the agent can, its keys included. For development.
    SameUser,
}

/// Runs plain processes.
#[derive(Clone)]
pub struct Processes(Arc<Inner>);

struct Inner {
    root: PathBuf,
    shim: PathBuf,
    isolation: Isolation,
    /// Starting and stopping are one after the other, so that no two leases get one user.
    changing: Arc<Mutex<()>>,
    /// The lease that is being started: no supervisor is no loss then.
    starting: std::sync::Mutex<Option<Id>>,
}

impl Processes {
    /// Workloads in this folder, each supervised by the program `shim` (`datagalax-shim`). What an earlier agent left running
    /// runs on; what lost its supervisor meanwhile is ended.
    ///
    /// # Errors
    /// The folder cannot be made or used, or the users are not to be had.
    pub fn open(root: &Path, shim: &Path, isolation: Isolation) -> Result<Self, RuntimeError> {
        if isolation != Isolation::SameUser && !geteuid().is_root() {
            return Err(RuntimeError::Setting(
                "workloads get users of their own only from root: run the agent as root, or allow them its own user for \
                 development"
                    .into(),
            ));
        }
        if !shim.is_file() {
            return Err(RuntimeError::Setting(format!(
                "there is no datagalax-shim at {}: install it beside the agent",
                shim.display()
            )));
        }
        // Others may pass through, each to its own folder, but not look.
        fs::DirBuilder::new().recursive(true).mode(0o711).create(root).map_err(failed("make the folder of workloads"))?;
        let root = root.canonicalize().map_err(failed("find the folder of workloads"))?;
        if isolation != Isolation::SameUser {
            for folder in root.ancestors() {
                let mode = fs::metadata(folder).map_err(failed("look at the folder of workloads"))?.mode();
                if mode & 0o001 == 0 {
                    let folder = folder.display();
                    return Err(RuntimeError::Setting(format!(
                        "workloads have users of their own, who cannot pass through {folder}: run `chmod o+x {folder}`"
                    )));
                }
            }
        }
        let inner = Inner { root, shim: shim.to_owned(), isolation, changing: Arc::default(), starting: Default::default() };
        for id in inner.list()? {
            inner.status(&id)?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Runs something that waits for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let inner = self.0.clone();
        let worked = task::spawn_blocking(move || work(&inner)).await;
        worked.unwrap_or_else(|error| Err(RuntimeError::Io { what: "a task", error: io::Error::other(error) }))
    }

    async fn start_one(&self, id: Id, workload: Workload) -> Result<(), RuntimeError> {
        accept(&workload)?;
        let turn = self.0.changing.clone().lock_owned().await;
        let held = (Starting::note(&self.0, &id), turn);
        let name = id.clone();
        // A start that is given up goes on to the end of this step: who stops the lease then finds its supervisor.
        let _held = self.blocking(move |inner| inner.begin(&name, workload).map(|()| held)).await?;
        let until = Instant::now() + BEGIN;
        loop {
            let name = id.clone();
            let (began, status) = self
                .blocking(move |inner| Ok((inner.folder(&name).join(shim::BEGAN).exists(), inner.status(&name)?)))
                .await?;
            match status {
                Status::Ended(End::NotStarted(reason)) => return Err(RuntimeError::NotStarted(reason)),
                // It may have ended already, which is not the start's business.
                Status::Running | Status::Ended(_) if began => return Ok(()),
                _ if Instant::now() >= until => {
                    return Err(RuntimeError::NotStarted("its supervisor does not come up".into()));
                }
                _ => time::sleep(LOOK).await,
            }
        }
    }

    async fn stop_one(&self, id: Id, grace: Duration) -> Result<(), RuntimeError> {
        let turn = self.0.changing.clone().lock_owned().await;
        let name = id.clone();
        if !self.blocking(move |inner| inner.ask_to_stop(&name, grace)).await? {
            return Ok(());
        }
        let until = Instant::now() + grace + BEYOND_GRACE;
        loop {
            let name = id.clone();
            if !self.blocking(move |inner| inner.supervised(&name)).await? {
                break;
            }
            if Instant::now() >= until {
                let name = id.clone();
                self.blocking(move |inner| inner.kill_supervisor(&name)).await?;
                break;
            }
            time::sleep(LOOK).await;
        }
        self.blocking(move |inner| {
            let _turn = turn;
            inner.remove(&id)
        })
        .await
    }

    async fn exec_one(&self, id: Id, command: Vec<String>) -> Result<Exec, RuntimeError> {
        let (spec, ports) = self.blocking(move |inner| Ok((inner.spec(&id)?, inner.ports(&id)?))).await?;
        Workload { command: command.clone(), ..spec.workload.clone() }.check()?;
        let folder = self.0.folder(&spec.id);
        let mut command = Command::from(spec.command(&folder, &command, &ports));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(failed("start the command"))?;
        let pipes = child.stdin.take().zip(child.stdout.take()).zip(child.stderr.take());
        let Some(((stdin, stdout), stderr)) = pipes else {
            return Err(RuntimeError::Io { what: "the command's pipes", error: io::ErrorKind::BrokenPipe.into() });
        };
        let ended = async move {
            let status = child.wait().await.map_err(failed("wait for the command"))?;
            Ok(status.code().unwrap_or(-1))
        };
        Ok(Exec { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr: Box::new(stderr), ended: ended.boxed() })
    }

    /// A path that stays inside; links are followed with the workload's own rights, so they lead no further than it can go.
    fn inside(path: &str) -> Result<String, RuntimeError> {
        let fine = !path.is_empty() && path.len() <= 4_096 && !path.contains('\0') && !path.starts_with('/');
        if !fine || path.split('/').any(|part| part == "..") {
            return Err(RuntimeError::Path(path.to_owned()));
        }
        // A name that begins with a hyphen is no option.
        Ok(format!("./{path}"))
    }
}

/// Whether this runtime can run the workload at all.
fn accept(workload: &Workload) -> Result<(), RuntimeError> {
    workload.check()?;
    if let Some(image) = &workload.image {
        return Err(RuntimeError::Refused(format!(
            "this host runs plain processes, not images: send a command without the image {image}, or rent a host with a \
             container engine"
        )));
    }
    if !workload.volumes.is_empty() {
        return Err(RuntimeError::Refused(
            "this host runs plain processes, which have no volumes: their folder is kept as long as the lease".into(),
        ));
    }
    Ok(())
}

/// Notes which lease is being started for as long as it lives.
struct Starting(Arc<Inner>);

impl Starting {
    fn note(inner: &Arc<Inner>, id: &Id) -> Self {
        *inner.starting.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.clone());
        Self(inner.clone())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        *self.0.starting.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Inner {
    fn folder(&self, id: &Id) -> PathBuf {
        self.root.join(id.as_str())
    }

    fn list(&self) -> Result<Vec<Id>, RuntimeError> {
        let entries = fs::read_dir(&self.root).map_err(failed("list the workloads"))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok(names.collect::<BTreeSet<Id>>().into_iter().collect())
    }

    fn spec(&self, id: &Id) -> Result<Spec, RuntimeError> {
        record::read(&self.folder(id), shim::SPEC)
            .map_err(failed("read the workload"))?
            .ok_or_else(|| RuntimeError::Absent(id.clone()))
    }

    fn ports(&self, id: &Id) -> Result<BTreeMap<String, u16>, RuntimeError> {
        Ok(record::read(&self.folder(id), shim::BEGAN).map_err(failed("read the ports"))?.unwrap_or_default())
    }

    /// Whether the lease's supervisor lives.
    fn supervised(&self, id: &Id) -> Result<bool, RuntimeError> {
        let lock = match File::open(self.folder(id).join(shim::LOCK)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("look at the supervisor")(error)),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(failed("look at the supervisor")(error)),
        }
    }

    /// Where the workload is. One without a supervisor is lost, and ended.
    fn status(&self, id: &Id) -> Result<Status, RuntimeError> {
        let folder = self.folder(id);
        let ended = || record::read::<End>(&folder, shim::END).map_err(failed("read how it ended"));
        if !folder.join(shim::SPEC).exists() {
            return Ok(Status::Absent);
        }
        if let Some(end) = ended()? {
            return Ok(Status::Ended(end));
        }
        let starting = || self.starting.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(id);
        if starting() || self.supervised(id)? {
            return Ok(Status::Running);
        }
        // It may have ended between the two looks.
        if let Some(end) = ended()? {
            return Ok(Status::Ended(end));
        }
        self.spec(id)?.lease().kill_all(None).map_err(RuntimeError::Unkillable)?;
        record::write(&folder, shim::END, &End::Lost).map_err(failed("note that it was lost"))?;
        Ok(Status::Ended(End::Lost))
    }

    /// Makes the workload's folder, and gives it a user.
    fn make_folder(&self, id: &Id, workload: Workload) -> Result<(), RuntimeError> {
        let folder = self.folder(id);
        // What a start that was cut off may have left.
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed("clear the workload's folder"))?;
        }
        let others = self.list()?;
        if others.len() >= MAX_LEASES {
            return Err(RuntimeError::Full);
        }
        let uid = match self.isolation {
            Isolation::SameUser => None,
            Isolation::Users(first) => {
                let taken: BTreeSet<u32> = others.iter().filter_map(|other| self.spec(other).ok()?.uid).collect();
                // Fewer are taken than there are.
                Some(
                    (first..first.saturating_add(MAX_LEASES as u32))
                        .find(|uid| !taken.contains(uid))
                        .ok_or(RuntimeError::Full)?,
                )
            }
        };
        let spec = Spec { id: id.clone(), workload, uid };
        // Of an earlier lease of this user nothing may be left to see or touch this one.
        spec.lease().kill_all(None).map_err(RuntimeError::Unkillable)?;
        let making = failed("make the workload's folder");
        (|| {
            fs::DirBuilder::new().mode(0o711).create(&folder)?;
            let home = folder.join(shim::HOME);
            fs::DirBuilder::new().mode(0o700).create(&home)?;
            if uid.is_some() {
                chown(&home, uid, uid)?;
                // Whatever the agent's umask is.
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
            }
            // Last: a folder with it is a lease.
            record::write(&folder, shim::SPEC, &spec)
        })()
        .map_err(making)
    }

    /// Starts the supervisor, unless there is one; on return it can be found, or has ended.
    fn begin(&self, id: &Id, workload: Workload) -> Result<(), RuntimeError> {
        let folder = self.folder(id);
        if folder.join(shim::SPEC).exists() {
            let spec = self.spec(id)?;
            if spec.workload != workload {
                return Err(RuntimeError::Other(id.clone()));
            }
            if self.supervised(id)? {
                return Ok(());
            }
            match record::read(&folder, shim::END).map_err(failed("read how it ended"))? {
                // Its folder is as it was.
                Some(End::Lost) | None => spec.lease().kill_all(None).map_err(RuntimeError::Unkillable)?,
                Some(_) => return Err(RuntimeError::Ended(id.clone())),
            }
            for left in [shim::BEGAN, shim::STOP, shim::END] {
                match fs::remove_file(folder.join(left)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(failed("forget how it was lost")(error));
                    }
                    _ => {}
                }
            }
        } else {
            self.make_folder(id, workload)?;
        }
        let said = File::create(folder.join("shim.err")).map_err(failed("start the supervisor"))?;
        let mut supervisor = std::process::Command::new(&self.shim);
        supervisor.arg(&folder).env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let mut supervisor = supervisor.spawn().map_err(failed("start the supervisor"))?;
        let came = self.comes(id, &mut supervisor);
        if !matches!(came, Ok(true)) {
            // Nobody could stop it if it came later.
            supervisor.kill().map_err(failed("kill the supervisor"))?;
        }
        // It outlives this process or is waited for here, so that it is no zombie.
        std::thread::spawn(move || supervisor.wait());
        if came? { Ok(()) } else { Err(RuntimeError::NotStarted("its supervisor does not come up".into())) }
    }

    /// Waits until a supervisor holds its lock, or has ended; false when it does neither.
    fn comes(&self, id: &Id, supervisor: &mut std::process::Child) -> Result<bool, RuntimeError> {
        let until = Instant::now() + BEGIN;
        while Instant::now() < until {
            let ended = supervisor.try_wait().map_err(failed("look at the supervisor"))?.is_some();
            if ended || self.supervised(id)? {
                return Ok(true);
            }
            std::thread::sleep(SOON);
        }
        Ok(false)
    }

    /// Asks the supervisor for the end; false when nothing of the lease is here.
    fn ask_to_stop(&self, id: &Id, grace: Duration) -> Result<bool, RuntimeError> {
        let folder = self.folder(id);
        if !folder.exists() {
            return Ok(false);
        }
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        record::write(&folder, shim::STOP, &Stop { grace_ms }).map_err(failed("ask for the end"))?;
        Ok(true)
    }

    /// For a supervisor that hangs: its lock is held, so the number in it is its own.
    fn kill_supervisor(&self, id: &Id) -> Result<(), RuntimeError> {
        let held = fs::read_to_string(self.folder(id).join(shim::LOCK)).map_err(failed("find the supervisor"))?;
        if self.supervised(id)?
            && let Some(pid) = held.trim().parse().ok().and_then(Pid::from_raw)
        {
            kill_process(pid, Signal::KILL).map_err(|error| failed("kill the supervisor")(error.into()))?;
        }
        Ok(())
    }

    /// Removes everything of a lease whose supervisor is gone.
    fn remove(&self, id: &Id) -> Result<(), RuntimeError> {
        let folder = self.folder(id);
        if let Some(spec) = record::read::<Spec>(&folder, shim::SPEC).map_err(failed("read the workload"))? {
            spec.lease().kill_all(None).map_err(RuntimeError::Unkillable)?;
            // The user's files elsewhere: the places where anyone may write.
            if let Some(uid) = spec.uid {
                for shared in ["/tmp", "/var/tmp", "/dev/shm"] {
                    remove_owned(Path::new(shared), uid);
                }
            }
        }
        fs::remove_dir_all(&folder).map_err(failed("remove the workload's folder"))
    }
}

/// Removes what a user owns in a folder that everybody shares. What is in another's folder there, that one let it put there.
fn remove_owned(folder: &Path, uid: u32) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.uid() == uid && metadata.is_dir() => fs::remove_dir_all(entry.path()).ok(),
            Ok(metadata) if metadata.uid() == uid => fs::remove_file(entry.path()).ok(),
            _ => None,
        };
    }
}

impl Runtime for Processes {
    fn prepare<'a>(
        &'a self,
        _id: &'a Id,
        workload: &'a Workload,
        _progress: &'a Progress<'a>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        future::ready(accept(workload)).boxed()
    }

    fn start<'a>(&'a self, id: &'a Id, workload: &'a Workload) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.start_one(id.clone(), workload.clone()).boxed()
    }

    fn status<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<Status, RuntimeError>> {
        let id = id.clone();
        async move { self.blocking(move |inner| inner.status(&id)).await }.boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Id>, RuntimeError>> {
        self.blocking(Inner::list).boxed()
    }

    fn logs(&self, id: &Id, from: u64, follow: bool) -> BoxStream<'static, Result<Chunk, RuntimeError>> {
        let (runtime, id) = (self.clone(), id.clone());
        log::follow(self.0.folder(&id), from, follow, move || {
            let (runtime, id) = (runtime.clone(), id.clone());
            async move {
                let supervised = move |inner: &Inner| inner.spec(&id).and_then(|spec| inner.supervised(&spec.id));
                runtime.blocking(supervised).await
            }
        })
    }

    fn exec<'a>(&'a self, id: &'a Id, command: &'a [String]) -> BoxFuture<'a, Result<Exec, RuntimeError>> {
        async move {
            match self.status(id).await? {
                Status::Absent => Err(RuntimeError::Absent(id.clone())),
                Status::Ended(_) => Err(RuntimeError::Ended(id.clone())),
                Status::Running => self.exec_one(id.clone(), command.to_vec()).await,
            }
        }
        .boxed()
    }

    fn connect<'a>(&'a self, id: &'a Id, port: &'a str) -> BoxFuture<'a, Result<TcpStream, RuntimeError>> {
        async move {
            if self.status(id).await? != Status::Running {
                return Err(RuntimeError::Ended(id.clone()));
            }
            let name = id.clone();
            let ports = self.blocking(move |inner| inner.ports(&name)).await?;
            let port = ports.get(port).ok_or_else(|| RuntimeError::NoPort(port.to_owned()))?;
            TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await.map_err(failed("connect to the workload's port"))
        }
        .boxed()
    }

    fn copy_in<'a>(
        &'a self,
        id: &'a Id,
        path: &'a str,
        from: &'a mut (dyn AsyncRead + Send + Unpin),
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async move {
            let script = "mkdir -p \"$(dirname \"$0\")\" && cat > \"$0\"".to_owned();
            let command = ["sh".to_owned(), "-c".to_owned(), script, Self::inside(path)?];
            let Exec { mut stdin, stdout, mut stderr, ended } = self.exec_one(id.clone(), command.to_vec()).await?;
            drop(stdout);
            // When it takes no more, its status says why.
            tokio::io::copy(from, &mut stdin).await.ok();
            drop(stdin);
            let mut reason = Vec::new();
            (&mut stderr).take(1_000).read_to_end(&mut reason).await.map_err(failed("copy the file"))?;
            drop(stderr);
            match ended.await? {
                0 => Ok(()),
                status => Err(RuntimeError::Copy { status, reason: String::from_utf8_lossy(&reason).trim().to_owned() }),
            }
        }
        .boxed()
    }

    fn copy_out<'a>(&'a self, id: &'a Id, path: &'a str) -> BoxFuture<'a, Result<Exec, RuntimeError>> {
        async move { self.exec_one(id.clone(), vec!["cat".to_owned(), Self::inside(path)?]).await }.boxed()
    }

    fn traffic<'a>(&'a self, _id: &'a Id) -> BoxFuture<'a, Result<Option<u64>, RuntimeError>> {
        // It shares the host's network.
        future::ready(Ok(None)).boxed()
    }

    fn stop<'a>(&'a self, id: &'a Id, grace: Duration) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.stop_one(id.clone(), grace).boxed()
    }
}
