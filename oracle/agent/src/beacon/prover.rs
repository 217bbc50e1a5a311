//! Computes beacons on all devices, one after the other, and keeps what is needed to open them.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use datagalax_gpu::{
    Backend, BackendError,
    ask::Ask,
    beacon::{Slot, challenge},
    capacity::{Limits, Proof, ProveError, prove},
};
use datagalax_protocol::{DeviceOpening, Digest, SampleRequest, Workload};
use serde::{Deserialize, Serialize};
use solana_pubkey::Pubkey;
use thiserror::Error;
use tokio::{
    sync::{Notify, watch},
    time::{self, Instant},
};

use crate::{
    metrics::{Beacon, Metrics},
    state::{StateDir, StateError},
};

/// Name of the record of signed roots.
const RECORD: &str = "roots";
/// Most roots on record, the latest: those of some days of beacons.
const MOST_ROOTS: usize = 512;
/// Most challenges that wait or are kept with their outcome.
const MOST_ENTRIES: usize = 64;
/// Most challenges that wait.
const MOST_WAITING: usize = 8;
/// Longest that a challenge without deadline (one that was asked for later) may compute.
const LONGEST: Duration = Duration::from_secs(180);
/// Pause after a device did not work, before the next attempt.
const DEVICES_PAUSE: Duration = Duration::from_secs(1);

/// Opens the devices: at first, and anew after one of them failed.
pub type OpenDevices = Arc<dyn Fn() -> Result<Vec<Box<dyn Backend>>, BackendError> + Send + Sync>;

/// Why a challenge has no root, or cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unproven {
    /// Too many wait already.
    #[error("{MOST_WAITING} challenges wait already: ask again later")]
    Queue,
    /// The hardware or the workload.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// The devices cannot be opened.
    #[error(transparent)]
    Devices(#[from] BackendError),
    /// A beacon came, which goes first.
    #[error("called off because a beacon came: ask again in a minute")]
    CalledOff,
    /// It was not done in time.
    #[error("not done before its deadline")]
    Late,
    /// Another root than the one that was signed before.
    #[error("this beacon gave another root before: the hardware computes wrongly, and nothing is signed")]
    OtherRoot,
    /// The root cannot be put on record, so it must not be signed.
    #[error("the root cannot be put on record: {0}")]
    Record(String),
    /// No proof with this root is kept.
    #[error("no proof with this root is kept: it is of another epoch, or others have taken its place")]
    UnknownRoot,
    /// A device, pass, row or walker outside the workload.
    #[error("the sample is outside the workload")]
    Outside,
}

impl Unproven {
    /// Whether the next attempt may end differently.
    const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Queue
                | Self::CalledOff
                | Self::Devices(_)
                | Self::Record(_)
                | Self::Prove(ProveError::Backend(_) | ProveError::Cut)
        )
    }
}

/// Why a challenge is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is a beacon that came just now: it must be done by the deadline, and goes first.
    Beacon {
        /// Until when a root counts.
        deadline: Instant,
    },
    /// Somebody asked for it later.
    Asked,
}

/// A challenge to compute.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// The epoch it is asked in.
    pub epoch: u32,
    /// The slot.
    pub slot: Slot,
    /// When this host saw it first.
    pub seen: Instant,
    /// What is asked.
    pub ask: Ask,
    /// Why.
    pub cause: Cause,
}

/// A computed challenge.
#[derive(Debug)]
pub struct Proven {
    /// The slot.
    pub slot: Slot,
    /// The work.
    pub workload: Workload,
    /// The root, on record.
    pub root: Digest,
    /// From the slot's first sight to the root.
    pub elapsed: Duration,
    proof: Proof,
}

/// Where a challenge is.
#[derive(Clone, Debug)]
pub enum Progress {
    /// It waits, or is computed.
    Working,
    /// Done.
    Done(Arc<Proven>),
    /// It has no root.
    Failed(Unproven),
}

struct Entry {
    task: Task,
    progress: watch::Sender<Progress>,
}

