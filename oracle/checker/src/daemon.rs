//! The loops: follow slots; measure the blocks of all seats; commit; reveal; claim; keep house.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use datagalax_gpu::beacon::Slot;
use datagalax_protocol::{Digest, ReportValues};
use datagalax_service::Health;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{self, Instant},
};

use crate::{
    beacons::{Beacon, Beacons},
    chain::{
        Chain, ChainError, Cluster, Commit, EpochView, Finality, Reveal, RevealWindow, Seat, SeatRef, SeatState, Slots,
        Target,
    },
    findings,
    measure::{Measurer, Progress, Reread, Round, RowState, values},
    metrics::{Metrics, ReportStage},
    record::{Recorder, Sink},
    score, status,
    store::{BlockKey, EpochKey, RowFinish, SavedReport, Stage, Store},
};

/// Longest pause before a refused transaction is tried again: a node that is behind refuses what another one takes.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// Reveals sent at a time.
const REVEALS: usize = 16;
/// Pause between two looks at whether beacons are final.
const FINALITY_EVERY: Duration = Duration::from_millis(700);
/// Pause between two rounds of house-keeping.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(300);
/// Evidence younger than this is kept whatever the bound on the disk, in seconds: cases are opened within hours.
const SPARE: i64 = 2 * 86_400;

/// What a checker is made of.
pub struct Parts {
    /// The ids of the operator's checkers.
    pub ids: Vec<u32>,
    /// The network.
    pub cluster: Cluster,
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// The disk.
    pub store: Store,
    /// The measuring.
    pub measurer: Arc<Measurer>,
    /// The rest.
    pub options: Options,
    /// Whether it can work.
    pub health: Health,
    /// What it counts.
    pub metrics: Metrics,
}

/// How the daemon works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pause between two looks at the chain.
    pub poll: Duration,
    /// File for the last measured block's description.
    pub status: Option<PathBuf>,
    /// Most bytes of the store.
    pub disk: u64,
    /// Least accrued pay that is claimed, base units.
    pub claim_above: u64,
    /// Pause between two looks at the pay; zero: never.
    pub claim_every: Duration,
}

struct Daemon {
    ids: Vec<u32>,
    cluster: Cluster,
    chain: Arc<dyn Chain>,
    store: Store,
    recorder: Recorder,
    measurer: Arc<Measurer>,
    options: Options,
    health: Health,
    metrics: Metrics,
    state: Mutex<State>,
    /// Told when a beacon was found.
    news: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    beacons: Beacons,
    /// The epoch that beacons are of.
    epoch: Option<EpochKey>,
    noted: HashSet<(u64, Digest)>,
    settled: HashMap<(u64, Digest), Finality>,
    /// Reports that are not yet revealed or lost; the disk has them all.
    open: BTreeMap<Key, SavedReport>,
    /// What of those was refused last.
    refused: BTreeMap<Key, Refused>,
    /// The chain's clock when it was last read.
    now: i64,
}

type Key = (i64, u32, u32, u8);

/// A refused transaction. It is tried again until its window is over: only the chain's clock ends a report.
struct Refused {
    message: String,
    times: u32,
    again: Instant,
}

/// How long to wait after so many refusals in a row: longer and longer, but well within the `left` of the window.
fn refused_pause(times: u32, poll: Duration, left: Duration) -> Duration {
    poll.saturating_mul(1 << times.min(16)).min(REFUSED_PAUSE).min(left / 4).max(poll)
}

fn key(report: &SavedReport) -> Key {
    (report.epoch_start, report.epoch, report.block, report.seat)
}

