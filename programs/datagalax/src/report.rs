//! The report: what one seat says of the 256 containers of a block, and the commitment that binds it.

use anchor_lang::{prelude::Address, solana_program::hash::hashv};

use crate::constants::{DISHONEST, ROWS};

/// Bytes of a report: 256 availabilities, then 256 capacities, then 256 tokens.
pub const REPORT_LEN: usize = 3 * ROWS;

/// What binds a commitment to one seat of one block and epoch on one cluster, so that it can be replayed nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Seating<'a> {
    /// The program's address.
    pub program: &'a Address,
    /// The cluster's genesis hash, kept in [`crate::state::Network`].
    pub genesis_hash: &'a [u8; 32],
    /// Index of the block.
    pub block: u32,
    /// Number of the epoch.
    pub epoch: u32,
    /// Seat in the committee, 0 to 4.
    pub seat: u8,
    /// Id of the checker, so that nobody can commit to a copy of another's commitment and reveal it later.
    pub checker: u32,
}

/// `sha256("datagalax:report:v1", program, genesis hash, block, epoch, seat, checker, salt, evidence root, values)`
/// (protocol section 5).
pub fn commitment(seating: &Seating, salt: &[u8; 32], evidence_root: &[u8; 32], values: &[u8]) -> [u8; 32] {
    hashv(&[
        b"datagalax:report:v1",
        seating.program.as_ref(),
        seating.genesis_hash,
        &seating.block.to_le_bytes(),
        &seating.epoch.to_le_bytes(),
        &[seating.seat],
        &seating.checker.to_le_bytes(),
        salt,
        evidence_root,
        values,
    ])
    .to_bytes()
}

/// What a salt adds to the entropy of the epoch: its hash, so that a salt reveals nothing before its report does.
pub fn entropy(salt: &[u8; 32]) -> [u8; 32] {
    hashv(&[salt]).to_bytes()
}

/// A seat's vote on one row, `None` when the bytes mean "no vote".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Percent, 0 to 100.
    pub availability: u8,
    /// Percent, 0 to 100.
    pub capacity: u8,
    /// First byte of the answer to the last beacon, 0 = unanswered.
    pub token: u8,
    /// The dishonest verdict.
    pub dishonest: bool,
}

impl Vote {
    /// Reads a vote from its three bytes; values above 100 are no vote.
    #[inline]
    pub fn read(availability: u8, capacity: u8, token: u8) -> Option<Self> {
        let percent = availability & !DISHONEST;
        (percent <= 100 && capacity <= 100).then_some(Self {
            availability: percent,
            capacity,
            token,
            dishonest: availability & DISHONEST != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_is_bound_to_its_seating() {
        let program = Address::new_from_array([1; 32]);
        let seating = Seating { program: &program, genesis_hash: &[2; 32], block: 3, epoch: 4, seat: 1, checker: 5 };
        let base = commitment(&seating, &[6; 32], &[7; 32], &[8; REPORT_LEN]);
        let other = Address::new_from_array([9; 32]);
        for changed in [
            Seating { program: &other, ..seating },
            Seating { genesis_hash: &[9; 32], ..seating },
            Seating { block: 9, ..seating },
            Seating { epoch: 9, ..seating },
            Seating { seat: 2, ..seating },
            Seating { checker: 9, ..seating },
        ] {
            assert_ne!(base, commitment(&changed, &[6; 32], &[7; 32], &[8; REPORT_LEN]), "{changed:?}");
        }
        assert_ne!(base, commitment(&seating, &[9; 32], &[7; 32], &[8; REPORT_LEN]));
        assert_ne!(base, commitment(&seating, &[6; 32], &[9; 32], &[8; REPORT_LEN]));
        assert_ne!(base, commitment(&seating, &[6; 32], &[7; 32], &[9; REPORT_LEN]));
    }

    #[test]
    fn values_above_100_are_no_vote() {
        assert_eq!(Vote::read(127, 50, 1), None);
        assert_eq!(Vote::read(101, 50, 1), None);
        assert_eq!(Vote::read(50, 101, 1), None);
        assert_eq!(Vote::read(255, 255, 0), None);
        let dishonest = Vote::read(0x80 | 100, 0, 7).unwrap();
        assert!(dishonest.dishonest && dishonest.availability == 100 && dishonest.token == 7);
    }
}
