use anchor_lang::prelude::*;
use bytemuck::{Pod, Zeroable};

use super::{VERSION, assert_size};
use crate::{
    constants::{BPS, MAX_AMOUNT, NONE},
    error::DatagalaxError,
    math::Rate,
};

/// The one root account, seeds `["network"]`. Read-only on every hot path.
#[account]
pub struct Network {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// 1 while paused (the guardian's lever; lapses by itself).
    pub paused: u8,
    /// Bumps of the token accounts: stake, rewards, escrow.
    pub vault_bumps: [u8; 3],
    /// 1 when the mint was accepted with a freeze authority.
    pub freeze_allowed: u8,
    /// 1 while the newest block is not at its full length.
    pub growing: u8,
    /// Sets parameters and classes behind the time lock; moves the treasury.
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
    /// The epoch grid in force: `[0]`, and the one before the last change of the epoch's length: `[1]`.
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
    /// When the pause began, and when the last one did.
    pub paused_at: i64,
    /// When the last pause ended.
    pub unpaused_at: i64,
    /// When `pending_parameters` may be applied, 0 when nothing is pending.
    pub pending_at: i64,
    /// Emission schedule.
    pub emission: Emission,
    /// Parameters in force.
    pub parameters: Parameters,
    /// Parameters proposed.
    pub pending_parameters: Parameters,
    /// Vesting terms by live id; grants keep the terms they were made under.
    pub vesting_terms: [VestingTerms; 8],
    /// Reserved, zero.
    pub reserved: [u8; 128],
}

/// A fixed grid of epochs: number e starts at `start + (e - first_epoch) * length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, AnchorSerialize, AnchorDeserialize, IdlType)]
#[repr(C)]
pub struct Grid {
    /// Start of `first_epoch`, seconds of the chain's clock.
    pub start: i64,
    /// Number of the first epoch of this grid.
    pub first_epoch: u32,
    /// Length of an epoch in seconds.
    pub length: u32,
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
        self.start.saturating_add(i64::from(epoch.saturating_sub(self.first_epoch)) * i64::from(self.length))
    }
}

