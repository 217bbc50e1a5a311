//! "Show all you have, now": the challenge of a beacon (protocol sections 5 and 12), answered by all GPUs of a host together
//! under one root.
//!
//! | message | says |
//! |---|---|
//! | [`BeaconRequest`] | which beacon, how much work, until when |
//! | [`BeaconAnswer`] | the root; its first byte is the vote's token |
//! | [`SampleRequest`] | the asker's own random rows and walks, chosen after the root was signed |
//! | [`SampleAnswer`] | those rows and walks, each with its way to the root |
//!
//! What the numbers mean, and how the root is built, is in `datagalax_gpu::capacity`.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::Serialize;

use crate::{
    Digest, Envelope,
    envelope::{Domain, Malformed, Payload},
    merkle::MAX_PROOF,
};

/// Longest deadline that a request may give, in milliseconds.
pub const MAX_DEADLINE_MS: u32 = 120_000;
/// Most devices of one host; the same as `liveness::MAX_GPUS`.
pub const MAX_DEVICES: u16 = 64;
/// Most passes of a workload.
pub const MAX_PASSES: u16 = 32;
/// Most walkers of a workload.
pub const MAX_WALKERS: u32 = 1 << 24;
/// Most steps of a walker.
pub const MAX_STEPS: u32 = 1 << 16;
/// Most rows that one sample may open.
pub const MAX_SAMPLED_ROWS: usize = 32;
/// Most walkers that one sample may open.
pub const MAX_SAMPLED_WALKS: usize = 8;
/// Most devices that one sample may touch. With the other bounds it keeps every answer under `envelope::MAX_MESSAGE`.
pub const MAX_SAMPLED_DEVICES: usize = 8;

/// Dimensions of a product: A is `rows x inner`, B is `inner x columns`, both int8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct WorkSize {
    /// Rows of A and of the product, at least 1.
    pub rows: u32,
    /// Columns of A and rows of B, at least 1.
    pub inner: u32,
    /// Columns of B and of the product, at least 1.
    pub columns: u32,
}

impl WorkSize {
    /// Operations of the product, a multiplication and an addition counted as two; saturates at `u64::MAX`.
    pub const fn operations(&self) -> u64 {
        2u64.saturating_mul(self.rows as u64).saturating_mul(self.inner as u64).saturating_mul(self.columns as u64)
    }
}

/// How much a beacon asks of a host. Every seat derives the same from the container's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Workload {
    /// The product of one pass on one device. The product's int32 values, `4 x rows x columns` bytes, stay in memory.
    pub size: WorkSize,
    /// Products of each device, one after the other, 1 to [`MAX_PASSES`].
    pub passes: u16,
    /// Random walks over the last product, 0 to [`MAX_WALKERS`].
    pub walkers: u32,
    /// Steps of each, 0 to [`MAX_STEPS`]; zero exactly when there are no walkers.
    pub steps: u32,
    /// Devices that work at the same time, 1 to [`MAX_DEVICES`].
    pub devices: u16,
}

impl Workload {
    /// Operations of all products on all devices, a multiplication and an addition counted as two; saturates at `u64::MAX`.
    pub const fn operations(&self) -> u64 {
        self.size.operations().saturating_mul(self.passes as u64).saturating_mul(self.devices as u64)
    }

    /// Checks the documented ranges.
    ///
    /// # Errors
    /// [`Malformed::OutOfRange`] with the field.
    pub fn check(&self) -> Result<(), Malformed> {
        let WorkSize { rows, inner, columns } = self.size;
        if rows == 0 || inner == 0 || columns == 0 {
            return Err(Malformed::OutOfRange("size"));
        }
        if !(1..=MAX_PASSES).contains(&self.passes) {
            return Err(Malformed::OutOfRange("passes"));
        }
        if self.walkers > MAX_WALKERS {
            return Err(Malformed::OutOfRange("walkers"));
        }
        if self.steps > MAX_STEPS || (self.steps == 0) != (self.walkers == 0) {
            return Err(Malformed::OutOfRange("steps"));
        }
        if !(1..=MAX_DEVICES).contains(&self.devices) {
            return Err(Malformed::OutOfRange("devices"));
        }
        Ok(())
    }
}

