//! The verifier's side: what to open, and whether it holds.

use datagalax_protocol::{
    DeviceOpening, Digest, SampleRequest, Workload,
    beacon::{MAX_SAMPLED_DEVICES, MAX_SAMPLED_ROWS, MAX_SAMPLED_WALKS, RowAt, WalkAt},
    merkle::{self, ProofError},
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{Seeds, walk};
use crate::{kernel, matrix::Stream, simd::Isa};

/// How much a checker opens of each answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Rows, 1 to [`MAX_SAMPLED_ROWS`].
    pub rows: usize,
    /// Walkers, at most [`MAX_SAMPLED_WALKS`].
    pub walks: usize,
}

impl Default for Spread {
    /// 24 rows and 2 walkers: whoever leaves out a tenth is seen by each checker in 92 of 100 cases.
    fn default() -> Self {
        Self { rows: 24, walks: 2 }
    }
}

/// Why an opening proves nothing, or proves a lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SampleError {
    /// Other devices, passes, rows or walkers than were asked for, or another number of them.
    #[error("what was opened is not what was asked for")]
    WrongPlaces,
    /// Something asked for is outside the workload: the asker's mistake.
    #[error("the request asks for something outside the workload")]
    OutsideWorkload,
    /// A device that is not under the root that was committed to.
    #[error("device {device}: {error}")]
    Device {
        /// The device.
        device: u16,
        /// What is wrong with its proof.
        error: ProofError,
    },
    /// A row that is not under the root of its pass.
    #[error("row {} of pass {} of device {}: {error}", .at.row, .at.pass, .at.device)]
    Row {
        /// The row.
        at: RowAt,
        /// What is wrong with its proof.
        error: ProofError,
    },
    /// A walker that is not under the walk root of its device.
    #[error("walker {} of device {}: {error}", .at.walker, .at.device)]
    Walk {
        /// The walker.
        at: WalkAt,
        /// What is wrong with its proof.
        error: ProofError,
    },
    /// A row under the signed root is not the product's.
    #[error("row {} of pass {} of device {} under the signed root is not the product's", .0.row, .0.pass, .0.device)]
    WrongRow(RowAt),
    /// A walker under the signed root did not walk over the product.
    #[error("walker {} of device {} under the signed root did not walk over the product", .0.walker, .0.device)]
    WrongWalk(WalkAt),
}

impl SampleError {
    /// Whether it proves a lie to anybody who has the signed messages (the verdict *dishonest*, protocol section 9). Anything
    /// else is a failed answer.
    pub const fn is_lie(&self) -> bool {
        matches!(self, Self::WrongRow(_) | Self::WrongWalk(_))
    }
}

/// What to open: random rows over all passes, and random walkers, of at most [`MAX_SAMPLED_DEVICES`] random devices.
///
/// `secret` must be random, fresh, and unknown to the host until it has signed its root. Numbers are drawn by
/// `floor(word * range / 2^64)`, off uniform by less than range / 2^64.
pub fn draw(workload: &Workload, root: &Digest, spread: &Spread, secret: &Digest) -> SampleRequest {
    let seed = Sha256::new_with_prefix(b"datagalax:sample:v1").chain_update(secret).chain_update(root).finalize().into();
    let (stream, mut next) = (Stream::keyed(seed), 0u64);
    let mut below = move |range: u64| {
        let word = stream.word(next);
        next += 1;
        ((u128::from(word) * u128::from(range)) >> 64) as u64
    };
    let mut devices: Vec<u16> = (0..workload.devices).collect();
    for i in 0..devices.len().min(MAX_SAMPLED_DEVICES) {
        let other = i as u64 + below((devices.len() - i) as u64);
        devices.swap(i, other as usize);
    }
    devices.truncate(MAX_SAMPLED_DEVICES);
    let (passes, size_rows) = (u64::from(workload.passes), u64::from(workload.size.rows));
    let places = devices.len() as u64 * passes * size_rows;
    let wanted = spread.rows.clamp(1, MAX_SAMPLED_ROWS).min(usize::try_from(places).unwrap_or(usize::MAX));
    let mut rows: Vec<RowAt> = distinct(wanted, places, &mut below)
        .into_iter()
        .map(|at| RowAt {
            device: devices[(at / (passes * size_rows)) as usize],
            pass: (at / size_rows % passes) as u16,
            row: (at % size_rows) as u32,
        })
        .collect();
    rows.sort_unstable();
    let walkers = u64::from(workload.walkers);
    let places = devices.len() as u64 * walkers;
    let wanted = spread.walks.min(MAX_SAMPLED_WALKS).min(usize::try_from(places).unwrap_or(usize::MAX));
    let mut walks: Vec<WalkAt> = distinct(wanted, places, &mut below)
        .into_iter()
        .map(|at| WalkAt { device: devices[(at / walkers) as usize], walker: (at % walkers) as u32 })
        .collect();
    walks.sort_unstable();
    SampleRequest { root: *root, rows, walks }
}

