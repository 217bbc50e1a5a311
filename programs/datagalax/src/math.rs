//! Money arithmetic (protocol section 11). Pure, shared with the off-chain crates; every result is rounded down.

use bytemuck::{Pod, Zeroable};

/// `a * b / d` rounded down, exact, without a 128-bit division on chain.
///
/// Exact whenever `b <= d <= 2^32`, since then both partial products stay below 2^64 and
/// `(a / d) * b + (a % d) * b / d` loses nothing but the final fraction. `None` outside that range.
///
/// Source: protocol section 11.
#[inline(never)]
pub const fn mul_ratio(a: u64, b: u64, d: u64) -> Option<u64> {
    if d == 0 || b > d || d > 1 << 32 {
        return None;
    }
    Some((a / d) * b + (a % d) * b / d)
}

/// `a * b / d` rounded down, for factors `b` that may exceed `d` (stake coefficients above one).
///
/// `b` and `d` must be below 2^32; `None` when they are not, when `d` is zero or when the result exceeds 64 bits.
#[inline(never)]
pub fn mul_div(a: u64, b: u64, d: u64) -> Option<u64> {
    if d == 0 || d > 1 << 32 || b > 1 << 32 {
        return None;
    }
    (a / d).checked_mul(b)?.checked_add((a % d) * b / d)
}

/// A price per unit of weight in Q56.64 fixed point: `hi + lo / 2^64` base units.
///
/// 32 fraction bits would leave a network of a million containers four significant bits (protocol section 11).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Pod,
    Zeroable,
    anchor_lang::AnchorSerialize,
    anchor_lang::AnchorDeserialize,
    anchor_lang::IdlType,
)]
#[repr(C)]
pub struct Rate {
    /// Whole base units.
    pub hi: u64,
    /// Fraction in units of 2^-64.
    pub lo: u64,
}

impl Rate {
    /// Nothing for any weight.
    pub const ZERO: Self = Self { hi: 0, lo: 0 };

    /// The largest rate with which `total` units of weight earn at most `pool`; zero when there is no weight.
    ///
    /// 64 steps of long division of the remainder; `None` when `total >= 2^63`, where the shifted remainder would not fit.
    pub fn of(pool: u64, total: u64) -> Option<Self> {
        if total == 0 {
            return Some(Self::ZERO);
        }
        if total >= 1 << 63 {
            return None;
        }
        let hi = pool / total;
        let mut remainder = pool % total;
        let mut lo = 0u64;
        for _ in 0..64 {
            remainder <<= 1;
            lo <<= 1;
            if remainder >= total {
                remainder -= total;
                lo |= 1;
            }
        }
        Some(Self { hi, lo })
    }

    /// What `weight` earns: `weight * hi + floor(weight * lo / 2^64)`, rounded down; `None` above 64 bits.
    #[inline]
    pub fn pay(self, weight: u64) -> Option<u64> {
        let fraction = high_word(weight, self.lo);
        if weight >> 40 == 0 && self.hi >> 23 == 0 {
            // 63 bits at most, so the fraction fits as well: the usual case, without the chain's costly check.
            return Some(weight.wrapping_mul(self.hi).wrapping_add(fraction));
        }
        weight.checked_mul(self.hi)?.checked_add(fraction)
    }
}

/// The upper 64 bits of `a * b`, in halves: the chain multiplies 64 bits into 64, and calls a function for more.
#[inline(always)]
const fn high_word(a: u64, b: u64) -> u64 {
    const HALF: u64 = u32::MAX as u64;
    let (a1, a0, b1, b0) = (a >> 32, a & HALF, b >> 32, b & HALF);
    // a0 * b without its lowest half; none of the sums reaches 2^64.
    let low = a0.wrapping_mul(b1).wrapping_add(a0.wrapping_mul(b0) >> 32);
    let carry = (low & HALF).wrapping_add(a1.wrapping_mul(b0)) >> 32;
    a1.wrapping_mul(b1).wrapping_add(low >> 32).wrapping_add(carry)
}

/// Weight of a row in nominal units, as if available and capable to 100 percent: `unit_weight * gpus * 10,000`.
#[inline]
pub const fn nominal_weight(unit_weight: u16, gpus: u8) -> u64 {
    // 38 bits at most: no overflow to check for.
    (unit_weight as u64).wrapping_mul(gpus as u64).wrapping_mul(10_000)
}

/// Weight of a row in one epoch: `unit_weight * gpus * availability * capacity`, both in percent (38 bits at most).
#[inline]
pub const fn weight(unit_weight: u16, gpus: u8, availability: u8, capacity: u8) -> u64 {
    // 40 bits at most, whatever the bytes are: no overflow to check for, which the chain would pay for in every row.
    (unit_weight as u64).wrapping_mul(gpus as u64).wrapping_mul((availability as u64).wrapping_mul(capacity as u64))
}

