//! How a grant vests (protocol section 6). Pure, shared with the off-chain crates.

use anchor_lang::prelude::Result;

use crate::{
    constants::{BPS, VESTING_DAYS},
    error::DatagalaxError,
    math::mul_ratio,
    state::{Grant, VestingTerms},
};

/// What of `amount` has vested `age` days after the grant by the terms alone, base units.
///
/// Both linear parts are rounded down, so the immediate part takes the rounding; each day's sum is rounded down as well. All of
/// it has vested after the longer part's days.
#[inline(never)]
pub fn linear(amount: u64, age: u32, terms: &VestingTerms) -> u64 {
    let part = |bps: u16| mul_ratio(amount, u64::from(bps), BPS).unwrap_or(0);
    let by_day = |part: u64, days: u16| {
        let days = u64::from(days).max(1);
        mul_ratio(part, u64::from(age).min(days), days).unwrap_or(0)
    };
    let (short, long) = (part(terms.short_bps), part(terms.long_bps));
    // The shares add up to one, so the two parts are at most the whole.
    let immediate = amount.saturating_sub(short).saturating_sub(long);
    immediate.saturating_add(by_day(short, terms.short_days)).saturating_add(by_day(long, terms.long_days))
}

/// What of a grant has vested today: `min(linear(amount), amount - taken)`, base units.
///
/// # Errors
/// [`DatagalaxError::InvariantViolated`] when it is younger than 180 days and its terms are not kept.
pub fn vested(grant: &Grant, today: u32, terms: &[VestingTerms; 8]) -> Result<u64> {
    let left = grant.amount.saturating_sub(grant.taken);
    let age = today.saturating_sub(grant.day);
    if age >= VESTING_DAYS {
        return Ok(left);
    }
    let terms = terms.iter().find(|t| t.id != 0 && t.id == grant.terms).ok_or(DatagalaxError::InvariantViolated)?;
    Ok(linear(grant.amount, age, terms).min(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Provider;
    use bytemuck::Zeroable;
    use proptest::prelude::*;

    const TERMS: VestingTerms = VestingTerms {
        id: 1,
        immediate_bps: 3_000,
        short_bps: 3_000,
        short_days: 90,
        long_bps: 4_000,
        long_days: 180,
        from_day: 0,
    };

    fn all() -> [VestingTerms; 8] {
        let mut all = [VestingTerms::default(); 8];
        all[0] = TERMS;
        all
    }

    #[test]
    fn thirty_thirty_forty() {
        let at = |age| linear(1_000_000, age, &TERMS);
        assert_eq!([0, 45, 90, 135, 180, 500].map(at), [300_000, 550_000, 800_000, 900_000, 1_000_000, 1_000_000]);
    }

    proptest! {
        #[test]
        fn it_never_shrinks_and_ends_whole(amount in 0u64..1 << 56, immediate in 0u16..=10_000, cut in 0u16..=10_000, short_days in 1u16..=180, long_days in 1u16..=180) {
            let short_bps = cut.min(10_000 - immediate);
            let terms = VestingTerms { id: 1, immediate_bps: immediate, short_bps, short_days, long_bps: 10_000 - immediate - short_bps, long_days, from_day: 0 };
            let mut before = 0;
            for age in 0..=181 {
                let now = linear(amount, age, &terms);
                prop_assert!(before <= now && now <= amount);
                before = now;
            }
            prop_assert_eq!(before, amount);
        }

        /// Claims, withdrawals and slashes in any order over two years: nothing is lost, nothing is paid twice, and what had
        /// vested is never taken back.
        #[test]
        fn grants_are_conserved(steps in prop::collection::vec((0u32..40, 0u8..3, 0u64..10_000_000), 1..120)) {
            let mut provider: Provider = Zeroable::zeroed();
            provider.version = crate::state::VERSION;
            let (mut day, terms) = (20_000u32, all());
            for (wait, action, amount) in steps {
                day += wait;
                let vested = provider.vested(day, &terms).unwrap();
                match action {
                    0 => provider.grant(amount, day, 1).unwrap(),
                    1 => provider.withdrawn += vested.min(amount),
                    _ => {
                        let taken = provider.slash_grants(amount, day, &terms).unwrap();
                        prop_assert!(taken <= amount);
                        prop_assert_eq!(provider.vested(day, &terms).unwrap(), vested, "a slash takes nothing that vested");
                    }
                }
                prop_assert!(provider.vested(day, &terms).unwrap() <= provider.owed_grants().unwrap());
                prop_assert!(provider.invariant().is_ok());
            }
            prop_assert_eq!(provider.vested(day + 180, &terms).unwrap(), provider.owed_grants().unwrap(), "in the end all that is owed vests");
        }
    }
}
