//! A chain and agents made up for the tests. The chain keeps the program's rules about commits and reveals; the honest agent
//! is the real one.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Router, body::Bytes, extract::State, response::Response, routing::post};
use datagalax::report::{Seating, commitment};
use datagalax_agent::{
    chain::{Chain as AgentChain, ChainError as AgentError, Cluster as AgentCluster, Committee, Registration},
    daemon::Parts as AgentParts,
};
use datagalax_checker::chain::{
    Chain, ChainError, Cluster, EpochView, Reveal, RevealWindow, SeatRef, SeatState, Seats, Target,
};
use datagalax_gpu::{HostProbe, Probe};
use datagalax_protocol::{
    CapacityAnswer, CapacityRequest, Context, Digest, Envelope, LivenessAnswer, Metrics, OpenAnswer, OpenRequest, OpenedRow,
    Payload, merkle::Tree, path,
};
use futures_util::{FutureExt, future::BoxFuture};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tokio::net::TcpListener;

pub const EPOCH: u32 = 4;
pub const CHECKER: u32 = 7;
pub const CLUSTER: Cluster = Cluster { genesis_hash: [1; 32], program: Pubkey::new_from_array([2; 32]) };

pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

pub fn container(row: u8) -> Pubkey {
    Pubkey::new_from_array([row + 100; 32])
}

/// A chain with one block, seated in one epoch.
pub struct FakeChain {
    pub start: i64,
    pub end: i64,
    pub measure_until: i64,
    pub reveal_until: i64,
    pub targets: Vec<Target>,
    pub seat: Mutex<SeatState>,
    pub revealed: Mutex<Option<[u8; 768]>>,
    pub commits: AtomicU32,
    /// Commits do not land and the node says so.
    pub refuse_commits: AtomicBool,
    /// Commits land, but the answer gets lost.
    pub lose_answers: AtomicBool,
}

impl FakeChain {
    /// An epoch of `length` seconds that begins now, measured until two seconds before its end.
    pub fn new(length: i64, targets: Vec<Target>) -> Arc<Self> {
        let start = now();
        Arc::new(Self {
            start,
            end: start + length,
            measure_until: start + length - 2,
            reveal_until: start + length + 5,
            targets,
            seat: Mutex::new(SeatState { checker: CHECKER, commitment: [0; 32], revealed: false }),
            revealed: Mutex::default(),
            commits: AtomicU32::new(0),
            refuse_commits: AtomicBool::new(false),
            lose_answers: AtomicBool::new(false),
        })
    }

    pub fn commitment(&self) -> Digest {
        self.seat.lock().unwrap().commitment
    }

    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..300 {
            if condition(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited 15 s for {what}");
    }
}

fn refused(message: &str) -> ChainError {
    ChainError { message: message.into(), transient: false }
}

fn lost() -> ChainError {
    ChainError { message: "no answer from the node".into(), transient: true }
}

impl Chain for FakeChain {
    fn cluster(&self) -> BoxFuture<'_, Result<Cluster, ChainError>> {
        async { Ok(CLUSTER) }.boxed()
    }

