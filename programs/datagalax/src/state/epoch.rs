use anchor_lang::prelude::*;

use super::{VERSION, assert_size};
use crate::{constants::CHURN_LIMIT, error::DatagalaxError, math::Rate};

/// One epoch's draw and money, seeds `["epoch", number u32]`. Rates are fixed before anything is measured.
#[account]
pub struct Epoch {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// [`Epoch::ADVANCED`], [`Epoch::DRAWN`].
    pub status: u8,
    /// 1 once what nobody earned went back to the vault.
    pub released: u8,
    /// Number.
    pub number: u32,
    /// First slot whose hash may be drawn.
    pub draw_slot: u64,
    /// Tickets in the order when it was drawn, n.
    pub tickets: u32,
    /// Entries that churn moved at this boundary.
    pub churned: u32,
    /// Tickets that waited when the epoch was advanced to: churn lets in these and none that came later, so that nobody who
    /// can already tell the seed chooses n.
    pub entrants: u32,
    /// Reserved, zero.
    pub reserved_count: u32,
    /// Blocks that may be seated, fixed at advance.
    pub blocks: u32,
    /// Blocks tallied.
    pub blocks_tallied: u32,
    /// Seed of committees, zero before the draw.
    pub seed: [u8; 32],
    /// Seed of the last drawn epoch before this one.
    pub last_seed: [u8; 32],
    /// Entropy gathered in epoch number - 2, zero when there was none.
    pub entropy_before: [u8; 32],
    /// XOR of the hashes of the salts revealed for this epoch.
    pub entropy: [u8; 32],
    /// What live rows could earn, in units of weight.
    pub nominal: u64,
    /// Rate of a unit of weight.
    pub rate: Rate,
    /// Pay of a seat that is right on every row it was judged on, base units.
    pub seat_pay: u64,
    /// Reserved in all: containers + checkers + treasury, base units.
    pub pool: u64,
    /// Of the pool, for containers.
    pub container_pool: u64,
    /// Of the pool, for checkers.
    pub checker_pool: u64,
    /// Credited to rows.
    pub container_credited: u64,
    /// Credited to tickets.
    pub checker_credited: u64,
    /// Weight of rows that went live while this epoch was current: part of nominal from the next one.
    pub nominal_added: u64,
    /// Weight of rows that ceased to be live while this epoch was current.
    pub nominal_removed: u64,
    /// Blocks that got their first row while this epoch was current.
    pub blocks_added: u32,
    /// Blocks that lost their last row while this epoch was current.
    pub blocks_removed: u32,
    /// Who paid the rent.
    pub payer: Address,
    /// Reserved, zero.
    pub reserved: [u8; 56],
}

assert_size!(Epoch, 8 + 8 + 24 + 4 * 32 + 11 * 8 + 8 + 32 + 56);

impl Epoch {
    /// Advanced, not drawn.
    pub const ADVANCED: u8 = 1;
    /// Drawn: seats, commits, reveals and tallies may follow.
    pub const DRAWN: u8 = 2;

    /// Tickets that churn may still let in at this boundary.
    #[inline]
    pub const fn churn_left(&self) -> u32 {
        let limit = if self.entrants < CHURN_LIMIT { self.entrants } else { CHURN_LIMIT };
        limit.saturating_sub(self.churned)
    }

    /// All that rows and tickets were credited with, base units.
    #[inline]
    pub const fn credited(&self) -> u64 {
        self.container_credited.saturating_add(self.checker_credited)
    }

    /// Nominal weight of the epoch that follows.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when more was removed than there is.
    pub fn next_nominal(&self) -> Result<u64> {
        self.nominal
            .checked_add(self.nominal_added)
            .and_then(|n| n.checked_sub(self.nominal_removed))
            .ok_or_else(|| DatagalaxError::InvariantViolated.into())
    }

    /// Blocks that may be seated in the epoch that follows.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when more were removed than there are.
    pub fn next_blocks(&self) -> Result<u32> {
        self.blocks
            .checked_add(self.blocks_added)
            .and_then(|n| n.checked_sub(self.blocks_removed))
            .ok_or_else(|| DatagalaxError::InvariantViolated.into())
    }

    /// Conservation law 2: credited <= pool, for containers and for checkers.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`].
    pub fn invariant(&self) -> Result<()> {
        let shares = self.container_pool.checked_add(self.checker_pool);
        require!(
            self.version == VERSION
                && self.container_credited <= self.container_pool
                && self.checker_credited <= self.checker_pool
                && shares.is_some_and(|s| s <= self.pool),
            DatagalaxError::InvariantViolated
        );
        Ok(())
    }
}
