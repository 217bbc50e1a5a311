//! `datagalax-checker`: settings, logs, exit status; the rest is in the library.

use std::{
    io::{IsTerminal, stderr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::Parser;
use datagalax_checker::{
    chain::{Chain, Cluster},
    daemon::{Parts, run, signals},
    measure::{Measurer, Plan},
    onchain::OnChain,
    probe::{Limits, Prober},
    settings::{EXIT_FAILED, EXIT_SETTINGS, Settings},
    store::Store,
};
use solana_signer::Signer;
use tokio::time::{self, Instant};
use tracing_subscriber::EnvFilter;

/// Pause between two looks at the chain.
const POLL: Duration = Duration::from_millis(800);

/// What ends the checker: settings that cannot work, or anything else.
enum Ended {
    Settings(anyhow::Error),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Ended {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match Settings::try_parse() {
        Ok(settings) => settings,
        Err(error) => {
            // Help and version come this way, too. Nobody is left to tell when even this cannot be printed.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(EXIT_SETTINGS) } else { ExitCode::SUCCESS };
        }
    };
    let (error, status) = match start(settings).await {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Ended::Settings(error)) => (error, EXIT_SETTINGS),
        Err(Ended::Failed(error)) => (error, EXIT_FAILED),
    };
    eprintln!("datagalax-checker: {error:#}");
    ExitCode::from(status)
}

async fn start(settings: Settings) -> Result<(), Ended> {
    log(&settings.log).map_err(Ended::Settings)?;
    let key = datagalax_client::keys::load(&settings.keypair).map_err(|error| Ended::Settings(error.into()))?;
    let key = Arc::new(key);
    let stop = signals().context("cannot listen for signals")?;
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

/// Compact lines on a terminal, JSON otherwise; to standard error either way.
fn log(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("--log {filter:?} is no log filter"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    if stderr().is_terminal() {
        logs.compact().with_target(false).init()
    } else {
        logs.json().flatten_event(true).init()
    }
    Ok(())
}
