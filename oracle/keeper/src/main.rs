//! `datagalax-keeper`: moves the epochs of a Datagalax network on.

use std::{env, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use clap::{Parser, ValueEnum};
use datagalax_client::{
    Address, Pipeline, addresses, keys,
    pipeline::{DirectoryStore, Resolved, Settings},
    rpc::{self, Rpc},
};
use datagalax_keeper::{
    ClusterChain, Conduct, Keeper, Own, Seen,
    books::{Books, Entry, Fate},
    ledger::{Ledger, Recorder, reconcile},
    monitor::{Counted, Metrics, log_epoch, show},
    report,
};
use datagalax_service::{Ended, Health, Service, Shared, settings};
use solana_signer::Signer;
use tokio::sync::watch;

/// Longest time between two rounds before the keeper is thought to hang: a transaction is given up after some six minutes.
const HANGING: Duration = Duration::from_secs(15 * 60);
/// Seconds after which nothing that was sent can land any more, whatever its blockhash.
const SETTLED: i64 = 600;

/// Moves the epochs of a Datagalax network on: advances, churns, draws, seats and tallies, whenever one of them is due; opens and
/// closes cases, vacates rows, cancels, closes and settles leases. Anybody may run one. Several side by side share the work: each
/// action is one keeper's first, and another's only when it is still undone some seconds later.
#[derive(Clone, Debug, Parser)]
#[command(name = "datagalax-keeper", version)]
struct Options {
    /// JSON-RPC URL of a node; several (repeated, or separated by commas) stand in for each other, the first that answers first.
    #[arg(long, env = "DATAGALAX_RPC", default_value = "http://127.0.0.1:8899", value_name = "URL", value_delimiter = ',')]
    rpc: Vec<String>,
    /// WebSocket URL of each node, in the same order; without it, the RPC's port plus one.
    #[arg(long, env = "DATAGALAX_WS", value_name = "URL", value_delimiter = ',')]
    ws: Vec<String>,
    /// Solana JSON keypair file of the fee payer.
    #[arg(long, env = "DATAGALAX_KEYPAIR", value_name = "FILE")]
    keypair: PathBuf,
    /// Folder for the books and for transactions on their way, used by this keeper alone; without it, beside the keypair file.
    #[arg(long, env = "DATAGALAX_KEEPER_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Wallet that the fees go to; without it, the fee payer. What tells this keeper from others.
    #[arg(long, env = "DATAGALAX_KEEPER_WALLET", value_name = "ADDRESS")]
    wallet: Option<Address>,
    /// Which of several keepers with the same wallet this is: 0 for the first, 1 for its stand-in, which does only what all others left
    /// undone, and so on to 7. Two with the same number pay every fee twice.
    #[arg(long, env = "DATAGALAX_KEEPER_STAND_IN", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=7), value_name = "NUMBER")]
    stand_in: u32,
    /// Whether to open the wallet's keeper account, without which there are no fees.
    #[arg(long, env = "DATAGALAX_KEEPER_REGISTER", value_enum, default_value_t = Register::Missing, value_name = "WHEN")]
    register: Register,
    /// From how much on the pay is withdrawn to the wallet's token account, if it has one, base units (millionths of an ATH); 0 leaves
    /// that to `datagalax withdraw`.
    #[arg(long, env = "DATAGALAX_KEEPER_CLAIM", default_value_t = 10_000_000, value_name = "BASE-UNITS")]
    claim: u64,
    /// Epochs whose accounts are left for readers, at least 4. This keeper paid the rent of those it advanced to, some 0.004 SOL each,
    /// and takes it back after so many; and of a decided case after 30 days.
    #[arg(long, env = "DATAGALAX_KEEPER_KEEP_EPOCHS", default_value_t = 48, value_parser = clap::value_parser!(u32).range(4..), value_name = "EPOCHS")]
    keep_epochs: u32,
    /// Lamports of fees that 24 hours may cost; beyond it only what has a deadline is done. 0 for no limit.
    #[arg(long, env = "DATAGALAX_KEEPER_DAILY_BUDGET", default_value_t = 0, value_name = "LAMPORTS")]
    daily_budget: u64,
    /// Lamports of the fee payer below which the keeper says that it is not ready.
    #[arg(long, env = "DATAGALAX_KEEPER_LOW_BALANCE", default_value_t = 50_000_000, value_name = "LAMPORTS")]
    low_balance: u64,
    /// Least price of a compute unit in micro-lamports; more is paid where others pay more.
    #[arg(long, env = "DATAGALAX_KEEPER_PRIORITY_FEE", default_value_t = 0, value_name = "MICRO-LAMPORTS")]
    priority_fee: u64,
    /// Most that is ever paid for a compute unit, in micro-lamports; 0 pays no more than the signature. A transaction of nine tallies
    /// takes up to 1.4 million units: at the default 0.0014 SOL.
    #[arg(long, env = "DATAGALAX_KEEPER_MAX_PRIORITY_FEE", default_value_t = 1_000_000, value_name = "MICRO-LAMPORTS")]
    max_priority_fee: u64,
    /// Print what was paid and earned, by kind of action and by epoch, and exit; a keeper may be running meanwhile.
    #[arg(long)]
    report: bool,
    /// How --report prints.
    #[arg(long, value_enum, default_value_t = Output::Table, value_name = "FORM")]
    output: Output,
    #[command(flatten)]
    shared: Shared,
}

impl datagalax_service::Settings for Options {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// When to open the keeper's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Register {
    /// At the start, when there is none; the fee payer pays its rent.
    Missing,
    /// Never; an account that exists is named all the same.
    Never,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs: every epoch and kind.
    Json,
}

impl Options {
    fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| {
            let mut name = self.keypair.clone().into_os_string();
            name.push(".keeper");
            name.into()
        })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().collect();
    if arguments.iter().any(|argument| argument == "--report") {
        // What cannot be read as settings is told as ever.
        if let Ok(options) = settings::read::<Options>(arguments, |variable| env::var_os(variable)) {
            return print_report(&options);
        }
    }
    datagalax_service::serve(keep).await
}

