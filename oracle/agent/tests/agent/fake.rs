//! An agent over real HTTP on loopback, with a chain made up for the test.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use datagalax::state::ClassTerms;
use datagalax_agent::{
    chain::{
        Act, Chain, ChainError, Cluster, Committee, Lease, Offer, Phase, Registration, SeenSlot, Slots, SlotsError, Wake,
        Watched,
    },
    daemon::{Leases, Parts, run},
    faults::fitness::{Policy, Return},
    metrics::Metrics,
    offer::Wanted,
    state::StateDir,
};
use datagalax_gpu::{
    HostProbe, Probe, ProbeError, RecordedProbe,
    ask::Ask,
    backend,
    beacon::{Slot, Watch, Window},
    probe::Recording,
};
use datagalax_protocol::{Context, Envelope, Expected, Inspection, Payload, lease::Usage};
use datagalax_relay::tunnel::RelayAddress;
use datagalax_service::{
    Health, Service, Shutdown,
    metrics::{Metrics as _, Registry},
};
use futures_util::future::{BoxFuture, FutureExt};
use reqwest::StatusCode;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

pub const EPOCH: u32 = 4;
pub const CONTAINER: Pubkey = Pubkey::new_from_array([3; 32]);
pub const CLUSTER: Cluster = Cluster { genesis_hash: [1; 32], program: Pubkey::new_from_array([2; 32]) };
/// Beacons come after this slot.
pub const DRAW_SLOT: u64 = 100;

/// The chain of the test: what the test sets, and what the agent did.
pub struct FakeChain {
    pub registration: Mutex<Option<Registration>>,
    pub committee: Mutex<Result<Committee, ChainError>>,
    pub looks: AtomicU32,
    pub done: Mutex<Vec<String>>,
    pub can_offer: bool,
    pub ahead: Mutex<i64>,
    pub lamports: Mutex<u64>,
    /// What the agent noted of leases' usage.
    pub usage: Mutex<Vec<(Pubkey, Usage)>>,
    pub refuse_usage: Mutex<bool>,
    asked: AtomicU64,
    slots: mpsc::UnboundedSender<Vec<SeenSlot>>,
    told: Mutex<Option<mpsc::UnboundedReceiver<Vec<SeenSlot>>>>,
    changed: watch::Sender<u32>,
}

impl FakeChain {
    /// A slot is seen by the agent.
    pub fn tell(&self, number: u64, hash: u8) {
        let slot = Slot { number, hash: [hash; 32], time: number as i64 };
        self.slots.send(vec![SeenSlot { slot, seen: Instant::now() }]).unwrap();
    }

    /// Changes the container's account and tells the agent that it changed.
    pub fn change(&self, change: impl FnOnce(&mut Registration)) {
        change(self.registration.lock().unwrap().as_mut().unwrap());
        self.changed.send_modify(|n| *n += 1);
    }

    /// Changes the container's lease and tells the agent.
    pub fn change_lease(&self, change: impl FnOnce(&mut Lease)) {
        self.change(|registration| change(registration.lease.as_mut().expect("there is a lease")));
    }

    /// How often the container's account was read.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }
}

impl Chain for FakeChain {
    fn cluster(&self) -> BoxFuture<'_, Result<Cluster, ChainError>> {
        async { Ok(CLUSTER) }.boxed()
    }

    fn time(&self) -> BoxFuture<'_, Result<i64, ChainError>> {
        async { Ok(now() + *self.ahead.lock().unwrap()) }.boxed()
    }

    fn registration(&self, container: Pubkey) -> BoxFuture<'_, Result<Option<Registration>, ChainError>> {
        assert_eq!(container, CONTAINER);
        self.asked.fetch_add(1, Ordering::SeqCst);
        async { Ok(self.registration.lock().unwrap().clone()) }.boxed()
    }

    fn committee<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Committee, ChainError>> {
        assert_eq!(registration.block, 9);
        self.looks.fetch_add(1, Ordering::SeqCst);
        async { self.committee.lock().unwrap().clone() }.boxed()
    }

    fn lease(&self, address: Pubkey) -> BoxFuture<'_, Result<Option<Lease>, ChainError>> {
        let known = self.registration.lock().unwrap().as_ref().and_then(|known| known.lease);
        async move { Ok(known.filter(|lease| lease.address == address)) }.boxed()
    }

    fn slots(&self) -> Box<dyn Slots> {
        Box::new(Told(self.told.lock().unwrap().take().unwrap()))
    }

    fn changes(&self, _: Watched) -> Box<dyn Wake> {
        Box::new(Woken(self.changed.subscribe()))
    }
}

