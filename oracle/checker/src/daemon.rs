//! The two loops: measure and commit in the current epoch; reveal what was committed in the last.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use datagalax_protocol::{ReportValues, RowEvidence};
use tokio::{
    task::JoinSet,
    time::{self, Instant},
};

use crate::{
    chain::{Chain, ChainError, Cluster, EpochView, Reveal, SeatRef, SeatState, Target},
    measure::{Measurer, RowResult, values},
    status,
    store::{SavedReport, Stage, Store},
};

/// How often refused transactions are tried again before the report is given up.
const REFUSALS: u32 = 3;

/// What a checker is made of.
pub struct Parts {
    /// The checker's id.
    pub id: u32,
    /// The network.
    pub cluster: Cluster,
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// The disk.
    pub store: Store,
    /// The measuring.
    pub measurer: Measurer,
    /// Pause between two looks at the chain.
    pub poll: Duration,
    /// File for the last report's description.
    pub status: Option<PathBuf>,
}

struct Daemon {
    id: u32,
    cluster: Cluster,
    chain: Arc<dyn Chain>,
    store: Arc<Store>,
    measurer: Arc<Measurer>,
    poll: Duration,
    status: Option<PathBuf>,
    /// Reports that are not yet revealed or lost; the disk has them all.
    open: Mutex<BTreeMap<(u32, u32, u8), SavedReport>>,
}

/// Works until `stop` resolves. Everything that must not be lost is on disk at every instant, so stopping is immediate.
///
/// # Errors
/// The store cannot be read at start. Later trouble is logged and lived with.
pub async fn run(parts: Parts, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let Parts { id, cluster, chain, store, measurer, poll, status } = parts;
    let reports = store.load().context("the reports of earlier runs cannot be read")?;
    let open = reports.into_iter().filter(SavedReport::is_open).map(|report| (key(report.at()), report)).collect();
    let (store, measurer, open) = (Arc::new(store), Arc::new(measurer), Mutex::new(open));
    let daemon = Arc::new(Daemon { id, cluster, chain, store, measurer, poll, status, open });
    tracing::info!(checker = id, carried_on = daemon.open().len(), "checker started");
    tokio::select! {
        () = daemon.clone().measure_and_commit() => {}
        () = daemon.reveal() => {}
        () = stop => {}
    }
    tracing::info!(to_reveal = daemon.open().len(), "stopping; what is to be revealed is kept");
    Ok(())
}

fn key(at: SeatRef) -> (u32, u32, u8) {
    (at.epoch, at.block, at.seat)
}

