//! Why something did not work, in the words of whoever can change it.

use std::io;

use thiserror::Error;

use crate::{Id, MAX_LEASES, workload::Invalid};

/// Why something did not work.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// The workload cannot be meant.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// This host does not run such a workload, and will not at the next try; why, and what it runs.
    #[error("{0}")]
    Refused(String),
    /// The image is not to be had, or is not the one that the digest names.
    #[error("the image {image} is not to be had: {reason}")]
    Image {
        /// As the workload names it.
        image: String,
        /// What the engine says.
        reason: String,
    },
    /// The workload did not start.
    #[error("the workload did not start: {0}")]
    NotStarted(String),
    /// Nothing of the lease is here.
    #[error("nothing of lease {0} is here")]
    Absent(Id),
    /// The lease runs something else already.
    #[error("lease {0} has another workload already: stop it first")]
    Other(Id),
    /// The workload has ended.
    #[error("the workload of lease {0} has ended")]
    Ended(Id),
    /// No such port.
    #[error("the workload has no port named {0}")]
    NoPort(String),
    /// A path that leaves the workload's folder.
    #[error("the path {0:?} is not inside the workload's folder: name it relative, without ..")]
    Path(String),
    /// A file could not be copied.
    #[error("the file could not be copied (status {status}): {reason}")]
    Copy {
        /// The copying command's exit status; 1 where no command did it.
        status: i32,
        /// What it said.
        reason: String,
    },
    /// Too many leases.
    #[error("something of {MAX_LEASES} leases is here already: stop those that are over")]
    Full,
    /// Processes of the lease are left that do not end.
    #[error(
        "{0} processes of the lease cannot be killed: look for them in an uninterruptible wait (`ps -eo pid,stat,wchan`)"
    )]
    Unkillable(u64),
    /// The runtime cannot be used as it is set up; what to change.
    #[error("{0}")]
    Setting(String),
    /// The container engine does not answer, or fails at something that it should be able to do. May be tried again.
    #[error("{what}: {reason}")]
    Engine {
        /// What was attempted.
        what: &'static str,
        /// What the engine says.
        reason: String,
    },
    /// The disk, the network, or starting a process.
    #[error("{what}: {error}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

/// Says of an error what was attempted.
pub(crate) fn failed(what: &'static str) -> impl FnOnce(io::Error) -> RuntimeError {
    move |error| RuntimeError::Io { what, error }
}
