//! The proxy before a node that only counts.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use datagalax_client::{Address, instructions};
use serde_json::{Value, json};
use solana_keypair::Keypair;
use solana_message::Message;
use solana_signer::Signer;
use solana_transaction::Transaction;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Fault, Mark, Moment, Proxy, Trap, Upstream, http};
use crate::actions::Kind;

/// A node that answers every request with how many there were, and keeps sending on sockets.
struct Node {
    at: SocketAddr,
    asked: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl Node {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (at, asked, mut task) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)), JoinSet::new());
        let count = asked.clone();
        task.spawn(async move {
            loop {
                let mut stream = listener.accept().await.unwrap().0;
                let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                tokio::spawn(async move {
                    let request = http::read(&mut stream).await.unwrap().unwrap();
                    let id = serde_json::from_slice::<Value>(&request.body).unwrap_or_default()["id"].clone();
                    let body = json!({"jsonrpc": "2.0", "id": id, "result": number}).to_string();
                    stream.write_all(&http::Message::answer("200 OK", "application/json", body.as_bytes()).bytes()).await
                });
            }
        });
        Self { at, asked, _task: task }
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// A socket server that says something every 20 ms.
async fn talker() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (at, mut task) = (listener.local_addr().unwrap(), JoinSet::new());
    task.spawn(async move {
        loop {
            let mut stream = listener.accept().await.unwrap().0;
            tokio::spawn(async move {
                while stream.write_all(b"tick").await.is_ok() {
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
    });
    (at, task)
}

fn address(url: &str) -> SocketAddr {
    url.split_once("://").unwrap().1.parse().unwrap()
}

/// What came back of a call: its JSON, or `None` when nothing readable did.
async fn call(to: SocketAddr, id: u64, method: &str, parameter: &str) -> Option<Value> {
    let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": [parameter]}).to_string();
    serde_json::from_slice(&http::post(to, body.into_bytes()).await.ok()?).ok()
}

fn transaction() -> (Address, String) {
    let payer = Keypair::new();
    let message = Message::new(&[instructions::draw(4, None)], Some(&payer.pubkey()));
    (payer.pubkey(), BASE64_STANDARD.encode(bincode::serialize(&Transaction::new_unsigned(message)).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_injects_what_it_counts_and_fair_weather_nothing() {
    let (node, agent, (ws, _talker)) = (Node::start().await, Node::start().await, talker().await);
    let (proxy, _caught) = Proxy::start_at(Upstream { rpc: node.at, ws, agent: agent.at }, 7, 2, 20).await.unwrap();
    let (rpc, hosts) = (address(&proxy.fronts().rpc[0]), address(&proxy.fronts().agent));
    for id in 1..=20 {
        assert_eq!(call(rpc, id, "getSlot", "").await.unwrap()["id"], id);
        // Remembered, to be told again later.
        call(rpc, id, "getLatestBlockhash", "").await.unwrap();
    }
    assert_eq!((proxy.counts().total(), node.asked()), (0, 40));
    sleep(super::rpc::APART + Duration::from_millis(100)).await;

    proxy.storm(true);
    let mut answered = 0;
    for _ in 0..20 {
        let mut calls = JoinSet::new();
        for id in 0..10 {
            for (method, times) in [("sendTransaction", 1), ("getLatestBlockhash", 1), ("getSlot", 3)] {
                for _ in 0..times {
                    calls.spawn(async move { call(rpc, id, method, "").await.is_some_and(|a| a["result"].is_number()) });
                }
            }
            calls.spawn(async move { call(hosts, id, "", "").await.is_some_and(|a| a["result"].is_number()) });
        }
        answered += calls.join_all().await.into_iter().filter(|answered| *answered).count() as u64;
    }
    let counts = proxy.counts();
    let of = |faults: &[Fault]| faults.iter().map(|fault| counts.of(*fault)).sum::<u64>();
    // What never reaches the node, less what reaches it twice.
    let kept = of(&[
        Fault::HttpError,
        Fault::RpcError,
        Fault::Cut,
        Fault::StaleBlockhash,
        Fault::Lagging,
        Fault::Garbage,
        Fault::Outage,
    ]);
    assert_eq!(node.asked() - 40 + agent.asked(), 1_200 - kept + counts.of(Fault::Duplicate));
    let unanswered = of(&[
        Fault::HttpError,
        Fault::RpcError,
        Fault::Cut,
        Fault::LostTransaction,
        Fault::LostAnswer,
        Fault::Truncated,
        Fault::Garbage,
        Fault::Outage,
    ]);
    assert_eq!(answered, 1_200 - unanswered, "{counts}");

    // As many sockets as a deck has cards: three of them are cut or fall silent.
    // Of the other node: this one may be down.
    let other = address(&proxy.fronts().rpc[1]);
    let socket = SocketAddr::new(other.ip(), other.port() + 1);
    let mut sockets = JoinSet::new();
    for _ in 0..15 {
        let mut socket = TcpStream::connect(socket).await.unwrap();
        sockets.spawn(async move {
            let mut buffer = [0; 64];
            loop {
                match timeout(Duration::from_secs(5), socket.read(&mut buffer)).await {
                    Ok(Ok(bytes)) if bytes > 0 => {}
                    Ok(_) => return Fault::SocketCut,
                    Err(_) => return Fault::SocketSilent,
                }
            }
        });
    }
    let first = sockets.join_next().await.unwrap().unwrap();
    assert!(proxy.counts().of(first) > 0, "{first:?}: {}", proxy.counts());
    let missing = proxy.counts().missing();
    assert!(missing.iter().all(|fault| matches!(fault, Fault::SocketCut | Fault::SocketSilent)), "{missing:?}");
}

#[tokio::test]
async fn a_trap_holds_a_transaction_at_its_moment() {
    let (node, agent, (ws, _talker)) = (Node::start().await, Node::start().await, talker().await);
    let (proxy, mut caught) = Proxy::start(Upstream { rpc: node.at, ws, agent: agent.at }, 7, 1).await.unwrap();
    let rpc = address(&proxy.fronts().rpc[0]);
    let (payer, wire) = transaction();
    let (_, other) = transaction();
    for moment in Moment::ALL {
        proxy.arm(Trap { mark: Mark::Transaction(payer, Kind::Draw), moment });
        let before = node.asked();
        assert!(call(rpc, 1, "sendTransaction", &other).await.is_some(), "another payer's passes");
        let method = if moment == Moment::Simulated { "simulateTransaction" } else { "sendTransaction" };
        let asking = async {
            let answer = call(rpc, 1, method, &wire).await;
            (answer.is_some(), node.asked() - before - 1)
        };
        let catching = async {
            let caught = caught.recv().await.unwrap();
            assert_eq!((caught.trap.moment, caught.actions[0].kind), (moment, Kind::Draw));
        };
        let ((answered, forwarded), ()) = tokio::join!(asking, catching);
        assert_eq!(answered, moment == Moment::AfterAnswer, "{moment:?}");
        assert_eq!(forwarded, u64::from(moment != Moment::BeforeForward), "{moment:?}");
        assert!(call(rpc, 1, "sendTransaction", &wire).await.is_some(), "it catches once");
    }
    proxy.arm(Trap { mark: Mark::Asked, moment: Moment::AfterForward });
    let hosts = address(&proxy.fronts().agent);
    let (answer, caught) =
        tokio::join!(call(hosts, 1, "", ""), async { caught.recv().await.map(|caught| caught.trap.mark) });
    assert_eq!((answer, caught), (None, Some(Mark::Asked)));
}