/// Works until `stop` resolves. Everything that must not be lost is on disk at every instant; what was measured in the last half
/// second is written before it returns.
///
/// # Errors
/// The store cannot be read at start. Later trouble is logged and lived with.
pub async fn run(parts: Parts, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let Parts { ids, cluster, chain, store, measurer, options, health, metrics } = parts;
    let reports = store.open_reports().await.context("the reports of earlier runs cannot be read")?;
    let open = reports.into_iter().map(|report| (key(&report), report)).collect();
    let state = Mutex::new(State { open, ..State::default() });
    let (recorder, news) = (Recorder::start(store.clone()), watch::Sender::new(0));
    let daemon = Arc::new(Daemon { ids, cluster, chain, store, recorder, measurer, options, health, metrics, state, news });
    tracing::info!(checkers = ?daemon.ids, carried_on = daemon.state().open.len(), "checker started");
    daemon.health.started();
    tokio::select! {
        () = daemon.follow_slots() => {}
        () = daemon.settle_beacons() => {}
        () = daemon.clone().measure() => {}
        () = daemon.commit() => {}
        () = daemon.reveal() => {}
        () = daemon.claim() => {}
        () = daemon.keep_house() => {}
        () = stop => {}
    }
    daemon.recorder.flush().await;
    tracing::info!(to_reveal = daemon.state().open.len(), "stopping; what is to be revealed is kept");
    Ok(())
}

/// What the measuring loop knows of the current epoch.
#[derive(Default)]
struct Looking {
    epoch: Option<EpochKey>,
    seats: BTreeMap<(u32, u8), Seat>,
    /// All committees are written.
    complete: bool,
    /// Seats that have a report.
    reported: BTreeSet<(u32, u8)>,
    /// Blocks being measured.
    measuring: BTreeSet<u32>,
}

impl Daemon {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow_slots(&self) {
        loop {
            match self.chain.slots().await {
                Ok(news) => {
                    self.health.set("slots", None);
                    match news {
                        Slots::New(slots) => self.state().beacons.observe(&slots),
                        Slots::Missed => {
                            self.metrics.slot_gaps.inc();
                            tracing::warn!("slots passed unseen; a beacon may have been among them");
                            self.state().beacons.missed();
                        }
                        Slots::Dropped(number) => {
                            tracing::warn!(slot = number, "slots were dropped by the cluster");
                            self.state().beacons.dropped(number);
                        }
                    }
                    self.tell_beacons().await;
                }
                Err(error) => {
                    self.health.set("slots", Some(error.to_string()));
                    tracing::warn!(%error, "cannot follow slots; trying again");
                    time::sleep(self.options.poll).await;
                }
            }
        }
    }

    /// Tells the blocks being measured of new beacons, and the disk.
    async fn tell_beacons(&self) {
        let (epoch, new) = {
            let state = &mut *self.state();
            let Some(epoch) = state.epoch else { return };
            let found = state.beacons.of(epoch.number);
            let new: Vec<Beacon> = found
                .iter()
                .filter(|beacon| !state.noted.contains(&(beacon.slot.number, beacon.slot.hash)))
                .copied()
                .collect();
            state.noted.extend(new.iter().map(|beacon| (beacon.slot.number, beacon.slot.hash)));
            (epoch, new)
        };
        if new.is_empty() {
            return;
        }
        // First those who wait for it, then the disk.
        self.news.send_modify(|version| *version += 1);
        for Beacon { slot, seen, certain } in new {
            let Slot { number, time, .. } = slot;
            tracing::info!(epoch = epoch.number, slot = number, time, in_time = seen.is_some(), certain, "beacon");
            if let Err(error) = self.store.note_beacon(epoch, slot).await {
                tracing::error!(%error, "a beacon cannot be noted");
            }
        }
    }

    /// Finds out which beacons are final, soon after they are: the cluster keeps hashes for some minutes only.
    async fn settle_beacons(&self) {
        loop {
            let open: Vec<Slot> = {
                let state = self.state();
                let found = state.epoch.map_or(&[][..], |epoch| state.beacons.of(epoch.number));
                let unsettled = |slot: &Slot| !state.settled.contains_key(&(slot.number, slot.hash));
                found.iter().map(|beacon| beacon.slot).filter(unsettled).collect()
            };
            for slot in open {
                match self.chain.finality(slot).await {
                    Ok(Finality::Open) => {}
                    Ok(finality) => {
                        if finality == Finality::Dropped {
                            tracing::warn!(
                                slot = slot.number,
                                "a beacon's slot is not part of the chain; it does not count"
                            );
                        }
                        self.state().settled.insert((slot.number, slot.hash), finality);
                        self.news.send_modify(|version| *version += 1);
                    }
                    Err(error) => tracing::debug!(slot = slot.number, %error, "cannot tell whether a beacon is final"),
                }
            }
            time::sleep(FINALITY_EVERY).await;
        }
    }

