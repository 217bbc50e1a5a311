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