struct Told(mpsc::UnboundedReceiver<Vec<SeenSlot>>);

impl Slots for Told {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<SeenSlot>, SlotsError>> {
        async {
            match self.0.recv().await {
                Some(slots) => Ok(slots),
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

struct Woken(watch::Receiver<u32>);

impl Wake for Woken {
    fn next(&mut self, longest: Duration) -> BoxFuture<'_, ()> {
        async move { drop(tokio::time::timeout(longest, self.0.changed()).await) }.boxed()
    }
}

impl Act for FakeChain {
    fn reject(&self, lease: Pubkey, code: u16) -> BoxFuture<'_, Result<(), ChainError>> {
        async move {
            self.done.lock().unwrap().push(format!("reject {code}"));
            self.change(|registration| registration.lease = registration.lease.filter(|known| known.address != lease));
            Ok(())
        }
        .boxed()
    }

    fn start(&self, lease: Pubkey) -> BoxFuture<'_, Result<(), ChainError>> {
        async move {
            self.done.lock().unwrap().push("start".into());
            self.change_lease(|known| {
                assert_eq!((known.address, known.phase), (lease, Phase::Open));
                (known.phase, known.started, known.end) = (Phase::Started, now(), now() + 3_600);
            });
            Ok(())
        }
        .boxed()
    }

    fn record_usage(&self, lease: Pubkey, usage: Usage) -> BoxFuture<'_, Result<(), ChainError>> {
        async move {
            self.usage.lock().unwrap().push((lease, usage));
            match *self.refuse_usage.lock().unwrap() {
                true => Err(ChainError("no fees left".into())),
                false => Ok(()),
            }
        }
        .boxed()
    }

    fn offer<'a>(&'a self, _: Pubkey, offer: &'a Offer) -> BoxFuture<'a, Result<(), ChainError>> {
        async move {
            self.done.lock().unwrap().push(format!("offer {} {} {}", offer.endpoint, offer.price_per_hour, offer.accepting));
            self.change(|registration| registration.offer = offer.clone());
            Ok(())
        }
        .boxed()
    }

    fn can_offer(&self) -> bool {
        self.can_offer
    }

    fn funds(&self) -> BoxFuture<'_, Result<Vec<(Pubkey, u64)>, ChainError>> {
        async { Ok(vec![(CONTAINER, *self.lamports.lock().unwrap())]) }.boxed()
    }

    fn resolve(&self) -> BoxFuture<'_, Result<(), ChainError>> {
        async { Ok(()) }.boxed()
    }
}

/// A probe whose recording the test changes.
pub struct Played(pub Mutex<RecordedProbe>, [u8; 32]);

impl Played {
    pub fn new(recording: Recording) -> Self {
        let probe = RecordedProbe::new(recording, "test").unwrap();
        let fingerprint = probe.fingerprint();
        Self(probe.into(), fingerprint)
    }

    pub fn play(&self, recording: Recording) {
        *self.0.lock().unwrap() = RecordedProbe::new(recording, "test").unwrap();
    }
}

impl Probe for Played {
    fn measure(&self, now: i64) -> Result<datagalax_protocol::Metrics, ProbeError> {
        self.0.lock().unwrap().measure(now)
    }
    fn inspect(&self, now: i64) -> Result<Inspection, ProbeError> {
        self.0.lock().unwrap().inspect(now)
    }
    fn fingerprint(&self) -> [u8; 32] {
        self.1
    }
    fn hardware_class(&self) -> &str {
        "cpu"
    }
}