    async fn measure(self: Arc<Self>) {
        let mut blocks: JoinSet<(BlockKey, anyhow::Result<()>)> = JoinSet::new();
        let mut looking = Looking::default();
        let watchdog = self.health.watch("measuring", Duration::from_secs(300));
        loop {
            match self.look(&mut looking).await {
                Ok(found) => {
                    self.health.set("chain", None);
                    for (view, place) in found {
                        looking.measuring.insert(place.block);
                        blocks.spawn(self.clone().tend(view, place).map(move |ended| (place, ended)));
                    }
                }
                Err(error) => {
                    self.health.set("chain", Some(format!("{error:#}")));
                    tracing::warn!(error = format!("{error:#}"), "cannot look for seats; trying again");
                }
            }
            watchdog.tick();
            let until = Instant::now() + self.options.poll;
            loop {
                tokio::select! {
                    () = time::sleep_until(until) => break,
                    Some(ended) = blocks.join_next() => match ended {
                        Ok((place, ended)) => {
                            if let Err(error) = ended {
                                let BlockKey { epoch, block } = place;
                                tracing::error!(epoch = epoch.number, block, error = format!("{error:#}"), "not measured");
                            }
                            if looking.epoch == Some(place.epoch) {
                                // Done, or tried once more at the next look.
                                looking.measuring.remove(&place.block);
                            }
                        }
                        Err(error) => tracing::error!(%error, "measuring a block panicked"),
                    }
                }
            }
        }
    }

    /// Blocks to be measured from now on. Seats in blocks that are measured get their reports.
    async fn look(&self, looking: &mut Looking) -> anyhow::Result<Vec<(EpochView, BlockKey)>> {
        let view = self.chain.epoch().await?;
        let epoch = EpochKey { start: view.start, number: view.number };
        self.state().now = view.now;
        if looking.epoch != Some(epoch) {
            let reports = self.store.reports_in(epoch).await?;
            let reported = reports.iter().map(|report| (report.block, report.seat)).collect();
            *looking = Looking { epoch: Some(epoch), reported, ..Looking::default() };
        }
        let Some(watch) = view.watch else { return Ok(Vec::new()) };
        if self.state().epoch != Some(epoch) {
            let known = self.store.beacons(epoch).await?;
            {
                let mut state = self.state();
                state.beacons.begin(epoch.number, view.draw_slot, watch, &known);
                state.epoch = Some(epoch);
                state.noted.clear();
                state.settled.clear();
            }
            self.tell_beacons().await;
        }
        if !looking.complete {
            let seats = self.chain.seats(epoch.number, &self.ids).await?;
            looking.complete = seats.waiting == 0;
            if looking.complete && seats.seated.is_empty() {
                tracing::info!(epoch = epoch.number, "no seat in this epoch");
            }
            looking.seats.extend(seats.seated.into_iter().map(|seat| ((seat.at.block, seat.at.seat), seat)));
        }
        let mut found = BTreeSet::new();
        for (place, seat) in &looking.seats {
            let block = BlockKey { epoch, block: place.0 };
            if looking.reported.contains(place) || looking.measuring.contains(&place.0) {
                continue;
            }
            match self.store.measured(block).await? {
                Some(measured) => {
                    let report = SavedReport::new(&self.cluster, *seat, epoch.start, &measured);
                    self.store.save(report.clone()).await?;
                    let commitment = hex::encode(report.commitment);
                    let (votes, seat) = (measured.values.votes().count(), place.1);
                    tracing::info!(epoch = epoch.number, block = place.0, seat, votes, commitment, "report saved");
                    self.metrics.reports.get_or_create(&ReportStage::Saved).inc();
                    self.state().open.insert(key(&report), report);
                    looking.reported.insert(*place);
                }
                None => {
                    found.insert(block);
                }
            }
        }
        Ok(found.into_iter().map(|block| (view, block)).collect())
    }

