//! Blocks of seats, from the first look to votes and evidence on disk.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use datagalax_protocol::{Digest, ReportValues};
use futures_util::FutureExt;
use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{self, Instant},
};

use super::{Daemon, reporting::key};
use crate::{
    chain::{ChainError, EpochView, Finality, Seat, Target},
    findings::{self, RowFindings, RowKnown},
    measure::{Progress, Reread, Round, RowState, values},
    metrics::ReportStage,
    record::Sink,
    score, status,
    store::{BlockKey, EpochKey, RowFinish, SavedReport},
};

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
    pub(super) async fn measure(self: Arc<Self>) {
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
        if !self.recorder.flush().await {
            tracing::error!(block = place.block, "some evidence of this block could not be written");
        }
        let position = self.measurer.plan().position;
        let mut inspections = self.store.inspections(place).await?;
        let rows: Vec<RowKnown> = progress
            .targets()
            .iter()
            .zip(progress.states())
            .map(|(target, state)| RowKnown {
                location: state.location(target, position.as_ref()),
                inspection: inspections.remove(&(target.row, target.container.to_bytes())),
                target: target.clone(),
                state,
            })
            .collect();
        let earlier = self.store.earlier_times(place).await?;
        let observations = findings::observations(&rows, &counted, &earlier);
        let elsewhere = self.store.elsewhere(place, &observations).await?;
        // Comparing the timing of 256 containers takes a while.
        let (rows, observations, found) = spawn_blocking(move || {
            let found = findings::of_block(&rows, &observations, &elsewhere);
            (rows, observations, found)
        })
        .await?;
        let measured: Vec<_> = rows.iter().map(|row| (row.target.row, row.state.measured(&counted, row.location))).collect();
        let values: ReportValues = values(&measured)?;
        for ((row, (_, measured)), found) in rows.iter().zip(&measured).zip(&found) {
            found.count(&self.metrics);
            say(place, row, measured, found);
        }
        let finished: Vec<RowFinish> = rows
            .iter()
            .zip(&found)
            .zip(&observations)
            .map(|((row, found), observation)| RowFinish {
                row: row.target.row,
                container: row.target.container.to_bytes(),
                findings: found.texts(),
                times_us: row.times_us(&counted),
                marks: observation.marks().collect(),
            })
            .collect();
        let saved = self.store.finish(place, finished, counted, values).await?;
        if let Some(path) = &self.options.status {
            let lines: Vec<status::Line<'_>> = rows
                .iter()
                .zip(&measured)
                .zip(&found)
                .map(|((row, (_, measured)), found)| status::Line { row, measured, found })
                .collect();
            if let Err(error) = status::write(path, &status::describe(place, &saved, &lines)) {
                tracing::warn!(%error, path = %path.display(), "the status file cannot be written");
            }
        }
        Ok(())
    }
}

/// What came of one row, for the log.
fn say(place: BlockKey, row: &RowKnown, measured: &score::Measured, found: &RowFindings) {
    let RowKnown { target, state, .. } = row;
    let vote = score::vote(measured);
    tracing::info!(
        epoch = place.epoch.number,
        block = place.block,
        row = target.row,
        container = %target.container,
        answered = state.answered,
        asked = state.asked,
        inspected = state.inspected,
        beacons = measured.beacons.len(),
        availability = vote.map(|vote| vote.availability),
        capacity = vote.map(|vote| vote.capacity),
        token = vote.map(|vote| vote.token),
        dishonest = vote.map(|vote| vote.dishonest),
        trouble = state.trouble,
        "measured"
    );
    for (kind, finding) in found.iter() {
        let (epoch, container) = (place.epoch.number, target.container);
        tracing::warn!(epoch, block = place.block, %container, kind = kind.as_str(), finding, "found");
    }
}
