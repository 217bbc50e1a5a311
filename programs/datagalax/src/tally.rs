//! Judging a block's rows: medians, life cycle, pay and the seats' marks (protocol sections 5 and 6). No accounts, no clock:
//! the handler hands in what it read, and the off-chain crates can ask what a tally would do.

use crate::{
    constants::{BREACHED, DISHONEST, HISTORY, NONE, ROWS, SEATS, VOID},
    error::DatagalaxError,
    math::{self, Rate},
    state::{Block, Lane, Parameters, Row, Seat},
};

/// What holds for a whole tally.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The epoch tallied.
    pub epoch: u32,
    /// First epoch since the block's last tally that nobody tallied; equal to `epoch` when none was skipped.
    pub skipped_from: u32,
    /// Price of a unit of weight.
    pub rate: Rate,
    /// Votes that make a row quorate, M.
    pub quorum: u8,
    /// Votes of a dishonest verdict, Q.
    pub condemning: u8,
    /// Percent.
    pub availability_threshold: u8,
    /// Percent.
    pub capacity_threshold: u8,
    /// Percent.
    pub breach_threshold: u8,
    /// Points.
    pub tolerance: u8,
    /// Whether an agreed token of 0 proves nothing.
    pub tokens_required: bool,
}

/// What a part of a tally changed beyond the rows themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Credited to rows, base units.
    pub credited: u64,
    /// Weight that went live.
    pub nominal_added: u64,
    /// Weight that ceased to be live.
    pub nominal_removed: u64,
    /// Rows that went live.
    pub gone_live: u16,
    /// Rows that fell back to checking.
    pub fallen_back: u16,
}

/// Bad epochs of the last sixteen that send a live row back to checking.
const BAD_EPOCHS: u32 = 4;
/// Good epochs in a row that end probation, as bits of [`Row::bad_epochs`].
const PROBATION_MASK: u16 = 0b1111;
/// Blocks that an epoch seats before a low score marks a seat.
pub const MARKING_BLOCKS: u32 = 8;
/// Rows a seat is judged on before a low score marks it.
pub const MARKING_ROWS: u16 = 32;

impl Rules {
    /// The rules of an epoch for a committee of `seats`.
    pub fn new(epoch: u32, last_tallied: u32, first_seated: u32, rate: Rate, seats: u8, parameters: &Parameters) -> Self {
        let after = if last_tallied == NONE { first_seated } else { last_tallied.saturating_add(1) };
        Self {
            epoch,
            // The ring holds no more than its length.
            skipped_from: after.clamp(epoch.saturating_sub(HISTORY - 1), epoch),
            rate,
            quorum: math::quorum(seats),
            condemning: math::condemning(seats),
            availability_threshold: parameters.availability_threshold,
            capacity_threshold: parameters.capacity_threshold,
            breach_threshold: parameters.breach_threshold,
            tolerance: parameters.tolerance,
            tokens_required: parameters.tokens_required == 1,
        }
    }
}

/// How often each seat was right, 12 bits a seat: at most 256 times.
#[derive(Default)]
struct Tallies {
    judged: u16,
    right: u64,
}

const RIGHT_BITS: usize = 12;

/// Does something for every seat. The chain has no registers to index: a loop over seats would live in memory.
macro_rules! for_seats {
    ($s:ident, $body:block) => {
        for_seats!(@ $s, $body, 0 1 2 3 4)
    };
    (@ $s:ident, $body:block, $($seat:literal)*) => {
        $({
            const $s: usize = $seat;
            $body
        })*
    };
}

const _: () = assert!(SEATS == 5, "for_seats and the median are of five");

/// Judges at most `count` rows of the epoch's lane from its cursor on, and moves the cursor.
///
/// # Errors
/// [`DatagalaxError::Overflow`] when an amount leaves 64 bits.
pub fn judge_rows(block: &mut Block, rules: &Rules, count: u16) -> Result<Outcome, DatagalaxError> {
    let mut outcome = Outcome::default();
    let Block { lanes, rows, .. } = block;
    let lane = &mut lanes[(rules.epoch & 1) as usize];
    let end = lane.cursor.saturating_add(count).min(ROWS as u16);
    let mut tallies = Tallies::default();
    // A seat that did not reveal voted on nothing.
    for seat in lane.committee.iter_mut().filter(|s| s.revealed != 1) {
        seat.availability.fill(u8::MAX);
    }
    for index in lane.cursor..end {
        // A u8 index into 256 needs no bounds check: this loop is what a tally costs.
        let r = usize::from(index as u8);
        let row = &mut rows[r];
        if row.status == Row::FREE {
            continue;
        }
        for epoch in rules.skipped_from..rules.epoch {
            row.history[(epoch % HISTORY) as usize] = VOID;
        }
        judge_row(row, r, &lane.committee, rules, &mut outcome, &mut tallies)?;
    }
    lane.cursor = end;
    for (s, seat) in lane.committee.iter_mut().enumerate() {
        seat.judged += tallies.judged;
        seat.right += (tallies.right >> (s * RIGHT_BITS)) as u16 & ((1 << RIGHT_BITS) - 1);
    }
    block.live = block.live + outcome.gone_live - outcome.fallen_back;
    Ok(outcome)
}

