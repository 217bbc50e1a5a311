//! Pay, and room on the disk.

use std::time::Duration;

use tokio::time;

use super::Daemon;
use crate::chain::ChainError;

/// Pause between two rounds of house-keeping.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(300);
/// Evidence younger than this is kept whatever the bound on the disk, in seconds: cases are opened within hours.
const SPARE: i64 = 2 * 86_400;

impl Daemon {
    /// Claims what the tickets accrued when it is worth it.
    pub(super) async fn claim(&self) {
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
    pub(super) async fn keep_house(&self) {
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
