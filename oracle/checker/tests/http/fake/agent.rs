//! Agents over real HTTP: one that does what it should, and many that do not.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, response::Response, routing::post};
use datagalax_checker::chain::{Cluster, Target};
use datagalax_gpu::{
    Backend,
    backend::Cpu,
    beacon,
    capacity::{self, Limits, Proof},
};
use datagalax_protocol::{
    BeaconAnswer, BeaconRequest, Context, Envelope, Inspection, InspectionAnswer, LivenessAnswer, Metrics, Payload,
    SampleAnswer, SampleRequest, path,
};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{CLUSTER, EPOCH, container, now, slot_hash, target};

/// How an agent misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None: to see that it is the fault that is caught.
    None,
    /// Signs with another key than the registered one.
    WrongKey,
    /// Changes what it signed.
    WrongSignature,
    /// Signs for the epoch before.
    WrongEpoch,
    /// Its clock is a day behind.
    DayBehind,
    /// Its clock is a day ahead.
    DayAhead,
    /// Gives the first answer it ever gave to every question.
    Replays,
    /// Answers with an endless body, as fast as it goes.
    Endless,
    /// Promises a gigabyte.
    Gigabyte,
    /// Accepts the question and never answers.
    Hangs,
    /// Sends a byte of the body now and then.
    Trickles,
    /// Answers something that is no message.
    Garbage,
    /// Answers JSON that does not even end.
    Json,
    /// Sends the asker elsewhere: to an honest agent, which must not help.
    Redirects,
    /// Always says that it is busy.
    Busy,
    /// Answers another beacon than it was asked about.
    OtherBeacon,
    /// Does less work than asked.
    LessWork,
    /// Signs yesterday's work.
    Lies,
    /// Opens other rows than those asked for.
    OpensOthers,
    /// Signs a root, then does not open it.
    Closed,
    /// Signs a made-up root first and the true one when asked again.
    TwoRoots,
    /// Answers the beacon after the deadline.
    Late,
    /// Shows other hardware than it is registered for.
    OtherHardware,
    /// Does not answer inspections, only what it is paid for.
    Uninspected,
}

struct Agent {
    fault: Fault,
    key: Keypair,
    container: Pubkey,
    fingerprint: [u8; 32],
    elsewhere: String,
    first: Mutex<HashMap<&'static str, Vec<u8>>>,
    proofs: Mutex<HashMap<[u8; 32], Arc<Proof>>>,
    asked: AtomicBool,
    probes: Arc<AtomicU32>,
}

/// Starts an agent that does what it should; the counter is of its liveness probes.
pub async fn honest(block: u32, row: u8) -> (Target, Arc<AtomicU32>) {
    start(block, row, Fault::None, String::new()).await
}

/// Starts an agent with a fault.
pub async fn bad(row: u8, fault: Fault) -> Target {
    let elsewhere = if fault == Fault::Redirects { honest(0, row).await.0.endpoint } else { String::new() };
    start(0, row, fault, elsewhere).await.0
}

async fn start(block: u32, row: u8, fault: Fault, elsewhere: String) -> (Target, Arc<AtomicU32>) {
    let key = Keypair::new();
    let operator = key.pubkey();
    let key = if fault == Fault::WrongKey { Keypair::new() } else { key };
    let probes = Arc::new(AtomicU32::new(0));
    let fingerprint =
        if fault == Fault::OtherHardware { [0xff; 32] } else { target(block, row, operator, String::new()).fingerprint };
    let agent = Arc::new(Agent {
        fault,
        key,
        container: container(block, row),
        fingerprint,
        elsewhere,
        first: Mutex::default(),
        proofs: Mutex::default(),
        asked: AtomicBool::new(false),
        probes: probes.clone(),
    });
    let router = Router::new()
        .route(path::LIVENESS, post(liveness))
        .route(path::INSPECTION, post(inspection))
        .route(path::BEACON, post(beacon))
        .route(path::SAMPLE, post(sample))
        .with_state(agent);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    (target(block, row, operator, endpoint), probes)
}

/// An agent below HTTP: answers every connection with `first`, then `rest` again and again, pausing in between.
pub async fn raw(row: u8, first: &'static [u8], rest: &'static [u8], pause: Duration) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                // Whatever the question is.
                let mut question = [0; 1];
                stream.read_exact(&mut question).await.ok();
                let mut sent = stream.write_all(first).await;
                while sent.is_ok() {
                    tokio::time::sleep(pause).await;
                    sent = stream.write_all(rest).await;
                }
            });
        }
    });
    target(0, row, Keypair::new().pubkey(), endpoint)
}

async fn liveness(State(agent): State<Arc<Agent>>, body: Bytes) -> Response {
    agent.probes.fetch_add(1, Ordering::SeqCst);
    let request = Envelope::decode(&body).unwrap();
    let answer = LivenessAnswer { request: request.digest(), metrics: agent.metrics() };
    agent.answer(path::LIVENESS, &request, &answer).await
}