fn print_report(options: &Options) -> ExitCode {
    let folder = options.state_dir();
    match Ledger::peek(&folder, 0) {
        Ok(sums) if options.output == Output::Json => println!("{:#}", report::json(&sums)),
        Ok(sums) => print!("{}", report::table(&sums)),
        Err(e) => {
            let path = Ledger::path(&folder);
            eprintln!("datagalax-keeper: no books at {} ({e}): name the keeper's folder with --state-dir", path.display());
            return ExitCode::from(datagalax_service::EXIT_FAILED);
        }
    }
    ExitCode::SUCCESS
}

/// `None` for 0.
fn some(value: u64) -> Option<u64> {
    (value > 0).then_some(value)
}

async fn keep(options: Options, service: Service<Metrics>) -> Result<(), Ended> {
    let Service { metrics, health, shutdown } = service;
    if options.priority_fee > options.max_priority_fee {
        let (least, most) = (options.priority_fee, options.max_priority_fee);
        return Err(Ended::Settings(anyhow!(
            "--priority-fee {least} is more than --max-priority-fee {most}: raise the latter"
        )));
    }
    let payer = Arc::new(keys::load(&options.keypair).map_err(Ended::settings)?);
    let rpc = rpc::connect(&options.rpc, &options.ws).map_err(Ended::settings)?;
    let folder = options.state_dir();
    let ledger = Ledger::open(&folder).context("--state-dir").map_err(Ended::Settings)?;
    let pending = DirectoryStore::open(&folder.join("pending")).context("--state-dir").map_err(Ended::Settings)?;
    let books: Arc<dyn Books> = Arc::new(Counted { books: Arc::new(ledger.clone()), metrics: metrics.clone() });
    let recorder = Arc::new(Recorder::new(Arc::new(pending), books.clone()));
    let settings =
        Settings { priority_fee: options.priority_fee, max_priority_fee: options.max_priority_fee, ..Settings::default() };
    let pipeline = Pipeline::new(rpc.clone(), payer.clone(), recorder.clone(), settings);
    let wallet = options.wallet.unwrap_or_else(|| payer.pubkey());
    let own = Own { wallet, claim_from: some(options.claim), keep_epochs: options.keep_epochs };
    let chain = ClusterChain::new(pipeline, recorder, &rpc.sockets(), own);
    let conduct = Conduct { me: wallet, stand_in: options.stand_in, daily_budget: some(options.daily_budget) };
    let mut keeper = Keeper::new(chain, conduct, books.clone());

    let stop = watch::Sender::new(false);
    let stopped = stop.subscribe();
    let asked = shutdown.clone();
    let work = async {
        tokio::select! {
            started = keeper.start() => started.map_err(anyhow::Error::from)?,
            () = asked.requested() => return Ok(()),
        }
        tracing::info!(rpc = rpc.url(), payer = %payer.pubkey(), %wallet, state = %folder.display(), "keeping");
        resolve(keeper.chain().pipeline(), books.as_ref()).await;
        if options.register == Register::Missing {
            match keeper.chain().register().await {
                Ok(true) => {
                    tracing::info!(account = %addresses::keeper(&wallet), "keeper registered: its fees are kept there")
                }
                Ok(false) => {}
                // Fees are small and epochs do not wait for them.
                Err(e) => tracing::warn!("the keeper's account could not be opened, so it gets no fees: {e}"),
            }
        }
        health.started();
        let teller =
            Teller { payer: payer.pubkey(), low: options.low_balance, metrics, health, rpc: rpc.clone(), ledger, books };
        let seen = keeper.seen();
        tokio::select! {
            () = keeper.run(stopped) => {}
            () = teller.tell(seen) => {}
        }
        anyhow::Ok(())
    };
    tokio::pin!(work);
    tokio::select! {
        outcome = &mut work => return Ok(outcome?),
        () = shutdown.requested() => {}
    }
    stop.send_replace(true);
    // Whatever takes longer than the grace period is in the pending store and is resolved at the next start.
    Ok(work.await?)
}

