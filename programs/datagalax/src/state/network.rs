use anchor_lang::prelude::*;
use bytemuck::{Pod, Zeroable};

use super::{Emission, Parameters, Proposal, VERSION, VestingTerms, assert_size};
use crate::{
    clock::after,
    constants::{MAX_AMOUNT, NONE, VESTING_DAYS},
    error::DatagalaxError,
};

/// The one root account, seeds `["network"]`. Read-only on every hot path.
#[account]
pub struct Network {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// 1 while the newest block is not at its full length.
    pub growing: u8,
    /// 1 when the mint was accepted with a freeze authority.
    pub freeze_allowed: u8,
    /// Bumps of the token accounts: stake, rewards, escrow.
    pub vault_bumps: [u8; 3],
    /// Reserved, zero.
    pub reserved_flag: u8,
    /// Proposes parameters and classes behind the time lock; ends a pause.
    pub authority: Address,
    /// Named next authority until it accepts; default when none.
    pub pending_authority: Address,
    /// May pause, never moves funds.
    pub guardian: Address,
    /// The mint of $ATH.
    pub mint: Address,
    /// The token program that owns the mint.
    pub token_program: Address,
    /// External token account of the treasury.
    pub treasury: Address,
    /// Genesis hash of the cluster: reports and signed messages are bound to it.
    pub genesis_hash: [u8; 32],
    /// The epoch grid that is or comes into force: `[0]`, and the one before it: `[1]`.
    pub grids: [Grid; 2],
    /// Epoch last advanced to, [`NONE`] before the first.
    pub current_epoch: u32,
    /// The epoch advanced to before that, while its reservation is not yet released, else [`NONE`].
    pub previous_epoch: u32,
    /// Id the next provider takes.
    pub providers: u32,
    /// Id the next checker takes.
    pub checkers: u32,
    /// Id the next indexer takes.
    pub indexers: u32,
    /// Index the next block takes.
    pub blocks: u32,
    /// Free rows in all full-length blocks: a new block is created only when there are none.
    pub free_rows: u32,
    /// Classes created.
    pub classes: u32,
    /// Weight and reference throughput of the class that bounds all others (see [`super::GpuClass`]).
    pub largest_class_weight: u64,
    /// Reference throughput of that class.
    pub largest_class_throughput: u64,
    /// Until when the network is paused, seconds; in the past when it is not.
    pub paused_until: i64,
    /// When the guardian last paused it, seconds.
    pub guardian_paused_at: i64,
    /// When `pending` may be applied, seconds; 0 when nothing is pending.
    pub pending_at: i64,
    /// The treasury's part of released epochs that was not paid out yet, base units of the rewards vault.
    pub treasury_due: u64,
    /// Emission schedule.
    pub emission: Emission,
    /// Parameters in force.
    pub parameters: Parameters,
    /// What was proposed.
    pub pending: Proposal,
    /// Vesting terms by live id; grants keep the terms they were made under.
    pub vesting_terms: [VestingTerms; 8],
    /// Reserved, zero.
    pub reserved: [u8; 128],
}

/// A fixed grid of epochs: number e starts at `start + (e - first_epoch) * length`. The windows belong to it, so that a change
/// of parameters never moves the deadline of a report that was measured before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, AnchorSerialize, AnchorDeserialize, IdlType)]
#[repr(C)]
pub struct Grid {
    /// Start of `first_epoch`, seconds of the chain's clock.
    pub start: i64,
    /// Number of the first epoch of this grid.
    pub first_epoch: u32,
    /// Length of an epoch in seconds.
    pub length: u32,
    /// Seconds after an epoch's end in which reports are revealed.
    pub reveal_window: u32,
    /// Seconds before an epoch's end at which measuring ends.
    pub commit_lead: u32,
}

impl Grid {
    /// The epoch that holds this instant, `None` before the grid starts.
    #[inline]
    pub fn epoch_at(&self, now: i64) -> Option<u32> {
        if now < self.start || self.length == 0 {
            return None;
        }
        // Both are non-negative here: an unsigned division, since SBF has no signed one.
        let passed = (now as u64).wrapping_sub(self.start as u64) / u64::from(self.length);
        u32::try_from(passed).ok()?.checked_add(self.first_epoch).filter(|e| *e != NONE)
    }