async fn inspection(State(agent): State<Arc<Agent>>, body: Bytes) -> Response {
    if agent.fault == Fault::Uninspected {
        return Response::builder().status(404).body("no such path".into()).unwrap();
    }
    let request = Envelope::decode(&body).unwrap();
    let inspection = Inspection { metrics: agent.metrics(), ..Inspection::default() };
    let answer = InspectionAnswer { request: request.digest(), inspection };
    agent.answer(path::INSPECTION, &request, &answer).await
}

async fn beacon(State(agent): State<Arc<Agent>>, body: Bytes) -> Response {
    let request = Envelope::decode(&body).unwrap();
    let BeaconRequest { slot, mut workload, deadline_ms } = borsh::from_slice(&request.payload).unwrap();
    let mut slot_hash = slot_hash(slot);
    if agent.fault == Fault::LessWork {
        workload.passes -= 1;
    }
    let challenge = match agent.fault {
        Fault::Lies => [9; 32],
        _ => beacon::challenge(&slot_hash, &agent.container.to_bytes()),
    };
    let proof = tokio::task::spawn_blocking(move || {
        let mut devices: Vec<Box<dyn Backend>> = vec![Box::new(Cpu::new(NonZeroUsize::MIN))];
        capacity::prove(&challenge, &workload, &mut devices, &Limits::CPU, NonZeroUsize::MIN, &AtomicBool::new(false))
    });
    let proof = Arc::new(proof.await.unwrap().unwrap());
    let mut root = proof.root();
    agent.proofs.lock().unwrap().insert(root, proof);
    match agent.fault {
        // By so much that no pause of the checker's own makes it in time.
        Fault::Late => tokio::time::sleep(Duration::from_millis(u64::from(deadline_ms) + 2_000)).await,
        Fault::TwoRoots if !agent.asked.swap(true, Ordering::SeqCst) => root = [0xee; 32],
        Fault::OtherBeacon => slot_hash = [0; 32],
        _ => {}
    }
    let answer = BeaconAnswer { request: request.digest(), slot, slot_hash, workload, root, elapsed_us: 0 };
    agent.answer(path::BEACON, &request, &answer).await
}

async fn sample(State(agent): State<Arc<Agent>>, body: Bytes) -> Response {
    let request = Envelope::decode(&body).unwrap();
    let mut asked: SampleRequest = borsh::from_slice(&request.payload).unwrap();
    let proof = agent.proofs.lock().unwrap().get(&asked.root).cloned();
    if agent.fault == Fault::OpensOthers {
        asked.rows.truncate(1);
    }
    match proof.filter(|_| agent.fault != Fault::Closed).and_then(|proof| proof.open(&asked)) {
        Some(devices) => agent.answer(path::SAMPLE, &request, &SampleAnswer { request: request.digest(), devices }).await,
        None => Response::builder().status(404).body("no such root".into()).unwrap(),
    }
}

impl Agent {
    fn metrics(&self) -> Metrics {
        Metrics { fingerprint: self.fingerprint, measured_at: now(), ..Metrics::default() }
    }

    async fn answer<P: Payload>(&self, path: &'static str, request: &Envelope, payload: &P) -> Response {
        let epoch = if self.fault == Fault::WrongEpoch { EPOCH - 1 } else { EPOCH };
        let issued_at = match self.fault {
            Fault::DayBehind => now() - 86_400,
            Fault::DayAhead => now() + 86_400,
            _ => now(),
        };
        let Cluster { genesis_hash, program } = CLUSTER;
        let context = Context { genesis_hash, program, subject: self.container, epoch };
        let mut signed = Envelope::sign(&context, payload, request.nonce, issued_at, &self.key).unwrap();
        if self.fault == Fault::WrongSignature {
            signed.signature[5] ^= 1;
        }
        let encoded = signed.encode();
        let endless = |chunk: usize, every: u64| {
            let chunks = futures_util::stream::unfold((), move |()| async move {
                tokio::time::sleep(Duration::from_millis(every)).await;
                Some((Ok::<_, std::io::Error>(vec![1u8; chunk]), ()))
            });
            axum::body::Body::from_stream(chunks)
        };
        let status = |status: u16| Response::builder().status(status);
        match self.fault {
            Fault::Hangs => std::future::pending().await,
            Fault::Endless => Response::new(endless(1 << 20, 1)),
            Fault::Gigabyte => status(200).header("content-length", 1 << 30).body(endless(1 << 20, 1)).unwrap(),
            Fault::Trickles => Response::new(endless(1, 100)),
            Fault::Garbage => Response::new(vec![1u8; 700].into()),
            Fault::Json => Response::new("{\"alive\":[[[[".into()),
            Fault::Redirects => status(307).header("location", format!("{}{path}", self.elsewhere)).body("".into()).unwrap(),
            Fault::Busy => status(503).body("busy".into()).unwrap(),
            Fault::Replays => Response::new(self.first.lock().unwrap().entry(path).or_insert(encoded).clone().into()),
            _ => Response::new(encoded.into()),
        }
    }
}
