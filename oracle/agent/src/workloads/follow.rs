//! The leases as the chain has them: brought up, warned, ended, and forgotten.

use std::{
    sync::atomic::Ordering,
    time::{Duration, UNIX_EPOCH},
};

use datagalax_client::clock::unix_now;
use datagalax_protocol::lease::{End, State};
use datagalax_runtime::Id;
use futures_util::{FutureExt, future::BoxFuture};
use solana_pubkey::Pubkey;
use tokio::time::{self, Instant};

use super::{
    Runner, life, lock,
    tenancy::{PREFIX, Record, Tenancy},
};
use crate::{
    chain::{Lease, Phase},
    leases::{Declined, Status, Workloads, code},
};

/// How long the user of a lease that is over may still ask how it ended.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Most leases that are over and remembered.
const PAST: usize = 8;
/// How often what is left of a lease that is over is tried to be ended.
const AGAIN: Duration = Duration::from_secs(60);

impl Runner {
    /// Ends what earlier processes left of leases that are not the container's any more.
    fn sweep(&self, current: Option<&Lease>) {
        let names = match self.0.state.names(PREFIX) {
            Ok(names) => names,
            Err(error) => {
                tracing::error!(%error, "what is left of earlier leases is not known");
                return;
            }
        };
        for name in names {
            let lease = name.strip_prefix(PREFIX).and_then(|text| text.parse::<Pubkey>().ok());
            // One that was handed over a moment ago is newer than what the chain said then.
            let gone =
                |lease: &Pubkey| current.is_none_or(|current| current.address != *lease) && self.find(lease).is_none();
            let Some(lease) = lease.filter(gone) else { continue };
            let (runner, closing) = (self.clone(), self.0.closing.clone());
            self.0.tasks.spawn(async move {
                let ending = async {
                    if !runner.is_over(lease).await {
                        return;
                    }
                    tracing::info!(%lease, "left of a lease that is over; ending it");
                    let usage = runner.0.state.read::<Record>(&name).map(|record| record.usage).unwrap_or_default();
                    let id: Id = lease.to_string().parse().expect("an address is an id");
                    while let Err(error) = runner.runtime().stop(&id, runner.0.running.grace).await {
                        tracing::error!(%lease, %error, "something of a lease that is over is left");
                        time::sleep(AGAIN).await;
                    }
                    runner.settle(lease, usage);
                };
                closing.run_until_cancelled(ending).await;
            });
        }
    }

    /// Waits until a lease is over by the chain; false when it is the container's after all: a node that lags must not end what
    /// is paid for.
    async fn is_over(&self, lease: Pubkey) -> bool {
        loop {
            match self.0.chain.lease(lease).await {
                _ if self.find(&lease).is_some() => return false,
                Ok(found) if found.is_none_or(|lease| lease.phase == Phase::Ended) => return true,
                Ok(_) => {}
                Err(error) => tracing::debug!(%lease, %error, "whether a lease is over is not known"),
            }
            time::sleep(AGAIN).await;
        }
    }

    /// Tells the user before what was escrowed is used up, once for each end.
    async fn warn(&self, tenancy: &Tenancy, lease: &Lease, now: i64) {
        let left = lease.end.saturating_sub(now);
        let due = i64::try_from(self.0.running.warn_before.as_secs()).unwrap_or(i64::MAX);
        let runs = !matches!(tenancy.facts().state, State::Ended { .. });
        if !runs || left <= 0 || left > due || tenancy.facts().record.warned == lease.end {
            return;
        }
        let (seconds, end) = (u64::try_from(left).unwrap_or(0), u64::try_from(lease.end).unwrap_or(0));
        tenancy.change(|facts| facts.record.warned = lease.end);
        tenancy.notice(format!(
            "what was escrowed is used up in {}, at {}: the workload is stopped then and its files are removed; top up to go on",
            humantime::format_duration(Duration::from_secs(seconds)),
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(end)),
        ));
        self.save(tenancy).await;
    }

    /// Forgets leases that are over for a while.
    fn forget(&self) {
        let mut tenancies = lock(&self.0.tenancies);
        let mut past: Vec<(Instant, Pubkey)> =
            tenancies.values().filter_map(|tenancy| Some((tenancy.facts().past?, tenancy.lease))).collect();
        past.sort_unstable();
        let keep = past.len().saturating_sub(PAST);
        for (at, (since, lease)) in past.into_iter().enumerate() {
            if at < keep || since.elapsed() >= REMEMBERED {
                tenancies.remove(&lease);
                self.0.sessions.close(&lease);
            }
        }
    }
}

