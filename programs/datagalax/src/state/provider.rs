use anchor_lang::prelude::*;
use bytemuck::{Pod, Zeroable};

use super::{VERSION, assert_size};
use crate::error::DatagalaxError;

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
    /// Stake, base units: free + locked + unbonding.
    pub staked: u64,
    /// Locked by containers.
    pub locked: u64,
    /// Asked back and waiting.
    pub unbonding: u64,
    /// Matured vesting not yet withdrawn.
    pub matured: u64,
    /// All rewards ever claimed.
    pub claimed: u64,
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
assert_size!(Provider, 8 + 4 * 32 + 5 * 8 + 8 + 8 * 16 + 180 * 24 + 128);

impl Provider {
    /// Stake that may be locked or asked back, base units.
    #[inline]
    pub const fn free_stake(&self) -> u64 {
        self.staked.saturating_sub(self.locked).saturating_sub(self.unbonding)
    }

    /// Conservation law 4: staked = free + locked + unbonding.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`].
    pub fn invariant(&self) -> Result<()> {
        let bound = self.locked.checked_add(self.unbonding);
        require!(self.version == VERSION && bound.is_some_and(|b| b <= self.staked), DatagalaxError::InvariantViolated);
        Ok(())
    }
}
