//! `datagalax-agent`: settings, logs, exit status; the rest is in the library.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use datagalax_agent::{
    daemon::{Parts, run},
    onchain::OnChain,
    settings::Settings,
};
use datagalax_gpu::{HostProbe, Probe};
use datagalax_service::{Ended, signals};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    datagalax_service::run("datagalax-agent", |settings: &Settings| &settings.log, start).await
}

async fn start(settings: Settings) -> Result<(), Ended> {
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
    let key = datagalax_client::keys::load(&keypair).map_err(Ended::settings)?;
    let stop = signals()?;
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
