//! Measured work as percent of a reference, and an answer's whole verdict.

use std::time::Duration;

use datagalax_protocol::{DeviceOpening, Digest, SampleRequest, Workload};

use crate::{
    beacon,
    capacity::{self, SampleError, Schedule},
    location::Location,
};

/// Percent of the reference that `operations` in `elapsed` are worth: rounded down, 100 at most.
///
/// `reference` is operations per second of the whole container, that is the class's reference throughput times its units.
/// A reference of zero (an account that was never set up) is worth 0, and no time at all counts as one nanosecond.
pub fn capacity_percent(operations: u64, elapsed: Duration, reference: u64) -> u8 {
    if reference == 0 {
        return 0;
    }
    let done = u128::from(operations).saturating_mul(100 * 1_000_000_000);
    let full = elapsed.as_nanos().max(1).saturating_mul(u128::from(reference));
    (done / full).min(100) as u8
}

/// Percent that the answer to a beacon is worth when its root came `elapsed` after the slot's first sight: its operations over
/// the time less the schedule's allowance. Later than the deadline it is worth nothing.
///
/// `reference` is operations per second of the whole container, that is the class's reference of one device times devices.
/// The reference itself is measured with whole challenges (`datagalax gpu bench`), so that hashing and walking, which take
/// time without being counted as operations, are in it.
pub fn beacon_percent(workload: &Workload, elapsed: Duration, schedule: &Schedule, reference: u64) -> u8 {
    if elapsed > schedule.deadline {
        return 0;
    }
    capacity_percent(workload.operations(), elapsed.saturating_sub(schedule.allowance), reference)
}

/// One answer to one beacon, as a checker has it.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// [`beacon::challenge`] of the slot and the container.
    pub challenge: &'a Digest,
    /// The work asked for.
    pub workload: &'a Workload,
    /// From the slot's first sight to the signed root, by the checker's clock.
    pub elapsed: Duration,
    /// What the checker asked to open.
    pub request: &'a SampleRequest,
    /// What was opened.
    pub opened: &'a [DeviceOpening],
}

/// What an answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Percent, 0 to 100.
    pub capacity: u8,
    /// The token of its root. It is the vote's if this is the epoch's last beacon.
    pub token: u8,
    /// Whether a lie was proved.
    pub dishonest: bool,
    /// Why it proves nothing.
    pub error: Option<SampleError>,
}

impl Answer<'_> {
    /// Judges it: what is opened is recomputed, the time is scored, and a host outside the place it claims has no capacity.
    /// Only a row or a walk that recomputes wrongly is dishonest, whenever it came and from wherever.
    pub fn judge(&self, schedule: &Schedule, reference: u64, location: Location) -> Judgement {
        let error = capacity::verify(self.challenge, self.workload, self.request, self.opened).err();
        let counts = error.is_none() && !matches!(location, Location::Outside { .. });
        let percent = beacon_percent(self.workload, self.elapsed, schedule, reference);
        Judgement {
            capacity: if counts { percent } else { 0 },
            token: beacon::token(Some(&self.request.root)),
            dishonest: error.is_some_and(|error| error.is_lie()),
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_reference_is_worth_100_and_half_of_it_50() {
        let second = Duration::from_secs(1);
        assert_eq!(capacity_percent(1_000, second, 1_000), 100);
        assert_eq!(capacity_percent(500, second, 1_000), 50);
        assert_eq!(capacity_percent(999, second, 1_000), 99, "rounded down");
        assert_eq!(capacity_percent(9_000, second, 1_000), 100, "more than asked is no more than 100");
        assert_eq!(capacity_percent(0, second, 1_000), 0);
    }

    #[test]
    fn the_allowance_is_taken_off_and_the_deadline_is_sharp() {
        let workload = capacity::Demand::cpu(4).unwrap();
        let second = Duration::from_secs(1);
        let schedule = Schedule { expected: second, allowance: second, deadline: 3 * second };
        let reference = workload.operations();
        let of = |millis| beacon_percent(&workload, Duration::from_millis(millis), &schedule, reference);
        assert_eq!((of(0), of(2_000), of(2_010), of(2_500), of(3_000), of(3_001)), (100, 100, 99, 66, 50, 0));
    }

    proptest! {
        #[test]
        fn later_is_never_better(a: u32, b: u32, allowance: u16, deadline: u32, reference: u64) {
            let workload = capacity::Demand::cpu(1).unwrap();
            let millis = |n: u32| Duration::from_millis(u64::from(n));
            let schedule =
                Schedule { expected: millis(1), allowance: millis(u32::from(allowance)), deadline: millis(deadline) };
            let of = |n| beacon_percent(&workload, millis(n), &schedule, reference);
            prop_assert!(of(a.min(b)) >= of(a.max(b)) && of(a) <= 100);
        }
    }

    #[test]
    fn extremes_neither_overflow_nor_divide_by_zero() {
        assert_eq!(capacity_percent(1, Duration::from_secs(1), 0), 0);
        assert_eq!(capacity_percent(u64::MAX, Duration::ZERO, 1), 100);
        assert_eq!(capacity_percent(u64::MAX, Duration::MAX, u64::MAX), 0);
        assert_eq!(capacity_percent(0, Duration::ZERO, u64::MAX), 0);
    }
}