    fn operator(&self, _: u32) -> BoxFuture<'_, Result<Option<Pubkey>, ChainError>> {
        async { Ok(None) }.boxed()
    }

    fn epoch(&self) -> BoxFuture<'_, Result<EpochView, ChainError>> {
        let Self { start, end, measure_until, .. } = *self;
        let now = now();
        let view = if now < end {
            EpochView { number: EPOCH, now, start, end, measure_until, drawn: true }
        } else {
            let (start, end) = (end, end + 1_000);
            EpochView { number: EPOCH + 1, now, start, end, measure_until: end, drawn: false }
        };
        async move { Ok(view) }.boxed()
    }

    fn seats(&self, epoch: u32, checker: u32) -> BoxFuture<'_, Result<Seats, ChainError>> {
        assert_eq!((epoch, checker), (EPOCH, CHECKER));
        async { Ok(Seats { seated: vec![SeatRef { block: 0, epoch: EPOCH, seat: 1 }], waiting: 0 }) }.boxed()
    }

    fn targets(&self, _: u32) -> BoxFuture<'_, Result<Vec<Target>, ChainError>> {
        async { Ok(self.targets.clone()) }.boxed()
    }

    fn seat(&self, _: SeatRef) -> BoxFuture<'_, Result<Option<SeatState>, ChainError>> {
        async { Ok(Some(*self.seat.lock().unwrap())) }.boxed()
    }

    fn reveal_window(&self, _: u32) -> BoxFuture<'_, Result<RevealWindow, ChainError>> {
        let window = RevealWindow { now: now(), opens: self.end, closes: self.reveal_until, epoch_start: self.start };
        async move { Ok(window) }.boxed()
    }

    fn commit(&self, at: SeatRef, checker: u32, commitment: Digest) -> BoxFuture<'_, Result<(), ChainError>> {
        assert_eq!((at.epoch, checker), (EPOCH, CHECKER));
        async move {
            if self.refuse_commits.load(Ordering::SeqCst) {
                return Err(lost());
            }
            if now() >= self.end {
                return Err(refused("OutsideCommitWindow"));
            }
            self.commits.fetch_add(1, Ordering::SeqCst);
            self.seat.lock().unwrap().commitment = commitment;
            if self.lose_answers.swap(false, Ordering::SeqCst) { Err(lost()) } else { Ok(()) }
        }
        .boxed()
    }

    fn reveal<'a>(&'a self, at: SeatRef, report: Reveal<'a>) -> BoxFuture<'a, Result<(), ChainError>> {
        async move {
            let time = now();
            if time < self.end || time >= self.reveal_until {
                return Err(refused("OutsideRevealWindow"));
            }
            let mut seat = self.seat.lock().unwrap();
            let seating = Seating {
                program: &CLUSTER.program,
                genesis_hash: &CLUSTER.genesis_hash,
                block: at.block,
                epoch: at.epoch,
                seat: at.seat,
                checker: seat.checker,
            };
            if commitment(&seating, report.salt, report.evidence_root, report.values.as_bytes()) != seat.commitment {
                return Err(refused("CommitmentMismatch"));
            }
            seat.commitment = *report.evidence_root;
            seat.revealed = true;
            *self.revealed.lock().unwrap() = Some(*report.values.as_bytes());
            Ok(())
        }
        .boxed()
    }
}

/// What the real agent needs of the chain: it is registered, and one checker has a seat.
struct AgentView {
    registration: Registration,
    checker: Pubkey,
}

impl AgentChain for AgentView {
    fn cluster(&self) -> BoxFuture<'_, Result<AgentCluster, AgentError>> {
        async { Ok(AgentCluster { genesis_hash: CLUSTER.genesis_hash, program: CLUSTER.program }) }.boxed()
    }

    fn registration(&self, _: Pubkey) -> BoxFuture<'_, Result<Option<Registration>, AgentError>> {
        async { Ok(Some(self.registration.clone())) }.boxed()
    }

    fn committee(&self, _: u32) -> BoxFuture<'_, Result<Committee, AgentError>> {
        async { Ok(Committee { epoch: EPOCH, operators: vec![self.checker], remaining: 600 }) }.boxed()
    }
}

/// Starts the real agent on this host, and says how it would be registered.
pub async fn honest(row: u8, checker: &Pubkey) -> Target {
    let probe = HostProbe::open(datagalax_gpu::Settings { agent_version: "test".into(), gpus: false, machine_id: None });
    let probe = Arc::new(probe.unwrap());
    let key = Keypair::new();
    let (operator, fingerprint) = (key.pubkey(), probe.fingerprint());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let registration = Registration { block: 0, row, operator, fingerprint, endpoint: endpoint.clone() };
    let parts = AgentParts {
        key,
        container: container(row),
        probe,
        chain: Arc::new(AgentView { registration, checker: *checker }),
        threads: NonZeroUsize::new(1),
        start_timeout: Duration::ZERO,
    };
    tokio::spawn(datagalax_agent::daemon::run(parts, listener, std::future::pending()));
    Target { row, container: container(row), operator, endpoint, reference: 1_000 }
}

/// How an agent misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None: to see that it is the fault that is caught.
    None,
    /// Signs with another key than the registered one.
    WrongKey,
    /// Signs for the epoch before.
    WrongEpoch,
    /// Gives the first answer it ever gave to every question.
    Replays,
    /// Answers with an endless body.
    Oversized,
    /// Accepts the question and never answers.
    Hangs,
    /// Sends a byte now and then.
    Trickles,
    /// Answers something that is no message.
    Garbage,
    /// Always says that it is busy.
    Busy,
    /// Commits to made-up rows.
    Lies,
    /// Opens other rows than those asked for.
    OpensOthers,
    /// Answers the challenge too late.
    Slow,
}

