//! Running what users lease this host for, and letting them in.
//!
//! | file | does |
//! |---|---|
//! | [`policy`] | what this host takes on |
//! | [`open`] | the runtime that the settings ask for |
//! | `tenancy` | a lease on this host: what is known of it, and what of that is on disk |
//! | `life` | a workload's life: brought up, watched, brought up again when it was lost |
//! | [`usage`] | metering |
//! | `door` | who may hand over a workload or open a session: the lease's user, by the chain |
//! | [`sessions`] | tokens of those who were let in |
//! | `routes` | the HTTP interface for users |
//! | `line`, `streams`, `files` | WebSockets; output, commands and ports over them; copying files |
//!
//! A workload's way: handed over (`door`), judged ([`policy`]), put on disk; the follower of the chain ([`crate::leases`]) has it
//! brought up (`life`), says on chain that it runs, and ends it when the lease is over. What is kept of a lease is one record
//! in the state folder, removed once the workload is gone and its usage noted.

mod door;
mod files;
mod life;
mod line;
pub mod open;
pub mod policy;
mod routes;
pub mod sessions;
mod streams;
mod tenancy;
pub mod usage;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use datagalax_client::clock::unix_now;
use datagalax_protocol::lease::{End, State, Workload};
use datagalax_runtime::{Id, Runtime};
use futures_util::{FutureExt, future::BoxFuture};
use solana_pubkey::Pubkey;
use tokio::{
    sync::Notify,
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    chain::{Act, Chain, Lease, Phase},
    leases::{Declined, Status, Workloads, code},
    metrics::{Metrics, Noted},
    state::{StateDir, StateError},
};

pub use life::RESTARTS;
pub(crate) use routes::{Users, router};
pub use tenancy::STREAMS;

use policy::Policy;
use sessions::Sessions;
use tenancy::{PREFIX, Record, Tenancy, record_name};

/// How long the user of a lease that is over may still ask how it ended.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Most leases that are over and remembered.
const PAST: usize = 8;
/// Most attempts to note what a lease used that is over.
const LAST_ATTEMPTS: u32 = 4;

/// How workloads are run.
#[derive(Clone)]
pub struct Running {
    /// Who runs them.
    pub runtime: Arc<dyn Runtime>,
    /// What is taken on.
    pub policy: Policy,
    /// What a workload gets to end by itself.
    pub grace: Duration,
    /// How long before what was escrowed is used up the user is told.
    pub warn_before: Duration,
    /// How often usage is noted on chain.
    pub usage_every: Duration,
    /// Bounds on users' streams.
    pub patience: line::Patience,
}

pub use line::Patience;

/// Runs the workloads of one container's leases. Clones share it.
#[derive(Clone)]
pub struct Runner(Arc<Inner>);