/// Asks for the answer to a beacon. The challenge itself follows from the slot's hash and the container, which both sides
/// know; nothing in this message changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BeaconRequest {
    /// The beacon's slot.
    pub slot: u64,
    /// How much to compute. The agent refuses what exceeds its own bounds.
    pub workload: Workload,
    /// Milliseconds from the slot's first sight after which no answer counts, 1 to [`MAX_DEADLINE_MS`].
    pub deadline_ms: u32,
}

impl Payload for BeaconRequest {
    const DOMAIN: Domain = Domain::BeaconRequest;

    fn check(&self) -> Result<(), Malformed> {
        self.workload.check()?;
        if !(1..=MAX_DEADLINE_MS).contains(&self.deadline_ms) {
            return Err(Malformed::OutOfRange("deadline_ms"));
        }
        Ok(())
    }
}

/// The answer to a beacon. All checkers get the same root: two signed roots for one beacon are a lie, see [`contradicts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BeaconAnswer {
    /// [`crate::Envelope::digest`] of the request.
    pub request: Digest,
    /// The beacon's slot.
    pub slot: u64,
    /// The slot's hash, so that the answer can be judged without the request.
    pub slot_hash: Digest,
    /// The work that the root is of.
    pub workload: Workload,
    /// The root over all devices.
    pub root: Digest,
    /// Microseconds the host says it computed. For display: the checker goes by its own clock.
    pub elapsed_us: u64,
}

impl Payload for BeaconAnswer {
    const DOMAIN: Domain = Domain::BeaconAnswer;

    fn check(&self) -> Result<(), Malformed> {
        self.workload.check()
    }
}

/// A row of one device's product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct RowAt {
    /// Device, from 0.
    pub device: u16,
    /// Pass, from 0.
    pub pass: u16,
    /// Row, from 0.
    pub row: u32,
}

/// A walker of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct WalkAt {
    /// Device, from 0.
    pub device: u16,
    /// Walker, from 0.
    pub walker: u32,
}

/// Asks to open rows and walks under a signed root.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SampleRequest {
    /// The root that was committed to.
    pub root: Digest,
    /// Rows, 1 to [`MAX_SAMPLED_ROWS`], strictly ascending.
    pub rows: Vec<RowAt>,
    /// Walkers, at most [`MAX_SAMPLED_WALKS`], strictly ascending.
    pub walks: Vec<WalkAt>,
}

impl SampleRequest {
    /// The devices that are touched, ascending, each once.
    pub fn devices(&self) -> Vec<u16> {
        let rows = self.rows.iter().map(|at| at.device);
        let mut devices: Vec<u16> = rows.chain(self.walks.iter().map(|at| at.device)).collect();
        devices.sort_unstable();
        devices.dedup();
        devices
    }
}

impl Payload for SampleRequest {
    const DOMAIN: Domain = Domain::SampleRequest;

    fn check(&self) -> Result<(), Malformed> {
        let ascending = self.rows.windows(2).all(|pair| pair[0] < pair[1]);
        if !(1..=MAX_SAMPLED_ROWS).contains(&self.rows.len()) || !ascending {
            return Err(Malformed::OutOfRange("rows"));
        }
        let ascending = self.walks.windows(2).all(|pair| pair[0] < pair[1]);
        if self.walks.len() > MAX_SAMPLED_WALKS || !ascending {
            return Err(Malformed::OutOfRange("walks"));
        }
        if self.devices().len() > MAX_SAMPLED_DEVICES {
            return Err(Malformed::OutOfRange("devices"));
        }
        Ok(())
    }
}

/// A walker's end under the device's walk root.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OpenedWalk {
    /// Which walker.
    pub walker: u32,
    /// Its state after the last step; the Merkle leaf is its eight bytes.
    pub state: u64,
    /// Siblings from the leaf to the walk root, at most [`MAX_PROOF`].
    pub proof: Vec<Digest>,
}

