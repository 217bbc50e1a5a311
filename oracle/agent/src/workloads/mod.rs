//! Running what users lease this host for, and letting them in.
//!
//! | file | does |
//! |---|---|
//! | [`policy`] | what this host takes on |
//! | [`open`] | the runtime that the settings ask for |
//! | `tenancy` | a lease on this host: what is known of it, and what of that is on disk |
//! | `life` | a workload's life: brought up, watched, brought up again when it was lost |
//! | `follow` | the leases as the chain has them: brought up, warned, ended, forgotten |
//! | [`usage`], `noting` | metering; what is noted of it on chain |
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
mod follow;
mod life;
mod line;
mod noting;
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
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering},
    },
    time::Duration,
};

use datagalax_protocol::lease::{End, State, Workload};
use datagalax_runtime::Runtime;
use solana_pubkey::Pubkey;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    chain::{Act, Chain, Lease},
    daemon::lock,
    leases::{Declined, code},
    metrics::Metrics,
    state::{StateDir, StateError},
};

pub use life::RESTARTS;
pub use line::Patience;
pub(crate) use routes::{Users, router};
pub use tenancy::STREAMS;

use policy::Policy;
use sessions::Sessions;
use tenancy::{Record, Tenancy, record_name};

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
    pub patience: Patience,
}

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
}

/// Why a workload is not taken.
pub(crate) enum Untaken {
    /// This host does not run it; a sentence for the user.
    Declined(String),
    /// It cannot be kept.
    State(StateError),
}
