use anchor_lang::prelude::*;

use super::{VERSION, assert_size};
use crate::{constants::BPS, error::DatagalaxError};

/// Who measures, seeds `["checker", id u32]`. Its stake is its tickets, each at the price it was bought for.
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
    /// Who paid the rent and gets it back.
    pub rent_payer: Address,
    /// Stake in tickets held, base units.
    pub staked: u64,
    /// Seat pay ever claimed, base units.
    pub claimed: u64,
    /// Tickets held: waiting, in the order, or removed and not withdrawn.
    pub tickets: u32,
    /// Tickets retired for their record, lifetime.
    pub retired: u32,
    /// Reserved, zero.
    pub reserved: [u8; 96],
}

assert_size!(Checker, 8 + 5 * 32 + 2 * 8 + 8 + 96);

impl Checker {
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
        self.version == VERSION && u64::from(self.commission_bps) <= BPS && (self.tickets > 0 || self.staked == 0)
    }
}