impl Entry {
    fn is_working(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Working)
    }
}

/// A root that was signed, or is about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Signed {
    slot: u64,
    hash: Digest,
    /// sha256 of the workload's encoding.
    workload: Digest,
    root: Digest,
}

#[derive(Default)]
struct Shared {
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// The running computation, and how it is called off.
    running: Option<(Task, Arc<AtomicBool>)>,
    roots: VecDeque<Signed>,
    /// Whether `roots` is not all on the disk: the last write failed.
    unwritten: bool,
}

/// Computes challenges.
pub struct Prover {
    container: Pubkey,
    open: OpenDevices,
    limits: Limits,
    threads: NonZeroUsize,
    state: Arc<StateDir>,
    shared: Mutex<Shared>,
    metrics: Metrics,
    wake: Notify,
}

impl Prover {
    /// Computes for this container. `limits.host_memory` bounds the proofs kept.
    ///
    /// # Errors
    /// The record of roots cannot be read.
    pub fn new(
        container: Pubkey,
        open: OpenDevices,
        limits: Limits,
        threads: NonZeroUsize,
        state: Arc<StateDir>,
        metrics: Metrics,
    ) -> Result<Self, StateError> {
        let shared = Shared { roots: state.read(RECORD)?, ..Shared::default() };
        Ok(Self { container, open, limits, threads, state, shared: shared.into(), metrics, wake: Notify::new() })
    }

    /// Has a challenge computed, unless that was done or begun already, and says where it is. A beacon goes before everything
    /// that was merely asked for.
    ///
    /// # Errors
    /// [`Unproven::Queue`].
    pub fn request(&self, task: Task) -> Result<watch::Receiver<Progress>, Unproven> {
        let mut shared = self.shared();
        let shared = &mut *shared;
        let known =
            |entry: &&mut Entry| same(&entry.task, &task) && !matches!(*entry.progress.borrow(), Progress::Failed(_));
        if let Some(entry) = shared.entries.iter_mut().find(known) {
            if let (Cause::Asked, Cause::Beacon { .. }) = (entry.task.cause, task.cause) {
                // A checker that saw the slot earlier asked before it was known here for a beacon.
                entry.task.cause = task.cause;
                if let Some((running, _)) = &mut shared.running
                    && same(running, &task)
                {
                    running.cause = task.cause;
                }
            }
            return Ok(entry.progress.subscribe());
        }
        let asked = task.cause == Cause::Asked;
        if asked && shared.entries.iter().filter(|entry| entry.is_working()).count() >= MOST_WAITING {
            return Err(Unproven::Queue);
        }
        // What is of another epoch nobody may ask for any more.
        shared.entries.retain(|entry| entry.task.epoch == task.epoch || entry.is_working());
        while shared.entries.len() >= MOST_ENTRIES {
            shared.entries.pop_front();
        }
        if let (false, Some((running, called_off))) = (asked, &shared.running)
            && running.cause == Cause::Asked
        {
            called_off.store(true, Ordering::Relaxed);
        }
        let (progress, receiver) = watch::channel(Progress::Working);
        shared.entries.push_back(Entry { task, progress });
        self.wake.notify_one();
        Ok(receiver)
    }

    /// Where the challenge of a slot is that was asked for last, `None` when there is none. One that failed in a way that may be
    /// different the next time counts as none.
    pub fn find(&self, slot: &Slot) -> Option<watch::Receiver<Progress>> {
        let shared = self.shared();
        let mut entries = shared.entries.iter().rev();
        let entry = entries.find(|entry| entry.task.slot.number == slot.number && entry.task.slot.hash == slot.hash)?;
        let passing = match &*entry.progress.borrow() {
            Progress::Failed(error) => error.is_passing(),
            _ => false,
        };
        (!passing).then(|| entry.progress.subscribe())
    }