pub fn recording(name: &str) -> Recording {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../gpu/tests/recordings", &format!("{name}.json")].iter().collect();
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What a test does to the registration.
pub type Change = Box<dyn FnOnce(&mut Option<Registration>)>;

/// How a host of the test differs from the usual one.
pub struct Setup {
    pub probe: Arc<dyn Probe>,
    pub registration: Change,
    pub wanted: Wanted,
    pub can_offer: bool,
    pub state: Arc<TempDir>,
    pub key: Keypair,
    pub policy: Policy,
    /// Every slot after the draw slot is a beacon, or none.
    pub modulus: u64,
    pub proof_memory: u64,
    pub clear_faults: bool,
    pub lamports: u64,
    pub relays: Vec<RelayAddress>,
    pub leases: Leases,
}

impl Default for Setup {
    fn default() -> Self {
        let settings = datagalax_gpu::Settings { agent_version: "test".into(), gpus: false, machine_id: None };
        Self {
            probe: Arc::new(HostProbe::open(settings).unwrap()),
            registration: Box::new(|_| {}),
            wanted: Wanted::default(),
            can_offer: false,
            state: Arc::new(tempfile::tempdir().unwrap()),
            key: Keypair::new(),
            policy: Policy { quiet: Duration::from_secs(600), back: Return::Automatic, hottest: 90 },
            modulus: 1,
            proof_memory: 256 << 20,
            clear_faults: false,
            lamports: 1_000_000_000,
            relays: Vec::new(),
            leases: Leases::Decline,
        }
    }
}

pub struct Host {
    pub url: String,
    pub address: std::net::SocketAddr,
    pub chain: Arc<FakeChain>,
    pub operator: Keypair,
    pub fingerprint: [u8; 32],
    pub checker: Keypair,
    pub metrics: Metrics,
    pub health: Health,
    /// Kept as long as the host runs.
    _state: Arc<TempDir>,
    pub shutdown: Shutdown,
    pub task: JoinHandle<anyhow::Result<()>>,
    http: reqwest::Client,
}

/// What a class of processors asks.
pub fn ask() -> Ask {
    let terms = ClassTerms { reference_throughput: 1_000_000_000, active: 1, ..ClassTerms::default() };
    Ask::of(&terms, 1, false).unwrap()
}

fn beacons(modulus: u64) -> Watch {
    let window = Window {
        draw_slot: DRAW_SLOT,
        end: 1_000_000,
        length: 1_000_000,
        commit_lead: 0,
        answer: Duration::ZERO,
        finality: Duration::ZERO,
    };
    Watch::new(window, NonZeroU64::new(modulus).unwrap())
}

/// The committee of an epoch.
pub fn committee(epoch: u32, operators: Vec<Pubkey>, modulus: u64) -> Committee {
    Committee { epoch, operators, remaining: 600, beacons: Some(beacons(modulus)), ask: Ok(ask()) }
}

pub fn lease(user: Pubkey, phase: Phase) -> Lease {
    let (address, start_by, end) = (Pubkey::new_from_array([7; 32]), now() + 600, now() + 3_600);
    Lease { address, user, phase, start_by, started: 0, end, workload_hash: [0; 32] }
}

/// A host that answers its checker.
pub async fn host(setup: Setup) -> Host {
    let Setup {
        probe,
        registration: change,
        wanted,
        can_offer,
        state,
        key,
        policy,
        modulus,
        proof_memory,
        clear_faults,
        lamports,
        relays,
        leases,
    } = setup;
    let checker = Keypair::new();
    let fingerprint = probe.fingerprint();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let offer = Offer { endpoint: format!("http://{address}"), accepting: true, minimum_lease: 600, ..Offer::default() };
    let mut registration = Some(Registration {
        block: 9,
        row: 0,
        gpus: 1,
        class: 0,
        minimum_memory: 0,
        provider: 0,
        operator: key.pubkey(),
        fingerprint,
        offer,
        lease: None,
    });
    change(&mut registration);
    let (slots, told) = mpsc::unbounded_channel();
    let chain = Arc::new(FakeChain {
        registration: Mutex::new(registration),
        committee: Mutex::new(Ok(committee(EPOCH, vec![checker.pubkey()], modulus))),
        looks: AtomicU32::new(0),
        done: Mutex::default(),
        can_offer,
        ahead: Mutex::default(),
        lamports: Mutex::new(lamports),
        usage: Mutex::default(),
        refuse_usage: Mutex::default(),
        asked: AtomicU64::new(0),
        slots,
        told: Mutex::new(Some(told)),
        changed: watch::Sender::new(0),
    });
    // A host that was stopped a moment ago may be writing its last record.
    let mut opened = None;
    until("the state to be free", || {
        opened = StateDir::open(state.path()).ok();
        opened.is_some()
    })
    .await;
    let state_dir = opened.unwrap();
    let threads = NonZeroUsize::new(2).unwrap();
    let (health, shutdown) = (Health::default(), Shutdown::default());
    let metrics = Metrics::register(&mut Registry::default());
    let service = Service { metrics: metrics.clone(), health: health.clone(), shutdown: shutdown.clone() };
    let operator = key.insecure_clone();
    let parts = Parts {
        key,
        container: CONTAINER,
        probe,
        devices: Arc::new(move || backend::open_all(false, threads)),
        chain: chain.clone(),
        act: chain.clone(),
        leases,
        state: Arc::new(state_dir),
        threads,
        proof_memory,
        wanted,
        policy,
        inspect_every: Duration::from_millis(50),
        clear_faults,
        check_endpoint: true,
        relays,
        start_timeout: Duration::ZERO,
    };
    let task = tokio::spawn(run(parts, listener, service));
    let (url, http) = (format!("http://{address}"), reqwest::Client::new());
    Host { url, address, chain, operator, fingerprint, checker, metrics, health, _state: state, shutdown, task, http }
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("in vain waited for: {what}");
}

pub async fn ready_host(setup: Setup) -> Host {
    let host = host(setup).await;
    let ready =
        || host.health.reasons().is_empty() && host.chain.looks.load(Ordering::SeqCst) > 0 || host.task.is_finished();
    for _ in 0..6_000 {
        if ready() {
            return host;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the agent does not get ready: {:?}", host.health.reasons());
}

pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

pub fn context() -> Context {
    Context { genesis_hash: CLUSTER.genesis_hash, program: CLUSTER.program, subject: CONTAINER, epoch: EPOCH }
}

pub fn sign<P: Payload>(payload: &P, nonce: u8, key: &Keypair) -> Envelope {
    Envelope::sign(&context(), payload, [nonce; 16], now(), key).unwrap()
}

impl Host {
    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    pub async fn post(&self, path: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let answer = self.http.post(format!("{}{path}", self.url)).body(body).send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap().to_vec())
    }

    /// Asks and checks the answer as a checker would.
    pub async fn ask<Q: Payload, A: Payload>(&self, path: &str, question: &Q, nonce: u8, key: &Keypair) -> A {
        let request = sign(question, nonce, key);
        let (status, body) = self.post(path, request.encode()).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let signers = [self.operator.pubkey()];
        let expected = Expected { context: context(), nonce: Some(request.nonce), signers: &signers, now: now() };
        Envelope::decode(&body).unwrap().verify(&expected).unwrap()
    }

    pub async fn refusal(&self, path: &str, body: Vec<u8>) -> (StatusCode, String) {
        let (status, body) = self.post(path, body).await;
        (status, String::from_utf8(body).unwrap())
    }

    /// The folder of what it keeps.
    pub fn state_path(&self) -> &std::path::Path {
        self._state.path()
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.request();
        self.task.await.unwrap()
    }
}
