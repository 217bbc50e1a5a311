//! What five seats say of eight rows, all eight at once: a byte of a 64-bit word for each row. A tally is the dearest thing the
//! chain does, and the chain has nothing wider than a word; eight rows cost little more so than one would.
//!
//! Comparisons set the high bit of a byte ([`HIGH`]) where they hold. They need that bit, so values have 7 bits; percents do.

use core::mem::offset_of;

use crate::{
    constants::{ROWS, SEATS},
    state::Seat,
    tally::Rules,
};

/// Rows in a group.
pub const GROUP: usize = 8;

/// The high bit of every byte: a yes for every row.
const HIGH: u64 = 0x8080_8080_8080_8080;
/// A one in every byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// Does something for every seat. The chain has no registers to index: a loop over seats would live in memory.
macro_rules! for_seats {
    ($s:ident, $body:block) => {
        $crate::votes::for_seats!(@ $s, $body, 0 1 2 3 4)
    };
    (@ $s:ident, $body:block, $($seat:literal)*) => {
        $({
            const $s: usize = $seat;
            $body
        })*
    };
}
pub(crate) use for_seats;

const _: () = assert!(SEATS == 5, "for_seats and the medians are of five");

/// What the committee says of eight rows, row r of the group in byte r.
#[derive(Clone, Copy, Debug, Default)]
pub struct Group {
    /// Lower medians of availability, percent.
    availability: u64,
    /// Lower medians of capacity, percent.
    capacity: u64,
    /// The flags of [`Verdict`].
    flags: u64,
    /// By seat: its vote is right.
    right: [u64; SEATS],
}

/// What the committee says of one row.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// Lower median of availability, percent.
    pub availability: u8,
    /// Lower median of capacity, percent.
    pub capacity: u8,
    flags: u8,
}

const VOID_FLAG: u32 = 0;
const CONDEMNED_FLAG: u32 = 1;
const BREACHED_FLAG: u32 = 2;
const AGREED_FLAG: u32 = 3;

impl Verdict {
    /// Fewer votes than a quorum; then nothing else of the verdict means anything.
    #[inline(always)]
    pub const fn is_void(self) -> bool {
        self.flags & (0x80 >> VOID_FLAG) != 0
    }

    /// Enough votes for the dishonest verdict.
    #[inline(always)]
    pub const fn is_condemned(self) -> bool {
        self.flags & (0x80 >> CONDEMNED_FLAG) != 0
    }

    /// As many votes under the breach threshold.
    #[inline(always)]
    pub const fn is_breached(self) -> bool {
        self.flags & (0x80 >> BREACHED_FLAG) != 0
    }

    /// A quorum shares a token that proves something.
    #[inline(always)]
    pub const fn is_agreed(self) -> bool {
        self.flags & (0x80 >> AGREED_FLAG) != 0
    }
}

/// Where `values` (7 bits) are `n` (at most 128) or more.
#[inline(always)]
const fn at_least(values: u64, n: u8) -> u64 {
    values.wrapping_add(ONES.wrapping_mul(0x80u64.wrapping_sub(n as u64))) & HIGH
}

/// All bits of every byte whose high bit is set in `flags`.
#[inline(always)]
const fn fill(flags: u64) -> u64 {
    flags.wrapping_sub(flags >> 7) | flags
}

/// The lesser and the greater of 7-bit bytes.
#[inline(always)]
const fn order(x: u64, y: u64) -> (u64, u64) {
    let swapped = fill((x | HIGH).wrapping_sub(y) & HIGH) & (x ^ y);
    (x ^ swapped, y ^ swapped)
}

/// Where bytes are zero.
#[inline(always)]
const fn is_zero(values: u64) -> u64 {
    !((values & !HIGH).wrapping_add(!HIGH) | values) & HIGH
}

/// The middle of five 7-bit bytes. Neither the least nor the greatest of the first four can be the middle of all; the other
/// two and the fifth decide.
#[inline(always)]
const fn middle([a, b, c, d, e]: [u64; SEATS]) -> u64 {
    let (a, b) = order(a, b);
    let (c, d) = order(c, d);
    let (low, high) = order(order(a, c).1, order(b, d).0);
    order(order(e, low).1, high).0
}

/// The 7-bit bytes that lie at most a tolerance from a median.
#[derive(Clone, Copy)]
struct Span {
    least: u64,
    most: u64,
}

impl Span {
    /// Around medians, with a tolerance of at most 100.
    #[inline(always)]
    const fn around(median: u64, tolerance: u8) -> Self {
        let by = ONES.wrapping_mul(tolerance as u64);
        // Kept within 0 and 127, so that no byte borrows from its neighbour.
        let least = order(median, by).1.wrapping_sub(by);
        let most = order(median, (!HIGH).wrapping_sub(by)).0.wrapping_add(by);
        Self { least, most }
    }