    /// When this epoch starts, seconds.
    #[inline]
    pub fn start_of(&self, epoch: u32) -> i64 {
        // 2^32 epochs of at most a day are far below 2^63 seconds.
        self.start.saturating_add(i64::from(epoch.saturating_sub(self.first_epoch)).wrapping_mul(i64::from(self.length)))
    }
}

assert_size!(Grid, 24);
assert_size!(Network, 8 + 7 * 32 + 2 * 24 + 8 * 4 + 6 * 8 + 24 + 160 + 272 + 8 * 16 + 128);

/// Seconds a pause lasts.
pub const PAUSE: u32 = 72 * 3_600;
/// Seconds between two pauses of the guardian's.
pub const PAUSE_INTERVAL: u32 = 7 * 86_400;

impl Network {
    /// The grid an instant lies on.
    #[inline]
    fn grid_at(&self, now: i64) -> &Grid {
        &self.grids[usize::from(now < self.grids[0].start)]
    }

    /// The grid an epoch lies on.
    #[inline]
    pub fn grid_of(&self, epoch: u32) -> &Grid {
        &self.grids[usize::from(epoch < self.grids[0].first_epoch)]
    }

    /// The epoch that holds this instant.
    ///
    /// # Errors
    /// [`DatagalaxError::NotStarted`] before the first epoch.
    #[inline(never)]
    pub fn epoch_at(&self, now: i64) -> Result<u32> {
        self.grid_at(now).epoch_at(now).ok_or_else(|| DatagalaxError::NotStarted.into())
    }

    /// Start and end of an epoch, seconds of the chain's clock. An epoch before the last change of length lies on the old grid.
    #[inline(never)]
    pub fn bounds(&self, epoch: u32) -> (i64, i64) {
        let grid = self.grid_of(epoch);
        let start = grid.start_of(epoch);
        (start, after(start, grid.length))
    }

    /// When an epoch that is not drawn yet becomes void: the end of its first quarter, seconds of the chain's clock.
    #[inline(never)]
    pub fn draw_deadline(&self, epoch: u32) -> i64 {
        let (start, end) = self.bounds(epoch);
        // Not negative: an unsigned division, since SBF has no signed one.
        let quarter = (end.saturating_sub(start) as u64 / 4) as i64;
        start.saturating_add(quarter)
    }

    /// Start of reveals, end of reveals (= start of the tally) and end of the tally of an epoch.
    #[inline]
    pub fn report_windows(&self, epoch: u32) -> (i64, i64, i64) {
        let (_, end) = self.bounds(epoch);
        let (_, tally_end) = self.bounds(epoch.saturating_add(1));
        (end, after(end, self.grid_of(epoch).reveal_window), tally_end)
    }

    /// Whether the network is paused.
    #[inline]
    pub const fn is_paused(&self, now: i64) -> bool {
        now < self.paused_until
    }

    /// Refuses while the network is paused.
    ///
    /// # Errors
    /// [`DatagalaxError::Paused`].
    #[inline(never)]
    pub fn require_running(&self, now: i64) -> Result<()> {
        require!(!self.is_paused(now), DatagalaxError::Paused);
        Ok(())
    }

    /// Puts a grid of other lengths into force from the next boundary on.
    ///
    /// # Errors
    /// [`DatagalaxError::GridChangePending`] while an epoch of the grid before the last may still be reported on: only two grids
    /// are kept.
    pub fn change_grid(&mut self, now: i64, length: u32, reveal_window: u32, commit_lead: u32) -> Result<()> {
        let newest = &self.grids[0];
        if (newest.length, newest.reveal_window, newest.commit_lead) == (length, reveal_window, commit_lead) {
            return Ok(());
        }
        let current = *self.grid_at(now);
        let Some(epoch) = current.epoch_at(now) else {
            // Nothing has begun: the first epoch keeps its start.
            let grid = Grid { length, reveal_window, commit_lead, ..current };
            self.grids = [grid, grid];
            return Ok(());
        };
        let settled = self.grids[0].first_epoch == 0 || u64::from(self.grids[0].first_epoch) + 2 <= u64::from(epoch);
        require!(settled, DatagalaxError::GridChangePending);
        let (_, end) = self.bounds(epoch);
        let first_epoch = epoch.checked_add(1).ok_or(DatagalaxError::Overflow)?;
        self.grids = [Grid { start: end, first_epoch, length, reveal_window, commit_lead }, current];
        Ok(())
    }

