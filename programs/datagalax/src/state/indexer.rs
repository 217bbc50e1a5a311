use anchor_lang::prelude::*;

use super::{VERSION, assert_size};
use crate::{constants::MAX_ENDPOINT, error::DatagalaxError};

/// Who matches users to containers, seeds `["indexer", id u32]`.
#[account]
pub struct Indexer {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// [`Indexer::ACTIVE`] or [`Indexer::LEAVING`].
    pub status: u8,
    /// Bytes of `endpoint` in use.
    pub endpoint_len: u8,
    /// Id.
    pub id: u32,
    /// Cold key: registers, leaves, rotates.
    pub owner: Address,
    /// Named next owner until it accepts; default when none.
    pub pending_owner: Address,
    /// Hot key: signs matches, changes the endpoint.
    pub operator: Address,
    /// Wallet whose token account receives fees and stake.
    pub payout: Address,
    /// Who paid the rent and gets it back.
    pub rent_payer: Address,
    /// Stake, base units.
    pub staked: u64,
    /// When it may be withdrawn, seconds; 0 while it is active.
    pub unlocks_at: i64,
    /// Fees earned and not withdrawn, base units of the escrow vault.
    pub due: u64,
    /// Fees ever earned, base units.
    pub earned: u64,
    /// Leases it matched that are not settled to the end.
    pub open_leases: u32,
    /// Leases it ever matched.
    pub matched: u32,
    /// Where it is reached, UTF-8.
    pub endpoint: [u8; MAX_ENDPOINT],
    /// Reserved, zero.
    pub reserved: [u8; 64],
}

assert_size!(Indexer, 8 + 5 * 32 + 4 * 8 + 8 + MAX_ENDPOINT + 64);

impl Indexer {
    /// May be named in new leases.
    pub const ACTIVE: u8 = 1;
    /// Asked its stake back.
    pub const LEAVING: u8 = 2;

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
            && (1..=Self::LEAVING).contains(&self.status)
            && usize::from(self.endpoint_len) <= MAX_ENDPOINT
            && self.due <= self.earned
    }
}