    /// Where a value lies within.
    #[inline(always)]
    const fn holds(self, values: u64) -> u64 {
        (values | HIGH).wrapping_sub(self.least) & (self.most | HIGH).wrapping_sub(values) & HIGH
    }
}

/// Bytes of a committee from the first row's availability of the first seat on that hold all that is said of one group.
const SPAN: usize = size_of::<[Seat; SEATS]>() - (ROWS - GROUP);

/// A committee as seen from a row: what the seats say of it and the seven after it lies at fixed places.
///
/// One address, where a column of each seat would be 15 of them, too many for the chain's registers.
#[inline(always)]
fn from_row(committee: &[Seat; SEATS], first: usize) -> &[u8] {
    // Within by the mask, so that there is no bound to check.
    let first = first & (ROWS - GROUP);
    &bytemuck::bytes_of(committee)[first..first + SPAN]
}

/// Eight values of the column that begins at `offset` of a seat.
#[inline(always)]
fn eight(seen: &[u8], seat: usize, offset: usize) -> u64 {
    let at = seat * size_of::<Seat>() + offset;
    seen.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |eight| u64::from_le_bytes(*eight))
}

/// The votes of five seats on eight rows, as [`Group::read`] takes them apart.
struct Ballots {
    availability: [u64; SEATS],
    capacity: [u64; SEATS],
    token: [u64; SEATS],
    /// High bit: says dishonest.
    accuses: [u64; SEATS],
    /// All bits: no vote.
    absent: [u64; SEATS],
    any_absent: bool,
    /// All bits where the next absent vote is filled in above.
    filler: u64,
    /// How many are absent.
    absences: u64,
    /// How many say dishonest.
    accusers: u64,
}

impl Ballots {
    #[inline(always)]
    fn read(committee: &[Seat; SEATS], first: usize) -> Self {
        let seen = from_row(committee, first);
        let none = [0; SEATS];
        let mut all = Self {
            availability: none,
            capacity: none,
            token: none,
            accuses: none,
            absent: none,
            any_absent: false,
            filler: 0,
            absences: 0,
            accusers: 0,
        };
        for_seats!(S, {
            let (a, c) = (eight(seen, S, offset_of!(Seat, availability)), eight(seen, S, offset_of!(Seat, capacity)));
            all.token[S] = eight(seen, S, offset_of!(Seat, token));
            let (percent, power) = (a & !HIGH, c & !HIGH);
            // A capacity above 127 has its high bit set already.
            let absent = at_least(percent, 101) | at_least(power, 101) | (c & HIGH);
            all.availability[S] = percent;
            all.capacity[S] = power;
            all.accuses[S] = a & HIGH & !absent;
            all.accusers = all.accusers.wrapping_add(all.accuses[S] >> 7);
            if absent != 0 {
                let mask = fill(absent);
                let above = all.filler & mask;
                all.availability[S] = (percent & !mask) | (above & !HIGH);
                all.capacity[S] = (power & !mask) | (above & !HIGH);
                all.absent[S] = mask;
                all.any_absent = true;
                all.absences = all.absences.wrapping_add(absent >> 7);
                all.filler ^= mask;
            }
        });
        all
    }

    /// By seat: where its token is one that a quorum shares. There is one such value at most, a quorum being more than half.
    #[inline(always)]
    fn sharing(&self, quorum: u8) -> [u64; SEATS] {
        let [a, b, c, d, e] = self.token;
        if !self.any_absent && (a ^ b) | (a ^ c) | (a ^ d) | (a ^ e) == 0 {
            return [HIGH; SEATS];
        }
        // One in a byte: both voted, and for the same token.
        let pair = |i: usize, j: usize| is_zero((self.token[i] ^ self.token[j]) | self.absent[i] | self.absent[j]) >> 7;
        let (ab, ac, ad, ae) = (pair(0, 1), pair(0, 2), pair(0, 3), pair(0, 4));
        let (bc, bd, be) = (pair(1, 2), pair(1, 3), pair(1, 4));
        let (cd, ce, de) = (pair(2, 3), pair(2, 4), pair(3, 4));
        let sum = |w: u64, x: u64, y: u64, z: u64| w.wrapping_add(x).wrapping_add(y).wrapping_add(z);
        let mut sharing =
            [sum(ab, ac, ad, ae), sum(ab, bc, bd, be), sum(ac, bc, cd, ce), sum(ad, bd, cd, de), sum(ae, be, ce, de)];
        for_seats!(S, {
            sharing[S] = at_least(sharing[S], quorum.saturating_sub(1)) & !self.absent[S];
        });
        sharing
    }