/// A row of a product under a Merkle root. The row itself is not sent: the checker computes it anyway, and a signed digest
/// that differs from the true one is all that a case needs.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OpenedRow {
    /// Which row.
    pub index: u32,
    /// Digest of its values, the Merkle leaf.
    pub digest: Digest,
    /// Siblings from the leaf to the root, at most [`MAX_PROOF`].
    pub proof: Vec<Digest>,
}

/// A row under the root of one pass.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SampledRow {
    /// Which pass.
    pub pass: u16,
    /// The row and its way to the pass's root.
    pub row: OpenedRow,
}

/// What is opened of one device.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct DeviceOpening {
    /// Which device.
    pub device: u16,
    /// The roots of all its passes in order; each pass's left matrix follows from the root before.
    pub pass_roots: Vec<Digest>,
    /// The root over the walkers' last states.
    pub walk_root: Digest,
    /// Siblings from the device's leaf to the host's root.
    pub proof: Vec<Digest>,
    /// The rows asked for of this device, in the order of the request.
    pub rows: Vec<SampledRow>,
    /// The walkers asked for of this device, in the order of the request.
    pub walks: Vec<OpenedWalk>,
}

impl DeviceOpening {
    /// The device's leaf under the host's root: its pass roots in order, then the walk root.
    pub fn leaf(pass_roots: &[Digest], walk_root: &Digest) -> Vec<u8> {
        let mut bytes = pass_roots.concat();
        bytes.extend_from_slice(walk_root);
        bytes
    }
}

/// The answer to a [`SampleRequest`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SampleAnswer {
    /// [`crate::Envelope::digest`] of the request.
    pub request: Digest,
    /// The devices of [`SampleRequest::devices`], in that order.
    pub devices: Vec<DeviceOpening>,
}

impl Payload for SampleAnswer {
    const DOMAIN: Domain = Domain::SampleAnswer;

    fn check(&self) -> Result<(), Malformed> {
        if !(1..=MAX_SAMPLED_DEVICES).contains(&self.devices.len()) {
            return Err(Malformed::OutOfRange("devices"));
        }
        let rows: usize = self.devices.iter().map(|device| device.rows.len()).sum();
        if rows > MAX_SAMPLED_ROWS {
            return Err(Malformed::OutOfRange("rows"));
        }
        let walks: usize = self.devices.iter().map(|device| device.walks.len()).sum();
        if walks > MAX_SAMPLED_WALKS {
            return Err(Malformed::OutOfRange("walks"));
        }
        for device in &self.devices {
            if !(1..=usize::from(MAX_PASSES)).contains(&device.pass_roots.len()) {
                return Err(Malformed::OutOfRange("pass_roots"));
            }
            let rows = device.rows.iter().map(|row| &row.row.proof);
            let walks = device.walks.iter().map(|walk| &walk.proof);
            if rows.chain(walks).chain([&device.proof]).any(|proof| proof.len() > MAX_PROOF) {
                return Err(Malformed::OutOfRange("proof"));
            }
        }
        Ok(())
    }
}

/// Whether two signed answers prove a lie: one key, one container, one beacon and one workload, and two roots.
///
/// Both signatures are checked here; the nonces differ by nature, since each checker asks with its own. A different slot
/// hash is another challenge (the host saw a fork), not a lie.
pub fn contradicts(one: &Envelope, other: &Envelope) -> bool {
    let read = |envelope: &Envelope| {
        let answers = envelope.domain == Domain::BeaconAnswer as u8 && envelope.signature_holds();
        answers.then(|| BeaconAnswer::try_from_slice(&envelope.payload).ok()).flatten()
    };
    let about = |e: &Envelope| (e.version, e.genesis_hash, e.program, e.subject, e.epoch, e.signer);
    let (Some(a), Some(b)) = (read(one), read(other)) else { return false };
    about(one) == about(other) && (a.slot, a.slot_hash, a.workload) == (b.slot, b.slot_hash, b.workload) && a.root != b.root
}
