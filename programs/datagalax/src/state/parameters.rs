use anchor_lang::prelude::*;
use bytemuck::{Pod, Zeroable};

use super::assert_size;
use crate::{
    constants::{BPS, MAX_AMOUNT, VESTING_DAYS},
    error::DatagalaxError,
    math::Rate,
};

/// How much may be emitted in an epoch, and how it decays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable, AnchorSerialize, AnchorDeserialize, IdlType)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable, AnchorSerialize, AnchorDeserialize, IdlType)]
#[repr(C)]
pub struct VestingTerms {
    /// Id, 0 when free.
    pub id: u16,
    /// Paid at once, bps.
    pub immediate_bps: u16,
    /// First linear part, bps.
    pub short_bps: u16,
    /// Days of the first linear part, 1 to 180.
    pub short_days: u16,
    /// Second linear part, bps.
    pub long_bps: u16,
    /// Days of the second linear part, 1 to 180.
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
    /// What a keeper gets for an advance, a draw, a finished block or a closed case, base units, while the epoch's treasury share
    /// lasts.
    pub keeper_fee: u64,
    /// What an indexer stakes, base units.
    pub indexer_stake: u64,
    /// Largest net outflow of each vault (stake, rewards, escrow) in 24 hours, base units.
    pub breaker_limits: [u64; 3],
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
    /// Seconds between proposing and applying parameters and classes.
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

/// All that is changed behind the time lock at once; what is to stay is proposed as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, AnchorSerialize, AnchorDeserialize, IdlType)]
#[repr(C)]
pub struct Proposal {
    /// Parameters.
    pub parameters: Parameters,
    /// Emission from the next advance on.
    pub emission: Emission,
    /// Vesting terms of grants made from the day after it is applied (`id` and `from_day` are set by the program); all zero: no
    /// change.
    pub vesting: VestingTerms,
    /// The treasury's token account.
    pub treasury: Address,
    /// The key that may pause.
    pub guardian: Address,
    /// Seconds of an epoch, from the next boundary on.
    pub epoch_length: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

assert_size!(Emission, 24);
assert_size!(VestingTerms, 16);
assert_size!(Parameters, 160);
assert_size!(Proposal, 160 + 24 + 16 + 2 * 32 + 8);

/// Slots that must lie between the end of measuring and the draw (protocol section 4), seconds at 400 ms.
const DRAW_MARGIN: u32 = 7;
/// Longest time lock and longest start time-out, seconds: beyond these a slip of the pen would lock everybody out.
const LONGEST_TIME_LOCK: u32 = 30 * 86_400;
const LONGEST_START_TIMEOUT: u32 = 86_400;
/// Most epochs of a case's window: a row counts condemned epochs in eight bits, and a sixth of the window must fit.
const LONGEST_CASE: u64 = 1_000;

impl Parameters {
    /// Checks every bound for epochs of this length.
    ///
    /// # Errors
    /// [`DatagalaxError::ParameterOutOfBounds`] when a single value is out of its range,
    /// [`DatagalaxError::WindowsDoNotFit`] when the windows do not fit the epoch.
    #[inline(never)]
    pub fn validate(&self, epoch_length: u32) -> Result<()> {
        let shares =
            u64::from(self.container_share_bps) + u64::from(self.checker_share_bps) + u64::from(self.treasury_share_bps);
        let percents = [self.availability_threshold, self.capacity_threshold, self.breach_threshold, self.tolerance];
        let amounts = [self.ticket_price, self.max_seat_pay, self.max_rate.hi, self.keeper_fee, self.indexer_stake];
        require!(
            (20..=86_400).contains(&epoch_length)
                && shares == BPS
                && u64::from(self.lease_fee_bps) <= BPS
                && u64::from(self.indexer_share_bps) <= BPS
                && percents.iter().all(|p| *p <= 100)
                && amounts.iter().chain(&self.breaker_limits).all(|a| *a <= MAX_AMOUNT)
                && self.breaker_limits.iter().all(|l| *l > 0)
                && self.tokens_required <= 1
                && (1..=256).contains(&self.draw_delay)
                && self.beacon_modulus > 0
                && self.reveal_window > 0
                && self.ticket_price > 0
                && self.time_lock <= LONGEST_TIME_LOCK
                && (1..=LONGEST_START_TIMEOUT).contains(&self.start_timeout)
                && (1..=100 * BPS as u32).contains(&self.stake_coefficient_bps)
                && self.reserved == [0; 37],
            DatagalaxError::ParameterOutOfBounds
        );
        let length = u64::from(epoch_length);
        require!(
            u64::from(self.commit_lead) + u64::from(DRAW_MARGIN.min(epoch_length / 4)) < length / 2
                && u64::from(self.reveal_window) < length / 2
                && (8 * length..=LONGEST_CASE * length).contains(&u64::from(self.case_window))
                && u64::from(self.unbonding) >= u64::from(self.case_window) + 4 * length,
            DatagalaxError::WindowsDoNotFit
        );
        Ok(())
    }
}

impl Emission {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`DatagalaxError::ParameterOutOfBounds`].
    pub fn validate(&self) -> Result<()> {
        require!(
            self.amount <= MAX_AMOUNT && u64::from(self.decay_bps) <= BPS && self.reserved == 0,
            DatagalaxError::ParameterOutOfBounds
        );
        Ok(())
    }
}

impl VestingTerms {
    /// Checks that the parts are a whole and every part ends within the days that grants are kept apart.
    ///
    /// # Errors
    /// [`DatagalaxError::ParameterOutOfBounds`].
    pub fn validate(&self) -> Result<()> {
        let parts = u64::from(self.immediate_bps) + u64::from(self.short_bps) + u64::from(self.long_bps);
        require!(
            parts == BPS
                && (1..=VESTING_DAYS).contains(&u32::from(self.short_days))
                && (1..=VESTING_DAYS).contains(&u32::from(self.long_days)),
            DatagalaxError::ParameterOutOfBounds
        );
        Ok(())
    }

    /// Whether the proposal leaves the terms as they are.
    pub fn is_unchanged(&self) -> bool {
        *self == Self::default()
    }
}

impl Proposal {
    /// Checks everything in it.
    ///
    /// # Errors
    /// As [`Parameters::validate`].
    #[inline(never)]
    pub fn validate(&self) -> Result<()> {
        self.parameters.validate(self.epoch_length)?;
        self.emission.validate()?;
        require!(self.reserved == 0, DatagalaxError::ParameterOutOfBounds);
        if self.vesting.is_unchanged() {
            return Ok(());
        }
        self.vesting.validate()
    }
}
