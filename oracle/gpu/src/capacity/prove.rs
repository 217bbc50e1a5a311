//! Computing a workload on all devices of a host.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use datagalax_protocol::{
    DeviceOpening, Digest, OpenedRow, SampleRequest, Workload,
    beacon::{OpenedWalk, SampledRow},
    merkle::Tree,
};
use thiserror::Error;

use super::{Limits, PlanError, Seeds, walk};
use crate::backend::{Backend, BackendError};

/// Why there is no proof.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProveError {
    /// The workload is not one that this host takes on.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A device failed. The others' work is lost with it: the root is over all.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The caller gave up.
    #[error("the computation was called off")]
    CalledOff,
    /// The computation panicked.
    #[error("the computation was cut off")]
    Cut,
}

/// What one device computed.
#[derive(Debug)]
struct Device {
    passes: Vec<(Vec<Digest>, Tree)>,
    states: Vec<u64>,
    walks: Tree,
    elapsed: Duration,
}

/// A computed workload: what was committed to, ready to open anything of it.
#[derive(Debug)]
pub struct Proof {
    devices: Vec<Device>,
    tree: Tree,
    elapsed: Duration,
}

/// Computes a workload on all `backends` at once, and gives their memory back. `threads` are the host's, for hashing.
///
/// `called_off` is looked at between passes: a host whose lease begins or that misses the deadline anyway stops early.
///
/// # Errors
/// The first reason why there is no root.
pub fn prove(
    challenge: &Digest,
    workload: &Workload,
    backends: &mut [Box<dyn Backend>],
    limits: &Limits,
    threads: NonZeroUsize,
    called_off: &AtomicBool,
) -> Result<Proof, ProveError> {
    limits.check(workload)?;
    if backends.len() != usize::from(workload.devices) {
        return Err(PlanError::Devices { asked: workload.devices, has: backends.len() }.into());
    }
    let start = Instant::now();
    let seeds = Seeds::new(challenge, workload);
    let share = NonZeroUsize::new(threads.get() / backends.len()).unwrap_or(NonZeroUsize::MIN);
    let devices: Result<Vec<Device>, ProveError> = thread::scope(|scope| {
        let running: Vec<_> = backends
            .iter_mut()
            .zip(0u16..)
            .map(|(backend, device)| {
                scope.spawn(move || {
                    let done = compute(&seeds, workload, device, backend.as_mut(), share, called_off);
                    backend.release();
                    done
                })
            })
            .collect();
        // All are waited for, whatever the first says: none may go on in the background.
        let done: Vec<_> = running.into_iter().map(|handle| handle.join().unwrap_or(Err(ProveError::Cut))).collect();
        done.into_iter().collect()
    });
    let devices = devices?;
    let tree = Tree::new(devices.iter().map(|device| DeviceOpening::leaf(&device.roots(), &device.walks.root())));
    Ok(Proof { devices, tree, elapsed: start.elapsed() })
}

fn compute(
    seeds: &Seeds,
    workload: &Workload,
    device: u16,
    backend: &mut dyn Backend,
    threads: NonZeroUsize,
    called_off: &AtomicBool,
) -> Result<Device, ProveError> {
    let start = Instant::now();
    backend.load(&seeds.shared(), &workload.size)?;
    let mut passes = Vec::with_capacity(usize::from(workload.passes));
    let (mut before, mut key) = ([0; 32], [0; 2]);
    for pass in 0..workload.passes {
        if called_off.load(Ordering::Relaxed) {
            return Err(ProveError::CalledOff);
        }
        let seed = seeds.pass(device, pass, &before);
        let digests = backend.multiply(&seed)?;
        let tree = Tree::of_digests(&digests, threads);
        before = tree.root();
        key = walk::stream(&seed, &before).key();
        passes.push((digests, tree));
    }
    let states = match workload.walkers {
        0 => Vec::new(),
        walkers => backend.walk(key, walkers, workload.steps)?,
    };
    let walks = Tree::new(states.iter().map(|state| state.to_le_bytes()));
    Ok(Device { passes, states, walks, elapsed: start.elapsed() })
}

impl Device {
    fn roots(&self) -> Vec<Digest> {
        self.passes.iter().map(|(_, tree)| tree.root()).collect()
    }
}

impl Proof {
    /// The root to sign. Its first byte gives the vote's token, see [`crate::beacon::token`].
    pub fn root(&self) -> Digest {
        self.tree.root()
    }

    /// From the start to the root.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// How long each device took, in order.
    pub fn device_times(&self) -> Vec<Duration> {
        self.devices.iter().map(|device| device.elapsed).collect()
    }

    /// Opens what a request asks for; `None` when any of it is outside the workload. The caller has checked the request's
    /// own ranges (`Payload::check`), which bound the answer.
    pub fn open(&self, request: &SampleRequest) -> Option<Vec<DeviceOpening>> {
        request.devices().into_iter().map(|device| self.open_device(device, request)).collect()
    }

    fn open_device(&self, index: u16, request: &SampleRequest) -> Option<DeviceOpening> {
        let device = self.devices.get(usize::from(index))?;
        let rows = request.rows.iter().filter(|at| at.device == index).map(|at| {
            let (digests, tree) = device.passes.get(usize::from(at.pass))?;
            let digest = *digests.get(at.row as usize)?;
            let row = OpenedRow { index: at.row, digest, proof: tree.proof(at.row)? };
            Some(SampledRow { pass: at.pass, row })
        });
        let walks = request.walks.iter().filter(|at| at.device == index).map(|at| {
            let state = *device.states.get(at.walker as usize)?;
            Some(OpenedWalk { walker: at.walker, state, proof: device.walks.proof(at.walker)? })
        });
        Some(DeviceOpening {
            device: index,
            pass_roots: device.roots(),
            walk_root: device.walks.root(),
            proof: self.tree.proof(u32::from(index))?,
            rows: rows.collect::<Option<_>>()?,
            walks: walks.collect::<Option<_>>()?,
        })
    }
}
