//! `datagalax-agent`: settings, logs, exit status; the rest is in the library.

use std::{
    io::{IsTerminal, stderr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::Parser;
use datagalax_agent::{
    daemon::{Parts, run, signals},
    onchain::OnChain,
    settings::{EXIT_FAILED, EXIT_SETTINGS, Settings},
};
use datagalax_gpu::{HostProbe, Probe};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

/// What ends the agent: settings that cannot work, or anything else.
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
    eprintln!("datagalax-agent: {error:#}");
    ExitCode::from(status)
}

async fn start(settings: Settings) -> Result<(), Ended> {
    log(&settings.log).map_err(Ended::Settings)?;
    let probe = HostProbe::open(datagalax_gpu::Settings {
        agent_version: env!("CARGO_PKG_VERSION").into(),
        gpus: !settings.no_gpu,
        machine_id: settings.machine_id.clone(),
    })
    .map_err(|error| Ended::Failed(error.into()))?;
    if settings.print_fingerprint {
        println!("{}", hex::encode(probe.fingerprint()));
        return Ok(());
    }
    // The parser requires both unless only the fingerprint is asked for.
    let (Some(keypair), Some(container)) = (settings.keypair, settings.container) else {
        return Err(Ended::Settings(anyhow::anyhow!("--keypair and --container are required")));
    };
    let key = datagalax_client::keys::load(&keypair).map_err(|error| Ended::Settings(error.into()))?;
    let stop = signals().context("cannot listen for signals")?;
    let listener = TcpListener::bind(settings.listen).await.with_context(|| {
        format!("cannot listen on {}: end what uses the port, or choose another by --listen", settings.listen)
    })?;
    tracing::info!(listen = %settings.listen, rpc = settings.rpc, "agent started");
    let parts = Parts {
        key,
        container,
        probe: Arc::new(probe),
        chain: Arc::new(OnChain::new(&settings.rpc, settings.ws.as_deref())),
        threads: settings.threads,
        start_timeout: Duration::from_secs(settings.start_timeout),
    };
    Ok(run(parts, listener, stop).await?)
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