/// What the seats say of one row, in 64-bit words, since the chain has no narrower arithmetic.
///
/// An absent vote is filled in below and above the others in turn, which leaves the lower median of the votes in the middle of
/// the five; its token is no token.
struct Votes {
    availability: [u64; SEATS],
    capacity: [u64; SEATS],
    /// Token + 1.
    token: [u64; SEATS],
    absent: u64,
    /// Bit s: seat s says dishonest.
    accusers: u64,
}

impl Votes {
    #[inline(always)]
    fn read(committee: &[Seat; SEATS], r: usize) -> Self {
        let none = [0; SEATS];
        let mut votes = Self { availability: none, capacity: none, token: none, absent: 0, accusers: 0 };
        for_seats!(S, {
            let seat = &committee[S];
            let availability = u64::from(seat.availability[r]);
            votes.availability[S] = availability & u64::from(!DISHONEST);
            votes.capacity[S] = u64::from(seat.capacity[r]);
            votes.token[S] = u64::from(seat.token[r]) + 1;
            if votes.availability[S] > 100 || votes.capacity[S] > 100 {
                let above = votes.absent & 1 == 1;
                votes.availability[S] = if above { 0xff } else { 0 };
                votes.capacity[S] = votes.availability[S];
                votes.token[S] = if above { 0x1ff } else { 0 };
                votes.absent += 1;
            } else if availability > 0x7f {
                votes.accusers |= 1 << S;
            }
        });
        votes
    }

    /// Votes of less than this availability.
    fn below(&self, availability: u64) -> u64 {
        let mut low = 0;
        for s in 0..SEATS {
            // Absent votes have no token.
            low += u64::from(self.availability[s] < availability && (1..=0x100).contains(&self.token[s]));
        }
        low
    }
}

