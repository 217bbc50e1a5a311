//! Random instants: nobody can be ready only when asked.

use std::time::Duration;

use rand::Rng;

/// `count` independent, uniformly distributed offsets in `0..=window`, ascending.
///
/// Independent rather than one per slice of the window: after an early probe nobody may know that none comes for a while.
pub fn instants(count: usize, window: Duration, random: &mut impl Rng) -> Vec<Duration> {
    let mut instants: Vec<Duration> = (0..count).map(|_| random.random_range(Duration::ZERO..=window)).collect();
    instants.sort_unstable();
    instants
}

/// `count` different rows out of `0..rows`, ascending; all of them when there are not more.
pub fn rows(count: usize, rows: u32, random: &mut impl Rng) -> Vec<u32> {
    let mut chosen = rand::seq::index::sample(random, rows as usize, count.min(rows as usize)).into_vec();
    chosen.sort_unstable();
    // Indices below a u32.
    chosen.into_iter().map(|row| row as u32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    proptest! {
        #[test]
        fn instants_lie_in_the_window(seed: u64, count in 0usize..50, window in 0u64..10_000) {
            let window = Duration::from_millis(window);
            let instants = instants(count, window, &mut StdRng::seed_from_u64(seed));
            prop_assert_eq!(instants.len(), count);
            prop_assert!(instants.is_sorted() && instants.iter().all(|at| *at <= window));
        }

        #[test]
        fn rows_are_different_and_inside(seed: u64, count in 0usize..50, of in 1u32..1_000) {
            let rows = rows(count, of, &mut StdRng::seed_from_u64(seed));
            prop_assert_eq!(rows.len(), count.min(of as usize));
            prop_assert!(rows.is_sorted_by(|a, b| a < b) && rows.iter().all(|row| *row < of));
        }
    }

    #[test]
    fn instants_cover_the_window_evenly() {
        let mut random = StdRng::seed_from_u64(1);
        let window = Duration::from_secs(10);
        let all: Vec<_> = (0..1_000).flat_map(|_| instants(8, window, &mut random)).collect();
        let mut tenths = [0u32; 10];
        for at in all {
            tenths[(at.as_millis() as usize / 1_000).min(9)] += 1;
        }
        // 800 expected in each, standard deviation 27.
        assert!(tenths.iter().all(|n| n.abs_diff(800) < 160), "{tenths:?}");
    }
}
