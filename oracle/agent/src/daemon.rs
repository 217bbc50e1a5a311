//! Start, readiness and ordered shutdown.

use std::{
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use datagalax_gpu::{Bounds, Probe};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tokio::{
    net::TcpListener,
    time::{self, Instant},
};

use crate::{
    admission::Admission,
    chain::{Chain, Registration},
    listen,
    prover::Prover,
    readiness::Readiness,
    server::{Agent, router},
};

/// How often an agent without the current committee looks for it.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What an agent is made of.
pub struct Parts {
    /// The container's operator key.
    pub key: Keypair,
    /// The container's account.
    pub container: Pubkey,
    /// The hardware.
    pub probe: Arc<dyn Probe>,
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// Threads for challenges, `None`: all.
    pub threads: Option<NonZeroUsize>,
    /// How long to wait for chain and registration.
    pub start_timeout: Duration,
}

/// Serves until `stop` resolves, then ends requests in flight within a grace period.
///
/// # Errors
/// The chain or the registration does not appear in time, or the registration is not this host's.
pub async fn run(parts: Parts, listener: TcpListener, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let Parts { key, container, probe, chain, threads, start_timeout } = parts;
    let threads = threads.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let agent = Arc::new(Agent {
        key,
        container,
        probe,
        prover: Prover::new(Bounds::default(), threads),
        readiness: Readiness::default(),
        admission: OnceLock::new(),
    });
    let (stop_server, server_stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(listen::serve(listener, router(agent.clone()), async {
        // An error means that the sender is gone, which is a reason to stop, too.
        server_stopped.await.ok();
    }));
    let ended = tokio::select! {
        ended = work(&agent, chain, start_timeout) => ended,
        () = stop => {
            tracing::info!("stopping");
            Ok(())
        }
    };
    // The server may have ended by itself only by a panic, which the join below reports.
    stop_server.send(()).ok();
    server.await.context("the server ended unexpectedly")?;
    ended
}

/// Finds the registration, then keeps the committee fresh for ever.
async fn work(agent: &Agent, chain: Arc<dyn Chain>, start_timeout: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + start_timeout;
    let (cluster, registration) = loop {
        let found = async {
            let cluster = chain.cluster().await?;
            Ok::<_, anyhow::Error>((cluster, chain.registration(agent.container).await?))
        };
        let reason = match found.await {
            Ok((cluster, Some(registration))) => break (cluster, registration),
            Ok((_, None)) => format!("there is no container at {}: register it, or check --container", agent.container),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            bail!("{reason} (gave up after {} s)", start_timeout.as_secs());
        }
        agent.readiness.set("start", Some(reason));
        time::sleep(LOOK_EVERY.min(deadline - Instant::now())).await;
    };
    check_registration(agent, &registration)?;
    let admission = Admission::new(chain, cluster, agent.container, registration.block);
    let admission = agent.admission.get_or_init(|| admission);
    let Registration { block, row, endpoint, .. } = registration;
    tracing::info!(container = %agent.container, block, row, endpoint, "registered; answering");
    agent.readiness.set("start", None);
    loop {
        if admission.committee().is_none_or(|committee| committee.operators.is_empty()) {
            let trouble = admission.refresh().await.err();
            agent.readiness.set("chain", trouble.map(|error| error.to_string()));
        }
        time::sleep(LOOK_EVERY).await;
    }
}

fn check_registration(agent: &Agent, registration: &Registration) -> anyhow::Result<()> {
    let key = agent.key.pubkey();
    if registration.operator != key {
        bail!("the container's operator is {}, but --keypair is {key}: name the operator's keypair", registration.operator);
    }
    let fingerprint = agent.probe.fingerprint();
    if registration.fingerprint != fingerprint {
        let [registered, found] = [registration.fingerprint, fingerprint].map(hex::encode);
        bail!("the container was registered for hardware {registered}, but this host is {found}: register this host");
    }
    Ok(())
}