    /// Opens what a sample asks for. The request's own ranges were checked.
    ///
    /// # Errors
    /// [`Unproven::UnknownRoot`], [`Unproven::Outside`].
    pub fn sample(&self, request: &SampleRequest) -> Result<Vec<DeviceOpening>, Unproven> {
        let kept = self.shared().entries.iter().find_map(|entry| match &*entry.progress.borrow() {
            Progress::Done(proven) if proven.root == request.root => Some(proven.clone()),
            _ => None,
        });
        kept.ok_or(Unproven::UnknownRoot)?.proof.open(request).ok_or(Unproven::Outside)
    }

    /// Works for ever. `trouble` is told what is in the way of the next challenge, `None` when nothing is.
    pub async fn work(&self, trouble: impl Fn(Option<&Unproven>) + Sync) {
        let mut devices: Vec<Box<dyn Backend>> = Vec::new();
        loop {
            if devices.is_empty() {
                match self.open_devices().await {
                    Ok(opened) => {
                        tracing::info!(devices = ?opened.iter().map(|d| d.describe()).collect::<Vec<_>>(), "devices");
                        devices = opened;
                        trouble(None);
                    }
                    Err(error) => {
                        trouble(Some(&error));
                        self.fail_late(&error);
                        // The lease of a device that is gone for good is looked after elsewhere; here it is tried again.
                        time::sleep(DEVICES_PAUSE).await;
                        continue;
                    }
                }
            }
            let Some((task, called_off)) = self.next() else {
                self.wake.notified().await;
                continue;
            };
            let (outcome, back) = self.compute(&task, called_off, devices).await;
            devices = back;
            if let Err(error) = &outcome {
                tracing::warn!(slot = task.slot.number, %error, "no root");
            }
            match &outcome {
                Ok(_) => trouble(None),
                Err(Unproven::CalledOff) => {}
                Err(error) => trouble(Some(error)),
            }
            self.finish(&task, outcome);
        }
    }

    async fn open_devices(&self) -> Result<Vec<Box<dyn Backend>>, Unproven> {
        // Compiling the kernels takes a second: not on the runtime's threads.
        let open = self.open.clone();
        let opened = tokio::task::spawn_blocking(move || open()).await;
        Ok(opened.map_err(|_| ProveError::Cut)??)
    }

    /// Begins with the next challenge: beacons first, each as early as it came. What is too late is given up.
    fn next(&self) -> Option<(Task, Arc<AtomicBool>)> {
        let now = Instant::now();
        let is_late = |task: &Task| matches!(task.cause, Cause::Beacon { deadline } if deadline <= now);
        let (next, late) = {
            let mut shared = self.shared();
            let working = || shared.entries.iter().filter(|entry| entry.is_working()).map(|entry| entry.task);
            let late: Vec<Task> = working().filter(is_late).collect();
            let waiting = || working().filter(|task| !is_late(task));
            let next = waiting().find(|task| task.cause != Cause::Asked).or_else(|| waiting().next());
            // Under the same lock, so that a beacon that comes now finds what it has to call off.
            let next = next.map(|task| (task, Arc::<AtomicBool>::default()));
            shared.running = next.clone();
            (next, late)
        };
        for task in late {
            self.finish(&task, Err(Unproven::Late));
        }
        next
    }

    /// Gives up what waits and is too late, while there are no devices.
    fn fail_late(&self, error: &Unproven) {
        let now = Instant::now();
        let over = |task: &Task| match task.cause {
            Cause::Beacon { deadline } => deadline <= now,
            Cause::Asked => true,
        };
        let late: Vec<Task> = {
            let shared = self.shared();
            shared.entries.iter().filter(|entry| entry.is_working() && over(&entry.task)).map(|entry| entry.task).collect()
        };
        for task in late {
            self.finish(&task, Err(error.clone()));
        }
    }