    /// One block in one epoch, from wherever an earlier run left it to its votes and evidence on disk.
    async fn tend(self: Arc<Self>, view: EpochView, place: BlockKey) -> anyhow::Result<()> {
        // The clock shows whole seconds: the true time may be almost one later.
        let left =
            |until: i64| Duration::from_secs(u64::try_from(until.saturating_sub(view.now).saturating_sub(1)).unwrap_or(0));
        let (until, end) = (Instant::now() + left(view.measure_until), Instant::now() + left(view.end));
        // A third of the time for commits may go into waiting for what is not final or not verified yet.
        let decide = until + end.saturating_duration_since(until) / 3;
        let epoch = place.epoch.number;
        let targets = self.targets(place, decide).await?;
        let mut states = Vec::with_capacity(targets.len());
        for target in &targets {
            let resumed = self.store.resume(place, target.row, target.container.to_bytes()).await?;
            states.push(RowState::resume(&resumed));
        }
        let carried_on = states.iter().filter(|state| state.asked > 0 || !state.beacons.is_empty()).count();
        let seconds = until.saturating_duration_since(Instant::now()).as_secs();
        tracing::info!(epoch, block = place.block, rows = targets.len(), carried_on, seconds, "measuring");
        let progress = Progress::new(targets, states);
        let round = Round { cluster: self.cluster, place };
        let sink: Arc<dyn Sink> = Arc::new(self.recorder.clone());
        let mut tasks = JoinSet::new();
        {
            let (measurer, progress, sink) = (self.measurer.clone(), progress.clone(), sink.clone());
            tasks.spawn(async move { measurer.probe(round, &progress, &sink, until).await });
        }
        let mut news = self.news.subscribe();
        let mut asked: HashSet<(u64, Digest)> = HashSet::new();
        loop {
            let beacons = self.state().beacons.of(epoch).to_vec();
            for beacon in beacons.into_iter().filter(|beacon| asked.insert((beacon.slot.number, beacon.slot.hash))) {
                let (measurer, progress, sink) = (self.measurer.clone(), progress.clone(), sink.clone());
                let reread = self.reread(place);
                tasks.spawn(async move { measurer.beacon(round, &progress, beacon, reread, &sink, until).await });
            }
            tokio::select! {
                () = time::sleep_until(until) => break,
                // The sender lives as long as this daemon.
                changed = news.changed() => changed.context("no more news of beacons")?,
            }
        }
        let rest = async { while tasks.join_next().await.is_some() {} };
        if time::timeout_at(decide, rest).await.is_err() {
            tracing::warn!(epoch, block = place.block, "some containers' answers came too late to be verified in time");
            tasks.shutdown().await;
        }
        let counted = self.final_beacons(epoch, decide, &mut news).await;
        self.finish(place, &progress, counted).await
    }

    fn reread(self: &Arc<Self>, place: BlockKey) -> Reread {
        let chain = self.chain.clone();
        Arc::new(move || {
            let chain = chain.clone();
            async move { chain.targets(place.block, place.epoch.number).await.ok() }.boxed()
        })
    }

    async fn targets(&self, place: BlockKey, until: Instant) -> Result<Vec<Target>, ChainError> {
        loop {
            match self.chain.targets(place.block, place.epoch.number).await {
                Err(error) if error.transient && Instant::now() + self.options.poll < until => {
                    time::sleep(self.options.poll).await;
                }
                other => return other,
            }
        }
    }

    /// The beacons that the vote is about, ascending: those that are final, once all are known to be or not to be.
    async fn final_beacons(&self, epoch: u32, decide: Instant, news: &mut watch::Receiver<u64>) -> Vec<(u64, Digest)> {
        loop {
            let (counted, open) = {
                let state = self.state();
                let all = state.beacons.of(epoch).iter().map(|beacon| (beacon.slot.number, beacon.slot.hash));
                let counted: Vec<_> = all.filter(|slot| state.settled.get(slot) != Some(&Finality::Dropped)).collect();
                let open = counted.iter().filter(|slot| !state.settled.contains_key(*slot)).count();
                (counted, open)
            };
            if open == 0 {
                return counted;
            }
            if !matches!(time::timeout_at(decide, news.changed()).await, Ok(Ok(()))) {
                // All seats see the same chain; whoever leaves a beacon out that turns out final disagrees with the others.
                tracing::warn!(epoch, open, "beacons are not known to be final; voting on them all the same");
                self.metrics.beacons_not_final.inc_by(open as u64);
                return counted;
            }
        }
    }

