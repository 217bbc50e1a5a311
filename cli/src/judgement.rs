//! What the reports say of a row, and what that pays: the program's own functions on what the chain shows.

use datagalax::{
    constants::{NONE, SEATS},
    math,
    report::Vote,
    state::{Epoch, Lane, Row},
};

/// The seats' word on one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Vote of each seat, `None` for no vote or no report.
    pub votes: [Option<Vote>; SEATS],
    /// Lower medians, `None` when too few seats voted: the epoch is void for the row.
    pub medians: Option<Medians>,
    /// Enough seats said "dishonest".
    pub condemned: bool,
}

/// Lower medians of a row, percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Medians {
    /// Availability.
    pub availability: u8,
    /// Capacity.
    pub capacity: u8,
}

/// Reads the votes of a lane on a row.
pub fn judge(lane: &Lane, row: u8) -> Judgement {
    let r = usize::from(row);
    let votes = lane.committee.each_ref().map(|seat| {
        (seat.is_filled() && seat.revealed == 1)
            .then(|| Vote::read(seat.availability[r], seat.capacity[r], seat.token[r]))
            .flatten()
    });
    let cast: Vec<Vote> = votes.iter().flatten().copied().collect();
    let median = |value: fn(&Vote) -> u8| {
        let mut values = [u8::MAX; SEATS];
        for (slot, vote) in values.iter_mut().zip(&cast) {
            *slot = value(vote);
        }
        math::lower_median(values, cast.len())
    };
    let quorate = cast.len() >= usize::from(math::quorum(lane.seats));
    let medians = quorate.then(|| Medians { availability: median(|v| v.availability), capacity: median(|v| v.capacity) });
    let accusing = cast.iter().filter(|v| v.dishonest).count();
    Judgement { votes, medians, condemned: accusing >= usize::from(math::condemning(lane.seats)) }
}

/// What the epoch pays the row for this judgement, base units: the program's rate and weight, so the same as the tally's
/// credit, which the chain keeps only as a sum.
pub fn pay(row: &Row, judgement: &Judgement, epoch: &Epoch) -> u64 {
    let number = epoch.number;
    let earns = matches!(row.status, Row::LIVE | Row::LEAVING) && row.live_from <= number && number < row.until;
    let Some(medians) = judgement.medians.filter(|_| earns && !judgement.condemned) else { return 0 };
    // A leased row is paid by its last measurement without a tenant, while that is fresh, and at most its lease's fees.
    let (capacity, cap) = match row.cap_of(number) {
        Some(cap) => {
            let age = number.saturating_sub(row.full_capacity_epoch);
            let fresh = row.full_capacity_epoch != NONE && age <= epoch.capacity_epochs;
            (row.full_capacity, Some(if fresh { cap } else { 0 }))
        }
        None => (medians.capacity, None),
    };
    let thresholds = &epoch.thresholds;
    let good = medians.availability >= thresholds.availability && capacity >= thresholds.capacity;
    if !good || row.flags & Row::HALTED != 0 {
        return 0;
    }
    let weight = math::weight(row.unit_weight, row.gpus, medians.availability, capacity);
    let pay = epoch.rate.pay(weight).unwrap_or(u64::MAX);
    cap.map_or(pay, |cap| pay.min(math::mul_ratio(cap, medians.availability.into(), 100).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use datagalax::{
        constants::{NONE, ROWS},
        math::Rate,
        state::{Block, Thresholds},
        tally::{Rules, judge_rows},
    };
    use proptest::prelude::*;

    use super::*;

    /// Availabilities and capacities of a seat that revealed.
    type Report = Option<(Vec<u8>, Vec<u8>)>;

    fn block_with(rows: &[Row], reports: &[Report], epoch: u32) -> Box<Block> {
        let mut block = bytemuck::allocation::zeroed_box::<Block>();
        block.rows[..rows.len()].copy_from_slice(rows);
        block.last_tallied = epoch - 1;
        block.live = rows.len() as u16;
        (0..rows.len() as u8).for_each(|row| block.occupy(row));
        let lane = &mut block.lanes[(epoch & 1) as usize];
        lane.epoch = epoch;
        lane.seats = SEATS as u8;
        for (seat, report) in lane.committee.iter_mut().zip(reports) {
            seat.slot = 1;
            if let Some((availability, capacity)) = report {
                seat.revealed = 1;
                seat.availability[..availability.len()].copy_from_slice(availability);
                seat.capacity[..capacity.len()].copy_from_slice(capacity);
            }
        }
        block
    }

    fn any_row() -> impl Strategy<Value = Row> {
        let life = (1u8..=3, 0u32..12, 1u16..500, 1u8..9, any::<u16>());
        // A lease's first epoch, its last, the caps of its first, of a whole and of its last, and what was last measured without it.
        let lease = (8u32..12, 0u32..4, 0u64..3_000_000, 0u64..3_000_000, 0u16..=10_000, 0u8..=100, 0u32..10);
        (life, prop::option::weighted(0.3, lease), prop::bool::weighted(0.1)).prop_map(|(life, lease, halted)| {
            let (status, live_from, weight, gpus, bad) = life;
            // A live row never holds four bad epochs: it falls back when it gets the fourth.
            let bad_epochs = if bad.count_ones() < 4 { bad } else { 0 };
            let mut row = Row { status, live_from, bad_epochs, until: NONE, ..Row::checking(1, 0, weight, gpus, 0) };
            if let Some((from, length, head, cap, tail, capacity, measured)) = lease {
                (row.full_capacity, row.full_capacity_epoch) = (capacity, measured);
                row.note_lease(from, head, cap);
                row.end_lease(from + length, tail);
            }
            row.flags |= if halted { Row::HALTED } else { 0 };
            row
        })
    }

    fn any_report() -> impl Strategy<Value = Report> {
        prop::option::weighted(
            0.8,
            (
                prop::collection::vec(prop_oneof![70u8..=100, any::<u8>()], 12),
                prop::collection::vec(prop_oneof![40u8..=100, any::<u8>()], 12),
            ),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Before and after the tally, what is shown adds up to what the program credits.
        #[test]
        fn what_is_shown_is_what_the_tally_credits(
            rows in prop::collection::vec(any_row(), 1..12),
            reports in prop::collection::vec(any_report(), SEATS),
            hi in 0u64..3,
            lo in any::<u64>(),
        ) {
            let thresholds = Thresholds { availability: 80, capacity: 50, breach: 50, ..Thresholds::zeroed() };
            // A full measurement holds for three epochs.
            let epoch =
                Epoch { number: 10, rate: Rate { hi, lo }, thresholds, case_epochs: 8, capacity_epochs: 3, ..Epoch::zeroed() };
            let mut block = block_with(&rows, &reports, epoch.number);
            let total = |block: &Block| -> u64 {
                (0u8..).zip(&block.rows[..rows.len()]).map(|(r, row)| pay(row, &judge(&block.lanes[0], r), &epoch)).sum()
            };
            let before = total(&block);
            let rules = Rules::new(&epoch, epoch.number - 1, 0, SEATS as u8);
            let outcome = judge_rows(&mut block, &rules, ROWS as u16).unwrap();
            prop_assert_eq!(before, outcome.credited);
            prop_assert_eq!(total(&block), outcome.credited);
        }
    }
}
