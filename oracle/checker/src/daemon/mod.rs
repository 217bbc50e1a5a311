//! The loops, each in a room of its own: follow slots; measure the blocks of all seats; commit and reveal; claim and keep house.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use datagalax_protocol::Digest;
use datagalax_service::Health;
use tokio::sync::watch;

use self::reporting::{Refused, key};
use crate::{
    beacons::Beacons,
    chain::{Chain, Cluster, Finality},
    measure::Measurer,
    metrics::Metrics,
    record::Recorder,
    store::{EpochKey, SavedReport, Store},
};

mod following;
mod measuring;
mod reporting;
mod upkeep;

/// What a checker is made of.
pub struct Parts {
    /// The ids of the operator's checkers.
    pub ids: Vec<u32>,
    /// The network.
    pub cluster: Cluster,
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// The disk.
    pub store: Store,
    /// The measuring.
    pub measurer: Arc<Measurer>,
    /// The rest.
    pub options: Options,
    /// Whether it can work.
    pub health: Health,
    /// What it counts.
    pub metrics: Metrics,
}

/// How the daemon works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pause between two looks at the chain.
    pub poll: Duration,
    /// File for the last measured block's description.
    pub status: Option<PathBuf>,
    /// Most bytes of the store.
    pub disk: u64,
    /// Least accrued pay that is claimed, base units.
    pub claim_above: u64,
    /// Pause between two looks at the pay; zero: never.
    pub claim_every: Duration,
}

struct Daemon {
    ids: Vec<u32>,
    cluster: Cluster,
    chain: Arc<dyn Chain>,
    store: Store,
    recorder: Recorder,
    measurer: Arc<Measurer>,
    options: Options,
    health: Health,
    metrics: Metrics,
    state: Mutex<State>,
    /// Told when a beacon was found.
    news: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    beacons: Beacons,
    /// The epoch that beacons are of.
    epoch: Option<EpochKey>,
    noted: HashSet<(u64, Digest)>,
    settled: HashMap<(u64, Digest), Finality>,
    /// Reports that are not yet revealed or lost; the disk has them all.
    open: BTreeMap<Key, SavedReport>,
    /// What of those was refused last.
    refused: BTreeMap<Key, Refused>,
    /// The chain's clock when it was last read.
    now: i64,
}

type Key = (i64, u32, u32, u8);

/// Works until `stop` resolves. Everything that must not be lost is on disk at every instant; what was measured in the last half
/// second is written before it returns.
///
/// # Errors
/// The store cannot be read at start. Later trouble is logged and lived with.
pub async fn run(parts: Parts, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let Parts { ids, cluster, chain, store, measurer, options, health, metrics } = parts;
    let reports = store.open_reports().await.context("the reports of earlier runs cannot be read")?;
    let open = reports.into_iter().map(|report| (key(&report), report)).collect();
    let state = Mutex::new(State { open, ..State::default() });
    let (recorder, news) = (Recorder::start(store.clone()), watch::Sender::new(0));
    let daemon = Arc::new(Daemon { ids, cluster, chain, store, recorder, measurer, options, health, metrics, state, news });
    tracing::info!(checkers = ?daemon.ids, carried_on = daemon.state().open.len(), "checker started");
    daemon.health.started();
    tokio::select! {
        () = daemon.follow_slots() => {}
        () = daemon.settle_beacons() => {}
        () = daemon.clone().measure() => {}
        () = daemon.commit() => {}
        () = daemon.reveal() => {}
        () = daemon.claim() => {}
        () = daemon.keep_house() => {}
        () = stop => {}
    }
    daemon.recorder.flush().await;
    tracing::info!(to_reveal = daemon.state().open.len(), "stopping; what is to be revealed is kept");
    Ok(())
}

impl Daemon {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
