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
    /// What is promised out of it: stake of all owners; emission reserved and earned but not yet paid; escrow not settled. What
    /// the stake and escrow vaults hold beyond it (slashes, fees) belongs to the rewards vault.
    pub liabilities: u64,
    /// All that ever came in.
    pub total_in: u64,
    /// All that ever went out.
    pub total_out: u64,
    /// Hour (unix time / 3,600) of the newest entry of `hourly_net`.
    pub window_hour: u64,
    /// Net outflow by hour % 25, base units: the circuit breaker's window.
    pub hourly_net: [i64; 25],
    /// Reserved, zero.
    pub reserved: [u8; 56],
}

assert_size!(VaultLedger, 8 + 32 + 5 * 8 + 25 * 8 + 56);

/// Hours of the breaker's window: the present one and the 24 before it, so that no 24 hours ever see more than the limit.
const WINDOW: u64 = 25;

impl VaultLedger {
    /// The kind of the stake vault.
    pub const STAKE: u8 = 0;
    /// The kind of the rewards vault.
    pub const REWARDS: u8 = 1;
    /// The kind of the escrow vault.
    pub const ESCROW: u8 = 2;

    /// The window's entry of this instant, after emptying those of the hours in between.
    fn hour_entry(&mut self, now: i64) -> &mut i64 {
        // Before 1970 there is no chain; a clock that went back counts into the newest hour.
        let hour = (now.max(0) as u64 / 3_600).max(self.window_hour);
        let passed = (hour - self.window_hour).min(WINDOW);
        for i in 0..passed {
            self.hourly_net[((hour - i) % WINDOW) as usize] = 0;
        }
        self.window_hour = hour;
        &mut self.hourly_net[(hour % WINDOW) as usize]
    }

    /// What may still leave within the breaker's limit on net outflow in 24 hours, base units.
    pub fn room(&mut self, limit: u64, now: i64) -> u64 {
        self.hour_entry(now);
        let net = self.hourly_net.iter().fold(0i64, |sum, hour| sum.saturating_add(*hour));
        limit.saturating_sub(net.max(0) as u64)
    }

    /// Books an amount that came in.
    ///
    /// # Errors
    /// [`DatagalaxError::Overflow`] above [`MAX_AMOUNT`].
    pub fn receive(&mut self, amount: u64, now: i64) -> Result<()> {
        self.take_in(amount)?;
        let entry = self.hour_entry(now);
        *entry = entry.saturating_sub_unsigned(amount);
        Ok(())
    }

    /// Books the payment of a liability to the outside.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when less is owed or held than is paid.
    pub fn pay(&mut self, amount: u64, now: i64) -> Result<()> {
        self.release(amount)?;
        self.give_out(amount)?;
        let entry = self.hour_entry(now);
        *entry = entry.saturating_add_unsigned(amount);
        Ok(())
    }

    /// Books what another vault handed over: no flow from outside.
    ///
    /// # Errors
    /// [`DatagalaxError::Overflow`] above [`MAX_AMOUNT`].
    pub fn take_in(&mut self, amount: u64) -> Result<()> {
        self.balance = self.balance.checked_add(amount).filter(|b| *b <= MAX_AMOUNT).ok_or(DatagalaxError::Overflow)?;
        self.total_in = self.total_in.checked_add(amount).ok_or(DatagalaxError::Overflow)?;
        Ok(())
    }

    /// Books what is handed over to another vault: no flow to the outside.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when less is held.
    pub fn give_out(&mut self, amount: u64) -> Result<()> {
        self.balance = self.balance.checked_sub(amount).ok_or(DatagalaxError::InvariantViolated)?;
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
    #[inline(always)]
    pub fn invariant(&self, held: u64) -> Result<()> {
        require!(self.books_hold() && self.balance <= held, DatagalaxError::InvariantViolated);
        Ok(())
    }

    /// [`Self::invariant`] of an instruction that moved promises and no tokens.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`].
    #[inline(always)]
    pub fn books(&self) -> Result<()> {
        require!(self.books_hold(), DatagalaxError::InvariantViolated);
        Ok(())
    }

    #[inline(never)]
    fn books_hold(&self) -> bool {
        self.version == VERSION
            && self.liabilities <= self.balance
            && self.total_in.checked_sub(self.total_out) == Some(self.balance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;
    use proptest::prelude::*;

    proptest! {
        /// The window against a list of all flows: what left in this hour and the 24 before it, less what came in.
        #[test]
        fn the_breaker_counts_a_day(flows in prop::collection::vec((0i64..20_000, any::<bool>(), 0u64..1_000), 1..200), limit in 0u64..20_000) {
            let mut ledger: VaultLedger = Zeroable::zeroed();
            let (mut now, mut all) = (1_800_000_000i64, vec![]);
            for (wait, inwards, amount) in flows {
                now += wait;
                let hour = now / 3_600;
                let net: i64 = all.iter().filter(|(h, _)| hour - h < 25).map(|(_, a)| *a).sum();
                let expected = limit.saturating_sub(net.max(0) as u64);
                prop_assert_eq!(ledger.room(limit, now), expected);
                if inwards {
                    ledger.receive(amount, now).unwrap();
                    ledger.reserve(amount).unwrap();
                    all.push((hour, -(amount as i64)));
                } else if let Some(paid) = Some(amount.min(expected).min(ledger.liabilities)).filter(|p| *p > 0) {
                    ledger.pay(paid, now).unwrap();
                    all.push((hour, paid as i64));
                }
                prop_assert_eq!(ledger.total_in - ledger.total_out, ledger.balance);
            }
        }
    }
}
