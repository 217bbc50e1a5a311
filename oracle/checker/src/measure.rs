//! All questions to all containers of a block in one epoch.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use datagalax_gpu::location::{self, Location, Position};
use datagalax_protocol::{Context, Digest, ReportValues, report::VoteOutOfRange};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{self, Instant},
};

use crate::{
    beacons::Beacon,
    chain::{Cluster, Target},
    metrics::{BeaconOutcome, Metrics, ProbeOutcome},
    probe::{Asked, Prober},
    record::Sink,
    schedule,
    score::{self, BeaconResult, BeaconScore, Measured},
    store::{BlockKey, Record, Resumed, What},
};

/// Between the last possible timeout and the end of measuring, for verifying what came last.
const MARGIN: Duration = Duration::from_millis(500);
/// A beacon is asked at once. Whoever has to wait longer than this for a place would be timed by this side's queue.
const PROMPT: Duration = Duration::from_millis(500);

/// How a block is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Liveness probes of each container in an epoch.
    pub probes: usize,
    /// Most liveness probes and inspections in flight.
    pub concurrency: usize,
    /// Most beacons in flight: 256 for each block.
    pub beacons: usize,
    /// Where this checker is, for judging where hosts can be; `None`: no such judgement.
    pub position: Option<Position>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { probes: 8, concurrency: 256, beacons: 4_096, position: None }
    }
}

/// A block in an epoch on a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// The network.
    pub cluster: Cluster,
    /// Block and epoch.
    pub place: BlockKey,
}

impl Round {
    fn context(&self, target: &Target) -> Context {
        let Cluster { genesis_hash, program } = self.cluster;
        Context { genesis_hash, program, subject: target.container, epoch: self.place.epoch.number }
    }
}

/// What was measured of one row so far. The transcripts are with the [`Sink`].
#[derive(Clone, Debug, Default)]
pub struct RowState {
    /// Liveness probes sent.
    pub asked: u32,
    /// Of those, answered validly and in time.
    pub answered: u32,
    /// The fastest signed answer to one.
    pub fastest: Option<Duration>,
    /// Whether the inspection of the epoch was answered, once it was asked for.
    pub inspected: Option<bool>,
    /// Beacons by slot.
    pub beacons: BTreeMap<u64, BeaconResult>,
    /// The last verified metrics.
    pub metrics: Option<datagalax_protocol::Metrics>,
    /// The first thing that went wrong, for the log.
    pub trouble: Option<String>,
}

impl RowState {
    /// Goes on from what an earlier run measured.
    pub fn resume(resumed: &Resumed) -> Self {
        let mut state = Self::default();
        for (answered, took) in &resumed.probes {
            state.probed(answered.then_some(*took));
        }
        state.inspected = resumed.inspected;
        state.beacons = resumed.beacons.clone();
        state
    }

    fn probed(&mut self, answered: Option<Duration>) {
        self.asked += 1;
        if let Some(took) = answered {
            self.answered += 1;
            self.fastest = Some(self.fastest.map_or(took, |fastest| fastest.min(took)));
        }
    }

    /// Where its round trips say it can be.
    pub fn location(&self, target: &Target, checker: Option<&Position>) -> Location {
        let (Some(claimed), Some(checker), Some(fastest)) = (&target.claimed, checker, self.fastest) else {
            return Location::Unknown;
        };
        // Only the fastest and the number count.
        location::locate(claimed, checker, &vec![fastest; (self.answered as usize).min(location::FEWEST)])
    }

    /// The score's input; `counted` are the beacons that are final, ascending. One that was not asked here is in it as that.
    pub fn measured(&self, counted: &[(u64, Digest)], location: Location) -> Measured {
        let score = |(slot, hash): &(u64, Digest)| match self.beacons.get(slot) {
            Some(result) if result.hash == *hash => result.score,
            _ => BeaconScore::NotAsked,
        };
        Measured { asked: self.asked, answered: self.answered, beacons: counted.iter().map(score).collect(), location }
    }
}

/// A block's rows while it is measured.
pub struct Progress {
    targets: Vec<Arc<Target>>,
    states: std::sync::Mutex<Vec<RowState>>,
}

