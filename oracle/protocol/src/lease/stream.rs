//! Frames of the streams between user and agent.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Longest frame in bytes, in both directions.
pub const MAX_FRAME: usize = 64 * 1024;

/// How a workload ended.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum End {
    /// By itself.
    Exited {
        /// Its exit status.
        status: i32,
    },
    /// By a signal that the host did not send.
    Signalled {
        /// Which.
        signal: i32,
    },
    /// It used more than it may.
    OverLimit {
        /// What, and how much.
        what: String,
    },
    /// The host stopped it: the lease is over.
    Stopped,
    /// It did not come up.
    NotStarted {
        /// Why.
        reason: String,
    },
    /// The host lost it, as by a restart of the machine.
    Lost,
}

/// Something the host has to tell the user.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Notice {
    /// When, unix seconds.
    pub at: i64,
    /// One sentence.
    pub text: String,
}

/// A piece of a workload's output, or what happened meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum LogFrame {
    /// Output.
    Output {
        /// Bytes of output before this; more than was asked for when older output was dropped.
        offset: u64,
        /// Standard output and standard error together.
        bytes: Vec<u8>,
    },
    /// Something the host has to say.
    Notice(Notice),
    /// It has ended; the last frame.
    End(End),
    /// The stream breaks off here, and why; the last frame.
    Failed(String),
}

/// From the user of an exec. The first is [`ExecInput::Start`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum ExecInput {
    /// Program and arguments.
    Start(Vec<String>),
    /// Bytes for its standard input.
    Stdin(Vec<u8>),
    /// The end of its standard input.
    EndOfInput,
}

/// To the user of an exec.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum ExecOutput {
    /// It wrote to standard output.
    Stdout(Vec<u8>),
    /// It wrote to standard error.
    Stderr(Vec<u8>),
    /// It ended with this status, -1 for a signal; the last frame.
    Exited(i32),
    /// It could not be run; the last frame.
    Failed(String),
}
