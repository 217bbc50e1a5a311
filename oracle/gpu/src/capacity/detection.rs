//! What a cheat risks and gains: the formulas of `docs/proof-of-capacity.md`, and what the simulations are compared with.

/// Probability that a checker who opens `openings` random rows sees at least one of the fraction `skipped` that was not
/// computed: `1 - (1 - skipped)^openings`. Rows are drawn without repetition, which only raises it.
pub fn detection(skipped: f64, openings: u32) -> f64 {
    1.0 - (1.0 - skipped.clamp(0.0, 1.0)).powi(openings.min(i32::MAX as u32) as i32)
}

/// Probability that at least `needed` of `seats` independent checkers see something that each sees with probability `each`:
/// the upper tail of the binomial distribution. Three of five make the lower median of capacity zero, four condemn.
pub fn at_least(needed: u32, seats: u32, each: f64) -> f64 {
    let each = each.clamp(0.0, 1.0);
    let choose = |k: u32| (0..k).fold(1.0, |c, i| c * f64::from(seats - i) / f64::from(i + 1));
    let exactly = |k: u32| choose(k) * each.powi(k as i32) * (1.0 - each).powi((seats - k) as i32);
    (needed..=seats).map(exactly).sum::<f64>().min(1.0)
}

/// The largest fraction of the rows that a prover can leave out and still have a chance of `chance` that one checker with
/// `openings` openings sees nothing: `1 - chance^(1 / openings)`.
pub fn skippable(chance: f64, openings: u32) -> f64 {
    1.0 - chance.clamp(0.0, 1.0).powf(1.0 / f64::from(openings.max(1)))
}

/// Probability that one walk of `steps` steps meets a fraction `missing` of the product's cells: nearly one for any fraction
/// worth leaving out, as a walk has thousands of steps.
pub fn walk_detection(missing: f64, steps: u32) -> f64 {
    detection(missing, steps)
}

/// Percent of the reference at which a device of `speed` times the reference's speed is scored, when a challenge takes the
/// reference `work` seconds, the answer travels `overhead` seconds, and `allowance` seconds are taken off; cut to 100.
///
/// At `speed = work / (work + allowance - overhead)` it is still 100: that is what the allowance gives away.
pub fn scored(speed: f64, work: f64, allowance: f64, overhead: f64) -> f64 {
    (100.0 * work / (work / speed + overhead - allowance).max(f64::MIN_POSITIVE)).min(100.0)
}

/// How many times longer the walks take on a device that holds only `held` of the product (0 to 1) and gets every other cell
/// at `penalty` times the cost of a read (from another memory over the bus, or by computing it anew).
pub fn walk_slowdown(held: f64, penalty: f64) -> f64 {
    let held = held.clamp(0.0, 1.0);
    held + (1.0 - held) * penalty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert!((detection(0.1, 24) - 0.920_234).abs() < 1e-6);
        assert!((skippable(0.5, 24) - 0.028_468).abs() < 1e-6);
        assert!((detection(skippable(0.3, 24), 24) - 0.7).abs() < 1e-12);
        assert!((at_least(3, 5, 0.5) - 0.5).abs() < 1e-12);
        assert!((at_least(4, 5, 0.9) - 0.918_54).abs() < 1e-12);
        assert!((at_least(0, 5, 0.3) - 1.0).abs() < 1e-12);
        assert!((scored(8.0 / 9.0, 8.0, 1.0, 0.0) - 100.0).abs() < 1e-9);
        assert!((walk_slowdown(0.5, 9.0) - 5.0).abs() < 1e-12);
    }
}
