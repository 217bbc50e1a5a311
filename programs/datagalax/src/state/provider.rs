use anchor_lang::prelude::*;
use bytemuck::{Pod, Zeroable};

use super::{VERSION, VestingTerms, assert_size};
use crate::{error::DatagalaxError, vesting};

/// An owner of resources, seeds `["provider", id u32]` (an id, so that the owner key can change).
#[account]
pub struct Provider {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// Reserved, zero.
    pub reserved_flags: [u8; 2],
    /// Id.
    pub id: u32,
    /// Cold key: stakes, registers, deregisters, rotates.
    pub owner: Address,
    /// Named next owner until it accepts; default when none.
    pub pending_owner: Address,
    /// Hot key: price, endpoint, accepting, maintenance, claims.
    pub operator: Address,
    /// Wallet whose token account receives every withdrawal.
    pub payout: Address,
    /// Who paid the rent and gets it back.
    pub rent_payer: Address,
    /// Stake, base units: free + locked + unbonding.
    pub staked: u64,
    /// Locked by containers.
    pub locked: u64,
    /// Asked back and waiting.
    pub unbonding: u64,
    /// What leases paid and was not withdrawn, base units of the escrow vault.
    pub lease_due: u64,
    /// Granted under buckets that were reused since: all of it vested.
    pub matured: u64,
    /// Vested rewards ever withdrawn.
    pub withdrawn: u64,
    /// All rewards ever claimed into vesting.
    pub claimed: u64,
    /// Unvested grants ever taken by slashes.
    pub taken: u64,
    /// Containers registered now.
    pub containers: u32,
    /// Containers ever registered.
    pub containers_ever: u32,
    /// Requests of unstake, free entries have amount 0.
    pub unbonding_entries: [Unbonding; 8],
    /// Vesting grants by day modulo 180.
    pub grants: [Grant; 180],
    /// Reserved, zero.
    pub reserved: [u8; 128],
}

/// One request to unstake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, IdlType)]
#[repr(C)]
pub struct Unbonding {
    /// Base units.
    pub amount: u64,
    /// When it may be withdrawn, seconds; fixed when asked.
    pub unlocks_at: i64,
}

/// One day's vesting grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, IdlType)]
#[repr(C)]
pub struct Grant {
    /// Granted that day, base units.
    pub amount: u64,
    /// Taken by a slash.
    pub taken: u64,
    /// Day of the grant (unix day).
    pub day: u32,
    /// Id of the terms it was granted under.
    pub terms: u16,
    /// Reserved, zero.
    pub reserved: u16,
}

assert_size!(Unbonding, 16);
assert_size!(Grant, 24);
assert_size!(Provider, 8 + 5 * 32 + 8 * 8 + 8 + 8 * 16 + 180 * 24 + 128);

impl Provider {
    /// Stake that may be locked or asked back, base units.
    #[inline]
    pub const fn free_stake(&self) -> u64 {
        self.staked.saturating_sub(self.locked).saturating_sub(self.unbonding)
    }

    /// Grants rewards on a day under the terms of that day.
    ///
    /// # Errors
    /// [`DatagalaxError::Overflow`] above 64 bits.
    pub fn grant(&mut self, amount: u64, day: u32, terms: u16) -> Result<()> {
        let grant = &mut self.grants[day as usize % self.grants.len()];
        if grant.day != day {
            // A whole ring of days has passed: every terms' longest part is over.
            let rest = grant.amount.checked_sub(grant.taken).ok_or(DatagalaxError::InvariantViolated)?;
            self.matured = self.matured.checked_add(rest).ok_or(DatagalaxError::Overflow)?;
            *grant = Grant { amount: 0, taken: 0, day, terms, reserved: 0 };
        }
        grant.amount = grant.amount.checked_add(amount).ok_or(DatagalaxError::Overflow)?;
        self.claimed = self.claimed.checked_add(amount).ok_or(DatagalaxError::Overflow)?;
        Ok(())
    }

    /// What has vested and was not withdrawn, base units, rounded down by bucket.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when a grant names terms that are not kept.
    pub fn vested(&self, today: u32, terms: &[VestingTerms; 8]) -> Result<u64> {
        let mut vested = self.matured;
        for grant in self.grants.iter().filter(|g| g.amount != 0) {
            vested = vested.checked_add(vesting::vested(grant, today, terms)?).ok_or(DatagalaxError::Overflow)?;
        }
        vested.checked_sub(self.withdrawn).ok_or_else(|| DatagalaxError::InvariantViolated.into())
    }

    /// What is granted, taken by no slash and not withdrawn, vested or not: the rewards vault owes it.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when more was paid or taken than claimed.
    pub fn owed_grants(&self) -> Result<u64> {
        self.claimed
            .checked_sub(self.taken)
            .and_then(|owed| owed.checked_sub(self.withdrawn))
            .ok_or_else(|| DatagalaxError::InvariantViolated.into())
    }

    /// Takes up to `amount` of unvested grants, newest first; says how much there was.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when a grant names terms that are not kept.
    pub fn slash_grants(&mut self, amount: u64, today: u32, terms: &[VestingTerms; 8]) -> Result<u64> {
        let mut left = amount;
        let count = self.grants.len() as u32;
        // Older buckets than the ring's length have vested.
        for age in 0..count {
            let Some(day) = today.checked_sub(age) else { break };
            let grant = &mut self.grants[(day % count) as usize];
            if left == 0 {
                break;
            }
            if grant.day != day || grant.amount == 0 {
                continue;
            }
            // What vested stays: a bucket's vested part is min(linear, amount - taken).
            let kept = vesting::vested(grant, today, terms)?;
            let unvested = grant.amount.saturating_sub(grant.taken).saturating_sub(kept);
            let take = unvested.min(left);
            grant.taken += take;
            left -= take;
        }
        let taken = amount - left;
        self.taken = self.taken.checked_add(taken).ok_or(DatagalaxError::Overflow)?;
        Ok(taken)
    }

    /// Conservation law 4: staked = free + locked + unbonding; of rewards claimed = taken + withdrawn + owed.
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
        let bound = self.locked.checked_add(self.unbonding);
        self.version == VERSION && bound.is_some_and(|b| b <= self.staked) && self.owed_grants().is_ok()
    }
}
