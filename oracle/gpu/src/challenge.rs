//! The capacity challenge on the CPU, and the reference every other backend must agree with bit by bit.
//!
//! From a seed follow int8 matrices A (`rows x inner`) and B (`inner x columns`), see the crate's `matrix` module. The prover
//! computes C = A B in wrapping int32, takes the digest
//! `sha256("datagalax:row:v1", seed, rows, inner, columns, index, values)` (u32 and i32 little-endian) of each row of C, and
//! commits to the Merkle root over the digests. Rows opened later are checked by computing just those again: one row costs a
//! verifier `1 / rows` of the work and the expansion of B.

use std::{num::NonZeroUsize, thread};

use datagalax_protocol::{
    Digest, OpenedRow, WorkSize,
    merkle::{self, ProofError, Tree},
};
use thiserror::Error;

use crate::{kernel, simd::Isa};

/// The most that one challenge may ask of a host; a stranger's number never decides how much is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most operations ([`WorkSize::operations`]).
    pub operations: u64,
    /// Most bytes of matrices and digests.
    pub bytes: u64,
}

impl Default for Bounds {
    /// 2^34 operations (some seconds of one core) in 256 MiB.
    fn default() -> Self {
        Self { operations: 1 << 34, bytes: 256 << 20 }
    }
}

/// The size that checkers ask of the class `cpu`: 2^28 operations, tens of milliseconds of one core.
pub const CPU_SIZE: WorkSize = WorkSize { rows: 512, inner: 512, columns: 512 };

/// Why a challenge is not computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChallengeError {
    /// A dimension is zero.
    #[error("a dimension of the challenge is zero")]
    Empty,
    /// More work than the host allows.
    #[error("the challenge asks {asked} operations, the host allows {allowed}")]
    TooMuchWork {
        /// Operations asked.
        asked: u64,
        /// Operations allowed.
        allowed: u64,
    },
    /// More memory than the host allows.
    #[error("the challenge asks {asked} bytes, the host allows {allowed}")]
    TooMuchMemory {
        /// Bytes asked.
        asked: u64,
        /// Bytes allowed.
        allowed: u64,
    },
}

/// Why opened rows do not prove the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Other rows than were asked for, or another number of them.
    #[error("the opened rows are not the ones asked for")]
    WrongRows,
    /// A row that is not under the root that was committed to.
    #[error("row {row}: {error}")]
    Proof {
        /// The row.
        row: u32,
        /// What is wrong with its proof.
        error: ProofError,
    },
    /// A row under the root that is not the product's: the host lied. With both signatures this is proof to anybody.
    #[error("row {0} under the signed root is not the product's")]
    WrongValue(u32),
}

impl Bounds {
    /// Checks a size against the bounds.
    ///
    /// # Errors
    /// Which bound it exceeds.
    pub fn check(&self, size: &WorkSize) -> Result<(), ChallengeError> {
        if size.rows == 0 || size.inner == 0 || size.columns == 0 {
            return Err(ChallengeError::Empty);
        }
        let asked = size.operations();
        if asked > self.operations {
            return Err(ChallengeError::TooMuchWork { asked, allowed: self.operations });
        }
        let WorkSize { rows, inner, columns } = *size;
        // B in memory; per row of A its elements, the product and the digests of the tree.
        let b = u64::from(inner) * u64::from(columns);
        let asked =
            b.saturating_add(96 * u64::from(rows)).saturating_add(u64::from(inner)).saturating_add(4 * u64::from(columns));
        if asked > self.bytes {
            return Err(ChallengeError::TooMuchMemory { asked, allowed: self.bytes });
        }
        Ok(())
    }
}

/// A computed product: what was committed to, ready to open any row.
#[derive(Debug)]
pub struct Product {
    digests: Vec<Digest>,
    tree: Tree,
}

impl Product {
    /// Computes the product on `threads` threads. The result does not depend on their number.
    ///
    /// # Errors
    /// The size exceeds the bounds.
    pub fn compute(seed: &Digest, size: &WorkSize, threads: NonZeroUsize, bounds: &Bounds) -> Result<Self, ChallengeError> {
        bounds.check(size)?;
        let isa = Isa::detect();
        let columns = kernel::expand_columns(isa, seed, size, threads);
        let mut digests = vec![[0u8; 32]; size.rows as usize];
        let share = digests.len().div_ceil(threads.get());
        thread::scope(|scope| {
            for (chunk, first) in digests.chunks_mut(share).zip((0u32..).step_by(share)) {
                let columns = &columns;
                scope.spawn(move || kernel::digests(isa, seed, size, columns, first, chunk));
            }
        });
        let tree = Tree::new(&digests);
        Ok(Self { digests, tree })
    }

    /// The root to commit to.
    pub fn root(&self) -> Digest {
        self.tree.root()
    }

    /// The digests of all rows, in order.
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// Opens rows; `None` when one is outside the product.
    pub fn open(&self, rows: &[u32]) -> Option<Vec<OpenedRow>> {
        rows.iter()
            .map(|index| {
                let digest = *self.digests.get(*index as usize)?;
                Some(OpenedRow { index: *index, digest, proof: self.tree.proof(*index)? })
            })
            .collect()
    }
}

/// Checks that `opened` are the rows `asked` for, under `root`, and equal to the product that follows from the seed.
///
/// Everything cheap is checked for all rows before the first is computed. The caller chose `size`, so it is not bounded here.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(seed: &Digest, size: &WorkSize, root: &Digest, asked: &[u32], opened: &[OpenedRow]) -> Result<(), OpenError> {
    if asked.is_empty() || !asked.iter().eq(opened.iter().map(|row| &row.index)) {
        return Err(OpenError::WrongRows);
    }
    for row in opened {
        merkle::verify(root, size.rows, row.index, &row.digest, &row.proof)
            .map_err(|error| OpenError::Proof { row: row.index, error })?;
    }
    let isa = Isa::detect();
    let digests = kernel::digests_of(isa, seed, seed, size, asked);
    match opened.iter().zip(&digests).find(|(row, digest)| row.digest != **digest) {
        Some((row, _)) => Err(OpenError::WrongValue(row.index)),
        None => Ok(()),
    }
}
