//! Running leased workloads.
//!
//! [`Runtime`] is what an agent needs. [`oci::Containers`] runs OCI containers in a Docker engine; [`process::Processes`] runs plain
//! processes, each lease in a private folder under a supervisor of its own (`datagalax-shim`). In both, workloads go on while the
//! agent restarts, and nothing of a lease is left when it ends.
//!
//! | of a lease | container | plain process |
//! |---|---|---|
//! | memory, processes | by the kernel | by looking ten times a second, and of one process by the kernel |
//! | disk | volumes by looking once a second, while an agent runs; one file by the kernel | folder by looking twice a second; one file by the kernel |
//! | processor | by the kernel, if a bound is given | no |
//! | host's files | none | as a user of its own sees them |
//! | host's processes | unseen | seen, not touched |
//! | network | its own; the host and all that it reaches are reached | the host's |
//! | devices | GPUs if asked for, no others | as its user is let |
//! | rights | no capabilities, no new ones, the engine's filter of system calls | no new ones |
//! | output | kept by the engine while no agent runs, two files of the limit and at least 64 MiB | kept by the supervisor |
//! | kernel | shared | shared |
//!
//! | file | holds |
//! |---|---|
//! | [`workload`] | what is run, within which limits, and how it ended |
//! | [`error`] | why something did not work |
//! | [`oci`] | the runtime of containers |
//! | [`process`] | the runtime of plain processes: folders, supervisors, exec, copying, the end |
//! | [`shim`] | the supervisor of a plain process: starts it, keeps the limits, ends it |
//! | [`members`] | which processes belong to a lease |
//! | [`log`] | a workload's output, bounded, to be followed |
//! | `record` | what is known of a lease, on disk |

pub mod error;
pub mod log;
pub mod members;
pub mod oci;
pub mod process;
mod record;
pub mod shim;
pub mod workload;

use std::time::Duration;

use futures_util::{future::BoxFuture, stream::BoxStream};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

pub use error::RuntimeError;
pub use workload::{End, Id, Limits, Port, Status, Workload};

/// Most leases that have something here at a time.
pub const MAX_LEASES: usize = 64;

/// Takes what is being done, one sentence at a time, for people.
pub type Progress<'a> = dyn Fn(String) + Send + Sync + 'a;

/// A piece of a workload's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes of output before this one. More than was asked for when older output was dropped.
    pub offset: u64,
    /// What it wrote, on standard output and standard error together.
    pub bytes: Vec<u8>,
}

/// A command inside a workload. Dropping it kills the command.
pub struct Exec {
    /// Its standard input; drop it for the end of file.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// Resolves to the exit status; after a signal -1, or in a container 128 and its number.
    pub ended: BoxFuture<'static, Result<i32, RuntimeError>>,
}

/// Runs workloads, one a lease. Every method may be called again after a failure or a restart.
pub trait Runtime: Send + Sync + 'static {
    /// Fetches what the workload needs (its image) and checks that it can be run here at all; [`Runtime::start`] is quick then.
    /// Doing it again changes nothing. What it fetched is removed by [`Runtime::stop`].
    fn prepare<'a>(
        &'a self,
        id: &'a Id,
        workload: &'a Workload,
        progress: &'a Progress<'a>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Starts a workload and returns once it runs. Doing it again with the same workload changes nothing; one that was lost
    /// ([`End::Lost`]) runs again, with its volumes (a plain process: its folder), and its output goes on where it was.
    fn start<'a>(&'a self, id: &'a Id, workload: &'a Workload) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Where a workload is.
    fn status<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<Status, RuntimeError>>;

    /// All leases of which something is here, running or not.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Id>, RuntimeError>>;

    /// Output from an offset on; with `follow`, until the workload has ended, otherwise what there is.
    fn logs(&self, id: &Id, from: u64, follow: bool) -> BoxStream<'static, Result<Chunk, RuntimeError>>;

    /// Runs a command beside the workload, with its rights and limits.
    fn exec<'a>(&'a self, id: &'a Id, command: &'a [String]) -> BoxFuture<'a, Result<Exec, RuntimeError>>;

    /// Connects to one of the workload's ports.
    fn connect<'a>(&'a self, id: &'a Id, port: &'a str) -> BoxFuture<'a, Result<TcpStream, RuntimeError>>;

    /// Writes a file, relative to the workload's folder, with the workload's rights.
    fn copy_in<'a>(
        &'a self,
        id: &'a Id,
        path: &'a str,
        from: &'a mut (dyn AsyncRead + Send + Unpin),
    ) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Reads a file, relative to the workload's folder, with the workload's rights, from the standard output. What cannot be read
    /// is told by the status and the standard error.
    fn copy_out<'a>(&'a self, id: &'a Id, path: &'a str) -> BoxFuture<'a, Result<Exec, RuntimeError>>;

    /// Bytes that a running workload sent and received so far; `None` where that cannot be told.
    fn traffic<'a>(&'a self, id: &'a Id) -> BoxFuture<'a, Result<Option<u64>, RuntimeError>>;

    /// Ends a workload (politely, then after `grace` by force) and removes everything of it. Doing it again changes nothing.
    fn stop<'a>(&'a self, id: &'a Id, grace: Duration) -> BoxFuture<'a, Result<(), RuntimeError>>;
}
