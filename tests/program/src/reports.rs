//! Reports as checkers write them.

use datagalax::{
    constants::{DISHONEST, NO_VOTE, ROWS},
    report::{self, REPORT_LEN, Seating},
};
use sha2::{Digest, Sha256};

use crate::settings::GENESIS_HASH;

/// A seat's report with its salt and evidence root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// 256 availabilities, 256 capacities, 256 tokens.
    pub values: [u8; REPORT_LEN],
    /// Salt.
    pub salt: [u8; 32],
    /// Evidence root.
    pub evidence_root: [u8; 32],
}

impl Report {
    /// The same availability, capacity and token for every row.
    pub fn flat(availability: u8, capacity: u8, token: u8) -> Self {
        let mut values = [0; REPORT_LEN];
        values[..ROWS].fill(availability);
        values[ROWS..2 * ROWS].fill(capacity);
        values[2 * ROWS..].fill(token);
        Self { values, salt: [0x5a; 32], evidence_root: [0xe1; 32] }
    }

    /// Everything is up and capable.
    pub fn perfect() -> Self {
        Self::flat(100, 100, 9)
    }

    /// No vote on any row.
    pub fn empty() -> Self {
        Self::flat(NO_VOTE, 0, 0)
    }

    /// Sets one row.
    pub fn row(mut self, row: usize, availability: u8, capacity: u8, token: u8) -> Self {
        self.values[row] = availability;
        self.values[ROWS + row] = capacity;
        self.values[2 * ROWS + row] = token;
        self
    }

    /// Adds the dishonest verdict to one row.
    pub fn dishonest(mut self, row: usize) -> Self {
        self.values[row] |= DISHONEST;
        self
    }

    /// Another salt, from anything that tells seats apart.
    pub fn salted(mut self, epoch: u32, block: u32, seat: u8) -> Self {
        let hash = Sha256::new().chain_update(b"salt").chain_update(epoch.to_le_bytes()).chain_update(block.to_le_bytes());
        self.salt = hash.chain_update([seat]).finalize().into();
        self
    }

    /// The commitment of a seat to this report.
    pub fn commitment(&self, epoch: u32, block: u32, seat: u8, checker: u32) -> [u8; 32] {
        let seating = Seating { program: &datagalax::ID, genesis_hash: &GENESIS_HASH, block, epoch, seat, checker };
        report::commitment(&seating, &self.salt, &self.evidence_root, &self.values)
    }
}