struct Inner {
    running: Running,
    state: Arc<StateDir>,
    chain: Arc<dyn Chain>,
    act: Arc<dyn Act>,
    metrics: Metrics,
    /// Wakes the follower of the chain.
    look: Arc<Notify>,
    sessions: Sessions,
    tenancies: Mutex<BTreeMap<Pubkey, Arc<Tenancy>>>,
    /// The container's lease as it was last seen.
    current: Mutex<Option<Lease>>,
    /// Units of the container.
    units: AtomicU8,
    /// Seconds that the chain's clock is ahead of this host's.
    ahead: AtomicI64,
    /// What an earlier process left behind was looked for.
    swept: AtomicBool,
    closing: CancellationToken,
    tasks: TaskTracker,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds one of these locks can leave what it guards half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runner {
    /// Runs workloads this way and keeps records there; wakes `look` when the follower of the chain should act.
    pub fn new(
        running: Running,
        state: Arc<StateDir>,
        chain: Arc<dyn Chain>,
        act: Arc<dyn Act>,
        metrics: Metrics,
        look: Arc<Notify>,
    ) -> Self {
        Self(Arc::new(Inner {
            running,
            state,
            chain,
            act,
            metrics,
            look,
            sessions: Sessions::default(),
            tenancies: Mutex::default(),
            current: Mutex::default(),
            units: AtomicU8::new(0),
            ahead: AtomicI64::new(0),
            swept: AtomicBool::new(false),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Notes how many units the container has.
    pub fn set_units(&self, units: u8) {
        self.0.units.store(units, Ordering::Relaxed);
    }

    /// Ends what goes on here, but no workload: those outlive this process.
    pub async fn close(&self) {
        self.0.closing.cancel();
        for tenancy in self.tenancies() {
            if let Some(life) = lock(&tenancy.life).take() {
                life.abort();
            }
            // What was metered since it was last put there.
            if tenancy.facts().past.is_none() {
                self.save(&tenancy).await;
            }
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    pub(crate) fn runtime(&self) -> &dyn Runtime {
        self.0.running.runtime.as_ref()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(crate) fn patience(&self) -> Patience {
        self.0.running.patience
    }

    /// Whether this process ends, and not the leases.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.closing.is_cancelled()
    }

    fn look(&self) {
        self.0.look.notify_one();
    }

    fn tenancies(&self) -> Vec<Arc<Tenancy>> {
        lock(&self.0.tenancies).values().cloned().collect()
    }

    /// A lease that is here, or was a moment ago.
    pub(crate) fn find(&self, lease: &Pubkey) -> Option<Arc<Tenancy>> {
        lock(&self.0.tenancies).get(lease).cloned()
    }

    /// The container's lease as it was last seen.
    pub(crate) fn current(&self) -> Option<Lease> {
        *lock(&self.0.current)
    }

    /// Takes note of the container's lease.
    pub(crate) fn set_current(&self, lease: Option<Lease>) {
        *lock(&self.0.current) = lease;
    }

    /// The lease on this host, as an earlier process left it on disk.
    pub(crate) fn tenancy(&self, lease: &Lease) -> Result<Arc<Tenancy>, StateError> {
        let mut tenancies = lock(&self.0.tenancies);
        if let Some(known) = tenancies.get(&lease.address) {
            return Ok(known.clone());
        }
        let record: Record = self.0.state.read(&record_name(&lease.address))?;
        let tenancy = Arc::new(Tenancy::new(lease, record, self.0.closing.child_token()));
        tenancies.insert(lease.address, tenancy.clone());
        Ok(tenancy)
    }

    /// Wallets that have a lease here, or had one a moment ago.
    pub(crate) fn users(&self) -> Vec<Pubkey> {
        let known = self.tenancies().into_iter().map(|tenancy| tenancy.user);
        known.chain(self.current().map(|lease| lease.user)).collect()
    }

    /// This lease, if it is this user's and the container's, or was a moment ago.
    pub(crate) fn lease_of(&self, user: &Pubkey, lease: &Pubkey) -> Result<Option<Arc<Tenancy>>, StateError> {
        if let Some(known) = self.find(lease) {
            return Ok((known.user == *user).then_some(known));
        }
        match self.current().filter(|current| current.address == *lease && current.user == *user) {
            Some(current) => self.tenancy(&current).map(Some),
            None => Ok(None),
        }
    }

    /// Bytes on disk that a lease's workload may use.
    pub(crate) fn disk(&self, tenancy: &Tenancy) -> u64 {
        let asked = tenancy.workload().map_or(0, |workload| workload.disk);
        let most = self.0.running.policy.limits.disk;
        if asked == 0 { most } else { asked.min(most) }
    }

    /// Takes the workload of a lease on, and keeps it on disk.
    pub(crate) async fn take(&self, tenancy: &Tenancy, workload: &Workload) -> Result<(), Untaken> {
        let _turn = tenancy.taking.lock().await;
        if let Some(declined) = &tenancy.facts().declined {
            return Err(Untaken::Declined(declined.reason.clone()));
        }
        if tenancy.facts().record.workload.is_some() {
            return Ok(());
        }
        if let Err(reason) = self.0.running.policy.judge(workload) {
            let declined = Declined { code: code::DECLINED, reason: reason.clone() };
            tenancy.change(|facts| {
                facts.state = State::Ended { end: End::NotStarted { reason: reason.clone() } };
                facts.declined = Some(declined);
            });
            self.look();
            return Err(Untaken::Declined(reason));
        }
        let encoded = borsh::to_vec(workload).expect("borsh to memory");
        tenancy.change(|facts| facts.record.workload = Some(hex::encode(encoded)));
        if let Err(error) = tenancy.save(&self.0.state).await {
            tenancy.change(|facts| facts.record.workload = None);
            return Err(Untaken::State(error));
        }
        tenancy.step("waiting to be started");
        self.look();
        Ok(())
    }

    async fn save(&self, tenancy: &Tenancy) {
        if let Err(error) = tenancy.save(&self.0.state).await {
            tracing::error!(lease = %tenancy.lease, %error, "what a lease used is not on disk");
        }
    }

    /// The chain's time, as far as it can be told from here.
    fn chain_time(&self) -> i64 {
        unix_now().saturating_add(self.0.ahead.load(Ordering::Relaxed))
    }

    /// A running workload ran on for so long.
    fn meter(&self, tenancy: &Tenancy, elapsed: Duration) {
        let (watts, units, now) =
            (self.0.metrics.power_watts.get(), self.0.units.load(Ordering::Relaxed), self.chain_time());
        tenancy.change(|facts| {
            if facts.paid {
                facts.record.meter.ran(elapsed, watts, unix_now());
                facts.reckon(units, now);
            }
        });
    }

    async fn read_traffic(&self, tenancy: &Tenancy) {
        match self.runtime().traffic(&tenancy.id).await {
            Ok(Some(bytes)) => {
                let (units, now) = (self.0.units.load(Ordering::Relaxed), self.chain_time());
                tenancy.change(|facts| {
                    facts.record.meter.traffic(bytes);
                    facts.reckon(units, now);
                });
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(lease = %tenancy.lease, %error, "its traffic is not known"),
        }
    }

    /// Notes what a lease used on chain.
    async fn record(&self, lease: Pubkey, usage: datagalax_protocol::lease::Usage) -> bool {
        let recorded = self.0.act.record_usage(lease, usage).await;
        let outcome = if recorded.is_ok() { Noted::Noted } else { Noted::Failed };
        self.0.metrics.usage_records.get_or_create(&outcome).inc();
        if let Err(error) = &recorded {
            tracing::warn!(%lease, %error, "its usage is not noted on chain; the lease goes on");
        }
        recorded.is_ok()
    }

    /// Notes usage now and then until the lease is over.
    async fn record_regularly(self, tenancy: Arc<Tenancy>) {
        let mut noted = Default::default();
        let over = tenancy.over.clone();
        let recording = async {
            loop {
                time::sleep(self.0.running.usage_every).await;
                let usage = tenancy.facts().record.usage;
                if usage != noted && self.record(tenancy.lease, usage).await {
                    noted = usage;
                }
            }
        };
        over.run_until_cancelled(recording).await;
    }

    /// Notes the usage of a lease that is over a last time, and forgets it.
    fn settle(&self, lease: Pubkey, usage: datagalax_protocol::lease::Usage) {
        let (runner, closing) = (self.clone(), self.0.closing.clone());
        self.0.tasks.spawn(async move {
            let settling = async {
                let mut pause = Duration::from_secs(2);
                for _ in 0..LAST_ATTEMPTS {
                    if usage == Default::default() || runner.record(lease, usage).await {
                        break;
                    }
                    time::sleep(pause).await;
                    pause *= 3;
                }
                let (state, name) = (runner.0.state.clone(), record_name(&lease));
                let removed = tokio::task::spawn_blocking(move || state.remove(&name)).await;
                if let Ok(Err(error)) = removed {
                    tracing::error!(%lease, %error, "the record of a lease that is over is left");
                }
            };
            // What is cut off here is done after the next start.
            closing.run_until_cancelled(settling).await;
        });
    }

    /// Ends what earlier processes left of leases that are not the container's any more.
    fn sweep(&self, current: Option<&Lease>) {
        let names = match self.0.state.names(PREFIX) {
            Ok(names) => names,
            Err(error) => {
                tracing::error!(%error, "what is left of earlier leases is not known");
                return;
            }
        };
        for name in names {
            let lease = name.strip_prefix(PREFIX).and_then(|text| text.parse::<Pubkey>().ok());
            // One that was handed over a moment ago is newer than what the chain said then.
            let gone =
                |lease: &Pubkey| current.is_none_or(|current| current.address != *lease) && self.find(lease).is_none();
            let Some(lease) = lease.filter(gone) else { continue };
            let (runner, closing) = (self.clone(), self.0.closing.clone());
            self.0.tasks.spawn(async move {
                let ending = async {
                    if !runner.is_over(lease).await {
                        return;
                    }
                    tracing::info!(%lease, "left of a lease that is over; ending it");
                    let usage = runner.0.state.read::<Record>(&name).map(|record| record.usage).unwrap_or_default();
                    let id: Id = lease.to_string().parse().expect("an address is an id");
                    while let Err(error) = runner.runtime().stop(&id, runner.0.running.grace).await {
                        tracing::error!(%lease, %error, "something of a lease that is over is left");
                        time::sleep(REMEMBERED / 10).await;
                    }
                    runner.settle(lease, usage);
                };
                closing.run_until_cancelled(ending).await;
            });
        }
    }

    /// Waits until a lease is over by the chain; false when it is the container's after all: a node that lags must not end what
    /// is paid for.
    async fn is_over(&self, lease: Pubkey) -> bool {
        loop {
            match self.0.chain.lease(lease).await {
                _ if self.find(&lease).is_some() => return false,
                Ok(found) if found.is_none_or(|lease| lease.phase == Phase::Ended) => return true,
                Ok(_) => {}
                Err(error) => tracing::debug!(%lease, %error, "whether a lease is over is not known"),
            }
            time::sleep(REMEMBERED / 10).await;
        }
    }

    /// Tells the user before what was escrowed is used up, once for each end.
    async fn warn(&self, tenancy: &Tenancy, lease: &Lease, now: i64) {
        let left = lease.end.saturating_sub(now);
        let due = i64::try_from(self.0.running.warn_before.as_secs()).unwrap_or(i64::MAX);
        let runs = !matches!(tenancy.facts().state, State::Ended { .. });
        if !runs || left <= 0 || left > due || tenancy.facts().record.warned == lease.end {
            return;
        }
        let (seconds, end) = (u64::try_from(left).unwrap_or(0), u64::try_from(lease.end).unwrap_or(0));
        tenancy.change(|facts| facts.record.warned = lease.end);
        tenancy.notice(format!(
            "what was escrowed is used up in {}, at {}: the workload is stopped then and its files are removed; top up to go on",
            humantime::format_duration(Duration::from_secs(seconds)),
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(end)),
        ));
        self.save(tenancy).await;
    }

    /// Forgets leases that are over for a while.
    fn forget(&self) {
        let mut tenancies = lock(&self.0.tenancies);
        let mut past: Vec<(Instant, Pubkey)> =
            tenancies.values().filter_map(|tenancy| Some((tenancy.facts().past?, tenancy.lease))).collect();
        past.sort_unstable();
        let keep = past.len().saturating_sub(PAST);
        for (at, (since, lease)) in past.into_iter().enumerate() {
            if at < keep || since.elapsed() >= REMEMBERED {
                tenancies.remove(&lease);
                self.0.sessions.close(&lease);
            }
        }
    }
}

/// Why a workload is not taken.
pub(crate) enum Untaken {
    /// This host does not run it; a sentence for the user.
    Declined(String),
    /// It cannot be kept.
    State(StateError),
}

impl Workloads for Runner {
    fn seen<'a>(&'a self, lease: Option<&'a Lease>, now: i64) -> BoxFuture<'a, ()> {
        async move {
            self.0.ahead.store(now.saturating_sub(unix_now()), Ordering::Relaxed);
            self.set_current(lease.copied());
            if !self.0.swept.swap(true, Ordering::Relaxed) {
                self.sweep(lease);
            }
            self.forget();
            let Some(lease) = lease.filter(|lease| lease.phase == Phase::Started) else { return };
            let Some(tenancy) = self.find(&lease.address) else { return };
            let first = tenancy.change(|facts| {
                (facts.started, facts.ends) = (lease.started, lease.end);
                !std::mem::replace(&mut facts.paid, true)
            });
            if first {
                self.0.tasks.spawn(self.clone().record_regularly(tenancy.clone()));
            }
            self.warn(&tenancy, lease, now).await;
        }
        .boxed()
    }

    fn start<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), Declined>> {
        async move {
            let failed = |reason: String| Declined { code: code::FAILED, reason };
            let tenancy = self.tenancy(lease).map_err(|error| failed(error.to_string()))?;
            let Some(workload) = tenancy.workload() else { return Ok(()) };
            // Settings may have changed since it was taken.
            let run = self.0.running.policy.judge(&workload);
            let run = run.map_err(|reason| Declined { code: code::DECLINED, reason })?;
            let mut life = lock(&tenancy.life);
            if life.is_none() && tenancy.facts().past.is_none() {
                if tenancy.facts().paid {
                    // It was started by an earlier process, whose noting of usage ended with it.
                    self.0.tasks.spawn(self.clone().record_regularly(tenancy.clone()));
                }
                *life = Some(self.0.tasks.spawn(life::live(self.clone(), tenancy.clone(), run)));
            }
            Ok(())
        }
        .boxed()
    }

    fn stop(&self, lease: Pubkey) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let tenancy = self.find(&lease);
            if let Some(tenancy) = &tenancy {
                let life = lock(&tenancy.life).take();
                if let Some(life) = life {
                    life.abort();
                    // An error is that it was ended, which is what is wanted.
                    life.await.ok();
                    self.read_traffic(tenancy).await;
                }
            }
            let id: Id = lease.to_string().parse().map_err(|error| format!("{error}"))?;
            self.runtime().stop(&id, self.0.running.grace).await.map_err(|error| error.to_string())?;
            let Some(tenancy) = tenancy else { return Ok(()) };
            let usage = tenancy.change(|facts| {
                facts.past = Some(Instant::now());
                if !matches!(facts.state, State::Ended { .. }) {
                    facts.state = State::Ended { end: End::Stopped };
                }
                // Secrets are gone with the lease.
                facts.record.workload = None;
                facts.record.usage
            });
            self.0.sessions.close(&lease);
            tenancy.over.cancel();
            self.settle(lease, usage);
            Ok(())
        }
        .boxed()
    }

    fn status(&self, lease: Pubkey) -> BoxFuture<'_, Status> {
        async move {
            let Some(tenancy) = self.find(&lease) else { return Status::Absent };
            let alive = lock(&tenancy.life).is_some();
            let facts = tenancy.facts();
            match (&facts.declined, &facts.state) {
                _ if facts.past.is_some() => Status::Absent,
                (Some(declined), _) => Status::Failed(declined.clone()),
                (None, State::Awaited) => Status::Awaited,
                (None, State::Ended { .. } | State::Running) => Status::Running,
                (None, State::Starting { .. }) if alive => Status::Starting,
                // It was handed over, and nobody brings it up yet.
                (None, State::Starting { .. }) => Status::Absent,
            }
        }
        .boxed()
    }
}
