//! Dot products and element streams in the widest instructions that the processor has.
//!
//! Every path gives the same bits: products of int8 are summed in wrapping int32, and none of the instructions used here
//! saturates. The portable path is the definition; the others are tested against it on whatever the test machine has.
//!
//! AVX-512 VNNI multiplies unsigned by signed bytes. The left operand is therefore offset by 128 (its top bit flipped), and
//! 128 times the sum of the right operand, kept with each of its rows, is taken off again: exact modulo 2^32.

use crate::matrix::Stream;

/// Rows are padded with zeros to a multiple of this many elements, so that no kernel has a tail.
pub(crate) const LANES: usize = 64;

/// A set of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Whatever the compiler makes of plain Rust.
    Portable,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VNNI.
    Avx512Vnni,
}

impl Isa {
    /// The widest that this processor has.
    pub fn detect() -> Self {
        Self::supported().last().copied().unwrap_or(Self::Portable)
    }

    /// All that this processor has, narrowest first.
    pub fn supported() -> Vec<Self> {
        let mut supported = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                supported.push(Self::Avx2);
            }
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
            if wide && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vnni") {
                supported.push(Self::Avx512Vnni);
            }
        }
        supported
    }

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512Vnni => "avx512-vnni",
        }
    }
}

/// Rows of int8, padded to [`LANES`], with the sum of each row.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Elements that count, in each row.
    width: usize,
    pitch: usize,
    data: Vec<i8>,
    sums: Vec<i32>,
}

impl Rows {
    /// `count` rows of `width` zeros.
    pub(crate) fn new(width: usize, count: usize) -> Self {
        let pitch = width.next_multiple_of(LANES);
        Self { width, pitch, data: vec![0; pitch * count], sums: vec![0; count] }
    }

    pub(crate) fn count(&self) -> usize {
        self.sums.len()
    }

    pub(crate) fn row(&self, index: usize) -> &[i8] {
        &self.data[index * self.pitch..][..self.pitch]
    }

    /// Fills one row with a row of a stream.
    pub(crate) fn fill(&mut self, isa: Isa, at: usize, stream: &Stream, row: u32) {
        fill_row(isa, self.width, &mut self.data[at * self.pitch..][..self.pitch], &mut self.sums[at], stream, row);
    }

    /// Fills all rows, the first with row `first` of the stream, on `threads` threads.
    pub(crate) fn fill_all(&mut self, isa: Isa, stream: &Stream, first: u32, threads: usize) {
        let (width, pitch) = (self.width, self.pitch);
        let share = self.count().div_ceil(threads).max(1);
        let work = |data: &mut [i8], sums: &mut [i32], first: u32| {
            for ((out, sum), row) in data.chunks_mut(pitch).zip(sums).zip(first..) {
                fill_row(isa, width, out, sum, stream, row);
            }
        };
        if share >= self.count() {
            return work(&mut self.data, &mut self.sums, first);
        }
        std::thread::scope(|scope| {
            let parts = self.data.chunks_mut(share * pitch).zip(self.sums.chunks_mut(share));
            for ((data, sums), first) in parts.zip((first..).step_by(share)) {
                scope.spawn(move || work(data, sums, first));
            }
        });
    }
}

