//! What this machine can do: the figures behind `datagalax gpu bench`, the class they fit, and what that would earn.

use std::{
    num::NonZeroUsize,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use datagalax::math::{self, Rate};
use datagalax_protocol::{Digest, Workload};
use thiserror::Error;

use crate::{
    backend::{Backend, BackendError, filled_memory},
    capacity::{self, Demand, Limits, PlanError, ProveError, SampleError, Spread},
    score::capacity_percent,
};

/// How long the measured challenge multiplies, at least about.
const DURATION: Duration = Duration::from_secs(8);

/// Why there are no figures.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BenchError {
    /// No devices to measure.
    #[error("there is no device to measure")]
    NoDevice,
    /// No workload fits.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A device failed.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// The machine's own proof does not hold: its devices compute wrongly.
    #[error("this machine's own proof does not hold, a device computes wrongly: {0}")]
    Wrong(#[from] SampleError),
}

impl From<BackendError> for BenchError {
    fn from(error: BackendError) -> Self {
        Self::Prove(error.into())
    }
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The devices, in words.
    pub devices: Vec<String>,
    /// Whether they are GPUs.
    pub gpu: bool,
    /// Least free memory of a device before the challenge, in bytes. A class asks for a card's whole memory: whoever has
    /// the probe's reading puts that here before asking for [`fits`].
    pub memory: u64,
    /// Bytes of each device that the products filled.
    pub filled: u64,
    /// The work.
    pub workload: Workload,
    /// From the start to the root: expanding, multiplying, hashing and walking.
    pub elapsed: Duration,
    /// Operations per second of one device over that time: what a class's reference is compared with.
    pub throughput: u64,
    /// What a verifier took for [`Spread::default`] on one core.
    pub verifying: Duration,
    /// The root, for comparing machines.
    pub root: Digest,
}

/// Measures a workload on these devices, and verifies the proof as a checker would. `gpu` says what they are.
///
/// # Errors
/// The workload does not fit, a device fails, or the proof does not hold.
pub fn run(
    backends: &mut [Box<dyn Backend>],
    gpu: bool,
    workload: &Workload,
    limits: &Limits,
    threads: NonZeroUsize,
) -> Result<Figures, BenchError> {
    let memory = least_memory(backends)?;
    let challenge = [0x5a; 32];
    let proof = capacity::prove(&challenge, workload, backends, limits, threads, &AtomicBool::new(false))?;
    let request = capacity::draw(workload, &proof.root(), &Spread::default(), &proof.root());
    let opened = proof.open(&request).ok_or(SampleError::OutsideWorkload)?;
    let start = Instant::now();
    capacity::verify(&challenge, workload, &request, &opened)?;
    let verifying = start.elapsed();
    let per_device = workload.operations() / u64::from(workload.devices.max(1));
    Ok(Figures {
        devices: backends.iter().map(|backend| backend.describe()).collect(),
        gpu,
        memory,
        filled: filled_memory(&workload.size),
        workload: *workload,
        elapsed: proof.elapsed(),
        throughput: per_second(per_device, proof.elapsed()),
        verifying,
        root: proof.root(),
    })
}

/// The workload that shows what these devices can do: on GPUs `share` percent of the memory that is free, for some seconds
/// (found by one pass first); on a processor the largest workload of the class `cpu`.
///
/// # Errors
/// No device, too little memory, or a device fails.
pub fn workload(
    backends: &mut [Box<dyn Backend>],
    gpu: bool,
    share: u8,
    limits: &Limits,
    threads: NonZeroUsize,
) -> Result<Workload, BenchError> {
    let memory = least_memory(backends)?;
    if !gpu {
        return Ok(Demand::cpu(datagalax_protocol::beacon::MAX_PASSES)?);
    }
    let devices = u16::try_from(backends.len()).unwrap_or(u16::MAX);
    let demand = Demand { memory, share, reference: 0, devices, duration: DURATION };
    let trial = demand.workload()?;
    let figures = run(backends, gpu, &trial, limits, threads)?;
    Ok(Demand { reference: figures.throughput, ..demand }.workload()?)
}

fn least_memory(backends: &[Box<dyn Backend>]) -> Result<u64, BenchError> {
    let free = backends.iter().map(|backend| backend.free_memory()).collect::<Result<Vec<_>, _>>()?;
    free.into_iter().min().ok_or(BenchError::NoDevice)
}

fn per_second(operations: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(operations) * 1_000_000_000 / elapsed.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// A class as it is on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its id.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Least memory of a device in bytes; 0 for classes without GPUs.
    pub minimum_memory: u64,
    /// Reference throughput of one device, in operations per second.
    pub reference: u64,
    /// Weight of one device.
    pub unit_weight: u16,
    /// Whether containers can be registered in it.
    pub active: bool,
}

/// How a machine does in a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// The class.
    pub class: Class,
    /// Percent of its reference.
    pub capacity: u8,
    /// What a container of these devices would earn in an epoch at full availability, in base units; 0 below the threshold.
    pub reward: u64,
}