impl Workloads for Runner {
    fn seen<'a>(&'a self, lease: Option<&'a Lease>, now: i64) -> BoxFuture<'a, ()> {
        async move {
            self.0.ahead.store(now.saturating_sub(unix_now()), Ordering::Relaxed);
            self.set_current(lease.copied());
            if !self.0.swept.swap(true, Ordering::Relaxed) {
                self.sweep(lease);
            }
            self.forget();
            let Some(lease) = lease.filter(|lease| lease.phase == Phase::Started) else { return };
            let Some(tenancy) = self.find(&lease.address) else { return };
            let first = tenancy.change(|facts| {
                (facts.started, facts.ends) = (lease.started, lease.end);
                !std::mem::replace(&mut facts.paid, true)
            });
            if first {
                self.0.tasks.spawn(self.clone().record_regularly(tenancy.clone()));
            }
            self.warn(&tenancy, lease, now).await;
        }
        .boxed()
    }

    fn start<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), Declined>> {
        async move {
            let failed = |reason: String| Declined { code: code::FAILED, reason };
            let tenancy = self.tenancy(lease).map_err(|error| failed(error.to_string()))?;
            let Some(workload) = tenancy.workload() else { return Ok(()) };
            // Settings may have changed since it was taken.
            let run = self.0.running.policy.judge(&workload);
            let run = run.map_err(|reason| Declined { code: code::DECLINED, reason })?;
            let mut life = lock(&tenancy.life);
            if life.is_none() && tenancy.facts().past.is_none() {
                if tenancy.facts().paid {
                    // It was started by an earlier process, whose noting of usage ended with it.
                    self.0.tasks.spawn(self.clone().record_regularly(tenancy.clone()));
                }
                *life = Some(self.0.tasks.spawn(life::live(self.clone(), tenancy.clone(), run)));
            }
            Ok(())
        }
        .boxed()
    }

    fn stop(&self, lease: Pubkey) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let tenancy = self.find(&lease);
            if let Some(tenancy) = &tenancy {
                let life = lock(&tenancy.life).take();
                if let Some(life) = life {
                    life.abort();
                    // An error is that it was ended, which is what is wanted.
                    life.await.ok();
                    // What it was writing must not come back after the end, secrets and all.
                    tenancy.written().await;
                    self.read_traffic(tenancy).await;
                }
            }
            let id: Id = lease.to_string().parse().map_err(|error| format!("{error}"))?;
            self.runtime().stop(&id, self.0.running.grace).await.map_err(|error| error.to_string())?;
            let Some(tenancy) = tenancy else { return Ok(()) };
            let usage = tenancy.change(|facts| {
                facts.past = Some(Instant::now());
                if !matches!(facts.state, State::Ended { .. }) {
                    facts.state = State::Ended { end: End::Stopped };
                }
                // Secrets are gone with the lease.
                facts.record.workload = None;
                facts.record.usage
            });
            self.0.sessions.close(&lease);
            tenancy.over.cancel();
            self.settle(lease, usage);
            Ok(())
        }
        .boxed()
    }

    fn status(&self, lease: Pubkey) -> BoxFuture<'_, Status> {
        async move {
            let Some(tenancy) = self.find(&lease) else { return Status::Absent };
            let alive = lock(&tenancy.life).is_some();
            let facts = tenancy.facts();
            match (&facts.declined, &facts.state) {
                _ if facts.past.is_some() => Status::Absent,
                (Some(declined), _) => Status::Failed(declined.clone()),
                (None, State::Awaited) => Status::Awaited,
                (None, State::Ended { .. } | State::Running) => Status::Running,
                (None, State::Starting { .. }) if alive => Status::Starting,
                // It was handed over, and nobody brings it up yet.
                (None, State::Starting { .. }) => Status::Absent,
            }
        }
        .boxed()
    }
}