fn fill_row(isa: Isa, width: usize, padded: &mut [i8], sum: &mut i32, stream: &Stream, row: u32) {
    let out = &mut padded[..width];
    *sum = match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa` is made by `supported`, which found the features at run time.
        Isa::Avx512Vnni => unsafe { x86::fill_avx512(out, stream, row) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { x86::fill_avx2(out, stream, row) },
        _ => fill_and_sum(out, stream, row),
    };
}

/// Fills a row and returns the sum of its elements. Inlined into callers that are compiled for wider registers.
#[inline(always)]
fn fill_and_sum(out: &mut [i8], stream: &Stream, row: u32) -> i32 {
    stream.fill(row, out);
    out.iter().fold(0, |sum, element| sum.wrapping_add(i32::from(*element)))
}

/// `out[i * stride + j] = a[i] . b[j]` for the rows of `a` from `from` on (`count` of them) and all rows of `b`.
///
/// # Panics
/// The widths differ, or `out` is too short: bugs of this crate.
pub(crate) fn multiply(isa: Isa, a: &Rows, from: usize, count: usize, b: &Rows, out: &mut [i32], stride: usize) {
    assert!(a.width == b.width && from + count <= a.count() && b.count() <= stride);
    assert!(count == 0 || out.len() >= (count - 1) * stride + b.count());
    // Four columns stay in the nearest cache while all rows pass by; four rows share each load of a column.
    for j in (0..b.count()).step_by(4) {
        for i in (0..count).step_by(4) {
            let rows = std::array::from_fn(|k| a.row(from + (i + k).min(count - 1)));
            let columns = std::array::from_fn(|k| b.row((j + k).min(b.count() - 1)));
            let block = block(isa, &rows, &columns);
            for (k, line) in block.iter().enumerate().take(count - i) {
                for (l, value) in line.iter().enumerate().take(b.count() - j) {
                    let value = match isa {
                        Isa::Avx512Vnni => value.wrapping_sub(b.sums[j + l].wrapping_mul(128)),
                        _ => *value,
                    };
                    out[(i + k) * stride + j + l] = value;
                }
            }
        }
    }
}

/// 16 dot products of rows of equal length, a multiple of [`LANES`]; with VNNI the left operand offset by 128.
fn block(isa: Isa, a: &[&[i8]; 4], b: &[&[i8]; 4]) -> [[i32; 4]; 4] {
    let length = a[0].len();
    assert!(length.is_multiple_of(LANES) && a.iter().chain(b).all(|row| row.len() == length));
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa` is made by `supported`, which found the features at run time; the lengths were just checked.
        Isa::Avx512Vnni => unsafe { x86::block_avx512(a, b) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { x86::block_avx2(a, b) },
        _ => a.map(|a| b.map(|b| crate::matrix::dot(a, b))),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::LANES;
    use crate::matrix::Stream;

    /// The same code, compiled for wider registers.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    pub(super) fn fill_avx512(out: &mut [i8], stream: &Stream, row: u32) -> i32 {
        super::fill_and_sum(out, stream, row)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn fill_avx2(out: &mut [i8], stream: &Stream, row: u32) -> i32 {
        super::fill_and_sum(out, stream, row)
    }

    /// # Safety
    /// All rows have the same length, a multiple of [`LANES`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn block_avx512(a: &[&[i8]; 4], b: &[&[i8]; 4]) -> [[i32; 4]; 4] {
        let offset = _mm512_set1_epi8(i8::MIN);
        let mut sums = [[_mm512_setzero_si512(); 4]; 4];
        for at in (0..a[0].len()).step_by(LANES) {
            // SAFETY: `at + 64` is within every row, by the caller's promise; the loads need no alignment.
            let load = |row: &[i8]| unsafe { _mm512_loadu_si512(row.as_ptr().add(at).cast()) };
            let columns = [load(b[0]), load(b[1]), load(b[2]), load(b[3])];
            for (sums, row) in sums.iter_mut().zip(a) {
                let row = _mm512_xor_si512(load(row), offset);
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm512_dpbusd_epi32(*sum, row, column);
                }
            }
        }
        let mut out = [[0; 4]; 4];
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = _mm512_reduce_add_epi32(sum);
            }
        }
        out
    }

    /// # Safety
    /// All rows have the same length, a multiple of [`LANES`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn block_avx2(a: &[&[i8]; 4], b: &[&[i8]; 4]) -> [[i32; 4]; 4] {
        let mut out = [[0; 4]; 4];
        // Two rows at a time: sixteen registers hold eight sums, four columns and a row.
        for (out, a) in out.chunks_exact_mut(2).zip(a.chunks_exact(2)) {
            let mut sums = [[_mm256_setzero_si256(); 4]; 2];
            for at in (0..a[0].len()).step_by(16) {
                // SAFETY: `at + 16` is within every row, by the caller's promise; the loads need no alignment.
                // Widened to int16: a pair of products is at most 2^15 in size and fits the int32 it is added into.
                let load = |row: &[i8]| unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(row.as_ptr().add(at).cast())) };
                let columns = [load(b[0]), load(b[1]), load(b[2]), load(b[3])];
                for (sums, row) in sums.iter_mut().zip(a) {
                    let row = load(row);
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(row, column));
                    }
                }
            }
            for (out, sums) in out.iter_mut().zip(sums) {
                for (out, sum) in out.iter_mut().zip(sums) {
                    let half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
                    let quarter = _mm_add_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
                    *out = _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32::<0b10_11_00_01>(quarter)));
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matrix::{Factor, dot};

    /// Rows of any bytes, extremes included.
    fn rows(width: usize, values: &[Vec<i8>]) -> Rows {
        let mut rows = Rows::new(width, values.len());
        for (i, row) in values.iter().enumerate() {
            rows.data[i * rows.pitch..][..width].copy_from_slice(row);
            rows.sums[i] = row.iter().map(|e| i32::from(*e)).sum();
        }
        rows
    }

    fn matrix(width: usize, most: usize) -> impl Strategy<Value = Vec<Vec<i8>>> {
        let element = prop_oneof![3 => any::<i8>(), 1 => Just(i8::MIN), 1 => Just(i8::MAX)];
        proptest::collection::vec(proptest::collection::vec(element, width), 1..most)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_instruction_set_gives_the_same_products(
            (a, b) in (1usize..200).prop_flat_map(|width| (matrix(width, 8), matrix(width, 8))),
        ) {
            let width = a[0].len();
            let (left, right) = (rows(width, &a), rows(width, &b));
            for isa in Isa::supported() {
                for from in 0..a.len() {
                    let mut out = vec![0; (a.len() - from) * b.len()];
                    multiply(isa, &left, from, a.len() - from, &right, &mut out, b.len());
                    for (i, line) in out.chunks(b.len()).enumerate() {
                        for (j, value) in line.iter().enumerate() {
                            prop_assert_eq!(*value, dot(&a[from + i], &b[j]), "{:?} {} {}", isa, i, j);
                        }
                    }
                }
            }
        }

        #[test]
        fn every_instruction_set_expands_the_same_rows(seed: [u8; 32], width in 1usize..300, first in 0u32..u32::MAX - 9) {
            let stream = Stream::new(&seed, Factor::B);
            let mut expected = vec![0; width];
            for isa in Isa::supported() {
                let mut filled = Rows::new(width, 9);
                filled.fill_all(isa, &stream, first, 4);
                for i in 0..9 {
                    stream.fill(first + i as u32, &mut expected);
                    prop_assert_eq!(&filled.row(i)[..width], &expected[..]);
                    prop_assert!(filled.row(i)[width..].iter().all(|e| *e == 0));
                    prop_assert_eq!(filled.sums[i], expected.iter().map(|e| i32::from(*e)).sum::<i32>());
                }
            }
        }
    }

    #[test]
    fn sums_wrap_the_same_way_everywhere() {
        // 131,072 products of (-128)^2 are 2^31.
        let row = vec![vec![i8::MIN; 131_072]];
        let rows = rows(131_072, &row);
        for isa in Isa::supported() {
            let mut out = [0];
            multiply(isa, &rows, 0, 1, &rows, &mut out, 1);
            assert_eq!(out, [i32::MIN], "{isa:?}");
        }
    }
}
