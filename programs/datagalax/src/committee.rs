//! Who sits where: a keyed permutation of the order of tickets gives every block its committee (protocol section 4).
//!
//! The same functions run on chain (`seat_block`) and in every daemon, so nobody has to be told the seats.

use anchor_lang::solana_program::hash::hashv;

use crate::constants::{NONE, SEATS};

/// Rounds of the Feistel network. Domains of three bits (five to eight tickets) show a bias of percents after eight rounds and
/// of tenths of a percent after twelve; after sixteen none is left that the test below could see.
const ROUNDS: usize = 16;
/// Bound on cycle walking and on walking past tickets that already sit in a block.
const MAX_STEPS: u32 = 64;

/// Seats filled when the order holds `tickets`: K' = min(K, n).
#[inline]
pub const fn seats_for(tickets: u32) -> u8 {
    if tickets < SEATS as u32 { tickets as u8 } else { SEATS as u8 }
}

/// The seed of an epoch: `sha256("datagalax:seed:v1", last seed, entropy, slot hash, epoch)`.
pub fn epoch_seed(last_seed: &[u8; 32], entropy: &[u8; 32], slot_hash: &[u8; 32], epoch: u32) -> [u8; 32] {
    hashv(&[b"datagalax:seed:v1", last_seed, entropy, slot_hash, &epoch.to_le_bytes()]).to_bytes()
}

/// One round of tickets: a keyed bijection of `0..n`.
///
/// An alternating Feistel network over `ceil(log2 n)` bits (the halves may differ by one bit) with cycle walking back into
/// the domain. Any function of a key and a half makes this a bijection; the keys make it unpredictable before the seed.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    keys: [u64; 4],
    n: u32,
    low_bits: u32,
    high_bits: u32,
}

impl Permutation {
    /// The permutation of `0..n` for a round of an epoch with this seed.
    pub fn new(seed: &[u8; 32], round: u32, n: u32) -> Self {
        let digest = hashv(&[b"datagalax:round:v1", seed, &round.to_le_bytes()]).to_bytes();
        let mut keys = [0u64; 4];
        for (key, bytes) in keys.iter_mut().zip(digest.as_chunks::<8>().0) {
            *key = u64::from_le_bytes(*bytes);
        }
        let bits = if n <= 1 { 0 } else { 32 - (n - 1).leading_zeros() };
        Self { keys, n, low_bits: bits / 2, high_bits: bits - bits / 2 }
    }

