//! Random walks over a product: reading from memory is quick, computing each cell anew is not.
//!
//! The keys are words 0 and 1 (u64 little-endian) of `sha256("datagalax:walk:v1", A's seed, pass root)`. Walker `w` starts at
//! the word `w` of the element stream with these keys. A step reads the cell `floor(state * cells / 2^64)` of the product, in
//! row-major order, and goes on from `mix((state xor value) + 0x9e3779b97f4a7c15)` (value as u32, `mix` of splitmix64, sums
//! modulo 2^64). Where a step leads is known only once the value before it is.

use datagalax_protocol::{Digest, WorkSize};
use sha2::{Digest as _, Sha256};

use crate::{
    matrix::{Factor, GOLDEN, Stream, dot, mix},
    simd::{Isa, Rows, multiply},
};

/// The keys of the walks over the product with this root.
pub(crate) fn stream(a_seed: &Digest, pass_root: &Digest) -> Stream {
    Stream::keyed(
        Sha256::new_with_prefix(b"datagalax:walk:v1").chain_update(a_seed).chain_update(pass_root).finalize().into(),
    )
}

/// The last state of one walker. `cells` must be the product's, and `read` gives a cell's value.
#[inline]
pub fn walk(key: [u64; 2], walker: u32, steps: u32, cells: u64, mut read: impl FnMut(u64) -> i32) -> u64 {
    let mut state = Stream::of(key).word(u64::from(walker));
    for _ in 0..steps {
        let cell = ((u128::from(state) * u128::from(cells)) >> 64) as u64;
        state = mix((state ^ u64::from(read(cell) as u32)).wrapping_add(GOLDEN));
    }
    state
}

/// The last state of one walker as a verifier computes it, each cell from its row and its column.
pub(crate) fn recompute(a_seed: &Digest, b_seed: &Digest, root: &Digest, size: &WorkSize, walker: u32, steps: u32) -> u64 {
    let (isa, inner, columns) = (Isa::detect(), size.inner as usize, u64::from(size.columns));
    let (a, b) = (Stream::new(a_seed, Factor::A), Stream::new(b_seed, Factor::B));
    let (mut row, mut column) = (Rows::new(inner, 1), Rows::new(inner, 1));
    walk(stream(a_seed, root).key(), walker, steps, u64::from(size.rows) * columns, |cell| {
        row.fill(isa, 0, &a, (cell / columns) as u32);
        column.fill(isa, 0, &b, (cell % columns) as u32);
        if isa == Isa::Portable {
            return dot(row.row(0), column.row(0));
        }
        let mut value = [0];
        multiply(isa, &row, 0, 1, &column, &mut value, 1);
        value[0]
    })
}