    /// Votes and evidence are on disk when this returns.
    async fn finish(&self, place: BlockKey, progress: &Progress, counted: Vec<(u64, Digest)>) -> anyhow::Result<()> {
        let states = progress.states();
        let position = self.measurer.plan().position;
        let located: Vec<_> = progress
            .targets()
            .iter()
            .zip(&states)
            .map(|(target, state)| (target.as_ref(), state, state.location(target, position.as_ref())))
            .collect();
        let mut found = findings::of_block(&located);
        let mut rows = Vec::with_capacity(located.len());
        let mut measured = Vec::with_capacity(located.len());
        for (at, (target, state, location)) in located.iter().enumerate() {
            let findings = found.remove(&at).unwrap_or_default();
            for (kind, _) in &findings {
                self.metrics.findings.get_or_create(kind).inc();
            }
            let findings = findings.into_iter().map(|(_, text)| text).collect();
            rows.push(RowFinish { row: target.row, container: target.container.to_bytes(), findings });
            measured.push((target.row, state.measured(&counted, *location)));
        }
        let values: ReportValues = values(&measured)?;
        for ((target, state, _), (_, measured)) in located.iter().zip(&measured) {
            let vote = score::vote(measured);
            tracing::info!(
                epoch = place.epoch.number,
                block = place.block,
                row = target.row,
                container = %target.container,
                answered = state.answered,
                asked = state.asked,
                beacons = measured.beacons.len(),
                availability = vote.map(|vote| vote.availability),
                capacity = vote.map(|vote| vote.capacity),
                token = vote.map(|vote| vote.token),
                dishonest = vote.map(|vote| vote.dishonest),
                trouble = state.trouble,
                "measured"
            );
        }
        if !self.recorder.flush().await {
            tracing::error!(block = place.block, "some evidence of this block could not be written");
        }
        let saved = self.store.finish(place, rows.clone(), counted, values).await?;
        if let Some(path) = &self.options.status {
            let lines: Vec<status::Line<'_>> = located
                .iter()
                .zip(&measured)
                .zip(&rows)
                .map(|(((target, state, _), (_, measured)), finish)| (*target, *state, measured, finish))
                .collect();
            if let Err(error) = status::write(path, &status::describe(place, &saved, &lines)) {
                tracing::warn!(%error, path = %path.display(), "the status file cannot be written");
            }
        }
        Ok(())
    }

    /// Commits saved reports, again and again until they are on chain or the epoch is over.
    async fn commit(&self) {
        loop {
            let saved: Vec<SavedReport> =
                self.state().open.values().filter(|report| report.stage == Stage::Saved).cloned().collect();
            let epochs: BTreeSet<EpochKey> =
                saved.iter().map(|report| EpochKey { start: report.epoch_start, number: report.epoch }).collect();
            for epoch in epochs {
                let of_epoch = |report: &&SavedReport| (report.epoch_start, report.epoch) == (epoch.start, epoch.number);
                let reports: Vec<&SavedReport> = saved.iter().filter(of_epoch).collect();
                if let Err(error) = self.commit_epoch(epoch, &reports).await {
                    tracing::warn!(epoch = epoch.number, %error, "cannot commit; trying again");
                }
            }
            time::sleep(self.options.poll / 2).await;
        }
    }

    async fn commit_epoch(&self, epoch: EpochKey, reports: &[&SavedReport]) -> Result<(), ChainError> {
        let window = self.chain.reveal_window(epoch.number).await?;
        let left = window.opens.saturating_sub(window.now);
        // What did not land by then is for the reveal to find out.
        if window.epoch_start != epoch.start || left <= 0 {
            return Ok(());
        }
        let mut due = Vec::new();
        for report in reports {
            match self.chain.seat(report.at()).await? {
                Some(seat) if seat.commitment == report.commitment => self.advance(report, Stage::Committed).await,
                _ if self.rests(report) => {}
                _ => due.push(*report),
            }
        }
        let commit = |report: &&SavedReport| Commit {
            seat: Seat { at: report.at(), checker: report.checker },
            commitment: report.commitment,
        };
        let commits: Vec<Commit> = due.iter().map(commit).collect();
        if commits.is_empty() {
            return Ok(());
        }
        let left = Duration::from_secs(left.unsigned_abs());
        let Ok(results) = time::timeout(left, self.chain.commit(&commits)).await else {
            // They may have landed all the same: the reveal finds out.
            tracing::warn!(epoch = epoch.number, commits = commits.len(), "commits not confirmed in time");
            return Ok(());
        };
        for (report, result) in due.iter().zip(results) {
            let at = report.at();
            match result {
                Ok(()) => self.advance(report, Stage::Committed).await,
                Err(error) => {
                    tracing::warn!(epoch = at.epoch, block = at.block, seat = at.seat, %error, "commit failed");
                    self.refused(report, &error, left);
                }
            }
        }
        Ok(())
    }