    /// The terms of grants made on a day.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when there are none.
    pub fn terms_on(&self, day: u32) -> Result<u16> {
        let terms = self.vesting_terms.iter().filter(|t| t.id != 0 && t.from_day <= day);
        let newest = terms.max_by_key(|t| t.from_day).ok_or(DatagalaxError::InvariantViolated)?;
        Ok(newest.id)
    }

    /// Adds vesting terms from the day after `today` on. Terms under which a grant may still vest are kept; the others make room.
    ///
    /// # Errors
    /// [`DatagalaxError::TooManyVestingTerms`] when eight sets may still be in use.
    pub fn add_terms(&mut self, terms: &VestingTerms, today: u32) -> Result<()> {
        let from_day = today.saturating_add(1);
        let id = self.vesting_terms.iter().map(|t| t.id).max().unwrap_or_default();
        let id = id.checked_add(1).ok_or(DatagalaxError::Overflow)?;
        let kept = self.vesting_terms;
        // Over when terms followed them so long ago that every grant of theirs has vested, whatever its provider did since.
        let is_over = |t: &VestingTerms| {
            kept.iter().any(|next| {
                next.id != 0 && next.from_day > t.from_day && next.from_day.saturating_add(VESTING_DAYS) <= today
            })
        };
        let slot = kept.iter().position(|t| t.id == 0 || t.from_day == from_day || is_over(t));
        let slot = slot.ok_or(DatagalaxError::TooManyVestingTerms)?;
        self.vesting_terms[slot] = VestingTerms { id, from_day, ..*terms };
        Ok(())
    }

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
            && self.growing <= 1
            && self.grids[0].length > 0
            && (self.previous_epoch == NONE || (self.current_epoch != NONE && self.previous_epoch < self.current_epoch))
            && self.emission.amount <= MAX_AMOUNT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let mut network: Network = Zeroable::zeroed();
        let grid = Grid { start: 1_000, first_epoch: 0, length: 60, reveal_window: 15, commit_lead: 10 };
        network.grids = [grid, grid];
        network
    }

    #[test]
    fn a_change_of_length_holds_from_the_next_boundary() {
        let mut network = network();
        assert_eq!(network.epoch_at(999), Err(DatagalaxError::NotStarted.into()));
        network.change_grid(1_130, 100, 20, 5).unwrap();
        // Epoch 2 lasts until 1,180, as it began.
        assert_eq!([1_130, 1_179, 1_180, 1_279, 1_280].map(|t| network.epoch_at(t).unwrap()), [2, 2, 3, 3, 4]);
        assert_eq!(network.report_windows(2), (1_180, 1_195, 1_280));
        assert_eq!(network.report_windows(3), (1_280, 1_300, 1_380));
        // Two grids are kept, so the next change waits until nobody reports on the oldest.
        assert_eq!(network.change_grid(1_185, 60, 15, 10), Err(DatagalaxError::GridChangePending.into()));
        assert_eq!(network.change_grid(1_380, 60, 15, 10), Ok(()));
        assert_eq!([1_479, 1_480, 1_540].map(|t| network.epoch_at(t).unwrap()), [5, 6, 7]);
    }

    #[test]
    fn the_same_lengths_are_no_change() {
        let mut network = network();
        let before = network.grids;
        network.change_grid(1_130, 60, 15, 10).unwrap();
        assert_eq!(network.grids, before);
    }

    #[test]
    fn terms_hold_from_the_next_day_and_live_until_their_grants_have_vested() {
        let mut network = network();
        let terms = VestingTerms { immediate_bps: 10_000, short_days: 1, long_days: 1, ..Default::default() };
        network.vesting_terms[0] = VestingTerms { id: 1, ..terms };
        network.add_terms(&terms, 100).unwrap();
        assert_eq!((network.terms_on(100), network.terms_on(101)), (Ok(1), Ok(2)));
        // Changed again on the same day: nobody was granted anything under it.
        network.add_terms(&terms, 100).unwrap();
        assert_eq!(network.terms_on(101), Ok(3));
        for day in 101..107 {
            network.add_terms(&terms, day).unwrap();
        }
        assert_eq!(network.add_terms(&terms, 107), Err(DatagalaxError::TooManyVestingTerms.into()));
        assert_eq!(network.add_terms(&terms, 280), Err(DatagalaxError::TooManyVestingTerms.into()));
        // Terms 1 were followed on day 101: on day 281 the last of their grants is 181 days old.
        network.add_terms(&terms, 281).unwrap();
        assert!(network.vesting_terms.iter().all(|t| t.id != 1));
    }
}
