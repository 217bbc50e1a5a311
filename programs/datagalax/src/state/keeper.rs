use anchor_lang::prelude::*;

use super::{VERSION, assert_size};
use crate::error::DatagalaxError;

/// What a keeper earned by advancing, drawing, tallying and closing cases, seeds `["keeper", wallet]`.
#[account]
pub struct Keeper {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// Reserved, zero.
    pub reserved_flags: [u8; 6],
    /// Whose token account receives the fees.
    pub wallet: Address,
    /// Who paid the rent and gets it back.
    pub rent_payer: Address,
    /// Fees earned and not withdrawn, base units of the rewards vault.
    pub due: u64,
    /// Fees ever earned, base units.
    pub earned: u64,
    /// Actions that earned one.
    pub actions: u64,
    /// Reserved, zero.
    pub reserved: [u8; 40],
}

assert_size!(Keeper, 8 + 2 * 32 + 3 * 8 + 40);

impl Keeper {
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
        self.version == VERSION && self.due <= self.earned
    }
}
