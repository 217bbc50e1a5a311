//! Judging a block's rows: medians, life cycle, pay and the seats' marks (protocol sections 5 and 6). No accounts, no clock:
//! the handler hands in what it read, and the off-chain crates can ask what a tally would do.

use crate::{
    constants::{BREACHED, HISTORY, NONE, ROWS, SEATS, VOID},
    error::DatagalaxError,
    math::{self, Rate},
    state::{Block, Epoch, Lane, Row, Seat},
    votes::{GROUP, Group, Verdict},
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
    /// Epochs of a case's window that begins in this one.
    pub case_epochs: u32,
    /// Epochs that a full measurement of a leased row holds for.
    pub capacity_epochs: u32,
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

/// Whether as many of the last sixteen epochs were bad as send a live row back to checking: four.
#[inline(always)]
const fn has_bad_epochs(bits: u16) -> bool {
    // Each step clears the lowest one; the chain has no instruction that counts them.
    let two = bits & bits.wrapping_sub(1);
    let three = two & two.wrapping_sub(1);
    three & three.wrapping_sub(1) != 0
}

/// Good epochs in a row that end probation, as bits of [`Row::bad_epochs`].
const PROBATION_MASK: u16 = 0b1111;
/// Blocks that an epoch seats before a low score marks a seat.
pub const MARKING_BLOCKS: u32 = 8;
/// Rows a seat is judged on before a low score marks it.
pub const MARKING_ROWS: u16 = 32;

impl Rules {
    /// The rules of an epoch for a block whose committee in it has `seats`.
    pub fn new(account: &Epoch, last_tallied: u32, first_seated: u32, seats: u8) -> Self {
        let after = if last_tallied == NONE { first_seated } else { last_tallied.saturating_add(1) };
        let (epoch, thresholds) = (account.number, &account.thresholds);
        Self {
            epoch,
            // The ring holds no more than its length.
            skipped_from: after.clamp(epoch.saturating_sub(HISTORY - 1), epoch),
            rate: account.rate,
            quorum: math::quorum(seats),
            condemning: math::condemning(seats),
            availability_threshold: thresholds.availability,
            capacity_threshold: thresholds.capacity,
            breach_threshold: thresholds.breach,
            tolerance: thresholds.tolerance,
            tokens_required: thresholds.tokens_required == 1,
            case_epochs: account.case_epochs,
            capacity_epochs: account.capacity_epochs,
        }
    }
}

/// Judges at most `count` rows of the epoch's lane from its cursor on, and moves the cursor.
///
/// # Errors
/// [`DatagalaxError::Overflow`] when an amount leaves 64 bits.
pub fn judge_rows(block: &mut Block, rules: &Rules, count: u16) -> Result<Outcome, DatagalaxError> {
    let mut outcome = Outcome::default();
    let Block { lanes, rows, .. } = block;
    let lane = &mut lanes[(rules.epoch & 1) as usize];
    let end = lane.cursor.saturating_add(count).min(ROWS as u16);
    let (mut judged, mut right) = (0u64, [0u64; SEATS]);
    // A seat that did not reveal voted on nothing.
    for seat in lane.committee.iter_mut().filter(|s| s.revealed != 1) {
        seat.availability.fill(u8::MAX);
    }
    let mut index = usize::from(lane.cursor);
    while index < usize::from(end) {
        let first = index / GROUP * GROUP;
        let last = (first + GROUP).min(usize::from(end));
        // Looked for once a group, so that the votes are read before the rows and not within their loop.
        while index < last && rows[usize::from(index as u8)].status == Row::FREE {
            index += 1;
        }
        if index == last {
            continue;
        }
        let group = Group::read(&lane.committee, first, rules);
        let mut exams = 0;
        for r in index..last {
            // A u8 index into 256 needs no bounds check: this loop is what a tally costs.
            let row = &mut rows[usize::from(r as u8)];
            if row.status == Row::FREE {
                continue;
            }
            for epoch in rules.skipped_from..rules.epoch {
                row.history[(epoch % HISTORY) as usize] = VOID;
            }
            if judge_row(row, group.verdict(r), rules, &mut outcome)? {
                exams |= Group::flag(r);
            }
        }
        group.add_right(exams, &mut right);
        judged += Group::count(exams);
        index = last;
    }
    lane.cursor = end;
    for (seat, right) in lane.committee.iter_mut().zip(right) {
        // At most 256 rows.
        seat.judged = seat.judged.saturating_add(judged as u16);
        seat.right = seat.right.saturating_add(right as u16);
    }
    // A count that went around is more than there are rows: the block's invariant sees it.
    block.live = block.live.wrapping_add(outcome.gone_live).wrapping_sub(outcome.fallen_back);
    Ok(outcome)
}

/// Judges one row; says whether the seats are judged on it.
#[inline(always)]
fn judge_row(row: &mut Row, verdict: Verdict, rules: &Rules, outcome: &mut Outcome) -> Result<bool, DatagalaxError> {
    let slot = (rules.epoch % HISTORY) as usize;
    // Registered in the middle of this epoch: nobody could measure all of it.
    let counts = row.live_from <= rules.epoch && rules.epoch < row.until;
    if verdict.is_void() || (!counts && row.status == Row::CHECKING) {
        row.history[slot] = VOID;
        return Ok(false);
    }
    let median = verdict.availability;
    row.history[slot] = if verdict.is_breached() { median | BREACHED } else { median };
    let (mut power, mut cap) = (verdict.capacity, u64::MAX);
    if row.flags & Row::UNUSUAL == 0 {
        row.full_capacity = power;
        row.full_capacity_epoch = rules.epoch;
        if verdict.is_condemned() {
            row.accuse(rules.epoch, rules.case_epochs);
        }
    } else {
        cap = judge_unusual(row, verdict, rules);
        power = row.full_capacity;
    }

    // Seats are judged on rows that already earn: a row that is being checked is nobody's exam.
    let exam = counts && row.status != Row::CHECKING && verdict.is_agreed();
    let good = median >= rules.availability_threshold && power >= rules.capacity_threshold && !verdict.is_condemned();
    row.bad_epochs = (row.bad_epochs << 1) | u16::from(!good);
    match row.status {
        Row::CHECKING => {
            let cleared = row.flags & Row::PROBATION == 0 || row.bad_epochs & PROBATION_MASK == 0;
            if good && verdict.is_agreed() && cleared {
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
            // Neither reaches 2^32 in the lifetime of a row: an epoch lasts 20 seconds at least.
            row.epochs_live = row.epochs_live.wrapping_add(1);
            row.availability_sum = row.availability_sum.wrapping_add(u32::from(median));
            if good {
                let weight = math::weight(row.unit_weight, row.gpus, median, power);
                let mut pay = rules.rate.pay(weight).ok_or(DatagalaxError::Overflow)?;
                if cap != u64::MAX {
                    // Rounded down, as the pay is.
                    pay = pay.min(math::mul_ratio(cap, u64::from(median), 100).unwrap_or(0));
                }
                row.accrued = row.accrued.checked_add(pay).ok_or(DatagalaxError::Overflow)?;
                outcome.credited = outcome.credited.checked_add(pay).ok_or(DatagalaxError::Overflow)?;
            }
            // Most rows have none: counting them is left out.
            if row.bad_epochs != 0 && row.is_live() && has_bad_epochs(row.bad_epochs) {
                row.fall_back();
                outcome.fallen_back += 1;
                outcome.nominal_removed += math::nominal_weight(row.unit_weight, row.gpus);
            }
        }
        _ => {}
    }
    if row.flags & Row::FALLING != 0 && rules.epoch.saturating_add(1) >= row.until {
        // Nominal has lost it already, when it ceased.
        row.fall_back();
        row.bad_epochs = u16::MAX;
        outcome.fallen_back += 1;
    }
    Ok(exam)
}

/// The rare cases, apart from the short way that a million rows take: cases (protocol section 9), leases (section 6), lack of stake.
/// Says the most that the row may earn, base units, `u64::MAX` when there is no bound; the capacity it is judged by is then
/// `full_capacity`.
#[inline(never)]
fn judge_unusual(row: &mut Row, verdict: Verdict, rules: &Rules) -> u64 {
    let epoch = rules.epoch;
    if row.is_accused() {
        if row.first_condemned < epoch && epoch <= row.case_until {
            // Attack: hide from the next committees. Once two condemned, an absence counts like their verdict.
            let hides = row.condemned >= 2 && verdict.availability < rules.availability_threshold;
            if verdict.is_condemned() || hides {
                row.condemned = row.condemned.saturating_add(1);
                row.clean = 0;
            } else {
                row.clean = row.clean.saturating_add(1);
            }
        }
    } else if verdict.is_condemned() {
        row.accuse(epoch, rules.case_epochs);
    }

    let mut most = u64::MAX;
    match row.cap_of(epoch) {
        Some(cap) => {
            // A tenant has the GPUs: what counts is the last measurement without one, while it is fresh.
            let fresh =
                row.full_capacity_epoch != NONE && epoch.saturating_sub(row.full_capacity_epoch) <= rules.capacity_epochs;
            most = if fresh { cap } else { 0 };
        }
        None => {
            row.full_capacity = verdict.capacity;
            row.full_capacity_epoch = epoch;
        }
    }
    if row.flags & Row::LEASED != 0 && row.lease_until <= epoch {
        row.flags &= !Row::LEASED;
    }
    if row.was_halted_before(epoch) {
        most = 0;
    }
    most
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
