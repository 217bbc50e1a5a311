//! Whether the network works, asked from outside, as its users will.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures_util::StreamExt;
use solana_client::{
    client_error::ClientError,
    nonblocking::{pubsub_client::PubsubClient, rpc_client::RpcClient},
};
use solana_commitment_config::CommitmentConfig;
use solana_pubkey::Pubkey;
use tokio::time::{sleep, timeout};

use crate::ports::Urls;

/// The longest a start may take; a quarter of a second is usual.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks at something that is not yet so.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until the node calls itself healthy, slots advance over JSON-RPC and the WebSocket, and every program can be
/// executed. Returns the genesis hash.
///
/// # Errors
/// What was still missing after 60 seconds, or the answer that shows the network will not come up.
pub async fn wait(urls: &Urls, programs: &[Pubkey]) -> Result<String> {
    timeout(START_TIMEOUT, check(urls, programs)).await.map_err(|_| {
        anyhow!("the network is not healthy after {} seconds; start it again with --verbose", START_TIMEOUT.as_secs())
    })?
}

async fn check(urls: &Urls, programs: &[Pubkey]) -> Result<String> {
    let rpc = RpcClient::new_with_timeout_and_commitment(urls.rpc.clone(), CALL_TIMEOUT, CommitmentConfig::processed());
    while let Err(e) = rpc.get_health().await {
        retry("getHealth", &e).await?;
    }
    let first = rpc.get_slot().await.context("getSlot fails")?;
    slot_after(urls, first).await?;
    while rpc.get_slot().await.context("getSlot fails")? <= first {
        sleep(PAUSE).await;
    }
    for id in programs {
        let account = rpc.get_account(id).await.with_context(|| format!("program {id} is not there"))?;
        ensure!(account.executable, "program {id} is there and not executable");
    }
    Ok(rpc.get_genesis_hash().await.context("getGenesisHash fails")?.to_string())
}

/// Waits until the WebSocket announces a slot after `first`.
async fn slot_after(urls: &Urls, first: u64) -> Result<()> {
    let client = PubsubClient::new(&urls.ws).await.with_context(|| format!("the WebSocket {} refuses", urls.ws))?;
    let (mut slots, unsubscribe) = client.slot_subscribe().await.context("slotSubscribe fails")?;
    loop {
        let slot = slots.next().await.context("the WebSocket closed while it was waited for")?;
        if slot.slot > first {
            break;
        }
    }
    unsubscribe().await;
    Ok(())
}

async fn retry(call: &str, error: &ClientError) -> Result<()> {
    // A server that listens and speaks something else will not change its mind.
    if !matches!(error.kind(), solana_client::client_error::ClientErrorKind::Reqwest(_)) {
        bail!("{call} fails: {error}");
    }
    sleep(PAUSE).await;
    Ok(())
}
