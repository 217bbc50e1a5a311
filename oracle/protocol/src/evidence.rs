//! What a checker keeps to show for its vote: the signed messages of every exchange with one container in one epoch.
//!
//! The evidence root of a report is the Merkle root over the encoded [`RowEvidence`] of its occupied rows, by ascending row.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{Digest, Envelope, merkle::Tree};

/// Longest reason in bytes; longer ones are cut at a character.
pub const MAX_REASON: usize = 200;

/// One question and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Exchange {
    /// The checker's clock when it asked, unix milliseconds.
    pub asked_at_ms: i64,
    /// Microseconds until the whole answer was there, or until it was given up.
    pub took_us: u64,
    /// The request as signed by the checker.
    pub request: Envelope,
    /// The answer.
    pub outcome: Outcome,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Outcome {
    /// Verified against key, nonce and request.
    Answered(Box<Envelope>),
    /// No answer, or one that was refused; the reason is the checker's own word, at most [`MAX_REASON`] bytes.
    Failed(String),
}

/// Everything behind the vote on one row.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RowEvidence {
    /// Row of the block.
    pub row: u8,
    /// The container's account.
    pub container: [u8; 32],
    /// The liveness probes in order of time.
    pub liveness: Vec<Exchange>,
    /// The challenge and, if it was answered, the opening.
    pub capacity: Vec<Exchange>,
}

impl Outcome {
    /// A failure with its reason cut to [`MAX_REASON`].
    pub fn failed(reason: impl std::fmt::Display) -> Self {
        let mut reason = reason.to_string();
        while reason.len() > MAX_REASON {
            reason.pop();
        }
        Self::Failed(reason)
    }
}

/// The evidence root of a report. `rows` must be in ascending order of rows.
pub fn root(rows: &[RowEvidence]) -> Digest {
    tree(rows).root()
}

/// The tree under [`root`], to open single rows from.
pub fn tree(rows: &[RowEvidence]) -> Tree {
    // Writing to memory cannot fail; every part was bounded when it was received.
    Tree::new(rows.iter().map(|row| borsh::to_vec(row).expect("borsh to memory")))
}
