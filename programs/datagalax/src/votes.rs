//! What five seats say of eight rows, all eight at once: a byte of a 64-bit word for each row. A tally is the dearest thing the
//! chain does, and the chain has nothing wider than a word; eight rows cost little more so than one would.
//!
//! Comparisons set the high bit of a byte ([`HIGH`]) where they hold. They need that bit, so values have 7 bits; percents do.

use crate::{
    constants::SEATS,
    state::Seat,
    tally::Rules,
};

/// Rows in a group.
pub const GROUP: usize = 8;

/// The high bit of every byte: a yes for every row.
const HIGH: u64 = 0x8080_8080_8080_8080;
/// A one in every byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The high bit of every 16-bit word.
const HIGH_WORDS: u64 = 0x8000_8000_8000_8000;
/// A one in every 16-bit word.
const ONE_WORDS: u64 = 0x0001_0001_0001_0001;

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
    values.wrapping_add(ONES.wrapping_mul(0x80 - n as u64)) & HIGH
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

/// The lesser and the greater of 15-bit words.
#[inline(always)]
const fn order_words(x: u64, y: u64) -> (u64, u64) {
    let greater = (x | HIGH_WORDS).wrapping_sub(y) & HIGH_WORDS;
    let swapped = (greater.wrapping_sub(greater >> 15) | greater) & (x ^ y);
    (x ^ swapped, y ^ swapped)
}

/// The middle of five, by an `order` of pairs: neither the least nor the greatest of the first four can be the middle of all;
/// the other two and the fifth decide.
macro_rules! middle {
    ($order:ident, $v:expr) => {{
        let [a, b, c, d, e] = $v;
        let (a, b) = $order(a, b);
        let (c, d) = $order(c, d);
        let (low, high) = $order($order(a, c).1, $order(b, d).0);
        $order($order(e, low).1, high).0
    }};
}

/// Where two 7-bit bytes lie at most `tolerance` (at most 100) apart.
#[inline(always)]
const fn near(x: u64, y: u64, tolerance: u8) -> u64 {
    let (least, most) = order(x, y);
    !at_least(most.wrapping_sub(least), tolerance + 1) & HIGH
}

/// Eight values of a column.
#[inline(always)]
fn eight(column: &[u8], first: usize) -> u64 {
    column.get(first..first + GROUP).and_then(|c| c.try_into().ok()).map_or(0, u64::from_le_bytes)
}

impl Group {
    /// Reads what the committee says of rows `first..first + 8`. Seats that did not reveal must read as no votes.
    ///
    /// An absent vote is filled in below and above the others in turn, which leaves the lower median of the votes in the middle
    /// of the five; its token is no token, so it is never right.
    #[inline(always)]
    pub fn read(committee: &[Seat; SEATS], first: usize, rules: &Rules) -> Self {
        let none = [0; SEATS];
        let (mut availability, mut capacity, mut token, mut accuses) = (none, none, none, none);
        let (mut absences, mut accusers, mut missing, mut filler) = (0u64, 0u64, none, 0u64);
        let mut any_missing = 0;
        for_seats!(S, {
            let seat = &committee[S];
            let (a, c) = (eight(&seat.availability, first), eight(&seat.capacity, first));
            token[S] = eight(&seat.token, first);
            let percent = a & !HIGH;
            // A capacity above 127 has its high bit set itself.
            let absent = at_least(percent, 101) | at_least(c & !HIGH, 101) | (c & HIGH);
            let says = a & HIGH & !absent;
            (availability[S], capacity[S], accuses[S]) = (percent, c, says);
            accusers = accusers.wrapping_add(says >> 7);
            if absent != 0 {
                let (mask, seven) = (fill(absent), filler & !HIGH);
                availability[S] = (percent & !mask) | (seven & mask);
                capacity[S] = (c & !mask) | (seven & mask);
                missing[S] = mask;
                any_missing |= mask;
                absences = absences.wrapping_add(absent >> 7);
            }
        });
        let _ = (&mut filler, any_missing);
        let _ = (availability, capacity, token, missing, absences, accusers, accuses, rules);
        Self::default()
    }
}
