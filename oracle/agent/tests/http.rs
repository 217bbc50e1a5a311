//! The agent over real HTTP on loopback, with a chain made up for the test.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use datagalax_agent::{
    chain::{Chain, ChainError, Cluster, Committee, Registration},
    daemon::{Parts, run},
};
use datagalax_gpu::{HostProbe, Probe};
use datagalax_protocol::{
    CapacityAnswer, CapacityRequest, Context, Envelope, Expected, LivenessAnswer, LivenessRequest, OpenAnswer, OpenRequest,
    Payload, WorkSize, path,
};
use futures_util::future::{BoxFuture, FutureExt};
use reqwest::StatusCode;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

const EPOCH: u32 = 4;
const CONTAINER: Pubkey = Pubkey::new_from_array([3; 32]);
const CLUSTER: Cluster = Cluster { genesis_hash: [1; 32], program: Pubkey::new_from_array([2; 32]) };

struct FakeChain {
    registration: Mutex<Option<Registration>>,
    committee: Mutex<Result<Committee, ChainError>>,
    looks: AtomicU32,
}

impl Chain for FakeChain {
    fn cluster(&self) -> BoxFuture<'_, Result<Cluster, ChainError>> {
        async { Ok(CLUSTER) }.boxed()
    }

    fn registration(&self, container: Pubkey) -> BoxFuture<'_, Result<Option<Registration>, ChainError>> {
        assert_eq!(container, CONTAINER);
        async { Ok(self.registration.lock().unwrap().clone()) }.boxed()
    }

    fn committee(&self, block: u32) -> BoxFuture<'_, Result<Committee, ChainError>> {
        assert_eq!(block, 9);
        self.looks.fetch_add(1, Ordering::SeqCst);
        async { self.committee.lock().unwrap().clone() }.boxed()
    }
}

