//! Being woken when accounts change or slots pass.

use std::time::Duration;

use futures_util::{StreamExt, stream::SelectAll};
use solana_account_decoder_client_types::{UiAccountEncoding, UiDataSliceConfig};
use solana_client::{nonblocking::pubsub_client::PubsubClient, rpc_config::RpcAccountInfoConfig};
use solana_commitment_config::CommitmentConfig;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::Address;

/// Longest pause between two attempts to connect.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Notifications that one of some accounts changed, merged into one signal.
///
/// Hints only: whoever is woken reads the accounts, and reads them now and then without being woken, because a notification
/// can be lost. A broken connection is opened again with growing pauses, and counts as a change, since anything may have
/// happened meanwhile.
pub struct Changes {
    seen: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Changes {
    /// Watches these accounts over the WebSocket at `url`. Needs a tokio runtime.
    pub fn watch(url: &str, accounts: Vec<Address>) -> Self {
        Self::of(url, What::Accounts(accounts))
    }

    /// Watches for new slots over the WebSocket at `url`. Needs a tokio runtime.
    pub fn slots(url: &str) -> Self {
        Self::of(url, What::Slots)
    }

    fn of(url: &str, what: What) -> Self {
        let (sender, seen) = watch::channel(0);
        let url = url.to_owned();
        let task = tokio::spawn(async move {
            let mut pause = Duration::from_millis(250);
            while !sender.is_closed() {
                match follow(&url, &what, &sender).await {
                    Ok(()) => pause = Duration::from_millis(250),
                    Err(reason) => {
                        tracing::debug!(url, reason, "no notifications; connecting again in {pause:?}");
                        pause = (pause * 2).min(MAX_PAUSE);
                    }
                }
                sleep(pause).await;
            }
        });
        Self { seen, task }
    }

    /// Waits for a change since the last call, at most for `longest`. Whether there was one.
    pub async fn next(&mut self, longest: Duration) -> bool {
        matches!(timeout(longest, self.seen.changed()).await, Ok(Ok(())))
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is watched.
enum What {
    Accounts(Vec<Address>),
    Slots,
}

/// Follows one connection to its end. `Err` when it could not be opened.
async fn follow(url: &str, what: &What, sender: &watch::Sender<u64>) -> Result<(), String> {
    let client = timeout(CONNECT_TIMEOUT, PubsubClient::new(url))
        .await
        .map_err(|_| "connecting took too long".to_owned())?
        .map_err(|e| e.to_string())?;
    let config = RpcAccountInfoConfig {
        // Only the fact of a change is of interest, not 33 KB of block.
        encoding: Some(UiAccountEncoding::Base64),
        data_slice: Some(UiDataSliceConfig { offset: 0, length: 0 }),
        commitment: Some(CommitmentConfig::confirmed()),
        min_context_slot: None,
    };
    let mut all = SelectAll::new();
    let late = |_| "subscribing took too long".to_owned();
    match what {
        What::Slots => {
            let slots = timeout(CONNECT_TIMEOUT, client.slot_subscribe()).await.map_err(late)?.map_err(|e| e.to_string())?;
            all.push(slots.0.map(|_| ()).boxed());
        }
        What::Accounts(accounts) => {
            for account in accounts {
                let subscribed = timeout(CONNECT_TIMEOUT, client.account_subscribe(account, Some(config.clone())));
                all.push(subscribed.await.map_err(late)?.map_err(|e| e.to_string())?.0.map(|_| ()).boxed());
            }
        }
    }
    // Anything may have happened before this connection.
    sender.send_modify(|n| *n += 1);
    while all.next().await.is_some() {
        sender.send_modify(|n| *n += 1);
    }
    Ok(())
}
