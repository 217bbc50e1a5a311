//! Matrices that follow from a seed.
//!
//! Element streams are counter based: any row can be made without the ones before it, so a verifier expands one row of A and
//! a GPU expands all of them at once. Per matrix, two 64-bit keys come from
//! `sha256("datagalax:matrix:v1", seed, 'A' or 'B')` (little-endian words 0 and 1). Word number `i` is
//! `mix(mix(i * 0x9e3779b97f4a7c15 ^ key0) + key1)` with the finaliser of splitmix64, and holds eight int8 elements, the first
//! in its lowest byte. Each row starts at a fresh word: row `r` of length `l` takes words `r * ceil(l / 8)` onwards.
//!
//! The stream has to look random, not to be a cipher: a prover gains nothing from predicting matrices it is told anyway.

use datagalax_protocol::Digest;
use sha2::{Digest as _, Sha256};

/// Which factor of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factor {
    /// The left one, by rows.
    A,
    /// The right one, by columns: its stream's rows are B's columns, so that every dot product reads memory in order.
    B,
}

/// The element stream of one matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    key: [u64; 2],
}

/// 2^64 over the golden ratio: the step of splitmix64.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of splitmix64, a bijection of 64-bit words.
#[inline(always)]
pub(crate) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Stream {
    pub(crate) fn new(seed: &Digest, factor: Factor) -> Self {
        let tag: &[u8] = match factor {
            Factor::A => b"A",
            Factor::B => b"B",
        };
        Self::keyed(
            Sha256::new().chain_update(b"datagalax:matrix:v1").chain_update(seed).chain_update(tag).finalize().into(),
        )
    }

    /// The stream whose keys are words 0 and 1 of a digest.
    pub(crate) fn keyed(digest: Digest) -> Self {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| digest[8 * at + i]));
        Self { key: [word(0), word(1)] }
    }

    /// Word number `index`.
    #[inline(always)]
    pub(crate) const fn word(&self, index: u64) -> u64 {
        mix(mix(index.wrapping_mul(GOLDEN) ^ self.key[0]).wrapping_add(self.key[1]))
    }

    /// The stream with these keys.
    pub(crate) const fn of(key: [u64; 2]) -> Self {
        Self { key }
    }

    /// Its keys, for a device that makes the stream itself.
    pub(crate) const fn key(&self) -> [u64; 2] {
        self.key
    }

    /// Fills one row of the stream. Inlined into callers that are compiled for wider registers.
    #[inline(always)]
    pub(crate) fn fill(&self, row: u32, out: &mut [i8]) {
        let first = u64::from(row).wrapping_mul(out.len().div_ceil(8) as u64);
        let (words, tail) = out.as_chunks_mut::<8>();
        let last = first.wrapping_add(words.len() as u64);
        for (i, word) in words.iter_mut().enumerate() {
            *word = self.word(first.wrapping_add(i as u64)).to_le_bytes().map(|byte| byte as i8);
        }
        for (element, byte) in tail.iter_mut().zip(self.word(last).to_le_bytes()) {
            *element = byte as i8;
        }
    }
}

/// The dot product in wrapping int32. Wrapping addition may be done in any order, so every device gets the same bits.
#[inline]
pub(crate) fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).fold(0i32, |sum, (x, y)| sum.wrapping_add(i32::from(*x) * i32::from(*y)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_do_not_overlap_and_factors_differ() {
        let a = Stream::new(&[1; 32], Factor::A);
        let mut whole = vec![0i8; 24];
        a.fill(0, &mut whole);
        let mut second = vec![0i8; 12];
        a.fill(1, &mut second);
        // Rows of 12 elements take two words each: row 1 begins at word 2.
        assert_eq!(whole[16..24], second[..8]);
        let mut other = vec![0i8; 24];
        Stream::new(&[1; 32], Factor::B).fill(0, &mut other);
        assert_ne!(whole, other);
        Stream::new(&[2; 32], Factor::A).fill(0, &mut other);
        assert_ne!(whole, other);
    }

    #[test]
    fn elements_are_spread_evenly() {
        let mut row = vec![0i8; 1 << 18];
        Stream::new(&[3; 32], Factor::B).fill(7, &mut row);
        let mut counts = [0u32; 256];
        for element in &row {
            counts[usize::from(element.to_le_bytes()[0])] += 1;
        }
        let expected = f64::from(1 << 10);
        let chi: f64 = counts.iter().map(|c| (f64::from(*c) - expected).powi(2) / expected).sum();
        // 255 degrees of freedom, standard deviation 22.6: six of them.
        assert!((255.0 - 136.0..255.0 + 136.0).contains(&chi), "chi-square {chi:.0}");
    }

    #[test]
    fn extremes_wrap_instead_of_panicking() {
        // 2^31 = 131,072 * 128 * 128: one past the largest int32.
        let row = vec![i8::MIN; 131_072];
        assert_eq!(dot(&row, &row), i32::MIN);
    }
}
