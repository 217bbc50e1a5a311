//! Waiting until it is known what became of a signed transaction.

use futures_util::FutureExt;
use solana_transaction::Transaction;
use solana_transaction_error::TransactionError;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::Settings;
use crate::rpc::{Fate, Rpc, RpcError};

/// What became of it.
#[derive(Debug)]
pub(super) enum Settled {
    Landed {
        slot: u64,
    },
    Failed(TransactionError),
    /// Its blockhash is too old and no node has seen it.
    Expired,
    /// The node stopped answering.
    Unknown {
        reason: String,
    },
}

/// Waits for an outcome, looking at every notification and every `poll_every`, and sending again every `resend_every`.
pub(super) async fn settle(
    rpc: &dyn Rpc,
    settings: &Settings,
    transaction: &Transaction,
    last_valid_block_height: u64,
) -> Settled {
    let signature = transaction.signatures[0];
    let start = Instant::now();
    let mut notified = rpc.confirmed(&signature).fuse();
    let mut poll = interval_at(start, settings.poll_every);
    let mut resend = interval_at(start + settings.resend_every, settings.resend_every);
    // A slow node is not asked the more for it.
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    resend.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let deadline = sleep_until(start + settings.patience);
    tokio::pin!(deadline);
    let mut reason = "the node shows neither the transaction nor newer blocks".to_owned();
    loop {
        tokio::select! {
            biased;
            () = &mut deadline => return Settled::Unknown { reason },
            () = &mut notified => {}
            _ = poll.tick() => {}
            _ = resend.tick() => {
                // Without preflight: a transaction that landed meanwhile would be refused as processed already.
                if let Err(e) = rpc.send(transaction, false).await {
                    reason = e.to_string();
                }
                continue;
            }
        }
        match look(rpc, transaction, last_valid_block_height).await {
            Ok(Some(settled)) => return settled,
            Ok(None) => {}
            Err(e) => reason = e.to_string(),
        }
    }
}

/// One look: `None` while it may still land.
async fn look(rpc: &dyn Rpc, transaction: &Transaction, last_valid_block_height: u64) -> Result<Option<Settled>, RpcError> {
    Ok(match rpc.fate(&transaction.signatures[0], last_valid_block_height).await? {
        Fate::Seen(status) if status.confirmed => Some(match status.outcome {
            Ok(()) => Settled::Landed { slot: status.slot },
            Err(error) => Settled::Failed(error),
        }),
        // Seen, but not confirmed: a fork may still drop it, so it is not given up and not done.
        Fate::Seen(_) | Fate::Open => None,
        Fate::Expired => Some(Settled::Expired),
    })
}