#[inline(always)]
fn judge_row(
    row: &mut Row,
    r: usize,
    committee: &[Seat; SEATS],
    rules: &Rules,
    outcome: &mut Outcome,
    tallies: &mut Tallies,
) -> Result<(), DatagalaxError> {
    let slot = (rules.epoch % HISTORY) as usize;
    // Registered in the middle of this epoch: nobody could measure all of it.
    let counts = row.live_from <= rules.epoch && rules.epoch < row.until;
    if !counts && row.status == Row::CHECKING {
        row.history[slot] = VOID;
        return Ok(());
    }

    let votes = Votes::read(committee, r);
    if SEATS as u64 - votes.absent < u64::from(rules.quorum) {
        row.history[slot] = VOID;
        return Ok(());
    }

    let median_word = math::median_of_five(votes.availability);
    let power_word = math::median_of_five(votes.capacity);
    // A value that M of the seats share is their median, so the median is the only candidate.
    let agreed = math::median_of_five(votes.token);
    // The median of votes is a vote: at most 100.
    let (median, power) = (median_word as u8, power_word as u8);
    let condemning = u64::from(rules.condemning);
    let condemned = votes.accusers != 0 && u64::from(votes.accusers.count_ones()) >= condemning;
    // More than half of the votes are low only if the median is.
    let breached = median < rules.breach_threshold && votes.below(u64::from(rules.breach_threshold)) >= condemning;
    row.history[slot] = if breached { median | BREACHED } else { median };
    row.full_capacity = power;
    row.full_capacity_epoch = rules.epoch;

    let (mut agreeing, mut right) = (0u64, 0u64);
    for_seats!(S, {
        if votes.token[S] == agreed {
            agreeing += 1;
            right |= 1 << (S * RIGHT_BITS);
        }
    });
    let token_agreed = agreeing >= u64::from(rules.quorum) && (agreed != 1 || !rules.tokens_required);

    // Seats are judged on rows that already earn: a row that is being checked is nobody's exam.
    if counts && row.status != Row::CHECKING && token_agreed {
        tallies.judged += 1;
        let tolerance = u64::from(rules.tolerance);
        // |x - m| <= t is x - (m - t) <= 2t in wrapping arithmetic.
        let (floor, power_floor) = (median_word.wrapping_sub(tolerance), power_word.wrapping_sub(tolerance));
        for_seats!(S, {
            if votes.availability[S].wrapping_sub(floor) > 2 * tolerance
                || votes.capacity[S].wrapping_sub(power_floor) > 2 * tolerance
                // Contested: the verdict is not judged. Condemned: whoever did not say so is wrong.
                || (condemned && votes.accusers >> S & 1 == 0)
            {
                right &= !(1 << (S * RIGHT_BITS));
            }
        });
        tallies.right = tallies.right.wrapping_add(right);
    }

    let good = median >= rules.availability_threshold && power >= rules.capacity_threshold && !condemned;
    row.bad_epochs = (row.bad_epochs << 1) | u16::from(!good);
    match row.status {
        Row::CHECKING => {
            let cleared = row.flags & Row::PROBATION == 0 || row.bad_epochs & PROBATION_MASK == 0;
            if good && token_agreed && cleared {
                // The rate of the next epoch is fixed already: the row is part of the one after.
                row.status = Row::LIVE;
                row.live_from = rules.epoch.saturating_add(2);
                row.flags &= !Row::PROBATION;
                row.bad_epochs = 0;
                outcome.gone_live += 1;
                outcome.nominal_added += math::nominal_weight(row.unit_weight, row.gpus);
            }
        }
        Row::LIVE | Row::LEAVING if counts => {
            if good {
                let weight = math::weight(row.unit_weight, row.gpus, median, power);
                let pay = rules.rate.pay(weight).ok_or(DatagalaxError::Overflow)?;
                row.accrued = row.accrued.checked_add(pay).ok_or(DatagalaxError::Overflow)?;
                outcome.credited = outcome.credited.checked_add(pay).ok_or(DatagalaxError::Overflow)?;
            }
            if row.status == Row::LIVE && row.bad_epochs != 0 && row.bad_epochs.count_ones() >= BAD_EPOCHS {
                row.status = Row::CHECKING;
                row.flags |= Row::PROBATION;
                outcome.fallen_back += 1;
                outcome.nominal_removed += math::nominal_weight(row.unit_weight, row.gpus);
            }
        }
        _ => {}
    }
    Ok(())
}

/// What a seat gets once its block is tallied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Base units, rounded down.
    pub pay: u64,
    /// Whether the ticket takes a mark; `None` when the seat was not judged at all.
    pub marked: Option<bool>,
}

/// Pays a seat `seat_pay x right / judged` and says whether it is marked.
///
/// A seat that did not reveal is marked. One that did is marked only where the evidence is broad: at least
/// [`MARKING_BLOCKS`] blocks in the epoch, [`MARKING_ROWS`] rows judged and under two thirds of them right.
pub fn settle_seat(seat: &Seat, seat_pay: u64, blocks: u32) -> Settlement {
    if seat.revealed == 0 {
        return Settlement { pay: 0, marked: Some(true) };
    }
    if seat.judged == 0 {
        return Settlement { pay: 0, marked: None };
    }
    let (right, judged) = (u64::from(seat.right), u64::from(seat.judged));
    // seat_pay <= 2^56 and right <= 256: exact in 64 bits, rounded down.
    let pay = math::mul_ratio(seat_pay, right, judged).unwrap_or(0);
    let broad = blocks >= MARKING_BLOCKS && seat.judged >= MARKING_ROWS;
    Settlement { pay, marked: Some(broad && right * 3 < judged * 2) }
}

/// Empties a lane for an epoch's committee.
pub fn open_lane(lane: &mut Lane, epoch: u32, seats: u8) {
    lane.epoch = epoch;
    lane.cursor = 0;
    lane.seats = seats;
    lane.tallied = 0;
    lane.entropy = [0; 32];
    for seat in &mut lane.committee {
        // The report columns stay as they are: `revealed` alone says whether they count (the tally voids the others).
        seat.slot = NONE;
        seat.checker = NONE;
        seat.operator = Default::default();
        seat.commitment = [0; 32];
        seat.revealed = 0;
        seat.judged = 0;
        seat.right = 0;
    }
}