    #[inline(always)]
    fn scramble(&self, round: usize, half: u32) -> u32 {
        // A 64-bit finaliser (multiply and fold) over the half and the round's key; only its unpredictability matters.
        let key = self.keys[round & 3] ^ (round as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (u64::from(half) ^ key).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (x >> 32) as u32
    }

    #[inline(always)]
    fn step(&self, value: u32) -> u32 {
        let low_mask = (1u32 << self.low_bits) - 1;
        let high_mask = ((1u64 << self.high_bits) - 1) as u32;
        let mut low = value & low_mask;
        let mut high = value >> self.low_bits;
        for round in 0..ROUNDS {
            if round & 1 == 0 {
                high ^= self.scramble(round, low) & high_mask;
            } else {
                low ^= self.scramble(round, high) & low_mask;
            }
        }
        (high << self.low_bits) | low
    }

    /// Where `index` goes; `None` when `index` is out of the domain or the cycle walk exceeds its bound (then the seat is
    /// empty: the domain is at least half full, so 64 misses in a row have a chance below 2^-64).
    pub fn apply(&self, index: u32) -> Option<u32> {
        if index >= self.n {
            return None;
        }
        let mut value = index;
        for _ in 0..MAX_STEPS {
            value = self.step(value);
            if value < self.n {
                return Some(value);
            }
        }
        None
    }
}

/// The positions in the order that sit in a block's committee; [`NONE`] marks an empty seat.
///
/// Seat j of block b takes index `i = b * K + j`: position `permute(seed, i / n, i mod n)`. Blocks so use up a whole round of
/// tickets before any ticket sits twice. A position that already sits in this block is passed over for the next index,
/// wrapping within the order, at most 64 times.
pub fn positions(seed: &[u8; 32], block: u32, n: u32) -> [u32; SEATS] {
    let mut seats = [NONE; SEATS];
    if n == 0 {
        return seats;
    }
    let first = u64::from(block) * SEATS as u64;
    let mut round = (first / u64::from(n)) as u32;
    let mut permutation = Permutation::new(seed, round, n);
    for j in 0..usize::from(seats_for(n)) {
        let index = first + j as u64;
        let seat_round = (index / u64::from(n)) as u32;
        if seat_round != round {
            round = seat_round;
            permutation = Permutation::new(seed, round, n);
        }
        let mut i = (index % u64::from(n)) as u32;
        for _ in 0..MAX_STEPS {
            if let Some(position) = permutation.apply(i)
                && !seats[..j].contains(&position)
            {
                seats[j] = position;
                break;
            }
            i = if i + 1 == n { 0 } else { i + 1 };
        }
    }
    seats
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_a_bijection(seed in any::<[u8; 32]>(), round in any::<u32>(), n in 1u32..3_000) {
            let permutation = Permutation::new(&seed, round, n);
            let mut seen = vec![false; n as usize];
            for i in 0..n {
                let image = permutation.apply(i).expect("inside the domain") as usize;
                prop_assert!(!seen[image], "{} was hit twice", image);
                seen[image] = true;
            }
            prop_assert_eq!(permutation.apply(n), None);
        }

        #[test]
        fn seats_are_distinct_and_full(seed in any::<[u8; 32]>(), block in any::<u32>(), n in 1u32..200_000) {
            let seats = positions(&seed, block, n);
            let filled: Vec<_> = seats.iter().filter(|p| **p != NONE).collect();
            prop_assert_eq!(filled.len(), usize::from(seats_for(n)));
            for (i, a) in filled.iter().enumerate() {
                prop_assert!(**a < n);
                prop_assert!(!filled[i + 1..].contains(a));
            }
        }
    }

    /// Every ticket takes the same share of seats over the blocks of one epoch, to within one round.
    #[test]
    fn one_epoch_is_balanced() {
        let n = 37;
        let blocks = 370;
        let mut taken = vec![0u32; n as usize];
        for block in 0..blocks {
            for position in positions(&[7; 32], block, n) {
                taken[position as usize] += 1;
            }
        }
        let mean = blocks * SEATS as u32 / n;
        assert!(taken.iter().all(|t| t.abs_diff(mean) <= 12), "mean {mean}, {taken:?}");
    }

    /// Over many seeds every index goes to every position equally often, by chi-square, also where the domain is tiny.
    #[test]
    fn small_domains_are_mixed() {
        for n in [3u32, 5, 8, 13] {
            let samples = 100_000u32;
            let mut cells = vec![0u32; (n * n) as usize];
            for s in 0..samples {
                let seed = hashv(&[&s.to_le_bytes()]).to_bytes();
                let p = Permutation::new(&seed, 0, n);
                for i in 0..n {
                    cells[(i * n + p.apply(i).unwrap()) as usize] += 1;
                }
            }
            let expected = f64::from(samples) / f64::from(n);
            let chi: f64 = cells.iter().map(|c| (f64::from(*c) - expected).powi(2) / expected).sum();
            // Rows and columns of a permutation add up to one: (n - 1)^2 degrees of freedom, each of variance n / (n - 1).
            let freedom = f64::from((n - 1) * (n - 1));
            let chi = chi * f64::from(n - 1) / f64::from(n);
            // Mean = freedom, standard deviation = sqrt(2 freedom); six of them above is a chance below one in a million.
            assert!(chi < freedom + 6.0 * (2.0 * freedom).sqrt(), "n {n}: chi-square {chi:.1} for {freedom} degrees");
        }
    }

    #[test]
    fn seeds_depend_on_everything() {
        let base = epoch_seed(&[1; 32], &[2; 32], &[3; 32], 4);
        assert_ne!(base, epoch_seed(&[0; 32], &[2; 32], &[3; 32], 4));
        assert_ne!(base, epoch_seed(&[1; 32], &[0; 32], &[3; 32], 4));
        assert_ne!(base, epoch_seed(&[1; 32], &[2; 32], &[0; 32], 4));
        assert_ne!(base, epoch_seed(&[1; 32], &[2; 32], &[3; 32], 5));
    }
}