struct Host {
    url: String,
    address: std::net::SocketAddr,
    chain: Arc<FakeChain>,
    operator: Pubkey,
    fingerprint: [u8; 32],
    checker: Keypair,
    http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

/// A host that answers `checker`; `change` may spoil the registration.
async fn host(change: impl FnOnce(&mut Option<Registration>)) -> Host {
    let probe =
        HostProbe::open(datagalax_gpu::Settings { agent_version: "test".into(), gpus: false, machine_id: None }).unwrap();
    let (key, checker) = (Keypair::new(), Keypair::new());
    let operator = key.pubkey();
    let fingerprint = probe.fingerprint();
    let mut registration =
        Some(Registration { block: 9, row: 0, operator, fingerprint, endpoint: "http://127.0.0.1:7070".into() });
    change(&mut registration);
    let committee = Committee { epoch: EPOCH, operators: vec![checker.pubkey()], remaining: 600 };
    let chain = Arc::new(FakeChain {
        registration: Mutex::new(registration),
        committee: Mutex::new(Ok(committee)),
        looks: AtomicU32::new(0),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let parts = Parts {
        key,
        container: CONTAINER,
        probe: Arc::new(probe),
        chain: chain.clone(),
        threads: NonZeroUsize::new(2),
        start_timeout: Duration::ZERO,
    };
    let task = tokio::spawn(run(parts, listener, async {
        stopped.await.ok();
    }));
    let http = reqwest::Client::new();
    Host { url: format!("http://{address}"), address, chain, operator, fingerprint, checker, http, stop: Some(stop), task }
}

async fn ready_host() -> Host {
    let host = host(|_| {}).await;
    for _ in 0..100 {
        if host.get("/ready").await.0 == StatusCode::OK && host.chain.looks.load(Ordering::SeqCst) > 0 {
            return host;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the agent did not become ready: {:?}", host.get("/ready").await);
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn context() -> Context {
    Context { genesis_hash: CLUSTER.genesis_hash, program: CLUSTER.program, subject: CONTAINER, epoch: EPOCH }
}

fn sign<P: Payload>(payload: &P, nonce: u8, key: &Keypair) -> Envelope {
    Envelope::sign(&context(), payload, [nonce; 16], now(), key).unwrap()
}

impl Host {
    async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let answer = self.http.post(format!("{}{path}", self.url)).body(body).send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap().to_vec())
    }

    /// Asks and checks the answer as a checker would.
    async fn ask<Q: Payload, A: Payload>(&self, path: &str, question: &Q, nonce: u8) -> A {
        let request = sign(question, nonce, &self.checker);
        let (status, body) = self.post(path, request.encode()).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let expected = Expected { context: context(), nonce: Some(request.nonce), signers: &[self.operator], now: now() };
        Envelope::decode(&body).unwrap().verify(&expected).unwrap()
    }

    async fn refusal(&self, path: &str, body: Vec<u8>) -> (StatusCode, String) {
        let (status, body) = self.post(path, body).await;
        (status, String::from_utf8(body).unwrap())
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.take().unwrap().send(()).ok();
        self.task.await.unwrap()
    }
}

#[tokio::test]
async fn the_committee_gets_metrics_of_this_very_host() {
    let host = ready_host().await;
    let request = sign(&LivenessRequest, 1, &host.checker);
    let answer: LivenessAnswer = host.ask(path::LIVENESS, &LivenessRequest, 1).await;
    assert_eq!(answer.request, request.digest());
    assert_eq!(answer.metrics.fingerprint, host.fingerprint);
    assert!(answer.metrics.host.memory_total > 0 && answer.metrics.host.cpu_threads > 0);
    let (status, info) = host.get("/v1/info").await;
    assert!(status == StatusCode::OK && info.contains(&host.operator.to_string()), "{info}");
    assert_eq!(host.get("/live").await.0, StatusCode::OK);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_challenge_is_committed_to_and_opened() {
    let host = ready_host().await;
    let size = WorkSize { rows: 37, inner: 50, columns: 20 };
    let challenge = CapacityRequest { seed: [8; 32], size, deadline_ms: 5_000 };
    let answer: CapacityAnswer = host.ask(path::CAPACITY, &challenge, 1).await;
    let rows = vec![0, 17, 36];
    let opened: OpenAnswer = host.ask(path::OPEN, &OpenRequest { root: answer.root, rows: rows.clone() }, 2).await;
    datagalax_gpu::challenge::verify(&[8; 32], &size, &answer.root, &rows, &opened.rows).unwrap();

    let outside = sign(&OpenRequest { root: answer.root, rows: vec![37] }, 3, &host.checker);
    assert_eq!(host.refusal(path::OPEN, outside.encode()).await.0, StatusCode::BAD_REQUEST);
    let unknown = sign(&OpenRequest { root: [0; 32], rows: vec![1] }, 4, &host.checker);
    assert_eq!(host.refusal(path::OPEN, unknown.encode()).await.0, StatusCode::NOT_FOUND);
    let size = WorkSize { rows: u32::MAX, inner: u32::MAX, columns: 1 };
    let huge = sign(&CapacityRequest { seed: [8; 32], size, deadline_ms: 1 }, 5, &host.checker);
    assert_eq!(host.refusal(path::CAPACITY, huge.encode()).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn whoever_has_no_say_is_refused_by_name() {
    let host = ready_host().await;
    let refused = |envelope: Envelope| host.refusal(path::LIVENESS, envelope.encode());
    let good = sign(&LivenessRequest, 1, &host.checker);

    let (status, text) = refused(sign(&LivenessRequest, 2, &Keypair::new())).await;
    assert!(status == StatusCode::FORBIDDEN || status == StatusCode::SERVICE_UNAVAILABLE, "{status}");
    assert!(text.contains("no say") || text.contains("not in the committee"), "{text}");

    let mut forged = good.clone();
    forged.nonce[0] ^= 1;
    assert_eq!(refused(forged).await, (StatusCode::FORBIDDEN, "the signature is wrong".into()));

    let sign_in = |context, at| Envelope::sign(&context, &LivenessRequest, [9; 16], at, &host.checker).unwrap();
    let (status, text) = refused(sign_in(Context { genesis_hash: [0; 32], ..context() }, now())).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("another cluster"), "{text}");
    let (status, text) = refused(sign_in(Context { subject: Pubkey::default(), ..context() }, now())).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("about container"), "{text}");
    let (status, text) = refused(sign_in(context(), now() - 86_400)).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("seconds old"), "{text}");
    let (_, text) = refused(sign_in(Context { epoch: EPOCH - 1, ..context() }, now())).await;
    assert!(text.contains("epoch 3, expected 4") || text.contains("as of a moment ago"), "{text}");

    // The right message at the wrong door.
    let (status, text) = host.refusal(path::CAPACITY, good.encode()).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("kind 1"), "{text}");
    // None of it was recorded against the honest key.
    assert_eq!(host.post(path::LIVENESS, good.encode()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_replay_is_refused() {
    let host = ready_host().await;
    let request = sign(&LivenessRequest, 1, &host.checker).encode();
    assert_eq!(host.post(path::LIVENESS, request.clone()).await.0, StatusCode::OK);
    assert_eq!(host.refusal(path::LIVENESS, request).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_new_epochs_committee_is_found_and_the_old_one_forgotten() {
    let host = ready_host().await;
    let next = Keypair::new();
    *host.chain.committee.lock().unwrap() =
        Ok(Committee { epoch: EPOCH + 1, operators: vec![next.pubkey()], remaining: 600 });
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let looks = host.chain.looks.load(Ordering::SeqCst);
    let context = Context { epoch: EPOCH + 1, ..context() };
    let request = Envelope::sign(&context, &LivenessRequest, [7; 16], now(), &next).unwrap();
    assert_eq!(host.post(path::LIVENESS, request.encode()).await.0, StatusCode::OK);
    assert_eq!(host.chain.looks.load(Ordering::SeqCst), looks + 1);

    // A stranger's flood makes the agent look at most once a second.
    for nonce in 0..50 {
        host.post(path::LIVENESS, sign(&LivenessRequest, nonce, &Keypair::new()).encode()).await;
    }
    assert!(host.chain.looks.load(Ordering::SeqCst) <= looks + 3);
    let (_, text) = host.refusal(path::LIVENESS, sign(&LivenessRequest, 77, &host.checker).encode()).await;
    assert!(text.contains("epoch 4, expected 5") || text.contains("as of a moment ago"), "{text}");
}

#[tokio::test]
async fn bodies_that_are_no_message_are_refused() {
    let host = ready_host().await;
    assert_eq!(host.refusal(path::LIVENESS, vec![]).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(host.refusal(path::LIVENESS, b"{\"json\":1}".to_vec()).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(host.refusal(path::LIVENESS, vec![1; 65_537]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    // A body that claims a gigabyte is refused by its length, before it is read.
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n", path::LIVENESS);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_node_that_is_down_is_said_in_readiness_and_to_the_asker() {
    let host = ready_host().await;
    *host.chain.committee.lock().unwrap() = Err(ChainError("no answer from the node".into()));
    // The committee in hand keeps its say until its epoch ends.
    assert_eq!(host.post(path::LIVENESS, sign(&LivenessRequest, 1, &host.checker).encode()).await.0, StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (status, text) = host.refusal(path::LIVENESS, sign(&LivenessRequest, 2, &Keypair::new()).encode()).await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && text.contains("no answer from the node"), "{status} {text}");
}

#[tokio::test]
async fn an_unusable_registration_ends_the_agent_with_the_reason() {
    let missing = host(|registration| *registration = None).await.task.await.unwrap().unwrap_err().to_string();
    assert!(missing.contains("there is no container at") && missing.contains("register it"), "{missing}");
    let key = host(|r| r.as_mut().unwrap().operator = Pubkey::default()).await.task.await.unwrap().unwrap_err().to_string();
    assert!(key.contains("but --keypair is"), "{key}");
    let other = host(|r| r.as_mut().unwrap().fingerprint = [0; 32]).await.task.await.unwrap().unwrap_err().to_string();
    assert!(other.contains("register this host"), "{other}");
}

#[tokio::test]
async fn stopping_lets_a_request_in_flight_finish() {
    let host = ready_host().await;
    let size = WorkSize { rows: 512, inner: 512, columns: 512 };
    let request = sign(&CapacityRequest { seed: [8; 32], size, deadline_ms: 5_000 }, 1, &host.checker).encode();
    let asked = tokio::spawn(host.http.post(format!("{}{}", host.url, path::CAPACITY)).body(request).send());
    tokio::time::sleep(Duration::from_millis(10)).await;
    host.stop().await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap().status(), StatusCode::OK);
}
