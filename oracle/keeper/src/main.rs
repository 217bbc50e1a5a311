//! `datagalax-keeper`: moves the epochs of a Datagalax network on.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Parser, ValueEnum};
use datagalax_client::{
    Address, Pipeline, keys,
    pipeline::{DirectoryStore, Settings},
    rpc::HttpRpc,
};
use datagalax_keeper::{ClusterChain, Conduct, Keeper};
use datagalax_service::{Ended, signals};
use solana_signer::Signer;
use tokio::{sync::watch, time::timeout};

/// How long actions on their way may take after a signal to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Moves the epochs of a Datagalax network on: advances, churns, draws, seats and tallies, whenever one of them is due; opens and
/// closes cases, vacates rows and settles leases. Anybody may run one; several side by side do no harm.
#[derive(Parser)]
#[command(name = "datagalax-keeper", version)]
struct Options {
    /// JSON-RPC URL of a node
    #[arg(long, env = "DATAGALAX_RPC", default_value = "http://127.0.0.1:8899", value_name = "URL")]
    rpc: String,
    /// WebSocket URL of the node; without it, the RPC's port plus one
    #[arg(long, env = "DATAGALAX_WS", value_name = "URL")]
    ws: Option<String>,
    /// Solana JSON keypair file of the fee payer
    #[arg(long, env = "DATAGALAX_KEYPAIR", value_name = "FILE")]
    keypair: PathBuf,
    /// Folder for transactions on their way, used by this keeper alone; without it, beside the keypair file
    #[arg(long, env = "DATAGALAX_KEEPER_PENDING", value_name = "DIR")]
    pending: Option<PathBuf>,
    /// Wallet that the fees go to, withdrawn with `datagalax withdraw`; without it, the fee payer
    #[arg(long, env = "DATAGALAX_KEEPER_WALLET", value_name = "ADDRESS")]
    wallet: Option<Address>,
    /// Whether to open the wallet's keeper account, without which there are no fees
    #[arg(long, env = "DATAGALAX_KEEPER_REGISTER", value_enum, default_value_t = Register::Missing, value_name = "WHEN")]
    register: Register,
    /// Price of a compute unit in micro-lamports
    #[arg(long, default_value_t = 0, value_name = "MICRO-LAMPORTS")]
    priority_fee: u64,
    /// What to log: error, warn, info, debug, trace, or a filter such as `warn,datagalax_keeper=debug`
    #[arg(long, env = "DATAGALAX_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
}

/// When to open the keeper's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Register {
    /// At the start, when there is none; the fee payer pays its rent.
    Missing,
    /// Never; an account that exists is named all the same.
    Never,
}

#[tokio::main]
async fn main() -> ExitCode {
    datagalax_service::run("datagalax-keeper", |options: &Options| &options.log, keep).await
}

async fn keep(options: Options) -> Result<(), Ended> {
    let (stop_sender, stop) = watch::channel(false);
    let signalled = signals()?;
    let payer = Arc::new(keys::load(&options.keypair).map_err(Ended::settings)?);
    let ws = options.ws.unwrap_or_else(|| HttpRpc::default_ws(&options.rpc));
    let rpc = Arc::new(HttpRpc::new(&options.rpc, Some(&ws)));
    let pending = options.pending.unwrap_or_else(|| {
        let mut name = options.keypair.clone().into_os_string();
        name.push(".pending");
        name.into()
    });
    let store = DirectoryStore::open(&pending).map_err(|e| Ended::Settings(anyhow::Error::from(e).context("--pending")))?;
    let settings = Settings { priority_fee: options.priority_fee, ..Settings::default() };
    let pipeline = Pipeline::new(rpc, payer.clone(), Arc::new(store), settings);
    let wallet = options.wallet.unwrap_or_else(|| payer.pubkey());
    let conduct = Conduct { me: wallet, daily_budget: None };
    let books = Arc::new(datagalax_keeper::books::MemoryBooks::default());
    let mut keeper = Keeper::new(ClusterChain::new(pipeline, Some(&ws), wallet, None), conduct, books);

    let work = async {
        let mut stopped = stop.clone();
        tokio::select! {
            started = keeper.start() => started?,
            _ = stopped.changed() => return Ok(()),
        }
        tracing::info!(rpc = options.rpc, payer = %payer.pubkey(), "keeping");
        if let Err(e) = keeper.chain().pipeline().resolve_pending().await {
            // Keeping is idempotent on chain: what is still open there is refused or done, so work goes on.
            tracing::warn!("{e}");
        }
        if options.register == Register::Missing {
            match keeper.chain().register().await {
                Ok(true) => tracing::info!(%wallet, "keeper registered: its fees are kept for this wallet"),
                Ok(false) => {}
                // Fees are small and epochs do not wait for them.
                Err(e) => tracing::warn!("the keeper's account could not be opened, so it gets no fees: {e}"),
            }
        }
        keeper.run(stop).await;
        anyhow::Ok(())
    };
    tokio::pin!(work);
    tokio::select! {
        outcome = &mut work => return Ok(outcome?),
        () = signalled => {}
    }
    tracing::info!("stopping");
    stop_sender.send_replace(true);
    // Whatever takes longer is in the pending store and is resolved at the next start.
    match timeout(GRACE, work).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Ok(()),
    }
}
