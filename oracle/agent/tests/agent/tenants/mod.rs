//! Leases from their users' side, over real TLS and real WebSockets on loopback.

mod access;
mod bounds;
mod escrow;
mod handover;
mod images;
mod lives;
mod processes;
mod runtime;

use std::{sync::Arc, time::Duration};

use datagalax_agent::{
    chain::{Lease, Phase},
    daemon::Leases,
    workloads::{Patience, Running, policy::Policy},
};
use datagalax_protocol::{
    Context,
    lease::{Port, State, Status, Workload},
};
use datagalax_runtime::{Limits, Runtime};
use datagalax_tenant::{Contexts, Tenant, TenantError};
use futures_util::future::{BoxFuture, FutureExt};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::fake::{self, Host, Setup, context, lease, until};

/// Far longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

struct Now;

impl Contexts for Now {
    fn context(&self) -> BoxFuture<'_, Result<Context, String>> {
        async { Ok(context()) }.boxed()
    }
}

/// How workloads are run in these tests, if nothing else is said.
pub fn running(runtime: Arc<dyn Runtime>) -> Running {
    let limits = Limits { memory: 256 << 20, disk: 8 << 20, processes: 40, files: 256, log: 1 << 20, ..Limits::default() };
    Running {
        runtime,
        policy: Policy { images: Vec::new(), takes_images: true, takes_processes: true, gpus: false, limits },
        grace: Duration::from_secs(2),
        warn_before: Duration::from_secs(300),
        usage_every: Duration::from_secs(3_600),
        patience: Patience::default(),
    }
}

pub fn script(text: &str) -> Workload {
    let port = Port { name: "ECHO".into(), number: 0 };
    Workload { command: ["sh", "-c", text].map(str::to_owned).to_vec(), ports: vec![port], ..Workload::default() }
}

pub fn image() -> Workload {
    Workload { image: Some(format!("example.org/a@sha256:{}", "0f".repeat(32))), ..Workload::default() }
}

/// A host, and somebody who has leased it.
pub struct Leased {
    pub host: Host,
    pub user: Arc<Keypair>,
    pub lease: Lease,
    pub tenant: Tenant,
}

pub fn setup(running: Running) -> Setup {
    Setup { leases: Leases::Run(running), ..Setup::default() }
}

/// A host with an open lease of this workload.
pub async fn leased(setup: Setup, workload: &Workload) -> Leased {
    let user = Arc::new(Keypair::new());
    let lease = Lease { workload_hash: workload.hash(), ..lease(user.pubkey(), Phase::Open) };
    let host = fake::ready_host(setup).await;
    host.chain.change(|registration| registration.lease = Some(lease));
    let tenant = tenant(&host, &user, lease.address);
    Leased { host, user, lease, tenant }
}

pub fn tenant(host: &Host, user: &Arc<Keypair>, lease: Pubkey) -> Tenant {
    Tenant::connect(&host.url, host.operator.pubkey(), Arc::new(Now), user.clone(), lease).unwrap()
}

/// Asks again while the host is not ready for it.
pub async fn asking<T, F: Future<Output = Result<T, TenantError>>>(ask: impl Fn() -> F) -> Result<T, TenantError> {
    for _ in 0..600 {
        match ask().await {
            Err(error) if error.is_passing() => tokio::time::sleep(Duration::from_millis(100)).await,
            other => return other,
        }
    }
    panic!("the host is not ready for ever");
}

impl Leased {
    pub async fn hand_over(&self, workload: &Workload) -> Result<(), TenantError> {
        asking(|| self.tenant.hand_over(workload)).await
    }

    pub async fn status(&self) -> Status {
        asking(|| self.tenant.status()).await.unwrap()
    }

    /// Asks for the status until it shows something.
    pub async fn shows<T>(&self, what: &str, shown: impl Fn(&Status) -> Option<T>) -> T {
        for _ in 0..3_000 {
            if let Some(shown) = shown(&self.status().await) {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("in vain waited for: {what}; it is {:?}", self.status().await);
    }

    /// Waits for a state of the workload.
    pub async fn comes(&self, what: &str, is: impl Fn(&State) -> bool) -> Status {
        self.shows(what, |status| is(&status.state).then(|| status.clone())).await
    }

    /// Hands the workload over, and waits until the chain has it started.
    pub async fn run(&self, workload: &Workload) {
        self.hand_over(workload).await.unwrap();
        until("the lease to be started", || self.host.chain.done().last().is_some_and(|last| last == "start")).await;
        self.shows("the agent to see it started", |status| status.ends).await;
    }

    /// The lease is over on chain.
    pub fn close(&self) {
        self.host.chain.change(|registration| registration.lease = None);
    }

    /// Whether something of the lease is on the host's disk.
    pub fn on_disk(&self) -> bool {
        self.host.state_path().join(format!("lease-{}.json", self.lease.address)).exists()
    }
}
