use anchor_lang::prelude::*;
use bytemuck::{Pod, Zeroable};

use super::{VERSION, assert_size};
use crate::{constants::SEATS, error::DatagalaxError};

/// A charge against a container, seeds `["case", container, epoch u32, kind u8]`.
#[account]
pub struct Case {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// [`Case::DISHONEST`] or [`Case::BREACH`].
    pub kind: u8,
    /// [`Case::OPEN`], [`Case::UPHELD`] or [`Case::REJECTED`].
    pub status: u8,
    /// First condemned epoch, or the first of the two of a breach.
    pub epoch: u32,
    /// Last epoch that counts.
    pub until: u32,
    /// Condemned epochs when it was closed.
    pub condemned: u32,
    /// Index of the container's block.
    pub block: u32,
    /// Row in it.
    pub row: u8,
    /// Reserved, zero.
    pub reserved_flags: [u8; 3],
    /// The container.
    pub container: Address,
    /// Who paid the rent and gets it back.
    pub rent_payer: Address,
    /// When it was opened, seconds.
    pub opened: i64,
    /// When it was closed, seconds; 0 while it is open.
    pub closed: i64,
    /// Stake taken, base units.
    pub stake_taken: u64,
    /// Unvested grants taken, base units.
    pub grants_taken: u64,
    /// Accrual taken, base units.
    pub accrual_taken: u64,
    /// Of the stake, credited to the user of a breached lease, base units.
    pub compensation: u64,
    /// Who sat in judgement in `epoch`, as far as the lane still knew when the case was opened.
    pub seats: [Accuser; SEATS],
    /// Reserved, zero.
    pub reserved: [u8; 64],
}

/// A seat's part in the first verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, IdlType)]
#[repr(C)]
pub struct Accuser {
    /// Ticket's slot, [`crate::constants::NONE`] when unknown or empty.
    pub slot: u32,
    /// Checker's id.
    pub checker: u32,
    /// 1 when it said dishonest.
    pub accused: u8,
    /// Reserved, zero.
    pub reserved: [u8; 7],
    /// Root of its evidence.
    pub evidence_root: [u8; 32],
}

assert_size!(Accuser, 48);
assert_size!(Case, 4 + 4 * 4 + 4 + 2 * 32 + 6 * 8 + SEATS * 48 + 64);

impl Case {
    /// A signed root whose opened row recomputes wrongly, or two signed roots for one beacon.
    pub const DISHONEST: u8 = 1;
    /// A started lease that was not served for two whole epochs.
    pub const BREACH: u8 = 2;
    /// Waiting for the window's committees.
    pub const OPEN: u8 = 1;
    /// Stake was taken.
    pub const UPHELD: u8 = 2;
    /// The accrual was released.
    pub const REJECTED: u8 = 3;

    /// What must hold of the account after every instruction.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`].
    #[inline(always)]
    pub fn invariant(&self) -> Result<()> {
        require!(self.holds(), DatagalaxError::InvariantViolated);
        Ok(())
    }

    #[inline(never)]
    fn holds(&self) -> bool {
        self.version == VERSION
            && (1..=Self::BREACH).contains(&self.kind)
            && (1..=Self::REJECTED).contains(&self.status)
            && self.compensation <= self.stake_taken
            && (self.status == Self::UPHELD || self.stake_taken == 0)
    }
}
