use anchor_lang::prelude::*;

use super::{VERSION, assert_size};
use crate::{constants::BPS, error::DatagalaxError};

/// Who measures, seeds `["checker", id u32]`. Its stake is its tickets times the ticket price.
#[account]
pub struct Checker {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// Operator's commission on seat pay, bps.
    pub commission_bps: u16,
    /// Id.
    pub id: u32,
    /// Cold key: buys tickets, leaves, rotates.
    pub owner: Address,
    /// Named next owner until it accepts; default when none.
    pub pending_owner: Address,
    /// Hot key: commits and reveals; may serve many checkers.
    pub operator: Address,
    /// Wallet whose token account receives pay and stake.
    pub payout: Address,
    /// Stake, base units.
    pub staked: u64,
    /// Asked back and waiting.
    pub unbonding: u64,
    /// When that may be withdrawn, seconds.
    pub unlocks_at: i64,
    /// Seat pay ever claimed, base units.
    pub claimed: u64,
    /// Tickets held.
    pub tickets: u32,
    /// Tickets retired for their record.
    pub retired: u32,
    /// Reserved, zero.
    pub reserved: [u8; 96],
}

assert_size!(Checker, 8 + 4 * 32 + 4 * 8 + 8 + 96);

impl Checker {
    /// What must hold of the account after every instruction.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`].
    pub fn invariant(&self) -> Result<()> {
        require!(
            self.version == VERSION && u64::from(self.commission_bps) <= BPS && self.unbonding <= self.staked,
            DatagalaxError::InvariantViolated
        );
        Ok(())
    }
}