/// Lower median `sorted[(m - 1) / 2]` of the first `votes` values, where the other values are 255 (so they sort last).
///
/// `votes` is 1 to 5; a larger or smaller one reads as 5 or 1.
#[inline(always)]
pub fn lower_median(mut v: [u8; 5], votes: usize) -> u8 {
    // The nine exchanges of the optimal network for five.
    macro_rules! order {
        ($a:literal, $b:literal) => {
            let (x, y) = (v[$a], v[$b]);
            if x > y {
                v[$a] = y;
                v[$b] = x;
            }
        };
    }
    order!(0, 1);
    order!(3, 4);
    order!(2, 4);
    order!(2, 3);
    order!(1, 4);
    order!(0, 3);
    order!(0, 2);
    order!(1, 3);
    order!(1, 2);
    match votes {
        0..=2 => v[0],
        3 | 4 => v[1],
        _ => v[2],
    }
}

/// Votes that make a row quorate, M: more than half of the seats.
#[inline]
pub const fn quorum(seats: u8) -> u8 {
    seats / 2 + 1
}

/// Votes that a dishonest verdict needs, Q: two thirds of the seats, rounded up. "Three votes pay, four condemn."
#[inline]
pub const fn condemning(seats: u8) -> u8 {
    (2 * seats as u16).div_ceil(3) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn mul_ratio_is_exact(a in any::<u64>(), d in 1u64..=1 << 32, b in any::<u64>()) {
            let b = b % (d + 1);
            prop_assert_eq!(u128::from(mul_ratio(a, b, d).unwrap()), u128::from(a) * u128::from(b) / u128::from(d));
        }

        #[test]
        fn mul_div_is_exact_or_refuses(a in any::<u64>(), b in 0u64..=1 << 32, d in 1u64..=1 << 32) {
            let exact = u128::from(a) * u128::from(b) / u128::from(d);
            prop_assert_eq!(mul_div(a, b, d).map(u128::from), (exact <= u128::from(u64::MAX)).then_some(exact));
        }

        #[test]
        fn high_word_is_the_upper_half(a in any::<u64>(), b in any::<u64>(), s in 0u32..64, t in 0u32..64) {
            for (a, b) in [(a >> s, b >> t), (u64::MAX << s, b), (u64::MAX, u64::MAX << t)] {
                prop_assert_eq!(u128::from(high_word(a, b)), (u128::from(a) * u128::from(b)) >> 64);
            }
        }

        #[test]
        fn rate_is_the_long_division(pool in 0u64..1 << 56, total in 1u64..1 << 63) {
            let rate = Rate::of(pool, total).unwrap();
            prop_assert_eq!(rate.hi, pool / total);
            prop_assert_eq!(u128::from(rate.lo), (u128::from(pool % total) << 64) / u128::from(total));
        }

        #[test]
        fn what_all_weights_earn_never_exceeds_the_pool(pool in 0u64..1 << 56, weights in prop::collection::vec(0u64..1 << 38, 1..50)) {
            let total = weights.iter().sum();
            let rate = Rate::of(pool, total).unwrap();
            let paid: u64 = weights.iter().map(|w| rate.pay(*w).unwrap()).sum();
            prop_assert!(paid <= pool);
            // Nothing but one base unit a row is lost to rounding.
            prop_assert!(total == 0 || pool - paid <= weights.len() as u64);
        }

        #[test]
        fn pay_is_weight_times_rate(weight in any::<u64>(), s in 0u32..64, hi in any::<u64>(), h in 0u32..=63, lo in any::<u64>()) {
            let (weight, rate) = (weight >> s, Rate { hi: hi >> h, lo });
            let whole = u128::from(weight) * u128::from(rate.hi) + ((u128::from(weight) * u128::from(lo)) >> 64);
            prop_assert_eq!(rate.pay(weight), u64::try_from(whole).ok());
        }

        #[test]
        fn lower_median_is_the_sorted_middle(votes in prop::collection::vec(0u8..=254, 1..=5)) {
            let mut v = [255u8; 5];
            v[..votes.len()].copy_from_slice(&votes);
            let mut sorted = votes.clone();
            sorted.sort_unstable();
            prop_assert_eq!(lower_median(v, votes.len()), sorted[(votes.len() - 1) / 2]);
        }
    }

    #[test]
    fn bounds_are_refused() {
        assert_eq!(mul_ratio(1, 1, 0), None);
        assert_eq!(mul_ratio(1, 2, 1), None);
        assert_eq!(mul_ratio(1, 1, (1 << 32) + 1), None);
        assert_eq!(Rate::of(1, 1 << 63), None);
        assert_eq!(Rate::of(1, 0), Some(Rate::ZERO));
        assert_eq!(Rate { hi: u64::MAX, lo: 0 }.pay(2), None);
    }

    #[test]
    fn quorums_of_every_committee() {
        let expected = [(3, 2, 2), (4, 3, 3), (5, 3, 4)];
        for (seats, m, q) in expected {
            assert_eq!((quorum(seats), condemning(seats)), (m, q), "{seats} seats");
        }
    }

    #[test]
    fn weights_fit_their_bits() {
        assert!(weight(u16::MAX, 255, 100, 100) < 1 << 38);
        assert_eq!(weight(u16::MAX, 255, 100, 100), nominal_weight(u16::MAX, 255));
        assert!(nominal_weight(u16::MAX, 255).checked_mul(1_000_000).unwrap() < 1 << 63);
    }
}
