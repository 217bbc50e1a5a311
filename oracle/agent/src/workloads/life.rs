//! A workload's life: brought up, watched, metered, and brought up again when the host lost it.

use std::{sync::Arc, time::Duration};

use datagalax_client::clock::unix_now;
use datagalax_protocol::lease::{self, State};
use datagalax_runtime::{End, RuntimeError, Status, Workload};
use tokio::time::{self, Instant};

use super::{Runner, tenancy::Tenancy};
use crate::{
    leases::{Declined, code},
    metrics::Begin,
};

/// How often a running workload is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often its traffic is read, and what it used is put on disk.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// Most starts of a workload that the host lost, in a row.
pub const RESTARTS: u32 = 5;
/// After running for so long, the next loss is the first again.
const SETTLED: Duration = Duration::from_secs(600);
/// Most attempts to do something that the runtime fails at for reasons of its own.
const ATTEMPTS: u32 = 3;
/// First pause after a failure; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// How a run of the workload ended, in the words of the protocol.
fn ended(end: End) -> lease::End {
    match end {
        End::Exited(status) => lease::End::Exited { status },
        End::Signalled(signal) => lease::End::Signalled { signal },
        End::OverLimit(what) => lease::End::OverLimit { what },
        End::Stopped => lease::End::Stopped,
        End::NotStarted(reason) => lease::End::NotStarted { reason },
        End::Lost => lease::End::Lost,
    }
}

/// What the runtime's error says about the lease.
fn declined(error: &RuntimeError) -> Declined {
    let code = match error {
        RuntimeError::Refused(_) | RuntimeError::Invalid(_) => code::DECLINED,
        _ => code::FAILED,
    };
    Declined { code, reason: error.to_string() }
}

/// Whether another attempt may go better.
fn may_pass(error: &RuntimeError) -> bool {
    matches!(error, RuntimeError::Engine { .. } | RuntimeError::Io { .. } | RuntimeError::Full | RuntimeError::Unkillable(_))
}

/// Brings the workload up and watches it until it has ended for good.
pub(super) async fn live(runner: Runner, tenancy: Arc<Tenancy>, workload: Workload) {
    let mut losses = 0;
    loop {
        let found = match runner.runtime().status(&tenancy.id).await {
            Ok(Status::Running) => true,
            Ok(Status::Ended(end)) if end != End::Lost => return finish(&runner, &tenancy, ended(end)).await,
            Ok(Status::Ended(_) | Status::Absent) => false,
            Err(error) => {
                // The engine may be restarting: what runs there goes on meanwhile.
                tracing::warn!(lease = %tenancy.lease, %error, "the runtime does not answer");
                time::sleep(PAUSE * 4).await;
                continue;
            }
        };
        let lost = !found && tenancy.facts().record.began;
        if lost {
            losses += 1;
            if losses > RESTARTS {
                return finish(&runner, &tenancy, lease::End::Lost).await;
            }
            tenancy.notice(format!(
                "the host lost the workload, as by a restart of the machine; it is started again, with the files that it kept \
                 (attempt {losses} of {RESTARTS})"
            ));
            tenancy.step("starting again");
            time::sleep(PAUSE * 2_u32.pow(losses - 1)).await;
        }
        if !found {
            if let Err(error) = bring_up(&runner, &tenancy, &workload).await {
                tracing::warn!(lease = %tenancy.lease, %error, "the workload does not come up");
                if lost {
                    continue;
                }
                let declined = declined(&error);
                let end = lease::End::NotStarted { reason: declined.reason.clone() };
                tenancy.change(|facts| facts.declined = Some(declined));
                return finish(&runner, &tenancy, end).await;
            }
            let cause = if lost { Begin::Lost } else { Begin::First };
            runner.metrics().workload_starts.get_or_create(&cause).inc();
        }
        let began = Instant::now();
        if let Some(end) = watch(&runner, &tenancy, found).await {
            return finish(&runner, &tenancy, end).await;
        }
        if began.elapsed() >= SETTLED {
            losses = 0;
        }
    }
}

async fn bring_up(runner: &Runner, tenancy: &Tenancy, workload: &Workload) -> Result<(), RuntimeError> {
    let mut attempt = 1;
    loop {
        match attempt_at(runner, tenancy, workload).await {
            Err(error) if may_pass(&error) && attempt < ATTEMPTS => {
                tenancy.step(format!("trying again: {error}"));
                time::sleep(PAUSE * 2_u32.pow(attempt)).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn attempt_at(runner: &Runner, tenancy: &Tenancy, workload: &Workload) -> Result<(), RuntimeError> {
    let (runtime, id) = (runner.runtime(), &tenancy.id);
    let progress = |step: String| tenancy.step(step);
    runtime.prepare(id, workload, &progress).await?;
    tenancy.step("starting");
    match runtime.start(id, workload).await {
        // What is left of a run that cannot go on, and of which nothing else is kept then.
        Err(RuntimeError::Ended(_) | RuntimeError::Other(_)) => {
            runtime.stop(id, Duration::ZERO).await?;
            tenancy.change(|facts| facts.anew += 1);
            runtime.prepare(id, workload, &progress).await?;
            runtime.start(id, workload).await
        }
        outcome => outcome,
    }
}

/// Until the run has ended; `None` when the host lost it.
async fn watch(runner: &Runner, tenancy: &Tenancy, found: bool) -> Option<lease::End> {
    let _running = Running::note(runner);
    tenancy.change(|facts| {
        facts.record.began = true;
        facts.state = State::Running;
        if found && facts.paid {
            facts.record.meter.found_running(unix_now());
        }
    });
    runner.save(tenancy).await;
    runner.look();
    let (mut last, mut saved) = (Instant::now(), Instant::now());
    loop {
        time::sleep(LOOK).await;
        let status = runner.runtime().status(&tenancy.id).await;
        let elapsed = last.elapsed();
        last = Instant::now();
        let ended = match status {
            Ok(Status::Running) => None,
            Ok(Status::Ended(End::Lost) | Status::Absent) => return None,
            Ok(Status::Ended(end)) => Some(ended(end)),
            Err(error) => {
                tracing::warn!(lease = %tenancy.lease, %error, "the runtime does not answer");
                continue;
            }
        };
        runner.meter(tenancy, elapsed);
        if ended.is_some() || saved.elapsed() >= SAVE_EVERY {
            runner.read_traffic(tenancy).await;
            runner.save(tenancy).await;
            saved = Instant::now();
        }
        if ended.is_some() {
            return ended;
        }
    }
}

/// It has ended for good.
async fn finish(runner: &Runner, tenancy: &Tenancy, end: lease::End) {
    tracing::info!(lease = %tenancy.lease, ?end, "the workload has ended");
    tenancy.change(|facts| {
        // One that came up and ended before anybody looked ran, too.
        facts.record.began |= !matches!(end, lease::End::NotStarted { .. });
        facts.record.end = Some(end.clone());
        facts.state = State::Ended { end };
    });
    runner.save(tenancy).await;
    runner.look();
}

/// Counts a running workload for as long as it lives.
struct Running<'a>(&'a Runner);

impl<'a> Running<'a> {
    fn note(runner: &'a Runner) -> Self {
        runner.metrics().workloads_running.inc();
        Self(runner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.metrics().workloads_running.dec();
    }
}