/// What a machine is measured against besides the classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The epoch's rate.
    pub rate: Rate,
    /// Least percent of capacity that pays (a parameter of the network, 50).
    pub capacity_threshold: u8,
}

/// The classes that a machine can be registered in, the best first: the one that earns most, then the one it does best in.
///
/// A class fits when it is active, when the machine has GPUs if the class asks for memory (and none if it does not), and when
/// its memory and its capacity suffice. The reward is an expectation at today's rate: the rate changes with what joins.
pub fn fits(figures: &Figures, classes: &[Class], terms: &Terms) -> Vec<Fit> {
    let gpus = u8::try_from(figures.workload.devices).unwrap_or(u8::MAX);
    let mut fits: Vec<Fit> = classes
        .iter()
        .filter(|class| class.active && figures.gpu == (class.minimum_memory > 0) && figures.memory >= class.minimum_memory)
        .map(|class| {
            let capacity = capacity_percent(figures.throughput, Duration::from_secs(1), class.reference);
            let weight = math::weight(class.unit_weight, gpus, 100, capacity);
            // An amount that does not fit 64 bits is more than there is.
            let reward = if capacity < terms.capacity_threshold { 0 } else { terms.rate.pay(weight).unwrap_or(u64::MAX) };
            Fit { class: class.clone(), capacity, reward }
        })
        .filter(|fit| fit.capacity >= terms.capacity_threshold)
        .collect();
    fits.sort_by_key(|fit| std::cmp::Reverse((fit.reward, fit.capacity)));
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(id: u16, minimum_memory: u64, reference: u64, unit_weight: u16) -> Class {
        Class { id, name: format!("class {id}"), minimum_memory, reference, unit_weight, active: true }
    }

    fn figures(gpu: bool, memory: u64, throughput: u64) -> Figures {
        Figures {
            devices: vec!["a".into(), "b".into()],
            gpu,
            memory,
            filled: 0,
            workload: Workload { devices: 2, ..Demand::cpu(1).unwrap() },
            elapsed: Duration::from_secs(1),
            throughput,
            verifying: Duration::ZERO,
            root: [0; 32],
        }
    }

    #[test]
    fn the_class_that_earns_most_comes_first() {
        let terms = Terms { rate: Rate { hi: 3, lo: 0 }, capacity_threshold: 50 };
        let classes = [
            class(1, 0, 1_000, 1),
            class(2, 24, 100_000, 200),
            class(3, 80, 400_000, 900),
            class(4, 160, 400_000, 1_000),
            Class { active: false, ..class(5, 1, 1, u16::MAX) },
        ];
        let fits_of = |figures: &Figures| fits(figures, &classes, &terms);
        let ids = |fits: &[Fit]| fits.iter().map(|fit| fit.class.id).collect::<Vec<_>>();
        // Twice 900 x 75 percent is more than twice 200 x 100 percent.
        let found = fits_of(&figures(true, 80, 300_000));
        assert_eq!(ids(&found), [3, 2]);
        assert_eq!((found[0].capacity, found[0].reward), (75, 3 * 2 * 900 * 100 * 75));
        assert_eq!(ids(&fits_of(&figures(true, 79, 300_000))), [2], "too little memory for the larger class");
        assert_eq!(ids(&fits_of(&figures(true, 80, 199_999))), [2], "too slow for the larger class");
        assert_eq!(ids(&fits_of(&figures(false, 1 << 40, 900))), [1], "a processor is no GPU, whatever memory it has");
        assert!(fits_of(&figures(true, 8, u64::MAX)).is_empty());
    }

    #[test]
    fn this_processor_is_measured_and_its_proof_holds() {
        let threads = NonZeroUsize::MIN;
        let mut backends: Vec<Box<dyn Backend>> = vec![Box::new(crate::backend::Cpu::new(threads))];
        let workload = Demand::cpu(2).unwrap();
        let figures = run(&mut backends, false, &workload, &Limits::CPU, threads).unwrap();
        assert!(figures.throughput > 0 && figures.memory > 0 && figures.filled == 1 << 20);
        assert_eq!(workload_of(&mut backends), Demand::cpu(32).unwrap());
        assert_eq!(run(&mut [], false, &workload, &Limits::CPU, threads), Err(BenchError::NoDevice));
    }

    fn workload_of(backends: &mut [Box<dyn Backend>]) -> Workload {
        workload(backends, false, 85, &Limits::CPU, NonZeroUsize::MIN).unwrap()
    }
}
