//! Measured work as percent of a reference.

use std::time::Duration;

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

#[cfg(test)]
mod tests {
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
    fn extremes_neither_overflow_nor_divide_by_zero() {
        assert_eq!(capacity_percent(1, Duration::from_secs(1), 0), 0);
        assert_eq!(capacity_percent(u64::MAX, Duration::ZERO, 1), 100);
        assert_eq!(capacity_percent(u64::MAX, Duration::MAX, u64::MAX), 0);
        assert_eq!(capacity_percent(0, Duration::ZERO, u64::MAX), 0);
    }
}
