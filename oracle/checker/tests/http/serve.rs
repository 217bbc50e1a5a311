//! The evidence server over real HTTP: what was revealed is shown with its proof, what was not is secret; and an operator learns
//! whether its own host can be reached, nobody else's.

use std::sync::Arc;

use crate::fake::{CLUSTER, EPOCH, FakeChain, container, now, target};
use datagalax_checker::{
    chain::{Seat, SeatRef, Target},
    measure::{Measurer, Plan},
    metrics::Metrics,
    probe::{Limits, Prober},
    reach::Policy,
    serve::{Rate, Server, router},
    store::{BlockKey, EpochKey, RowFinish, SavedReport, Stage, Store},
};
use datagalax_protocol::{
    Context, Envelope, Expected, LivenessRequest, Payload, ReachableAnswer, ReachableRequest, ReportValues,
    evidence::{self, Opening},
    reachable,
};
use datagalax_service::Health;
use reqwest::StatusCode;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tokio::net::TcpListener;

struct Up {
    url: String,
    http: reqwest::Client,
    store: Store,
    checker: Pubkey,
    _folder: tempfile::TempDir,
}

async fn up(targets: Vec<Target>) -> Up {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &CLUSTER).unwrap();
    let key = Arc::new(Keypair::new());
    let limits = Limits { policy: Policy::Private, ..Limits::default() };
    let prober = Prober::new(key.clone(), limits, Metrics::unregistered()).unwrap();
    let server = Server {
        cluster: CLUSTER,
        chain: FakeChain::new(60, targets.into_iter().map(|target| (0, target)).collect(), &[]),
        store: store.clone(),
        measurer: Arc::new(Measurer::new(prober, Plan::default())),
        key: key.clone(),
        metrics: Metrics::unregistered(),
        rate: Rate::default(),
        asked: Default::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = router(Arc::new(server), Health::default());
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    Up { url, http: reqwest::Client::new(), store, checker: key.pubkey(), _folder: folder }
}

impl Up {
    async fn get(&self, path: &str) -> (StatusCode, Vec<u8>) {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap().to_vec())
    }

    async fn ask(&self, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let answer = self.http.post(format!("{}{}", self.url, reachable::PATH)).body(body).send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap().to_vec())
    }
}

pub async fn evidence_is_secret_until_the_reveal_and_provable_after() {
    let up = up(Vec::new()).await;
    let place = BlockKey { epoch: EpochKey { start: 0, number: EPOCH }, block: 5 };
    let finish = |row| RowFinish {
        row,
        container: [row; 32],
        findings: vec![format!("row {row}")],
        times_us: Default::default(),
        marks: Vec::new(),
    };
    let rows = [1, 2, 200].map(finish).to_vec();
    let measured = up.store.finish(place, rows, Vec::new(), ReportValues::new()).await.unwrap();
    let seat = Seat { at: SeatRef { block: 5, epoch: EPOCH, seat: 2 }, checker: 7 };
    let mut report = SavedReport::new(&CLUSTER, seat, 0, &measured);
    up.store.save(report.clone()).await.unwrap();
    let path = evidence::path(5, EPOCH, 2, 200);
    let never = up.get(&evidence::path(6, EPOCH, 2, 200)).await;
    for stage in [Stage::Saved, Stage::Committed, Stage::Lost("late".into())] {
        report.stage = stage;
        up.store.advance(report.clone()).await.unwrap();
        assert_eq!(up.get(&path).await, never, "{:?}: as if there were nothing", report.stage);
    }
    report.stage = Stage::Revealed;
    up.store.advance(report.clone()).await.unwrap();
    let (status, bytes) = up.get(&path).await;
    assert_eq!(status, StatusCode::OK);
    let shown = Opening::verify(&bytes, &report.evidence_root, 200).unwrap();
    assert_eq!((shown.row, shown.container, shown.findings), (200, [200; 32], vec!["row 200".to_owned()]));
    assert_eq!(up.get(&evidence::path(5, EPOCH, 2, 3)).await.0, StatusCode::NOT_FOUND, "an empty row");
    assert_eq!(up.get("/v1/evidence/5/4/2/256").await.0, StatusCode::BAD_REQUEST, "no row");
}

pub async fn an_operator_learns_about_its_own_endpoint_and_nobody_elses() {
    let (here, gone, stranger) = (Keypair::new(), Keypair::new(), Keypair::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, axum::Router::new()).await.unwrap() });
    let targets =
        vec![target(0, 0, here.pubkey(), endpoint.clone()), target(0, 1, gone.pubkey(), "http://127.0.0.1:1".into())];
    let up = up(targets).await;
    let context = |row| Context {
        genesis_hash: CLUSTER.genesis_hash,
        program: CLUSTER.program,
        subject: container(0, row),
        epoch: EPOCH,
    };
    let sign = |row, key: &Keypair, at| Envelope::sign(&context(row), &ReachableRequest, [5; 16], at, key).unwrap();
    let answer = async |row, key: &Keypair| {
        let request = sign(row, key, now());
        let (status, bytes) = up.ask(request.encode()).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&bytes));
        let expected = Expected { context: context(row), nonce: Some([5; 16]), signers: &[up.checker], now: now() };
        let answer: ReachableAnswer = Envelope::decode(&bytes).unwrap().verify(&expected).unwrap();
        assert_eq!(answer.request, request.digest());
        answer
    };
    // An answer of any status is one: this server knows no path at all.
    let reached = answer(0, &here).await;
    assert_eq!((reached.endpoint, reached.trouble), (endpoint, String::new()));
    assert!(answer(1, &gone).await.trouble.contains("refused"));
    let refused = async |body: Vec<u8>| up.ask(body).await.0;
    assert_eq!(refused(sign(0, &here, now()).encode()).await, StatusCode::TOO_MANY_REQUESTS, "so soon again");
    assert_eq!(refused(sign(0, &stranger, now()).encode()).await, StatusCode::FORBIDDEN, "another's host");
    assert_eq!(refused(sign(0, &Keypair::new(), now() - 3_600).encode()).await, StatusCode::FORBIDDEN, "an old message");
    let other = Envelope::sign(&context(0), &LivenessRequest, [5; 16], now(), &Keypair::new()).unwrap();
    assert_eq!(refused(other.encode()).await, StatusCode::FORBIDDEN, "another message");
    let mut forged = sign(0, &Keypair::new(), now());
    forged.signature[3] ^= 1;
    assert_eq!(refused(forged.encode()).await, StatusCode::FORBIDDEN);
    assert_eq!(refused(b"{}".to_vec()).await, StatusCode::BAD_REQUEST);
    assert_eq!(refused(vec![1; 5_000]).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(ReachableRequest::DOMAIN as u8, 14, "part of the format");
}