    /// Whether a report waits after a refusal.
    fn rests(&self, report: &SavedReport) -> bool {
        self.state().refused.get(&key(report)).is_some_and(|refused| Instant::now() < refused.again)
    }

    /// Notes a refusal with `left` of the window. Trouble on the way to the chain is none: that is tried again at once.
    fn refused(&self, report: &SavedReport, error: &ChainError, left: Duration) {
        if error.transient {
            return;
        }
        let state = &mut *self.state();
        let times = state.refused.get(&key(report)).map_or(0, |refused| refused.times);
        let again = Instant::now() + refused_pause(times, self.options.poll, left);
        let refused = Refused { message: error.to_string(), times: times.saturating_add(1), again };
        state.refused.insert(key(report), refused);
    }

    async fn reveal(&self) {
        loop {
            let open: Vec<SavedReport> = self.state().open.values().cloned().collect();
            // Read once an epoch and look: however many seats wait for their reveal.
            let mut windows = BTreeMap::new();
            for epoch in open.iter().map(|report| report.epoch).collect::<BTreeSet<u32>>() {
                match self.chain.reveal_window(epoch).await {
                    Ok(window) => drop(windows.insert(epoch, window)),
                    Err(error) => tracing::warn!(epoch, %error, "cannot look whether reveals are due; trying again"),
                }
            }
            let due = open.into_iter().filter_map(|report| Some((*windows.get(&report.epoch)?, report)));
            stream::iter(due).for_each_concurrent(REVEALS, |(window, report)| self.reveal_step(report, window)).await;
            time::sleep(self.options.poll).await;
        }
    }

    async fn reveal_step(&self, report: SavedReport, window: RevealWindow) {
        if window.now < window.closes && self.rests(&report) {
            return;
        }
        let at = report.at();
        match self.reveal_one(&report, window).await {
            Ok(None) => {}
            Ok(Some(Stage::Lost(reason))) => {
                let refused = self.state().refused.get(&key(&report)).map(|refused| refused.message.clone());
                let reason = refused.map_or(reason.clone(), |refused| format!("{reason}; refused last: {refused}"));
                self.advance(&report, Stage::Lost(reason)).await;
            }
            Ok(Some(stage)) => self.advance(&report, stage).await,
            Err(error) => {
                tracing::warn!(epoch = at.epoch, block = at.block, seat = at.seat, %error, "reveal failed");
                if error.hopeless {
                    self.advance(&report, Stage::Lost(format!("reveal refused: {error}"))).await;
                } else {
                    let left = window.closes.saturating_sub(window.now);
                    self.refused(&report, &error, Duration::from_secs(u64::try_from(left).unwrap_or(0)));
                }
            }
        }
    }

    /// What becomes of a report now; `None`: nothing yet.
    async fn reveal_one(&self, report: &SavedReport, window: RevealWindow) -> Result<Option<Stage>, ChainError> {
        let at = report.at();
        if window.epoch_start != report.epoch_start {
            return Ok(Some(Stage::Lost("it belongs to another network with the same genesis hash".into())));
        }
        if window.now < window.opens {
            return Ok(None);
        }
        match self.chain.seat(at).await? {
            Some(SeatState { revealed: true, commitment, .. }) if commitment == report.evidence_root => {
                return Ok(Some(Stage::Revealed));
            }
            Some(SeatState { revealed: false, commitment, .. }) if commitment == report.commitment => {}
            Some(SeatState { commitment, .. }) if commitment == [0; 32] => {
                return Ok(Some(Stage::Lost("its commitment did not land before the epoch's end".into())));
            }
            Some(_) => return Ok(Some(Stage::Lost("another commitment is on chain: does a second process run?".into()))),
            None => return Ok(Some(Stage::Lost("its block is seated for a later epoch already".into()))),
        }
        if window.now >= window.closes {
            return Ok(Some(Stage::Lost("the reveal window is over".into())));
        }
        let values = ReportValues::from_bytes(report.values);
        let reveal = Reveal { salt: &report.salt, evidence_root: &report.evidence_root, values: &values };
        self.chain.reveal(at, reveal).await?;
        Ok(Some(Stage::Revealed))
    }

