//! Hosts and checkers in simulated time. What is committed, opened and recomputed is real, only small; how long it takes is
//! modelled on a workload of eight seconds, so that a second of simulation costs microseconds.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{num::NonZeroUsize, sync::atomic::AtomicBool, time::Duration};

use datagalax_gpu::{
    Isa,
    backend::{Backend, BackendError, Cpu},
    capacity::{self, Limits, Proof, ProveError, Schedule, Spread, detection},
    location::Location,
    score::{Answer, Judgement},
};
use datagalax_protocol::{Digest, WorkSize, Workload};
use rand::{Rng, rngs::StdRng};

/// Seats of a committee.
pub const SEATS: usize = 5;
/// Least capacity that pays, percent (protocol section 5).
pub const THRESHOLD: u8 = 50;
/// What the modelled workload takes a card of the class's reference: multiplying and hashing, then walking.
pub const MULTIPLYING: f64 = 6.0;
/// Seconds of walking, see above.
pub const WALKING: f64 = 2.0;
/// Taken off every answer's time.
pub const ALLOWANCE: f64 = 1.0;
/// How much longer a read takes that goes over the bus to the host's memory.
pub const BUS_PENALTY: f64 = 10.0;

/// What is really computed.
pub const WORKLOAD: Workload =
    Workload { size: WorkSize { rows: 64, inner: 32, columns: 16 }, passes: 2, walkers: 16, steps: 32, devices: 1 };

/// The times of the modelled workload.
pub fn schedule() -> Schedule {
    Schedule::of(&WORKLOAD, reference(), Duration::from_secs_f64(ALLOWANCE))
}

/// The reference at which the real workload would take the modelled time.
pub fn reference() -> u64 {
    (WORKLOAD.operations() as f64 / (MULTIPLYING + WALKING)) as u64
}

/// A card as far as time is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// Its speed, 1 for the class's reference.
    pub speed: f64,
    /// The part of the product that fits its memory; the rest lies in the host's.
    pub held: f64,
}

impl Card {
    pub const REFERENCE: Self = Self { speed: 1.0, held: 1.0 };

    /// Seconds for one challenge. What does not fit is moved over the bus once, 1.2 seconds for all of it.
    pub fn seconds(&self) -> f64 {
        let walking = WALKING * detection::walk_slowdown(self.held, BUS_PENALTY);
        MULTIPLYING / self.speed + walking + 1.2 * (1.0 - self.held)
    }
}

/// A processor that stands for a card, small and single-threaded.
pub fn device() -> Box<dyn Backend> {
    Box::new(Cpu::with_isa(Isa::detect(), NonZeroUsize::MIN))
}

pub fn prove_on(challenge: &Digest, workload: &Workload, mut devices: Vec<Box<dyn Backend>>) -> Result<Proof, ProveError> {
    capacity::prove(challenge, workload, &mut devices, &Limits::CPU, NonZeroUsize::MIN, &AtomicBool::new(false))
}

/// An honest proof.
pub fn prove(challenge: &Digest) -> Proof {
    prove_on(challenge, &WORKLOAD, vec![device()]).unwrap()
}

/// What one checker makes of an answer that took `elapsed`, opening as much as by default.
pub fn judge(challenge: &Digest, proof: &Proof, elapsed: f64, location: Location, rng: &mut StdRng) -> Judgement {
    judge_by(&Spread::default(), challenge, proof, elapsed, location, rng)
}

/// As [`judge`], opening so much.
pub fn judge_by(
    spread: &Spread,
    challenge: &Digest,
    proof: &Proof,
    elapsed: f64,
    location: Location,
    rng: &mut StdRng,
) -> Judgement {
    let request = capacity::draw(&WORKLOAD, &proof.root(), spread, &rng.random());
    let opened = proof.open(&request).unwrap();
    let elapsed = Duration::from_secs_f64(elapsed);
    let answer = Answer { challenge, workload: &WORKLOAD, elapsed, request: &request, opened: &opened };
    answer.judge(&schedule(), reference(), location)
}

/// The lower median of a committee's capacities, and how many seats say dishonest.
pub fn committee(judgements: &[Judgement]) -> (u8, usize) {
    let mut capacities: Vec<u8> = judgements.iter().map(|judgement| judgement.capacity).collect();
    capacities.sort_unstable();
    (capacities[(capacities.len() - 1) / 2], judgements.iter().filter(|judgement| judgement.dishonest).count())
}

/// Five checkers judge one answer, the same time for all.
pub fn judged_by_all(challenge: &Digest, proof: &Proof, elapsed: f64, rng: &mut StdRng) -> (u8, usize) {
    let judgements: Vec<_> = (0..SEATS).map(|_| judge(challenge, proof, elapsed, Location::Possible, rng)).collect();
    committee(&judgements)
}

/// A normal variate by the sum of twelve uniform ones (Irwin and Hall), within six standard deviations.
pub fn normal(rng: &mut StdRng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

/// A backend that cheats.
pub struct Cheat {
    pub inner: Box<dyn Backend>,
    /// The rows for which it makes digests up, of each pass.
    pub skips: Box<dyn Fn(u32) -> bool + Send>,
    /// The walkers whose states it makes up.
    pub stands: Box<dyn Fn(u32) -> bool + Send>,
    /// Bytes that it says are free.
    pub memory: u64,
}

impl Cheat {
    pub fn rows(skips: impl Fn(u32) -> bool + Send + 'static) -> Box<dyn Backend> {
        Box::new(Self { inner: device(), skips: Box::new(skips), stands: Box::new(|_| false), memory: u64::MAX })
    }

    pub fn walks(stands: impl Fn(u32) -> bool + Send + 'static) -> Box<dyn Backend> {
        Box::new(Self { inner: device(), skips: Box::new(|_| false), stands: Box::new(stands), memory: u64::MAX })
    }

    pub fn memory(memory: u64) -> Box<dyn Backend> {
        Box::new(Self { inner: device(), skips: Box::new(|_| false), stands: Box::new(|_| false), memory })
    }
}

impl Backend for Cheat {
    fn describe(&self) -> String {
        "cheat".into()
    }

    fn free_memory(&self) -> Result<u64, BackendError> {
        Ok(self.memory)
    }

    fn load(&mut self, b_seed: &Digest, size: &WorkSize) -> Result<(), BackendError> {
        let needed = 4 * u64::from(size.rows) * u64::from(size.columns);
        if needed > self.memory {
            return Err(BackendError::Memory { device: self.describe(), needed, free: self.memory });
        }
        self.inner.load(b_seed, size)
    }

    fn multiply(&mut self, a_seed: &Digest) -> Result<Vec<Digest>, BackendError> {
        let mut digests = self.inner.multiply(a_seed)?;
        for (digest, row) in digests.iter_mut().zip(0u32..) {
            if (self.skips)(row) {
                *digest = [row as u8; 32];
            }
        }
        Ok(digests)
    }

    fn walk(&mut self, key: [u64; 2], walkers: u32, steps: u32) -> Result<Vec<u64>, BackendError> {
        let mut states = self.inner.walk(key, walkers, steps)?;
        for (state, walker) in states.iter_mut().zip(0u32..) {
            if (self.stands)(walker) {
                *state = key[0].wrapping_add(u64::from(walker));
            }
        }
        Ok(states)
    }

    fn release(&mut self) {
        self.inner.release();
    }
}
