//! `datagalax-agent`: settings, keys, exit status; the rest is in the library.

use std::{process::ExitCode, sync::Arc, time::Duration};

use datagalax_agent::{
    daemon::{Leases, Parts, run},
    faults::fitness::Policy,
    metrics::Metrics,
    offer::Wanted,
    onchain::{OnChain, OnChainActs},
    settings::{self, Settings},
    state::StateDir,
    workloads,
};
use datagalax_client::{
    Pipeline, Reader, keys,
    pipeline::{self, DirectoryStore},
    rpc::{self, HttpRpc, Rpc},
};
use datagalax_gpu::{HostProbe, Probe, backend};
use datagalax_service::{Ended, Service, http};
use solana_keypair::Keypair;
use solana_signer::Signer;

/// How often the hardware is looked at.
const INSPECT_EVERY: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    datagalax_service::serve(start).await
}

async fn start(settings: Settings, service: Service<Metrics>) -> Result<(), Ended> {
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
    let (Some(keypair), Some(container)) = (&settings.keypair, settings.container) else {
        return Err(Ended::Settings(anyhow::anyhow!("--keypair and --container are required")));
    };
    if settings.priority_fee > settings.max_priority_fee {
        let (least, most) = (settings.priority_fee, settings.max_priority_fee);
        let reason = format!("--priority-fee {least} is more than --max-priority-fee {most}: raise the latter");
        return Err(Ended::Settings(anyhow::anyhow!(reason)));
    }
    let key = keys::load(keypair).map_err(Ended::settings)?;
    let provider = settings.provider_keypair.as_deref().map(keys::load).transpose().map_err(Ended::settings)?;
    let state = Arc::new(StateDir::open(&settings.state_dir).map_err(Ended::settings)?);
    let leases = match settings.leases {
        settings::Leases::Serve => {
            let gpus = probe.hardware_class() != "cpu";
            workloads::open::open(&settings.workloads, &state, gpus).await.map_err(Ended::settings)?
        }
        settings::Leases::Leave => Leases::Leave,
    };
    let listener = http::listen(settings.listen, "--listen").await?;
    tracing::info!(listen = %settings.listen, rpc = ?settings.rpc, operator = %key.pubkey(), "agent started");

    let rpc: Arc<dyn Rpc> = rpc::connect(&settings.rpc, &settings.ws).map_err(Ended::settings)?;
    let ws = settings.ws.first().cloned().unwrap_or_else(|| HttpRpc::default_ws(&settings.rpc[0]));
    let pipeline = |key: Keypair, name: &str| {
        let store = DirectoryStore::open(&state.folder().join("pending").join(name)).map_err(Ended::settings)?;
        let (priority_fee, max_priority_fee) = (settings.priority_fee, settings.max_priority_fee);
        let sending = pipeline::Settings { priority_fee, max_priority_fee, ..pipeline::Settings::default() };
        Ok::<_, Ended>(Pipeline::new(rpc.clone(), Arc::new(key), Arc::new(store), sending))
    };
    let operator = pipeline(key.insecure_clone(), "operator")?;
    let provider = provider.map(|key| pipeline(key, "provider")).transpose()?;
    let (gpus, threads) = (probe.hardware_class() != "cpu", settings.threads);
    let every = std::thread::available_parallelism().ok();
    let threads = threads.or(every).unwrap_or(std::num::NonZeroUsize::MIN);
    let parts = Parts {
        key,
        container,
        probe: Arc::new(probe),
        devices: Arc::new(move || backend::open_all(gpus, threads)),
        chain: Arc::new(OnChain::new(rpc.clone(), Some(ws))),
        act: Arc::new(OnChainActs::new(Reader::new(rpc.clone()), operator, provider)),
        leases,
        state: state.clone(),
        threads,
        proof_memory: settings.proof_memory << 20,
        wanted: Wanted { endpoint: settings.endpoint, price_per_hour: settings.price_per_hour },
        policy: Policy { quiet: settings.fault_quiet, back: settings.fault_return, hottest: settings.max_temperature },
        inspect_every: INSPECT_EVERY,
        clear_faults: settings.clear_faults,
        check_endpoint: !settings.no_endpoint_check,
        relays: settings.relay,
        start_timeout: Duration::from_secs(settings.start_timeout),
    };
    Ok(run(parts, listener, service).await?)
}