    /// Notes a report's new stage, on disk and here, unless another report has taken its place meanwhile.
    async fn advance(&self, of: &SavedReport, stage: Stage) {
        let SeatRef { epoch, block, seat } = of.at();
        let current = self.state().open.get(&key(of)).filter(|report| report.commitment == of.commitment).cloned();
        let Some(mut report) = current else { return };
        if report.stage == stage {
            return;
        }
        let counted = match &stage {
            Stage::Saved => ReportStage::Saved,
            Stage::Committed => ReportStage::Committed,
            Stage::Revealed => ReportStage::Revealed,
            Stage::Lost(reason) => {
                tracing::error!(epoch, block, seat, reason, "report lost");
                ReportStage::Lost
            }
        };
        if counted != ReportStage::Lost {
            tracing::info!(epoch, block, seat, "{}", counted.as_str());
        }
        self.metrics.reports.get_or_create(&counted).inc();
        report.stage = stage;
        self.state().refused.remove(&key(of));
        // A stage that is not on disk is found out from the chain again after a restart.
        if let Err(error) = self.store.advance(report.clone()).await {
            tracing::warn!(%error, "a report's stage cannot be written");
        }
        let mut state = self.state();
        if report.is_open() {
            state.open.insert(key(of), report);
        } else {
            state.open.remove(&key(of));
        }
    }

    /// Claims what the tickets accrued when it is worth it.
    async fn claim(&self) {
        if self.options.claim_every.is_zero() {
            return std::future::pending().await;
        }
        loop {
            time::sleep(self.options.claim_every).await;
            for id in &self.ids {
                let claimed = async {
                    let pay = self.chain.pay(*id).await?;
                    if pay.amount == 0 || pay.amount < self.options.claim_above {
                        return Ok(0);
                    }
                    self.chain.claim(*id, &pay).await?;
                    Ok::<_, ChainError>(pay.amount)
                };
                match claimed.await {
                    Ok(0) => {}
                    Ok(amount) => {
                        self.metrics.claimed.inc_by(amount);
                        tracing::info!(checker = id, amount, "pay claimed");
                    }
                    Err(error) => tracing::warn!(checker = id, %error, "pay cannot be claimed; trying again later"),
                }
            }
        }
    }

    /// Removes what is old, and says when the disk gets full.
    async fn keep_house(&self) {
        loop {
            let now = self.state().now;
            if now > 0 {
                match self.store.prune(now, self.options.disk, SPARE).await {
                    Ok(pruned) => {
                        self.metrics.evidence_removed_early.inc_by(pruned.early);
                        if pruned.early > 0 {
                            tracing::warn!(
                                epochs = pruned.early,
                                "evidence was removed before its 30 days: the disk's bound"
                            );
                        }
                    }
                    Err(error) => tracing::error!(%error, "old reports cannot be removed"),
                }
            }
            let trouble = match self.store.size().await {
                Ok(size) => {
                    self.metrics.store_bytes.set(i64::try_from(size).unwrap_or(i64::MAX));
                    let full = size > self.options.disk / 10 * 9;
                    full.then(|| format!("the store has {size} of {} bytes: raise --disk", self.options.disk))
                }
                Err(error) => Some(error.to_string()),
            };
            let trouble = trouble.or_else(|| crate::disk::nearly_full(self.store.path()));
            self.health.set("disk", trouble);
            // At start the chain's clock is not known yet.
            time::sleep(if now > 0 { HOUSEKEEPING_EVERY } else { self.options.poll }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_transactions_are_tried_again_until_the_end_and_not_without_pause() {
        let (poll, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
        let pauses: Vec<u64> = (0..7).map(|times| refused_pause(times, poll, hour).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(refused_pause(u32::MAX, poll, Duration::from_secs(8)).as_secs(), 2, "more than once before the end");
        assert_eq!(refused_pause(9, poll, Duration::ZERO), poll);
    }
}
