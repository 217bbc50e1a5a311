//! "Show that you can compute": a matrix product whose rows are committed to before anybody says which are opened.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::Serialize;

use crate::{
    Digest,
    envelope::{Domain, Malformed, Payload},
    merkle::MAX_PROOF,
};

/// Most rows that one request may open.
pub const MAX_OPENED: usize = 32;
/// Longest deadline that a request may give, in milliseconds.
pub const MAX_DEADLINE_MS: u32 = 120_000;

/// Dimensions of a challenge: A is `rows x inner`, B is `inner x columns`, both int8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct WorkSize {
    /// Rows of A and of the product, at least 1.
    pub rows: u32,
    /// Columns of A and rows of B, at least 1.
    pub inner: u32,
    /// Columns of B and of the product, at least 1.
    pub columns: u32,
}

impl WorkSize {
    /// Operations of the product, a multiplication and an addition counted as two; saturates at `u64::MAX`.
    pub const fn operations(&self) -> u64 {
        2u64.saturating_mul(self.rows as u64).saturating_mul(self.inner as u64).saturating_mul(self.columns as u64)
    }

    fn check(&self) -> Result<(), Malformed> {
        if self.rows == 0 || self.inner == 0 || self.columns == 0 {
            return Err(Malformed::OutOfRange("size"));
        }
        Ok(())
    }
}

/// Asks for the product of the matrices that follow from a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CapacityRequest {
    /// Both matrices follow from it.
    pub seed: Digest,
    /// How much to compute. The agent refuses what exceeds its own bounds.
    pub size: WorkSize,
    /// Milliseconds after which the asker will not listen any more, 1 to [`MAX_DEADLINE_MS`].
    pub deadline_ms: u32,
}

impl Payload for CapacityRequest {
    const DOMAIN: Domain = Domain::CapacityRequest;

    fn check(&self) -> Result<(), Malformed> {
        self.size.check()?;
        if !(1..=MAX_DEADLINE_MS).contains(&self.deadline_ms) {
            return Err(Malformed::OutOfRange("deadline_ms"));
        }
        Ok(())
    }
}

/// The answer to a [`CapacityRequest`]: a commitment to all rows of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CapacityAnswer {
    /// [`crate::Envelope::digest`] of the request.
    pub request: Digest,
    /// Merkle root over the row digests, in order.
    pub root: Digest,
    /// Microseconds the host says it computed. For display: the checker goes by its own clock.
    pub elapsed_us: u64,
}

impl Payload for CapacityAnswer {
    const DOMAIN: Domain = Domain::CapacityAnswer;
}

/// Asks to open rows of a committed product.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OpenRequest {
    /// The root that was committed to.
    pub root: Digest,
    /// Rows to open, 1 to [`MAX_OPENED`], strictly ascending.
    pub rows: Vec<u32>,
}

impl Payload for OpenRequest {
    const DOMAIN: Domain = Domain::OpenRequest;

    fn check(&self) -> Result<(), Malformed> {
        let ascending = self.rows.windows(2).all(|pair| pair[0] < pair[1]);
        if !(1..=MAX_OPENED).contains(&self.rows.len()) || !ascending {
            return Err(Malformed::OutOfRange("rows"));
        }
        Ok(())
    }
}

/// The answer to an [`OpenRequest`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OpenAnswer {
    /// [`crate::Envelope::digest`] of the request.
    pub request: Digest,
    /// The rows asked for, in the order of the request.
    pub rows: Vec<OpenedRow>,
}

/// A row of the product under the committed root. The row itself is not sent: the checker computes it anyway, and a signed
/// digest that differs from the true one is all that a case needs.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OpenedRow {
    /// Which row.
    pub index: u32,
    /// Digest of its values, the Merkle leaf.
    pub digest: Digest,
    /// Siblings from the leaf to the root, at most [`MAX_PROOF`].
    pub proof: Vec<Digest>,
}

impl Payload for OpenAnswer {
    const DOMAIN: Domain = Domain::OpenAnswer;

    fn check(&self) -> Result<(), Malformed> {
        if !(1..=MAX_OPENED).contains(&self.rows.len()) {
            return Err(Malformed::OutOfRange("rows"));
        }
        if self.rows.iter().any(|row| row.proof.len() > MAX_PROOF) {
            return Err(Malformed::OutOfRange("proof"));
        }
        Ok(())
    }
}