impl Progress {
    /// Begins with these states, one a target.
    pub fn new(targets: Vec<Target>, states: Vec<RowState>) -> Arc<Self> {
        let mut states = states;
        states.resize(targets.len(), RowState::default());
        Arc::new(Self { targets: targets.into_iter().map(Arc::new).collect(), states: states.into() })
    }

    /// The containers, by row.
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }

    /// What was measured so far, in the order of the targets.
    pub fn states(&self) -> Vec<RowState> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<RowState>> {
        // No code that holds the lock can leave it half-changed.
        self.states.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Reads a block's targets from the chain once more.
pub type Reread = Arc<dyn Fn() -> BoxFuture<'static, Option<Vec<Target>>> + Send + Sync>;

/// What a container is asked at a random instant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    Liveness,
    Inspection,
}

/// Measures blocks.
pub struct Measurer {
    prober: Prober,
    plan: Plan,
    in_flight: Arc<Semaphore>,
    beacons: Arc<Semaphore>,
    metrics: Metrics,
}

impl Measurer {
    /// Measures by this plan.
    pub fn new(prober: Prober, plan: Plan) -> Self {
        let metrics = prober.metrics().clone();
        let semaphore = |places: usize| Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)));
        Self { prober, plan, in_flight: semaphore(plan.concurrency), beacons: semaphore(plan.beacons), metrics }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Who asks.
    pub fn prober(&self) -> &Prober {
        &self.prober
    }

    /// Sends the liveness probes and inspections that are still to be sent, at random instants from now until `until`, and returns
    /// by then.
    pub async fn probe(self: &Arc<Self>, round: Round, progress: &Arc<Progress>, sink: &Arc<dyn Sink>, until: Instant) {
        let begun = Instant::now();
        let window = until.saturating_duration_since(begun).saturating_sub(self.prober.limits().timeout + MARGIN);
        let mut plan: Vec<(Duration, usize, Question)> = Vec::new();
        {
            let states = progress.lock();
            let random = &mut rand::rng();
            for (index, state) in states.iter().enumerate() {
                let probes = self.plan.probes.saturating_sub(state.asked as usize);
                let inspections = usize::from(state.inspected.is_none());
                for (question, left) in [(Question::Liveness, probes), (Question::Inspection, inspections)] {
                    plan.extend(schedule::instants(left, window, random).into_iter().map(|at| (at, index, question)));
                }
            }
        }
        if window.is_zero() {
            return;
        }
        plan.sort_unstable();
        let mut tasks = JoinSet::new();
        for (at, index, question) in plan {
            let due = begun + at;
            let place = async {
                time::sleep_until(due).await;
                self.in_flight.clone().acquire_owned().await
            };
            // What cannot be asked in time is not asked, which costs the host nothing.
            let Ok(Ok(place)) = time::timeout_at(until, place).await else { break };
            self.metrics.probe_delay_seconds.observe(due.elapsed().as_secs_f64());
            let (this, progress, sink) = (self.clone(), progress.clone(), sink.clone());
            tasks.spawn(async move {
                match question {
                    Question::Liveness => this.probe_one(round, &progress, index, &sink, place, until).await,
                    Question::Inspection => this.inspect_one(round, &progress, index, &sink, place, until).await,
                }
            });
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn probe_one(
        &self,
        round: Round,
        progress: &Progress,
        index: usize,
        sink: &Arc<dyn Sink>,
        place: OwnedSemaphorePermit,
        until: Instant,
    ) {
        let target = &progress.targets[index];
        let asked = time::timeout_at(until, self.prober.liveness(&round.context(target), target)).await;
        drop(place);
        let Ok((Some(exchange), answer)) = asked else { return };
        let took = Duration::from_micros(exchange.took_us);
        let outcome = if answer.is_ok() { ProbeOutcome::Answered } else { ProbeOutcome::Failed };
        self.metrics.probes.get_or_create(&outcome).inc();
        if answer.is_ok() {
            self.metrics.probe_seconds.observe(took.as_secs_f64());
        }
        {
            let mut states = progress.lock();
            let state = &mut states[index];
            state.probed(answer.is_ok().then_some(took));
            match answer {
                Ok(metrics) => state.metrics = Some(metrics),
                Err(error) => {
                    state.trouble.get_or_insert_with(|| error.to_string());
                }
            }
        }
        sink.record(record(round, target, What::Probe(Box::new(exchange)))).await;
    }

    /// Asks what a host is made of. No vote is made of the answer, or of none.
    async fn inspect_one(
        &self,
        round: Round,
        progress: &Progress,
        index: usize,
        sink: &Arc<dyn Sink>,
        place: OwnedSemaphorePermit,
        until: Instant,
    ) {
        let target = &progress.targets[index];
        let asked = time::timeout_at(until, self.prober.inspection(&round.context(target), target)).await;
        drop(place);
        let Ok((Some(exchange), answer)) = asked else { return };
        let outcome = if answer.is_ok() { ProbeOutcome::Answered } else { ProbeOutcome::Failed };
        self.metrics.inspections.get_or_create(&outcome).inc();
        progress.lock()[index].inspected = Some(answer.is_ok());
        sink.record(record(round, target, What::Inspection(Box::new(exchange)))).await;
    }

    /// Asks all rows for their answer to a beacon at once, those that were not asked before. Returns when all have answered or
    /// failed, soon after `until` at the latest.
    pub async fn beacon(
        self: &Arc<Self>,
        round: Round,
        progress: &Arc<Progress>,
        beacon: Beacon,
        reread: Reread,
        sink: &Arc<dyn Sink>,
        until: Instant,
    ) {
        let again: Arc<OnceCell<Option<Vec<Target>>>> = Arc::default();
        let mut tasks = JoinSet::new();
        let slot = beacon.slot;
        for index in 0..progress.targets.len() {
            let known = progress.lock()[index].beacons.get(&slot.number).is_some_and(|result| result.hash == slot.hash);
            if known {
                continue;
            }
            let (this, progress, sink) = (self.clone(), progress.clone(), sink.clone());
            let (again, reread) = (again.clone(), reread.clone());
            tasks.spawn(async move {
                let target = &progress.targets[index];
                let Ok(Ok(_place)) = time::timeout(PROMPT, this.beacons.acquire()).await else {
                    this.metrics.beacons.get_or_create(&BeaconOutcome::NotAsked).inc();
                    return;
                };
                let ask_again = || {
                    async {
                        again.get_or_init(|| reread()).await.as_ref()?.iter().find(|t| t.container == target.container)?.ask
                    }
                    .boxed()
                };
                let asked = this.prober.beacon(&round.context(target), target, &beacon, until, &ask_again).await;
                let Asked { score, elapsed, evidence, error } = asked;
                let outcome = match score {
                    BeaconScore::Answered { dishonest: true, .. } => BeaconOutcome::Dishonest,
                    BeaconScore::Answered { .. } => BeaconOutcome::Answered,
                    BeaconScore::Unanswered => BeaconOutcome::Unanswered,
                    BeaconScore::NotAsked => BeaconOutcome::NotAsked,
                };
                this.metrics.beacons.get_or_create(&outcome).inc();
                if let Some(elapsed) = elapsed {
                    this.metrics.beacon_root_seconds.observe(elapsed.as_secs_f64());
                }
                {
                    let mut states = progress.lock();
                    let state = &mut states[index];
                    state.beacons.insert(slot.number, BeaconResult::of(score, &evidence));
                    if let Some(error) = &error {
                        state.trouble.get_or_insert_with(|| error.to_string());
                    }
                }
                tracing::debug!(
                    epoch = round.place.epoch.number,
                    block = round.place.block,
                    row = target.row,
                    slot = slot.number,
                    ?score,
                    micros = evidence.elapsed_us,
                    error = error.map(|error| error.to_string()),
                    "beacon asked"
                );
                sink.record(record(round, target, What::Beacon(score, evidence))).await;
            });
        }
        while tasks.join_next().await.is_some() {}
    }
}

fn record(round: Round, target: &Target, what: What) -> Record {
    Record { place: round.place, row: target.row, container: target.container.to_bytes(), what }
}

/// The report's values: a vote on each measured row, none on the others.
///
/// # Errors
/// Never, as [`score::vote`] stays within 0 to 100; but a vote that cannot be written must not be left out silently.
pub fn values(rows: &[(u8, Measured)]) -> Result<ReportValues, VoteOutOfRange> {
    let mut values = ReportValues::new();
    for (row, measured) in rows {
        if let Some(vote) = score::vote(measured) {
            values.set(*row, vote)?;
        }
    }
    Ok(values)
}