    /// Where at least `enough` votes are under the breach threshold.
    #[inline(always)]
    fn breached(&self, threshold: u8, enough: u8) -> u64 {
        let mut low = 0u64;
        for_seats!(S, {
            low = low.wrapping_add((!at_least(self.availability[S], threshold) & !self.absent[S] & HIGH) >> 7);
        });
        at_least(low, enough)
    }
}

impl Group {
    /// Reads what the committee says of rows `first..first + 8`. A seat that did not reveal must read as no vote on any.
    ///
    /// An absent vote is filled in below and above the others in turn, which leaves the lower median of the votes in the middle
    /// of the five; its token is no token, so it is never right.
    #[inline(always)]
    pub fn read(committee: &[Seat; SEATS], first: usize, rules: &Rules) -> Self {
        let all = Ballots::read(committee, first);
        let availability = middle(all.availability);
        let capacity = middle(all.capacity);
        let void = at_least(all.absences, (SEATS as u8 + 1).saturating_sub(rules.quorum));
        let condemned = at_least(all.accusers, rules.condemning);
        // As many votes as condemn are under the threshold only where the median is.
        let some_low = at_least(availability, rules.breach_threshold) != HIGH;
        let breached = if some_low { all.breached(rules.breach_threshold, rules.condemning) } else { 0 };
        let mut right = all.sharing(rules.quorum);
        let mut agreed = 0;
        for_seats!(S, {
            agreed |= if rules.tokens_required { right[S] & !is_zero(all.token[S]) } else { right[S] };
        });
        let near = Span::around(availability, rules.tolerance);
        let near_power = Span::around(capacity, rules.tolerance);
        for_seats!(S, {
            right[S] &= near.holds(all.availability[S])
                & near_power.holds(all.capacity[S])
                // Contested: the verdict is not judged. Condemned: whoever did not say so is wrong.
                & !(condemned & !all.accuses[S]);
        });
        let flags = void >> VOID_FLAG | condemned >> CONDEMNED_FLAG | breached >> BREACHED_FLAG | agreed >> AGREED_FLAG;
        Self { availability, capacity, flags, right }
    }

    /// The verdict on one row of the group.
    #[inline(always)]
    pub const fn verdict(&self, row: usize) -> Verdict {
        let shift = 8 * (row % GROUP);
        Verdict {
            availability: (self.availability >> shift) as u8,
            capacity: (self.capacity >> shift) as u8,
            flags: (self.flags >> shift) as u8,
        }
    }

    /// The flag that names a row for [`Self::add_right`].
    #[inline(always)]
    pub const fn flag(row: usize) -> u64 {
        0x80 << (8 * (row % GROUP))
    }

    /// Adds to each seat's count the rows among `judged` ([`Self::flag`]s) that it was right on.
    #[inline(always)]
    pub fn add_right(&self, judged: u64, right: &mut [u64; SEATS]) {
        for_seats!(S, {
            right[S] = right[S].wrapping_add(Self::count(self.right[S] & judged));
        });
    }

    /// How many rows `flags` ([`Self::flag`]s) name.
    #[inline(always)]
    pub const fn count(flags: u64) -> u64 {
        // The product's top byte is the sum of all bytes.
        (flags >> 7).wrapping_mul(ONES) >> 56
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(x: u64) -> [u8; 8] {
        x.to_le_bytes()
    }

    proptest! {
        #[test]
        fn each_byte_is_compared_for_itself(x in any::<[u8; 8]>(), y in any::<[u8; 8]>(), n in 0u8..=128) {
            let raw = u64::from_le_bytes(x) ^ HIGH;
            let (x, y) = (u64::from_le_bytes(x) & !HIGH, u64::from_le_bytes(y) & !HIGH);
            let (least, most) = order(x, y);
            for i in 0..8 {
                let (a, b) = (bytes(x)[i], bytes(y)[i]);
                prop_assert_eq!(bytes(at_least(x, n))[i] != 0, a >= n);
                // Bytes of all eight bits, some of them zero.
                let some = raw & fill(at_least(y, 64));
                prop_assert_eq!(bytes(is_zero(some))[i], if bytes(some)[i] == 0 { 0x80 } else { 0 });
                prop_assert_eq!((bytes(least)[i], bytes(most)[i]), (a.min(b), a.max(b)));
                let close = Span::around(y, n.min(100)).holds(x);
                prop_assert_eq!(bytes(close)[i], if a.abs_diff(b) <= n.min(100) { 0x80 } else { 0 });
            }
        }

        #[test]
        fn the_middle_of_five_is_the_sorted_middle(v in any::<[[u8; 8]; 5]>()) {
            let words = v.map(|w| u64::from_le_bytes(w) & !HIGH);
            let median = middle(words);
            for i in 0..8 {
                let mut sorted = words.map(|w| bytes(w)[i]);
                sorted.sort_unstable();
                prop_assert_eq!(bytes(median)[i], sorted[2]);
            }
        }
    }
}
