//! What a lease used: metered while it runs, noted on chain now and then and at the end. Failing to note it harms no lease.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use datagalax_client::clock::unix_now;
use datagalax_protocol::lease::Usage;
use solana_pubkey::Pubkey;
use tokio::time;

use super::{
    Runner,
    tenancy::{Tenancy, record_name},
};
use crate::metrics::Noted;

/// Most attempts to note what a lease used that is over.
const LAST_ATTEMPTS: u32 = 4;

impl Runner {
    /// The chain's time, as far as it can be told from here.
    pub(super) fn chain_time(&self) -> i64 {
        unix_now().saturating_add(self.0.ahead.load(Ordering::Relaxed))
    }

    /// A running workload ran on for so long.
    pub(super) fn meter(&self, tenancy: &Tenancy, elapsed: Duration) {
        let (watts, units, now) =
            (self.0.metrics.power_watts.get(), self.0.units.load(Ordering::Relaxed), self.chain_time());
        tenancy.change(|facts| {
            if facts.paid {
                facts.record.meter.ran(elapsed, watts, unix_now());
                facts.reckon(units, now);
            }
        });
    }

    pub(super) async fn read_traffic(&self, tenancy: &Tenancy) {
        match self.runtime().traffic(&tenancy.id).await {
            Ok(Some(bytes)) => {
                let (units, now) = (self.0.units.load(Ordering::Relaxed), self.chain_time());
                tenancy.change(|facts| {
                    facts.record.meter.traffic(bytes);
                    facts.reckon(units, now);
                });
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(lease = %tenancy.lease, %error, "its traffic is not known"),
        }
    }

    /// Notes what a lease used on chain.
    async fn record(&self, lease: Pubkey, usage: Usage) -> bool {
        let recorded = self.0.act.record_usage(lease, usage).await;
        let outcome = if recorded.is_ok() { Noted::Noted } else { Noted::Failed };
        self.0.metrics.usage_records.get_or_create(&outcome).inc();
        if let Err(error) = &recorded {
            tracing::warn!(%lease, %error, "its usage is not noted on chain; the lease goes on");
        }
        recorded.is_ok()
    }

    /// Notes usage now and then until the lease is over.
    pub(super) async fn record_regularly(self, tenancy: Arc<Tenancy>) {
        let mut noted = Default::default();
        let over = tenancy.over.clone();
        let recording = async {
            loop {
                time::sleep(self.0.running.usage_every).await;
                let usage = tenancy.facts().record.usage;
                if usage != noted && self.record(tenancy.lease, usage).await {
                    noted = usage;
                }
            }
        };
        over.run_until_cancelled(recording).await;
    }

    /// Notes the usage of a lease that is over a last time, and forgets it.
    pub(super) fn settle(&self, lease: Pubkey, usage: Usage) {
        let (runner, closing) = (self.clone(), self.0.closing.clone());
        self.0.tasks.spawn(async move {
            let settling = async {
                let mut pause = Duration::from_secs(2);
                for _ in 0..LAST_ATTEMPTS {
                    if usage == Default::default() || runner.record(lease, usage).await {
                        break;
                    }
                    time::sleep(pause).await;
                    pause *= 3;
                }
                let (state, name) = (runner.0.state.clone(), record_name(&lease));
                let removed = tokio::task::spawn_blocking(move || state.remove(&name)).await;
                if let Ok(Err(error)) = removed {
                    tracing::error!(%lease, %error, "the record of a lease that is over is left");
                }
            };
            // What is cut off here is done after the next start.
            closing.run_until_cancelled(settling).await;
        });
    }
}