/// How much may be emitted in an epoch, and how it decays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, AnchorSerialize, AnchorDeserialize, IdlType)]
#[repr(C)]
pub struct Emission {
    /// Scheduled for the current epoch, base units.
    pub amount: u64,
    /// What each decay takes off, bps.
    pub decay_bps: u32,
    /// Epochs between decays; 0: never.
    pub decay_every: u32,
    /// The epoch of the next decay.
    pub next_decay: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

/// Terms of a vesting grant. Immutable once used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, AnchorSerialize, AnchorDeserialize, IdlType)]
#[repr(C)]
pub struct VestingTerms {
    /// Id, 0 when free.
    pub id: u16,
    /// Paid at once, bps.
    pub immediate_bps: u16,
    /// First linear part, bps.
    pub short_bps: u16,
    /// Days of the first linear part.
    pub short_days: u16,
    /// Second linear part, bps.
    pub long_bps: u16,
    /// Days of the second linear part.
    pub long_days: u16,
    /// First day (unix day) these terms hold.
    pub from_day: u32,
}

/// What the authority may tune, within [`Parameters::validate`], never retroactively.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, AnchorSerialize, AnchorDeserialize, IdlType)]
#[repr(C)]
pub struct Parameters {
    /// Price of one checker ticket, base units.
    pub ticket_price: u64,
    /// Most that one unit of weight earns in an epoch.
    pub max_rate: Rate,
    /// Most that one seat earns in an epoch, base units.
    pub max_seat_pay: u64,
    /// Slots between advance and the slot whose hash is drawn.
    pub draw_delay: u32,
    /// Seconds before the epoch's end at which measuring ends.
    pub commit_lead: u32,
    /// Seconds after the epoch's end in which reports are revealed.
    pub reveal_window: u32,
    /// Seconds a dishonest case stays open.
    pub case_window: u32,
    /// Seconds a requested unstake waits.
    pub unbonding: u32,
    /// Seconds a container has to start a lease.
    pub start_timeout: u32,
    /// Seconds between proposing and applying parameters.
    pub time_lock: u32,
    /// A slot is a beacon when its hash modulo this is zero.
    pub beacon_modulus: u32,
    /// Stake coefficient, bps of the class's base.
    pub stake_coefficient_bps: u32,
    /// Containers' share of the pool, bps.
    pub container_share_bps: u16,
    /// Checkers' share of the pool, bps.
    pub checker_share_bps: u16,
    /// Treasury's share of the pool, bps.
    pub treasury_share_bps: u16,
    /// Protocol fee on what a lease pays, bps.
    pub lease_fee_bps: u16,
    /// Indexer's share of the protocol fee, bps.
    pub indexer_share_bps: u16,
    /// Below this availability (percent) a row earns nothing and the epoch counts as bad.
    pub availability_threshold: u8,
    /// Below this capacity (percent) likewise.
    pub capacity_threshold: u8,
    /// Availability under which a leased epoch may be a breach, percent.
    pub breach_threshold: u8,
    /// How far a vote may lie from the median and be right, points.
    pub tolerance: u8,
    /// 1: an agreed token of 0 proves nothing, so such a row neither goes live nor judges a seat. 0 until hosts answer
    /// beacons: token 0 counts as agreed.
    pub tokens_required: u8,
    /// Reserved, zero.
    pub reserved: [u8; 37],
}

assert_size!(Grid, 16);
assert_size!(Emission, 24);
assert_size!(VestingTerms, 16);
assert_size!(Parameters, 120);
assert_size!(Network, 8 + 7 * 32 + 2 * 16 + 8 * 4 + 5 * 8 + 24 + 2 * 120 + 8 * 16 + 128);

/// Slots that must lie between the end of measuring and the draw (protocol section 4), seconds at 400 ms.
const DRAW_MARGIN: u32 = 7;

impl Parameters {
    /// Checks every bound for epochs of this length.
    ///
    /// # Errors
    /// [`DatagalaxError::ParameterOutOfBounds`] when a single value is out of its range,
    /// [`DatagalaxError::WindowsDoNotFit`] when the windows do not fit the epoch.
    pub fn validate(&self, epoch_length: u32) -> Result<()> {
        let shares =
            u64::from(self.container_share_bps) + u64::from(self.checker_share_bps) + u64::from(self.treasury_share_bps);
        let percents = [self.availability_threshold, self.capacity_threshold, self.breach_threshold, self.tolerance];
        require!(
            (20..=86_400).contains(&epoch_length)
                && shares == BPS
                && u64::from(self.lease_fee_bps) <= BPS
                && u64::from(self.indexer_share_bps) <= BPS
                && percents.iter().all(|p| *p <= 100)
                && self.tokens_required <= 1
                && (1..=256).contains(&self.draw_delay)
                && self.beacon_modulus > 0
                && self.reveal_window > 0
                && self.ticket_price > 0
                && self.ticket_price <= MAX_AMOUNT
                && self.max_seat_pay <= MAX_AMOUNT
                && self.max_rate.hi <= MAX_AMOUNT
                && (1..=100 * BPS as u32).contains(&self.stake_coefficient_bps)
                && self.reserved == [0; 37],
            DatagalaxError::ParameterOutOfBounds
        );
        let length = u64::from(epoch_length);
        require!(
            u64::from(self.commit_lead) + u64::from(DRAW_MARGIN.min(epoch_length / 4)) < length / 2
                && u64::from(self.reveal_window) < length / 2
                && u64::from(self.case_window) >= 8 * length
                && u64::from(self.unbonding) >= u64::from(self.case_window) + 4 * length,
            DatagalaxError::WindowsDoNotFit
        );
        Ok(())
    }
}

impl Network {
    /// The epoch that holds this instant.
    ///
    /// # Errors
    /// [`DatagalaxError::NotStarted`] before the first epoch.
    #[inline]
    pub fn epoch_at(&self, now: i64) -> Result<u32> {
        self.grids[0].epoch_at(now).ok_or_else(|| DatagalaxError::NotStarted.into())
    }

    /// Start and end of an epoch, seconds of the chain's clock. An epoch before the last change of length lies on the old grid.
    #[inline]
    pub fn bounds(&self, epoch: u32) -> (i64, i64) {
        let [grid, before] = &self.grids;
        if epoch < grid.first_epoch {
            let start = before.start_of(epoch);
            return (start, start.saturating_add(i64::from(before.length)));
        }
        let start = grid.start_of(epoch);
        (start, start.saturating_add(i64::from(grid.length)))
    }

    /// When an epoch that is not drawn yet becomes void: the end of its first quarter, seconds of the chain's clock.
    #[inline]
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
        (end, end.saturating_add(i64::from(self.parameters.reveal_window)), tally_end)
    }

    /// What must hold of the account after every instruction.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`].
    pub fn invariant(&self) -> Result<()> {
        require!(
            self.version == VERSION
                && self.paused <= 1
                && self.growing <= 1
                && self.grids[0].length > 0
                && (self.previous_epoch == NONE || (self.current_epoch != NONE && self.previous_epoch < self.current_epoch))
                && self.emission.amount <= MAX_AMOUNT,
            DatagalaxError::InvariantViolated
        );
        Ok(())
    }
}