impl Daemon {
    async fn measure_and_commit(self: Arc<Self>) {
        let mut blocks = JoinSet::new();
        let mut begun: HashSet<u32> = HashSet::new();
        let mut current = None;
        let mut complete = false;
        loop {
            match self.look(&mut current, &mut begun, &mut complete).await {
                Ok(found) => {
                    for (view, block, seats) in found {
                        begun.insert(block);
                        blocks.spawn(self.clone().tend(view, block, seats));
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot look for seats; trying again"),
            }
            while let Some(ended) = blocks.try_join_next() {
                if let Err(error) = ended {
                    tracing::error!(%error, "measuring a block panicked");
                }
            }
            time::sleep(self.poll).await;
        }
    }

    /// Blocks whose seats of this checker are not yet tended to.
    async fn look(
        &self,
        current: &mut Option<u32>,
        begun: &mut HashSet<u32>,
        complete: &mut bool,
    ) -> Result<Vec<(EpochView, u32, Vec<SeatRef>)>, ChainError> {
        let view = self.chain.epoch().await?;
        if *current != Some(view.number) {
            *current = Some(view.number);
            begun.clear();
            *complete = false;
            if let Err(error) = self.store.prune(SystemTime::now()) {
                tracing::warn!(%error, "old reports cannot be removed");
            }
        }
        if *complete || !view.drawn {
            return Ok(Vec::new());
        }
        let seats = self.chain.seats(view.number, self.id).await?;
        *complete = seats.waiting == 0;
        if *complete && seats.seated.is_empty() {
            tracing::info!(epoch = view.number, "no seat in this epoch");
        }
        let mut by_block: BTreeMap<u32, Vec<SeatRef>> = BTreeMap::new();
        for seat in seats.seated.into_iter().filter(|seat| !begun.contains(&seat.block)) {
            by_block.entry(seat.block).or_default().push(seat);
        }
        Ok(by_block.into_iter().map(|(block, seats)| (view, block, seats)).collect())
    }

    /// One block in one epoch: measure it unless that was done before a restart, then commit all seats.
    async fn tend(self: Arc<Self>, view: EpochView, block: u32, seats: Vec<SeatRef>) {
        // The clock shows whole seconds: the true time may be almost one later.
        let left =
            |until: i64| Duration::from_secs(u64::try_from(until.saturating_sub(view.now).saturating_sub(1)).unwrap_or(0));
        let (measure_until, end) = (Instant::now() + left(view.measure_until), Instant::now() + left(view.end));
        let saved = |seat: &SeatRef| self.open().get(&key(*seat)).is_some_and(|r| r.epoch_start == view.start);
        let missing: Vec<SeatRef> = seats.iter().filter(|seat| !saved(seat)).copied().collect();
        if !missing.is_empty()
            && let Err(error) = self.measure(&view, block, &missing, measure_until).await
        {
            tracing::error!(epoch = view.number, block, error = format!("{error:#}"), "no report in this epoch");
        }
        for seat in seats {
            self.commit(seat, end).await;
        }
    }

    async fn measure(&self, view: &EpochView, block: u32, seats: &[SeatRef], until: Instant) -> anyhow::Result<()> {
        let window = until.saturating_duration_since(Instant::now());
        let shortest = self.measurer.shortest_window();
        anyhow::ensure!(window >= shortest, "{window:.1?} left to measure, {shortest:.1?} are needed");
        let targets = self.targets(block, until).await?;
        tracing::info!(
            epoch = view.number,
            block,
            seats = seats.len(),
            rows = targets.len(),
            seconds = window.as_secs(),
            "measuring"
        );
        let rows = self.measurer.measure(self.cluster, view.number, targets, until).await;
        log_rows(view.number, block, &rows);
        let values = values(&rows)?;
        let evidence: Arc<Vec<RowEvidence>> = Arc::new(rows.iter().map(|row| row.evidence.clone()).collect());
        for seat in seats {
            let report = self.save(view, *seat, &values, evidence.clone()).await?;
            tracing::info!(
                epoch = view.number,
                block,
                seat = seat.seat,
                votes = values.votes().count(),
                commitment = hex::encode(report.commitment),
                "report saved"
            );
            if let Some(path) = &self.status
                && let Err(error) = status::write(path, &status::describe(&report, &rows))
            {
                tracing::warn!(%error, path = %path.display(), "the status file cannot be written");
            }
        }
        Ok(())
    }

    async fn targets(&self, block: u32, until: Instant) -> Result<Vec<Target>, ChainError> {
        loop {
            match self.chain.targets(block).await {
                Err(error) if error.transient && Instant::now() + self.poll < until => time::sleep(self.poll).await,
                other => return other,
            }
        }
    }

    /// The report is on disk when this returns, and only then may it be committed to.
    async fn save(
        &self,
        view: &EpochView,
        at: SeatRef,
        values: &ReportValues,
        evidence: Arc<Vec<RowEvidence>>,
    ) -> anyhow::Result<SavedReport> {
        let report = SavedReport::new(&self.cluster, at, view.start, self.id, values, &evidence);
        let (store, written) = (self.store.clone(), report.clone());
        tokio::task::spawn_blocking(move || store.save(&written, &evidence)).await??;
        self.open().insert(key(at), report.clone());
        Ok(report)
    }

    /// Commits a saved report, again and again until it is on chain or the epoch is over.
    async fn commit(&self, at: SeatRef, end: Instant) {
        let mut refusals = 0;
        loop {
            let Some(report) = self.open().get(&key(at)).cloned() else { return };
            let done = async {
                match self.chain.seat(at).await? {
                    Some(seat) if seat.commitment == report.commitment => Ok(()),
                    _ => self.chain.commit(at, self.id, report.commitment).await,
                }
            };
            match time::timeout_at(end, done).await {
                Ok(Ok(())) => {
                    tracing::info!(epoch = at.epoch, block = at.block, seat = at.seat, "committed");
                    return self.advance(&report, Stage::Committed).await;
                }
                Ok(Err(error)) => {
                    tracing::warn!(epoch = at.epoch, block = at.block, seat = at.seat, %error, "commit failed");
                    refusals += u32::from(!error.transient);
                    if refusals >= REFUSALS {
                        return self.advance(&report, Stage::Lost(format!("commit refused: {error}"))).await;
                    }
                }
                // It may have landed all the same: the reveal finds out.
                Err(_) => {
                    return tracing::warn!(
                        epoch = at.epoch,
                        block = at.block,
                        seat = at.seat,
                        "commit not confirmed in time"
                    );
                }
            }
            if Instant::now() + self.poll >= end {
                return tracing::warn!(
                    epoch = at.epoch,
                    block = at.block,
                    seat = at.seat,
                    "not committed before the epoch's end"
                );
            }
            time::sleep(self.poll).await;
        }
    }

    async fn reveal(&self) {
        let mut refusals: BTreeMap<(u32, u32, u8), u32> = BTreeMap::new();
        loop {
            let open: Vec<SavedReport> = self.open().values().cloned().collect();
            for report in open {
                let at = report.at();
                match self.reveal_one(&report).await {
                    Ok(None) => {}
                    Ok(Some(stage)) => {
                        match &stage {
                            Stage::Lost(reason) => {
                                tracing::error!(epoch = at.epoch, block = at.block, seat = at.seat, reason, "report lost");
                            }
                            _ => tracing::info!(epoch = at.epoch, block = at.block, seat = at.seat, "revealed"),
                        }
                        self.advance(&report, stage).await;
                        refusals.remove(&key(at));
                    }
                    Err(error) => {
                        tracing::warn!(epoch = at.epoch, block = at.block, seat = at.seat, %error, "reveal failed");
                        let refused = refusals.entry(key(at)).or_default();
                        *refused += u32::from(!error.transient);
                        if *refused >= REFUSALS {
                            self.advance(&report, Stage::Lost(format!("reveal refused: {error}"))).await;
                            refusals.remove(&key(at));
                        }
                    }
                }
            }
            time::sleep(self.poll).await;
        }
    }

    /// What becomes of a report now; `None`: nothing yet.
    async fn reveal_one(&self, report: &SavedReport) -> Result<Option<Stage>, ChainError> {
        let at = report.at();
        let window = self.chain.reveal_window(report.epoch).await?;
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
        let at = of.at();
        let current = self.open().get(&key(at)).filter(|report| report.commitment == of.commitment).cloned();
        let Some(mut report) = current else { return };
        report.stage = stage;
        let (store, written) = (self.store.clone(), report.clone());
        // A stage that is not on disk is found out from the chain again after a restart.
        match tokio::task::spawn_blocking(move || store.update(&written)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a report's stage cannot be written"),
            Err(error) => tracing::warn!(%error, "writing a report's stage was cut off"),
        }
        let mut open = self.open();
        if report.is_open() {
            open.insert(key(at), report);
        } else {
            open.remove(&key(at));
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<(u32, u32, u8), SavedReport>> {
        // No code that holds the lock can leave the map half-changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_rows(epoch: u32, block: u32, rows: &[RowResult]) {
    for row in rows {
        let vote = crate::score::vote(&row.measured);
        tracing::info!(
            epoch,
            block,
            row = row.target.row,
            container = %row.target.container,
            answered = row.measured.answered,
            asked = row.measured.asked,
            availability = vote.map(|vote| vote.availability),
            capacity = vote.map(|vote| vote.capacity),
            challenge_ms = row.challenge.map(|elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)),
            trouble = row.trouble,
            "measured"
        );
    }
}
