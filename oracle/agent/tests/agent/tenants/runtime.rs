//! A runtime made up for the test.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use datagalax_runtime::{Chunk, Exec, Id, Progress, Runtime, RuntimeError, Status, Workload};
use futures_util::{
    FutureExt, StreamExt,
    future::{self, BoxFuture},
    stream::{self, BoxStream},
};
use tokio::{io::AsyncRead, net::TcpStream};

/// What it does is what the test says; what is done to it is noted.
pub struct Made {
    pub status: Mutex<Status>,
    pub missing_image: bool,
    pub done: Mutex<Vec<String>>,
    pub traffic: AtomicU64,
    /// Bytes of output that were asked for.
    pub read: Arc<AtomicU64>,
    /// Whether it says something without end.
    pub talks: bool,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            status: Mutex::new(Status::Absent),
            missing_image: false,
            done: Mutex::default(),
            traffic: AtomicU64::new(0),
            read: Arc::default(),
            talks: false,
        }
    }
}

impl Made {
    pub fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    pub fn becomes(&self, status: Status) {
        *self.status.lock().unwrap() = status;
    }

    fn note(&self, what: &str) {
        self.done.lock().unwrap().push(what.to_owned());
    }
}

impl Runtime for Made {
    fn prepare<'a>(
        &'a self,
        _: &'a Id,
        workload: &'a Workload,
        progress: &'a Progress<'a>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        progress("fetching the image".into());
        let missing = self.missing_image.then(|| RuntimeError::Image {
            image: workload.image.clone().unwrap_or_default(),
            reason: "manifest unknown".into(),
        });
        future::ready(missing.map_or(Ok(()), Err)).boxed()
    }

    fn start<'a>(&'a self, _: &'a Id, _: &'a Workload) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.note("start");
        self.becomes(Status::Running);
        future::ready(Ok(())).boxed()
    }

    fn status<'a>(&'a self, _: &'a Id) -> BoxFuture<'a, Result<Status, RuntimeError>> {
        future::ready(Ok(self.status.lock().unwrap().clone())).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Id>, RuntimeError>> {
        future::ready(Ok(Vec::new())).boxed()
    }

    fn logs(&self, id: &Id, from: u64, follow: bool) -> BoxStream<'static, Result<Chunk, RuntimeError>> {
        if self.talks {
            let (bytes, read) = (vec![b'x'; 64 << 10], self.read.clone());
            let chunk = move |at: u64| {
                read.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                Ok(Chunk { offset: at * (64 << 10), bytes: bytes.clone() })
            };
            return stream::iter(0_u64..).map(chunk).boxed();
        }
        let _ = (id, from);
        if follow { stream::pending().boxed() } else { stream::empty().boxed() }
    }

    fn exec<'a>(&'a self, id: &'a Id, _: &'a [String]) -> BoxFuture<'a, Result<Exec, RuntimeError>> {
        future::ready(Err(RuntimeError::Ended(id.clone()))).boxed()
    }

    fn connect<'a>(&'a self, _: &'a Id, port: &'a str) -> BoxFuture<'a, Result<TcpStream, RuntimeError>> {
        future::ready(Err(RuntimeError::NoPort(port.to_owned()))).boxed()
    }

    fn copy_in<'a>(
        &'a self,
        id: &'a Id,
        _: &'a str,
        _: &'a mut (dyn AsyncRead + Send + Unpin),
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        future::ready(Err(RuntimeError::Ended(id.clone()))).boxed()
    }

    fn copy_out<'a>(&'a self, id: &'a Id, _: &'a str) -> BoxFuture<'a, Result<Exec, RuntimeError>> {
        future::ready(Err(RuntimeError::Ended(id.clone()))).boxed()
    }

    fn traffic<'a>(&'a self, _: &'a Id) -> BoxFuture<'a, Result<Option<u64>, RuntimeError>> {
        future::ready(Ok(Some(self.traffic.load(Ordering::SeqCst)))).boxed()
    }

    fn stop<'a>(&'a self, _: &'a Id, _: Duration) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.note("stop");
        self.becomes(Status::Absent);
        future::ready(Ok(())).boxed()
    }
}
