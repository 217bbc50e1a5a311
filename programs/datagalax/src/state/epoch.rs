use anchor_lang::prelude::*;
use bytemuck::{Pod, Zeroable};

use super::{Queue, VERSION, assert_size};
use crate::{constants::CHURN_LIMIT, error::DatagalaxError, math::Rate};

/// One epoch's draw and money, seeds `["epoch", number u32]`. Rates are fixed before anything is measured.
#[account]
pub struct Epoch {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// [`Epoch::ADVANCED`] or [`Epoch::DRAWN`].
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
    /// Tickets that waited to be retired when the epoch was advanced to: churn moves these and none that came later, so that
    /// nobody who can already tell the seed chooses n.
    pub retirements: u32,
    /// Tickets that waited to leave, likewise.
    pub leavers: u32,
    /// Tickets that waited to enter, likewise.
    pub entrants: u32,
    /// Blocks that may be seated, fixed at advance.
    pub blocks: u32,
    /// Blocks tallied.
    pub blocks_tallied: u32,
    /// Epochs of a case's window that begins in this one.
    pub case_epochs: u32,
    /// Epochs that a full measurement of a leased row holds for: seven days.
    pub capacity_epochs: u32,
    /// Reserved, zero.
    pub reserved_count: u32,
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
    /// Most that a seat may get, fixed at advance, base units.
    pub max_seat_pay: u64,
    /// What a keeper gets for each action, fixed at advance, base units.
    pub keeper_fee: u64,
    /// Reserved in all: containers + checkers + treasury, base units.
    pub pool: u64,
    /// Of the pool, for containers.
    pub container_pool: u64,
    /// Of the pool, for checkers.
    pub checker_pool: u64,
    /// Of the pool, for keepers and the treasury.
    pub treasury_pool: u64,
    /// Credited to rows.
    pub container_credited: u64,
    /// Credited to tickets.
    pub checker_credited: u64,
    /// Credited to keepers.
    pub keeper_credited: u64,
    /// Weight of rows that went live while this epoch was current: part of nominal from the next one.
    pub nominal_added: u64,
    /// Weight of rows that ceased to be live while this epoch was current.
    pub nominal_removed: u64,
    /// Blocks that got their first row while this epoch was current.
    pub blocks_added: u32,
    /// Blocks that lost their last row while this epoch was current.
    pub blocks_removed: u32,
    /// Who paid the rent and gets it back.
    pub rent_payer: Address,
    /// The thresholds it is judged by, fixed at advance.
    pub thresholds: Thresholds,
    /// Reserved, zero.
    pub reserved: [u8; 56],
}

/// What an epoch's rows and seats are judged by. See [`super::Parameters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable, IdlType)]
#[repr(C)]
pub struct Thresholds {
    /// Percent.
    pub availability: u8,
    /// Percent.
    pub capacity: u8,
    /// Percent.
    pub breach: u8,
    /// Points.
    pub tolerance: u8,
    /// 1 when an agreed token of 0 proves nothing.
    pub tokens_required: u8,
    /// Reserved, zero.
    pub reserved: [u8; 3],
}

assert_size!(Thresholds, 8);
assert_size!(Epoch, 8 + 8 + 9 * 4 + 4 + 4 * 32 + 15 * 8 + 8 + 32 + 8 + 56);

impl Epoch {
    /// Advanced, not drawn.
    pub const ADVANCED: u8 = 1;
    /// Drawn: seats, commits, reveals and tallies may follow.
    pub const DRAWN: u8 = 2;

    /// Tickets that churn has still to move at this boundary.
    #[inline]
    pub const fn churn_left(&self) -> u32 {
        let waiting = self.retirements.saturating_add(self.leavers).saturating_add(self.entrants);
        let limit = if waiting < CHURN_LIMIT { waiting } else { CHURN_LIMIT };
        limit.saturating_sub(self.churned)
    }

    /// The queue whose first ticket churn moves next: retirements, then leavers, then entrants.
    #[inline]
    pub const fn next_churn(&self) -> Queue {
        if self.churned < self.retirements {
            Queue::Retiring
        } else if self.churned < self.retirements.saturating_add(self.leavers) {
            Queue::Leaving
        } else {
            Queue::Entering
        }
    }

    /// All that rows, tickets and keepers were credited with, base units.
    #[inline]
    pub const fn credited(&self) -> u64 {
        self.container_credited.saturating_add(self.checker_credited).saturating_add(self.keeper_credited)
    }

    /// What is left of the treasury's share once keepers are paid, base units.
    #[inline]
    pub const fn treasury_left(&self) -> u64 {
        self.treasury_pool.saturating_sub(self.keeper_credited)
    }

    /// Credits a keeper's fee as far as the treasury's share lasts; says how much, base units.
    pub fn pay_keeper(&mut self) -> u64 {
        if self.released == 1 {
            return 0;
        }
        let fee = self.keeper_fee.min(self.treasury_left());
        self.keeper_credited += fee;
        fee
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
    #[inline(always)]
    pub fn invariant(&self) -> Result<()> {
        require!(self.holds(), DatagalaxError::InvariantViolated);
        Ok(())
    }

    #[inline(never)]
    fn holds(&self) -> bool {
        let shares = self.container_pool.checked_add(self.checker_pool).and_then(|s| s.checked_add(self.treasury_pool));
        self.version == VERSION
            && self.container_credited <= self.container_pool
            && self.checker_credited <= self.checker_pool
            && self.keeper_credited <= self.treasury_pool
            && shares.is_some_and(|s| s <= self.pool)
    }
}
