//! Reports: committed, then revealed, or given up with a reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use datagalax_protocol::ReportValues;
use futures_util::{StreamExt, stream};
use tokio::time::{self, Instant};

use super::{Daemon, Key};
use crate::{
    chain::{ChainError, Commit, Reveal, RevealWindow, Seat, SeatRef, SeatState},
    metrics::ReportStage,
    store::{EpochKey, SavedReport, Stage},
};

/// Longest pause before a refused transaction is tried again: a node that is behind refuses what another one takes.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// Reveals sent at a time.
const REVEALS: usize = 16;

/// A refused transaction. It is tried again until its window is over: only the chain's clock ends a report.
pub(super) struct Refused {
    message: String,
    times: u32,
    again: Instant,
}

/// How long to wait after so many refusals in a row: longer and longer, but well within the `left` of the window.
fn refused_pause(times: u32, poll: Duration, left: Duration) -> Duration {
    poll.saturating_mul(1 << times.min(16)).min(REFUSED_PAUSE).min(left / 4).max(poll)
}

pub(super) fn key(report: &SavedReport) -> Key {
    (report.epoch_start, report.epoch, report.block, report.seat)
}

impl Daemon {
    /// Commits saved reports, again and again until they are on chain or the epoch is over.
    pub(super) async fn commit(&self) {
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

    pub(super) async fn reveal(&self) {
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
