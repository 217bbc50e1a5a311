//! Rows of a product and their digests on the CPU: what every prover without a GPU computes, and every verifier.

use std::num::NonZeroUsize;

use datagalax_protocol::{Digest, WorkSize};
use sha2::{Digest as _, Sha256};

use crate::{
    matrix::{Factor, Stream},
    simd::{Isa, Rows, multiply},
};

/// Rows of A that are multiplied at once: their products are still in a near cache when they are hashed.
const PANEL: usize = 16;
/// Columns of B that a verifier expands at once.
const COLUMNS: usize = 16;

/// The right matrix by columns.
pub(crate) fn expand_columns(isa: Isa, seed: &Digest, size: &WorkSize, threads: NonZeroUsize) -> Rows {
    let mut columns = Rows::new(size.inner as usize, size.columns as usize);
    columns.fill_all(isa, &Stream::new(seed, Factor::B), 0, threads.get());
    columns
}

/// Begins the digest of a row: exactly one block of sha256, so that a GPU can start from the state behind it.
pub(crate) fn row_header(a_seed: &Digest, size: &WorkSize, index: u32) -> [u8; 64] {
    let mut header = [0; 64];
    header[..16].copy_from_slice(b"datagalax:row:v1");
    header[16..48].copy_from_slice(a_seed);
    for (word, number) in header[48..].as_chunks_mut::<4>().0.iter_mut().zip([size.rows, size.inner, size.columns, index]) {
        *word = number.to_le_bytes();
    }
    header
}

/// The digest of one row of the product, the same bytes on every device.
pub(crate) fn row_digest(a_seed: &Digest, size: &WorkSize, index: u32, values: &[i32]) -> Digest {
    let mut hasher = Sha256::new_with_prefix(row_header(a_seed, size, index));
    // A few kilobytes at a time: hashing piece by piece costs more than copying.
    let mut bytes = [[0u8; 4]; 512];
    for values in values.chunks(bytes.len()) {
        for (bytes, value) in bytes.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
        hasher.update(bytes[..values.len()].as_flattened());
    }
    hasher.finalize().into()
}

/// The products of rows `first..first + values.len() / columns` in `values`, and their digests.
pub(crate) fn fill(
    isa: Isa,
    seed: &Digest,
    size: &WorkSize,
    columns: &Rows,
    first: u32,
    values: &mut [i32],
    out: &mut [Digest],
) {
    let width = size.columns as usize;
    let mut a = Rows::new(size.inner as usize, PANEL.min(out.len()));
    let stream = Stream::new(seed, Factor::A);
    for (panel, (values, out)) in values.chunks_mut(PANEL * width).zip(out.chunks_mut(PANEL)).enumerate() {
        let first = first + (panel * PANEL) as u32;
        for i in 0..out.len() {
            a.fill(isa, i, &stream, first + i as u32);
        }
        multiply(isa, &a, 0, out.len(), columns, values, width);
        for ((digest, row), index) in out.iter_mut().zip(values.chunks(width)).zip(first..) {
            *digest = row_digest(seed, size, index, row);
        }
    }
}

/// The digests of some rows, each of a left matrix of its own, as a verifier computes them: the right matrix passes by once,
/// a few columns at a time, whatever its size. Memory: `inner + 4 x columns` bytes per row asked for.
pub(crate) fn digests_of(isa: Isa, asked: &[(Digest, u32)], b_seed: &Digest, size: &WorkSize) -> Vec<Digest> {
    let (inner, width) = (size.inner as usize, size.columns as usize);
    let mut a = Rows::new(inner, asked.len());
    for (i, (seed, row)) in asked.iter().enumerate() {
        a.fill(isa, i, &Stream::new(seed, Factor::A), *row);
    }
    let stream = Stream::new(b_seed, Factor::B);
    let mut values = vec![0; asked.len() * width];
    for first in (0..width).step_by(COLUMNS) {
        let mut columns = Rows::new(inner, COLUMNS.min(width - first));
        columns.fill_all(isa, &stream, first as u32, 1);
        multiply(isa, &a, 0, asked.len(), &columns, &mut values[first..], width);
    }
    let rows = values.chunks(width).zip(asked);
    rows.map(|(values, (seed, row))| row_digest(seed, size, *row, values)).collect()
}