struct Bad {
    fault: Fault,
    key: Keypair,
    container: Pubkey,
    first: Mutex<HashMap<&'static str, Vec<u8>>>,
    tree: Mutex<Option<(Tree, Vec<Digest>)>>,
}

/// Starts an agent with a fault.
pub async fn bad(row: u8, fault: Fault) -> Target {
    let key = Keypair::new();
    let operator = key.pubkey();
    let key = if fault == Fault::WrongKey { Keypair::new() } else { key };
    let agent = Arc::new(Bad { fault, key, container: container(row), first: Mutex::default(), tree: Mutex::default() });
    let router = Router::new()
        .route(path::LIVENESS, post(liveness))
        .route(path::CAPACITY, post(capacity))
        .route(path::OPEN, post(open))
        .with_state(agent);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    Target { row, container: container(row), operator, endpoint, reference: 1_000 }
}

async fn liveness(State(agent): State<Arc<Bad>>, body: Bytes) -> Response {
    let request = Envelope::decode(&body).unwrap();
    let answer = LivenessAnswer { request: request.digest(), metrics: Metrics::default() };
    agent.answer(path::LIVENESS, &request, &answer).await
}

async fn capacity(State(agent): State<Arc<Bad>>, body: Bytes) -> Response {
    let request = Envelope::decode(&body).unwrap();
    let asked = borsh::from_slice::<CapacityRequest>(&request.payload).unwrap();
    let digests = if agent.fault == Fault::Lies {
        (0..asked.size.rows).map(|row| [row as u8; 32]).collect()
    } else {
        let bounds = datagalax_gpu::Bounds::default();
        let product = datagalax_gpu::Product::compute(&asked.seed, &asked.size, NonZeroUsize::MIN, &bounds).unwrap();
        product.digests().to_vec()
    };
    if agent.fault == Fault::Slow {
        tokio::time::sleep(Duration::from_millis(asked.deadline_ms.into()) + Duration::from_millis(200)).await;
    }
    let tree = Tree::new(&digests);
    let root = tree.root();
    *agent.tree.lock().unwrap() = Some((tree, digests));
    agent.answer(path::CAPACITY, &request, &CapacityAnswer { request: request.digest(), root, elapsed_us: 0 }).await
}

async fn open(State(agent): State<Arc<Bad>>, body: Bytes) -> Response {
    let request = Envelope::decode(&body).unwrap();
    let mut asked = borsh::from_slice::<OpenRequest>(&request.payload).unwrap();
    if agent.fault == Fault::OpensOthers {
        asked.rows = (0..asked.rows.len() as u32).collect();
    }
    let rows = {
        let tree = agent.tree.lock().unwrap();
        let (tree, digests) = tree.as_ref().unwrap();
        let row = |index: u32| OpenedRow { index, digest: digests[index as usize], proof: tree.proof(index).unwrap() };
        asked.rows.into_iter().map(row).collect()
    };
    agent.answer(path::OPEN, &request, &OpenAnswer { request: request.digest(), rows }).await
}

impl Bad {
    async fn answer<P: Payload>(&self, path: &'static str, request: &Envelope, payload: &P) -> Response {
        let epoch = if self.fault == Fault::WrongEpoch { EPOCH - 1 } else { EPOCH };
        let Cluster { genesis_hash, program } = CLUSTER;
        let context = Context { genesis_hash, program, subject: self.container, epoch };
        let honest = Envelope::sign(&context, payload, request.nonce, now(), &self.key).unwrap().encode();
        let endless = |chunk: usize, every: u64| {
            let chunks = futures_util::stream::unfold((), move |()| async move {
                tokio::time::sleep(Duration::from_millis(every)).await;
                Some((Ok::<_, std::io::Error>(vec![1u8; chunk]), ()))
            });
            Response::new(axum::body::Body::from_stream(chunks))
        };
        match self.fault {
            Fault::Hangs => std::future::pending().await,
            Fault::Oversized => endless(1 << 20, 0),
            Fault::Trickles => endless(1, 100),
            Fault::Garbage => Response::new("{\"alive\":true}".into()),
            Fault::Busy => Response::builder().status(503).body("busy".into()).unwrap(),
            Fault::Replays => Response::new(self.first.lock().unwrap().entry(path).or_insert(honest).clone().into()),
            _ => Response::new(honest.into()),
        }
    }
}
