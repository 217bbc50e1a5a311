//! The challenge of a beacon: fill the memory of all devices at once with products, commit, walk, open.
//!
//! For a challenge `c` and a [`Workload`] `w` (its borsh bytes):
//! - `base = sha256("datagalax:work:v1", c, w)`; the right matrix B of every device and pass is that of the seed
//!   `sha256("datagalax:shared:v1", base)`, so that a verifier expands it once for all the rows it opens;
//! - device `d` computes pass `p` with the left matrix A of the seed
//!   `sha256("datagalax:pass:v1", base, d u16, p u16, root of pass p - 1)` (32 zero bytes before the first), so no pass can
//!   begin before the one before it was finished and hashed;
//! - a pass's root is the Merkle root over the digests of the rows of A B, each
//!   `sha256("datagalax:row:v1", A's seed, rows, inner, columns, index, values)`, u32 and i32 little-endian;
//! - then [`walk`]s go over the last product, which has to lie in memory for that: `walk root` is the Merkle root over the
//!   walkers' last states;
//! - a device's leaf is its pass roots and its walk root, and the **root** is the Merkle root over the devices' leaves.
//!
//! Rows and walks are opened only after the root was signed. Why these choices and what a cheat can gain by each way around
//! them is in `docs/proof-of-capacity.md`; the formulas used there are in [`detection`].

pub mod detection;
mod plan;
mod prove;
mod sample;
pub mod walk;

use datagalax_protocol::{Digest, Workload};
use sha2::{Digest as _, Sha256};

pub use plan::{Demand, Limits, PlanError, Schedule, kept_memory};
pub(crate) use plan::{PANEL, device_memory};
pub use prove::{Proof, ProveError, prove};
pub use sample::{SampleError, Spread, draw, verify};

/// The seeds that follow from a challenge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeds {
    base: Digest,
}

impl Seeds {
    pub(crate) fn new(challenge: &Digest, workload: &Workload) -> Self {
        // Writing to memory cannot fail.
        let bytes = borsh::to_vec(workload).expect("borsh to memory");
        let hasher = Sha256::new_with_prefix(b"datagalax:work:v1").chain_update(challenge).chain_update(bytes);
        Self { base: hasher.finalize().into() }
    }

    pub(crate) fn shared(&self) -> Digest {
        Sha256::new_with_prefix(b"datagalax:shared:v1").chain_update(self.base).finalize().into()
    }

    /// The seed of a pass's left matrix; `before` is the root of the pass before, zeros for the first.
    pub(crate) fn pass(&self, device: u16, pass: u16, before: &Digest) -> Digest {
        let hasher = Sha256::new_with_prefix(b"datagalax:pass:v1").chain_update(self.base);
        hasher.chain_update(device.to_le_bytes()).chain_update(pass.to_le_bytes()).chain_update(before).finalize().into()
    }
}