    async fn compute(
        &self,
        task: &Task,
        called_off: Arc<AtomicBool>,
        mut devices: Vec<Box<dyn Backend>>,
    ) -> (Result<Proven, Unproven>, Vec<Box<dyn Backend>>) {
        let Task { slot, seen, ask, cause, .. } = *task;
        let (limits, threads, workload) = (self.limits, self.threads, ask.workload);
        let challenge = challenge(&slot.hash, self.container.as_array());
        let mut computing = tokio::task::spawn_blocking({
            let called_off = called_off.clone();
            move || {
                // A host may have more cards than it registered: the first of them answer.
                let count = usize::from(workload.devices).min(devices.len());
                let outcome = prove(&challenge, &workload, &mut devices[..count], &limits, threads, &called_off);
                (outcome, devices)
            }
        });
        let until = match cause {
            Cause::Beacon { deadline } => deadline,
            Cause::Asked => Instant::now() + LONGEST,
        };
        let joined = match time::timeout_at(until, &mut computing).await {
            Ok(joined) => joined,
            Err(_) => {
                called_off.store(true, Ordering::Relaxed);
                computing.await
            }
        };
        self.shared().running = None;
        // A computation that panicked took the devices with it; they are opened anew.
        let (outcome, devices) = joined.unwrap_or((Err(ProveError::Cut), Vec::new()));
        let proof = match outcome {
            Ok(proof) => proof,
            Err(ProveError::CalledOff) if Instant::now() >= until => return (Err(Unproven::Late), devices),
            Err(ProveError::CalledOff) => return (Err(Unproven::CalledOff), devices),
            // A device that failed once may be in a state that only opening it anew ends.
            Err(error @ (ProveError::Backend(_) | ProveError::Cut)) => return (Err(error.into()), Vec::new()),
            Err(error) => return (Err(error.into()), devices),
        };
        let root = proof.root();
        let proven = Proven { slot, workload, root, elapsed: seen.elapsed(), proof };
        (self.put_on_record(&proven).await.map(|()| proven), devices)
    }

