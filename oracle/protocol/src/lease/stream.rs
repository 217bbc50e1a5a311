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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_a_frames_content_leaves_room_for_half_a_frame_of_it() {
        let content = vec![7; MAX_FRAME / 2];
        let frames = [
            borsh::to_vec(&LogFrame::Output { offset: u64::MAX, bytes: content.clone() }).unwrap(),
            borsh::to_vec(&ExecInput::Stdin(content.clone())).unwrap(),
            borsh::to_vec(&ExecOutput::Stderr(content)).unwrap(),
        ];
        assert!(frames.iter().all(|frame| frame.len() <= MAX_FRAME));
    }

    #[test]
    fn frames_are_what_they_were() {
        // The numbers of frames and fields are part of the format.
        let hex = |frame: Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let log = |frame: &LogFrame| hex(borsh::to_vec(frame).unwrap());
        assert_eq!(log(&LogFrame::Output { offset: 258, bytes: vec![9] }), "0002010000000000000100000009");
        assert_eq!(log(&LogFrame::Notice(Notice { at: 1, text: "a".into() })), "0101000000000000000100000061");
        assert_eq!(log(&LogFrame::End(End::Exited { status: -1 })), "0200ffffffff");
        assert_eq!(log(&LogFrame::End(End::Signalled { signal: 9 })), "020109000000");
        assert_eq!(log(&LogFrame::End(End::OverLimit { what: String::new() })), "020200000000");
        assert_eq!(log(&LogFrame::End(End::Stopped)), "0203");
        assert_eq!(log(&LogFrame::End(End::NotStarted { reason: String::new() })), "020400000000");
        assert_eq!(log(&LogFrame::End(End::Lost)), "0205");
        assert_eq!(log(&LogFrame::Failed(String::new())), "0300000000");
        let exec = |frame: &ExecInput| hex(borsh::to_vec(frame).unwrap());
        assert_eq!(exec(&ExecInput::Start(vec!["a".into()])), "00010000000100000061");
        assert_eq!(exec(&ExecInput::Stdin(Vec::new())), "0100000000");
        assert_eq!(exec(&ExecInput::EndOfInput), "02");
        let said = |frame: &ExecOutput| hex(borsh::to_vec(frame).unwrap());
        assert_eq!(said(&ExecOutput::Stdout(Vec::new())), "0000000000");
        assert_eq!(said(&ExecOutput::Stderr(Vec::new())), "0100000000");
        assert_eq!(said(&ExecOutput::Exited(3)), "0203000000");
        assert_eq!(said(&ExecOutput::Failed(String::new())), "0300000000");
    }
}
