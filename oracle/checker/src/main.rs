//! `datagalax-checker`: settings, start, exit status; the rest is in the library.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use datagalax_checker::{
    chain::{Chain, Cluster},
    daemon::{Options, Parts, run},
    measure::{Measurer, Plan},
    metrics::Metrics,
    onchain::OnChain,
    probe::{Limits, Prober},
    reach::Policy,
    serve::{self, Rate, Server},
    settings::Settings,
    store::Store,
};
use datagalax_client::rpc::HttpRpc;
use datagalax_service::{Ended, Service, http};
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tokio::time::{self, Instant};

/// Pause between two looks at the chain.
const POLL: Duration = Duration::from_millis(800);

#[tokio::main]
async fn main() -> ExitCode {
    datagalax_service::serve(start).await
}

async fn start(settings: Settings, service: Service<Metrics>) -> Result<(), Ended> {
    let Service { metrics, health, shutdown } = service;
    let key = datagalax_client::keys::load(&settings.keypair).map_err(Ended::settings)?;
    let key = Arc::new(key);
    let pending = settings.state_dir.join("pending");
    let rpc = datagalax_client::rpc::connect(&settings.rpc, &settings.ws)
        .map_err(|error| Ended::Settings(anyhow::Error::from(error).context("--rpc")))?;
    let ws = settings.ws.first().cloned().unwrap_or_else(|| HttpRpc::default_ws(&settings.rpc[0]));
    let chain = OnChain::new(rpc, Some(ws), key.clone(), &pending, settings.priority_fee)
        .map_err(|error| Ended::Settings(anyhow::Error::from(error).context("--state-dir")))?;
    let operator = key.pubkey();
    let listener = match settings.listen {
        Some(address) => Some(http::listen(address, "--listen").await.map_err(Ended::Settings)?),
        None => None,
    };
    let cluster = tokio::select! {
        found = find(&chain, &settings, &operator) => found?,
        () = shutdown.requested() => return Ok(()),
    };
    let store = Store::open(&settings.state_dir, &cluster).context("--state-dir")?;
    // Only once the store is locked: another process may still be settling these.
    let resolved = chain.resolve_pending().await.context("pending transactions of the last run")?;
    if resolved > 0 {
        tracing::info!(resolved, "transactions of the last run resolved");
    }
    let private = settings.allow_private_endpoints.unwrap_or_else(|| settings.rpc.iter().all(|rpc| is_local(rpc)));
    let policy = if private { Policy::Private } else { Policy::Public };
    let limits = Limits { recomputing: settings.verifiers.into(), policy, ..Limits::default() };
    let prober = Prober::new(key.clone(), limits, metrics.clone()).context("cannot set up the HTTP client")?;
    let plan = Plan {
        probes: settings.probes.into(),
        concurrency: settings.concurrency.into(),
        beacons: settings.beacon_concurrency as usize,
        position: settings.position,
    };
    let measurer = Arc::new(Measurer::new(prober, plan));
    let chain: Arc<dyn Chain> = Arc::new(chain);
    if let Some(listener) = listener {
        let server = Server {
            cluster,
            chain: chain.clone(),
            store: store.clone(),
            measurer: measurer.clone(),
            key,
            metrics: metrics.clone(),
            rate: Rate::default(),
            asked: Default::default(),
        };
        let stage = shutdown.stage("evidence server");
        let (health, stop) = (health.clone(), stage.token());
        stage.spawn("evidence server", async move {
            serve::run(server, listener, health, stop.cancelled_owned()).await;
            Ok(())
        });
    }
    let options = Options {
        poll: POLL,
        status: settings.status_json,
        disk: settings.disk << 20,
        claim_above: settings.claim_above,
        claim_every: settings.claim_every,
    };
    let parts = Parts { ids: settings.checker_id, cluster, chain, store, measurer, options, health, metrics };
    Ok(run(parts, shutdown.requested()).await?)
}

/// Whether the node is on this machine: then it is a local network.
fn is_local(rpc: &str) -> bool {
    match url::Url::parse(rpc).ok().and_then(|url| url.host().map(|host| host.to_owned())) {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Waits for the network and the checkers' registrations, and checks that the key is their operator's.
async fn find(chain: &OnChain, settings: &Settings, key: &Pubkey) -> Result<Cluster, Ended> {
    let deadline = Instant::now() + Duration::from_secs(settings.start_timeout);
    loop {
        let reason = match look(chain, &settings.checker_id, key).await {
            Ok(cluster) => return Ok(cluster),
            Err(Ended::Failed(reason)) => reason,
            Err(settings) => return Err(settings),
        };
        if Instant::now() >= deadline {
            return Err(Ended::Failed(reason.context(format!("gave up after {} s", settings.start_timeout))));
        }
        tracing::warn!(%reason, "not ready yet");
        time::sleep(Duration::from_secs(2).min(deadline - Instant::now())).await;
    }
}

async fn look(chain: &OnChain, ids: &[u32], key: &Pubkey) -> Result<Cluster, Ended> {
    let cluster = chain.cluster().await.map_err(anyhow::Error::from)?;
    for id in ids {
        match chain.operator(*id).await.map_err(anyhow::Error::from)? {
            Some(operator) if operator == *key => {}
            Some(operator) => {
                let text =
                    format!("the operator of checker {id} is {operator}, but --keypair is {key}: name the operator's");
                return Err(Ended::Settings(anyhow!(text)));
            }
            None => return Err(anyhow!("there is no checker {id}: register it, or check --checker-id").into()),
        }
    }
    Ok(cluster)
}