/// Finds out what became of what a stopped keeper left behind, and writes it into the books.
async fn resolve(pipeline: &Pipeline, books: &dyn Books) {
    match pipeline.resolve_pending().await {
        Ok(resolved) => {
            let open = books.open().await.unwrap_or_default();
            let of = |(pending, outcome): &(_, Resolved)| {
                let pending: &datagalax_client::pipeline::Pending = pending;
                let entry = open.iter().find(|entry| entry.signature == pending.signature())?;
                let fate = match outcome {
                    Resolved::Landed => Fate::Done,
                    Resolved::Failed(_) => Fate::Wasted,
                    Resolved::Expired => Fate::Expired,
                };
                Some(Entry { fate, ..*entry })
            };
            let entries = resolved.iter().filter_map(of).collect();
            if let Err(e) = books.write(entries).await {
                tracing::warn!("the books could not be written: {e}");
            }
            // All that was pending is resolved, so what is open still was settled before the keeper could write it down.
            if let Err(e) = reconcile(pipeline.rpc().as_ref(), books, i64::MAX).await {
                tracing::warn!("the books could not be brought up to date, and are once the node answers: {e}");
            }
        }
        // Keeping is idempotent on chain: what is still open there is refused or done, so work goes on.
        Err(e) => tracing::warn!("{e}"),
    }
}

/// Who tells what the keeper sees.
struct Teller {
    payer: Address,
    low: u64,
    metrics: Metrics,
    health: Health,
    rpc: Arc<dyn Rpc>,
    ledger: Ledger,
    books: Arc<dyn Books>,
}

impl Teller {
    /// Shows what the keeper sees until it ends; once an epoch, closes the one before in the books.
    async fn tell(&self, mut seen: watch::Receiver<Seen>) {
        let watchdog = self.health.watch("keeping", HANGING);
        let mut last = None;
        while seen.changed().await.is_ok() {
            watchdog.tick();
            let now = seen.borrow_and_update().clone();
            show(&now, &self.payer, self.low, &self.metrics, &self.health);
            if now.epoch == last {
                continue;
            }
            if let Some(before) = std::mem::replace(&mut last, now.epoch) {
                self.close(before, now.now).await;
            }
        }
    }

    async fn close(&self, epoch: u32, now: i64) {
        if let Err(e) = reconcile(self.rpc.as_ref(), self.books.as_ref(), now.saturating_sub(SETTLED)).await {
            tracing::warn!("the books could not be brought up to date, and are in the next epoch: {e}");
        }
        match self.books.sums(epoch).await {
            Ok(sums) => log_epoch(epoch, &sums),
            Err(e) => tracing::warn!("the books could not be read: {e}"),
        }
        if let Err(e) = self.ledger.fold(now).await {
            tracing::warn!("the books could not be folded: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_state_lies_beside_the_key() {
        let options = Options::parse_from(["datagalax-keeper", "--keypair", "/a/payer.json"]);
        assert_eq!(options.state_dir(), Path::new("/a/payer.json.keeper"));
    }
}