    /// Puts a root on the disk, before anybody is told of it; refuses one that differs from an earlier one.
    async fn put_on_record(&self, proven: &Proven) -> Result<(), Unproven> {
        use sha2::Digest as _;
        let workload = borsh::to_vec(&proven.workload).map_err(|error| Unproven::Record(error.to_string()))?;
        let workload = sha2::Sha256::digest(workload).into();
        let signed = Signed { slot: proven.slot.number, hash: proven.slot.hash, workload, root: proven.root };
        let roots = {
            let mut shared = self.shared();
            let same = |s: &&Signed| (s.slot, s.hash, s.workload) == (signed.slot, signed.hash, signed.workload);
            match shared.roots.iter().find(same) {
                Some(known) if known.root == signed.root && !shared.unwritten => return Ok(()),
                Some(known) if known.root == signed.root => {}
                Some(_) => return Err(Unproven::OtherRoot),
                None => {
                    while shared.roots.len() >= MOST_ROOTS {
                        shared.roots.pop_front();
                    }
                    shared.roots.push_back(signed);
                }
            }
            // Until the write succeeded.
            shared.unwritten = true;
            shared.roots.clone()
        };
        let state = self.state.clone();
        let written = tokio::task::spawn_blocking(move || state.write(RECORD, &roots)).await;
        let outcome = match written {
            Ok(Ok(())) => {
                self.shared().unwritten = false;
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(Unproven::Record(outcome))
    }

    fn finish(&self, task: &Task, outcome: Result<Proven, Unproven>) {
        if task.cause != Cause::Asked {
            let ended = match &outcome {
                Ok(proven) => {
                    self.metrics.beacon_seconds.observe(proven.elapsed.as_secs_f64());
                    Beacon::Proven
                }
                Err(Unproven::Late) => Beacon::Late,
                Err(_) => Beacon::Failed,
            };
            self.metrics.beacons.get_or_create(&ended).inc();
        }
        let mut shared = self.shared();
        if let Some(entry) = shared.entries.iter().rev().find(|entry| same(&entry.task, task) && entry.is_working()) {
            let progress = match outcome {
                Ok(proven) => Progress::Done(Arc::new(proven)),
                Err(error) => Progress::Failed(error),
            };
            entry.progress.send_replace(progress);
        }
        // The newest proof is kept in any case: it was within the limit by itself.
        let bytes = |entry: &Entry| match &*entry.progress.borrow() {
            Progress::Done(proven) => datagalax_gpu::capacity::kept_memory(&proven.workload),
            _ => 0,
        };
        let mut kept = 0u64;
        let mut first = shared.entries.len();
        while first > 0 {
            let more = bytes(&shared.entries[first - 1]);
            if kept > 0 && kept.saturating_add(more) > self.limits.host_memory {
                break;
            }
            kept = kept.saturating_add(more);
            first -= 1;
        }
        let mut at = 0;
        shared.entries.retain(|entry| {
            at += 1;
            at > first || entry.is_working()
        });
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // No code that holds the lock can leave it half-changed.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn same(one: &Task, other: &Task) -> bool {
    (one.slot.number, one.slot.hash, one.ask.workload) == (other.slot.number, other.slot.hash, other.ask.workload)
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use datagalax_gpu::{
        backend::Cpu,
        capacity::{Demand, Schedule},
    };
    use datagalax_protocol::WorkSize;
    use datagalax_service::metrics::{Metrics as _, Registry};

    use super::*;

    /// Products that may be computed, and who waits for more.
    type Gate = Arc<(Mutex<u32>, Condvar)>;

    /// A device that computes a product only when it is let.
    struct Gated(Cpu, Gate);

    impl Backend for Gated {
        fn describe(&self) -> String {
            self.0.describe()
        }
        fn free_memory(&self) -> Result<u64, BackendError> {
            self.0.free_memory()
        }
        fn load(&mut self, seed: &Digest, size: &WorkSize) -> Result<(), BackendError> {
            self.0.load(seed, size)
        }
        fn multiply(&mut self, seed: &Digest) -> Result<Vec<Digest>, BackendError> {
            let (left, more) = &*self.1;
            let mut left = more.wait_while(left.lock().unwrap(), |left| *left == 0).unwrap();
            *left -= 1;
            drop(left);
            self.0.multiply(seed)
        }
        fn walk(&mut self, key: [u64; 2], walkers: u32, steps: u32) -> Result<Vec<u64>, BackendError> {
            self.0.walk(key, walkers, steps)
        }
        fn release(&mut self) {
            self.0.release();
        }
    }

    fn prover(gate: &Gate) -> (Arc<Prover>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let gate = gate.clone();
        let open = move || Ok(vec![Box::new(Gated(Cpu::new(NonZeroUsize::MIN), gate.clone())) as Box<dyn Backend>]);
        let state = Arc::new(StateDir::open(folder.path()).unwrap());
        let metrics = Metrics::register(&mut Registry::default());
        let container = Pubkey::new_from_array([3; 32]);
        let prover = Prover::new(container, Arc::new(open), Limits::CPU, NonZeroUsize::MIN, state, metrics).unwrap();
        (Arc::new(prover), folder)
    }

    /// Works at it until the test ends.
    fn work(prover: &Arc<Prover>) -> tokio::task::JoinHandle<()> {
        let prover = prover.clone();
        tokio::spawn(async move { prover.work(|_| {}).await })
    }

    fn task(number: u64, cause: Cause) -> Task {
        let workload = Demand::cpu(2).unwrap();
        let schedule = Schedule::of(&workload, 1, Duration::ZERO);
        let slot = Slot { number, hash: [number as u8; 32], time: 0 };
        Task { epoch: 1, slot, seen: Instant::now(), ask: Ask { workload, schedule, reference: 1 }, cause }
    }

    fn beacon(number: u64) -> Task {
        task(number, Cause::Beacon { deadline: Instant::now() + Duration::from_secs(60) })
    }

    fn let_pass(gate: &Gate, products: u32) {
        *gate.0.lock().unwrap() += products;
        gate.1.notify_all();
    }

    async fn ended(mut progress: watch::Receiver<Progress>) -> Result<Digest, Unproven> {
        let ended = progress.wait_for(|progress| !matches!(progress, Progress::Working)).await.unwrap();
        match &*ended {
            Progress::Done(proven) => Ok(proven.root),
            Progress::Failed(error) => Err(error.clone()),
            Progress::Working => unreachable!("waited for"),
        }
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_beacon_calls_off_what_was_merely_asked_for_and_goes_first() {
        let gate = Gate::default();
        let (prover, _folder) = prover(&gate);
        let _work = work(&prover);
        let asked = prover.request(task(1, Cause::Asked)).unwrap();
        let waits = prover.request(task(2, Cause::Asked)).unwrap();
        until(|| prover.shared().running.is_some()).await;
        let came = prover.request(beacon(3)).unwrap();
        // The product under way ends; the next one of the first is never begun.
        let_pass(&gate, 1);
        assert_eq!(ended(asked).await, Err(Unproven::CalledOff));
        let_pass(&gate, 2);
        let root = ended(came).await.unwrap();
        assert!(matches!(*waits.borrow(), Progress::Working), "it waits still");
        let_pass(&gate, 2);
        assert_ne!(ended(waits).await.unwrap(), root);
        // What was called off may be asked for again.
        assert!(prover.find(&task(1, Cause::Asked).slot).is_none());
    }

    #[tokio::test]
    async fn one_computation_for_all_who_ask_and_a_beacon_that_was_asked_for_early_is_one() {
        let gate = Gate::default();
        let (prover, _folder) = prover(&gate);
        let early = prover.request(task(1, Cause::Asked)).unwrap();
        let came = prover.request(beacon(1)).unwrap();
        assert!(matches!(prover.shared().entries[0].task.cause, Cause::Beacon { .. }));
        assert_eq!(prover.shared().entries.len(), 1);
        let _work = work(&prover);
        let_pass(&gate, 2);
        assert_eq!(ended(early).await.unwrap(), ended(came).await.unwrap());
        assert_eq!(*gate.0.lock().unwrap(), 0, "computed once");
    }

    #[tokio::test]
    async fn what_is_too_late_is_not_begun_and_what_waits_is_bounded() {
        let gate = Gate::default();
        let (prover, _folder) = prover(&gate);
        let late = prover.request(task(1, Cause::Beacon { deadline: Instant::now() })).unwrap();
        for number in 2..=MOST_WAITING as u64 {
            prover.request(task(number, Cause::Asked)).unwrap();
        }
        assert_eq!(prover.request(task(99, Cause::Asked)).unwrap_err(), Unproven::Queue);
        let came = prover.request(beacon(100)).unwrap();
        let _work = work(&prover);
        let_pass(&gate, 2);
        assert_eq!(ended(late).await, Err(Unproven::Late));
        ended(came).await.unwrap();
        let_pass(&gate, 1_000);
    }

    #[tokio::test]
    async fn devices_that_do_not_open_are_tried_again_and_what_was_asked_for_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let failures = Arc::new(Mutex::new(1));
        let open = {
            let failures = failures.clone();
            move || {
                let mut left = failures.lock().unwrap();
                if *left > 0 {
                    *left -= 1;
                    return Err(BackendError::Device { device: "cuda:0".into(), reason: "is gone".into() });
                }
                Ok(vec![Box::new(Cpu::new(NonZeroUsize::MIN)) as Box<dyn Backend>])
            }
        };
        let state = Arc::new(StateDir::open(folder.path()).unwrap());
        let metrics = Metrics::register(&mut Registry::default());
        let prover = Prover::new(Pubkey::default(), Arc::new(open), Limits::CPU, NonZeroUsize::MIN, state, metrics).unwrap();
        let prover = Arc::new(prover);
        let asked = prover.request(task(1, Cause::Asked)).unwrap();
        let came = prover.request(beacon(2)).unwrap();
        let _work = work(&prover);
        assert!(matches!(ended(asked).await, Err(Unproven::Devices(_))));
        ended(came).await.unwrap();
    }
}
