//! The values of a report: three bytes for each of the 256 rows of a block (protocol section 5).

use datagalax::{
    constants::{DISHONEST, NO_VOTE, ROWS},
    report::{REPORT_LEN, Vote},
};
use thiserror::Error;

/// A seat's word on one row.
pub type RowVote = Vote;

/// The 768 bytes that are committed to and revealed: 256 availabilities (bit 7: dishonest), 256 capacities, 256 tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct ReportValues([u8; REPORT_LEN]);

/// A vote that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a vote of {availability} percent availability and {capacity} percent capacity: both are 0 to 100")]
pub struct VoteOutOfRange {
    /// Percent.
    pub availability: u8,
    /// Percent.
    pub capacity: u8,
}

impl Default for ReportValues {
    fn default() -> Self {
        Self::new()
    }
}

impl ReportValues {
    /// A report that votes on no row.
    pub fn new() -> Self {
        let mut values = [0; REPORT_LEN];
        values[..ROWS].fill(NO_VOTE);
        values[ROWS..2 * ROWS].fill(NO_VOTE);
        Self(values)
    }

    /// Reads the bytes of a report. Any bytes are a report: values out of range are no vote.
    pub const fn from_bytes(values: [u8; REPORT_LEN]) -> Self {
        Self(values)
    }

    /// The bytes to commit to and to reveal.
    pub const fn as_bytes(&self) -> &[u8; REPORT_LEN] {
        &self.0
    }

    /// Writes the vote on a row.
    ///
    /// # Errors
    /// A percentage above 100, which would silently mean "no vote".
    pub fn set(&mut self, row: u8, vote: RowVote) -> Result<(), VoteOutOfRange> {
        let RowVote { availability, capacity, token, dishonest } = vote;
        if availability > 100 || capacity > 100 {
            return Err(VoteOutOfRange { availability, capacity });
        }
        let row = usize::from(row);
        self.0[row] = availability | if dishonest { DISHONEST } else { 0 };
        self.0[ROWS + row] = capacity;
        self.0[2 * ROWS + row] = token;
        Ok(())
    }

    /// The vote on a row, `None` for no vote.
    pub fn get(&self, row: u8) -> Option<RowVote> {
        let row = usize::from(row);
        RowVote::read(self.0[row], self.0[ROWS + row], self.0[2 * ROWS + row])
    }

    /// The rows voted on, ascending.
    pub fn votes(&self) -> impl Iterator<Item = (u8, RowVote)> + '_ {
        (0..=u8::MAX).filter_map(|row| Some((row, self.get(row)?)))
    }
}

impl std::fmt::Debug for ReportValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.votes()).finish()
    }
}