/// `count` different numbers under `range` by Floyd's method; `count <= range`, both as small as a request allows.
fn distinct(count: usize, range: u64, below: &mut impl FnMut(u64) -> u64) -> Vec<u64> {
    let mut chosen = Vec::with_capacity(count);
    for last in range - count as u64..range {
        let drawn = below(last + 1);
        chosen.push(if chosen.contains(&drawn) { last } else { drawn });
    }
    chosen
}

/// Checks that `opened` is what `request` asked for, under the request's root, and equal to what follows from the challenge.
///
/// Everything cheap is checked before the first row is computed. The caller chose workload and request; a request outside
/// the workload is an error, not a panic.
///
/// # Errors
/// The first thing that is wrong; see [`SampleError::is_lie`].
pub fn verify(
    challenge: &Digest,
    workload: &Workload,
    request: &SampleRequest,
    opened: &[DeviceOpening],
) -> Result<(), SampleError> {
    within(workload, request)?;
    same_places(workload, request, opened)?;
    let seeds = Seeds::new(challenge, workload);
    for device in opened {
        check_proofs(workload, &request.root, device)?;
    }
    // A's seed of a pass follows from the root of the pass before.
    let seed = |device: &DeviceOpening, pass: u16| {
        let before = usize::from(pass).checked_sub(1).map_or([0; 32], |before| device.pass_roots[before]);
        seeds.pass(device.device, pass, &before)
    };
    let sampled = || opened.iter().flat_map(|device| device.rows.iter().map(move |row| (device, row)));
    let asked: Vec<_> = sampled().map(|(device, row)| (seed(device, row.pass), row.row.index)).collect();
    let digests = kernel::digests_of(Isa::detect(), &asked, &seeds.shared(), &workload.size);
    if let Some(((device, row), _)) = sampled().zip(digests).find(|((_, row), digest)| row.row.digest != *digest) {
        return Err(SampleError::WrongRow(RowAt { device: device.device, pass: row.pass, row: row.row.index }));
    }
    let last = workload.passes - 1;
    for device in opened {
        let (a_seed, root) = (seed(device, last), device.pass_roots[usize::from(last)]);
        for walk in &device.walks {
            let (size, steps) = (&workload.size, workload.steps);
            if walk::recompute(&a_seed, &seeds.shared(), &root, size, walk.walker, steps) != walk.state {
                return Err(SampleError::WrongWalk(WalkAt { device: device.device, walker: walk.walker }));
            }
        }
    }
    Ok(())
}

fn within(workload: &Workload, request: &SampleRequest) -> Result<(), SampleError> {
    let Workload { size, passes, walkers, devices, .. } = *workload;
    let rows = request.rows.iter().all(|at| at.device < devices && at.pass < passes && at.row < size.rows);
    let walks = request.walks.iter().all(|at| at.device < devices && at.walker < walkers);
    let sound = workload.check().is_ok() && !(request.rows.is_empty() && request.walks.is_empty());
    if rows && walks && sound { Ok(()) } else { Err(SampleError::OutsideWorkload) }
}

fn same_places(workload: &Workload, request: &SampleRequest, opened: &[DeviceOpening]) -> Result<(), SampleError> {
    let devices = request.devices();
    let same = devices.iter().eq(opened.iter().map(|device| &device.device));
    let passes = opened.iter().all(|device| device.pass_roots.len() == usize::from(workload.passes));
    let rows =
        opened.iter().flat_map(|d| d.rows.iter().map(|row| RowAt { device: d.device, pass: row.pass, row: row.row.index }));
    let walks = opened.iter().flat_map(|d| d.walks.iter().map(|walk| WalkAt { device: d.device, walker: walk.walker }));
    let same = same && passes && rows.eq(request.rows.iter().copied()) && walks.eq(request.walks.iter().copied());
    if same { Ok(()) } else { Err(SampleError::WrongPlaces) }
}

fn check_proofs(workload: &Workload, root: &Digest, opened: &DeviceOpening) -> Result<(), SampleError> {
    let device = opened.device;
    let leaf = DeviceOpening::leaf(&opened.pass_roots, &opened.walk_root);
    merkle::verify(root, u32::from(workload.devices), u32::from(device), &leaf, &opened.proof)
        .map_err(|error| SampleError::Device { device, error })?;
    for row in &opened.rows {
        let (pass_root, leaf) = (&opened.pass_roots[usize::from(row.pass)], &row.row);
        merkle::verify(pass_root, workload.size.rows, leaf.index, &leaf.digest, &leaf.proof)
            .map_err(|error| SampleError::Row { at: RowAt { device, pass: row.pass, row: leaf.index }, error })?;
    }
    for walk in &opened.walks {
        merkle::verify(&opened.walk_root, workload.walkers, walk.walker, &walk.state.to_le_bytes(), &walk.proof)
            .map_err(|error| SampleError::Walk { at: WalkAt { device, walker: walk.walker }, error })?;
    }
    Ok(())
}
