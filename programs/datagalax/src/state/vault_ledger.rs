use anchor_lang::prelude::*;

use super::{VERSION, assert_size};
use crate::{constants::MAX_AMOUNT, error::DatagalaxError};

/// Books of one vault, seeds `["ledger", name]`. Accounting is internal: a donation to the token account changes nothing.
#[account]
pub struct VaultLedger {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// 0 stake, 1 rewards, 2 escrow.
    pub kind: u8,
    /// Reserved, zero.
    pub reserved_flags: [u8; 5],
    /// The vault's token account.
    pub vault: Address,
    /// What came in through instructions less what went out, base units. The token account holds at least this.
    pub balance: u64,
    /// What is promised out of it: stake of all owners; emission reserved and earned but not yet paid; escrow not settled.
    pub liabilities: u64,
    /// All that ever came in.
    pub total_in: u64,
    /// All that ever went out.
    pub total_out: u64,
    /// Hour (unix time / 3,600) of the newest entry of `hourly_net`, for the circuit breaker.
    pub window_hour: u64,
    /// Net outflow by hour, ring of 24 (two's complement).
    pub hourly_net: [u64; 24],
    /// Largest net outflow in 24 h, base units.
    pub breaker_limit: u64,
    /// Reserved, zero.
    pub reserved: [u8; 64],
}

assert_size!(VaultLedger, 8 + 32 + 5 * 8 + 24 * 8 + 8 + 64);

impl VaultLedger {
    /// The kind of the stake vault.
    pub const STAKE: u8 = 0;
    /// The kind of the rewards vault.
    pub const REWARDS: u8 = 1;
    /// The kind of the escrow vault.
    pub const ESCROW: u8 = 2;

    /// Books an amount that came in.
    ///
    /// # Errors
    /// [`DatagalaxError::Overflow`] above [`MAX_AMOUNT`].
    pub fn receive(&mut self, amount: u64) -> Result<()> {
        self.balance = self.balance.checked_add(amount).filter(|b| *b <= MAX_AMOUNT).ok_or(DatagalaxError::Overflow)?;
        self.total_in = self.total_in.checked_add(amount).ok_or(DatagalaxError::Overflow)?;
        Ok(())
    }

    /// Books the payment of a liability.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when less is owed or held than is paid.
    pub fn pay(&mut self, amount: u64) -> Result<()> {
        self.balance = self.balance.checked_sub(amount).ok_or(DatagalaxError::InvariantViolated)?;
        self.liabilities = self.liabilities.checked_sub(amount).ok_or(DatagalaxError::InvariantViolated)?;
        self.total_out = self.total_out.checked_add(amount).ok_or(DatagalaxError::Overflow)?;
        Ok(())
    }

    /// Promises an amount out of what is not promised yet.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when that much is not there.
    pub fn reserve(&mut self, amount: u64) -> Result<()> {
        self.liabilities =
            self.liabilities.checked_add(amount).filter(|l| *l <= self.balance).ok_or(DatagalaxError::InvariantViolated)?;
        Ok(())
    }

    /// Takes back a promise.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when less was promised.
    pub fn release(&mut self, amount: u64) -> Result<()> {
        self.liabilities = self.liabilities.checked_sub(amount).ok_or(DatagalaxError::InvariantViolated)?;
        Ok(())
    }

    /// What is there and not promised, base units.
    #[inline]
    pub const fn free(&self) -> u64 {
        self.balance.saturating_sub(self.liabilities)
    }

    /// Conservation law 1: promised <= booked <= held by the token account, and booked = in - out.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`].
    pub fn invariant(&self, held: u64) -> Result<()> {
        require!(
            self.version == VERSION
                && self.liabilities <= self.balance
                && self.balance <= held
                && self.total_in.checked_sub(self.total_out) == Some(self.balance),
            DatagalaxError::InvariantViolated
        );
        Ok(())
    }
}
