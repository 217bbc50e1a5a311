//! `datagalax-checker`: settings, logs, exit status; the rest is in the library.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use datagalax_checker::{
    chain::{Chain, Cluster},
    daemon::{Parts, run},
    measure::{Measurer, Plan},
    onchain::OnChain,
    probe::{Limits, Prober},
    settings::Settings,
    store::Store,
};
use datagalax_service::{Ended, signals};
use solana_signer::Signer;
use tokio::time::{self, Instant};

/// Pause between two looks at the chain.
const POLL: Duration = Duration::from_millis(800);

#[tokio::main]
async fn main() -> ExitCode {
    datagalax_service::run("datagalax-checker", |settings: &Settings| &settings.log, start).await
}

async fn start(settings: Settings) -> Result<(), Ended> {
    let key = datagalax_client::keys::load(&settings.keypair).map_err(Ended::settings)?;
    let key = Arc::new(key);
    let stop = signals()?;
    tokio::pin!(stop);
    let pending = settings.state_dir.join(format!("pending-{}", settings.checker_id));
    let chain = OnChain::new(&settings.rpc, settings.ws.as_deref(), key.clone(), &pending, settings.priority_fee)
        .map_err(|error| Ended::Settings(anyhow::Error::from(error).context("--state-dir")))?;
    let operator = key.pubkey();
    let cluster = tokio::select! {
        found = find(&chain, &settings, &operator) => found?,
        () = &mut stop => return Ok(()),
    };
    let store = Store::open(&settings.state_dir, &cluster, settings.checker_id).context("--state-dir")?;
    // Only once the store is locked: another process may still be settling these.
    let resolved = chain.resolve_pending().await.context("pending transactions of the last run")?;
    if resolved > 0 {
        tracing::info!(resolved, "transactions of the last run resolved");
    }
    let prober = Prober::new(key, Limits::default()).context("cannot set up the HTTP client")?;
    let plan = Plan { probes: settings.probes.into(), concurrency: settings.concurrency.into() };
    let parts = Parts {
        id: settings.checker_id,
        cluster,
        chain: Arc::new(chain),
        store,
        measurer: Measurer::new(prober, plan),
        poll: POLL,
        status: settings.status_json,
    };
    Ok(run(parts, stop).await?)
}

/// Waits for the network and the checker's registration, and checks that the key is its operator's.
async fn find(chain: &OnChain, settings: &Settings, key: &solana_pubkey::Pubkey) -> Result<Cluster, Ended> {
    let id = settings.checker_id;
    let deadline = Instant::now() + Duration::from_secs(settings.start_timeout);
    loop {
        let found = async { Ok::<_, anyhow::Error>((chain.cluster().await?, chain.operator(id).await?)) };
        let reason = match found.await {
            Ok((cluster, Some(operator))) if operator == *key => return Ok(cluster),
            Ok((_, Some(operator))) => {
                let text =
                    format!("the operator of checker {id} is {operator}, but --keypair is {key}: name the operator's");
                return Err(Ended::Settings(anyhow!(text)));
            }
            Ok((_, None)) => anyhow!("there is no checker {id}: register it, or check --checker-id"),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(Ended::Failed(reason.context(format!("gave up after {} s", settings.start_timeout))));
        }
        tracing::warn!(%reason, "not ready yet");
        time::sleep(Duration::from_secs(2).min(deadline - Instant::now())).await;
    }
}
