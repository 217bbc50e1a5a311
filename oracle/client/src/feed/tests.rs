//! The feed against connections of the tests' own, and against a real WebSocket that the test serves.

use std::{collections::VecDeque, sync::Mutex};

use futures_util::SinkExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

use super::*;
use crate::rpc::fake::Fake;

const ADDRESS: Address = Address::new_from_array([7; 32]);

fn account(lamports: u64) -> Account {
    Account { lamports, ..Account::default() }
}

fn notice(slot: u64, lamports: u64) -> Notice {
    Notice { address: ADDRESS, slot, account: Some(account(lamports)) }
}

/// Connections that the test holds the other end of; none left: it cannot be connected to.
#[derive(Default)]
struct Scripted {
    next: Mutex<VecDeque<mpsc::Receiver<Notice>>>,
    tried: Mutex<Vec<Instant>>,
}

impl Scripted {
    fn offer(&self) -> mpsc::Sender<Notice> {
        let (sender, receiver) = mpsc::channel(64);
        self.next.lock().unwrap().push_back(receiver);
        sender
    }
}

impl Connect for Scripted {
    fn connect<'a>(&'a self, _: &'a [Address]) -> BoxFuture<'a, Result<mpsc::Receiver<Notice>, String>> {
        self.tried.lock().unwrap().push(Instant::now());
        let next = self.next.lock().unwrap().pop_front();
        async move { next.ok_or_else(|| "refused".to_owned()) }.boxed()
    }
}

struct Bench {
    node: Arc<Fake>,
    sockets: Arc<Scripted>,
    feed: AccountFeed,
}

impl Bench {
    /// What the chain shows.
    fn chain(&self, slot: u64, lamports: u64) {
        chain(&self.node, slot, lamports);
    }

    fn held(&self) -> (u64, u64) {
        held(&self.feed)
    }
}

fn chain(node: &Fake, slot: u64, lamports: u64) {
    let mut state = node.state();
    state.slot = slot;
    state.accounts.insert(ADDRESS, account(lamports));
}

fn held(feed: &AccountFeed) -> (u64, u64) {
    feed.get(&ADDRESS).map_or((0, 0), |held| (held.slot, held.account.map_or(0, |a| a.lamports)))
}

fn bench() -> (Bench, mpsc::Sender<Notice>) {
    let (node, sockets) = (Arc::new(Fake::new("http://one")), Arc::new(Scripted::default()));
    chain(&node, 10, 1);
    let connection = sockets.offer();
    let feed = AccountFeed::with(node.clone(), sockets.clone(), vec![ADDRESS, ADDRESS]).unwrap();
    (Bench { node, sockets, feed }, connection)
}

#[tokio::test(start_paused = true)]
async fn an_older_state_never_replaces_a_newer_one() {
    let (mut bench, connection) = bench();
    bench.feed.changed().await;
    assert_eq!(bench.held(), (10, 1));
    connection.send(notice(12, 3)).await.unwrap();
    bench.feed.changed().await;
    connection.send(notice(11, 2)).await.unwrap();
    connection.send(notice(13, 4)).await.unwrap();
    bench.feed.changed().await;
    assert_eq!(bench.held(), (13, 4));
    // A read that is behind neither.
    sleep(REREAD_EVERY * 2).await;
    assert_eq!(bench.held(), (13, 4));
    assert!(bench.feed.age().unwrap() <= REREAD_EVERY);
}

#[tokio::test(start_paused = true)]
async fn after_a_gap_everything_is_read() {
    let (mut bench, connection) = bench();
    bench.feed.changed().await;
    let again = bench.sockets.offer();
    bench.chain(20, 5);
    drop(connection);
    bench.feed.changed().await;
    assert_eq!(bench.held(), (20, 5));
    again.send(notice(21, 6)).await.unwrap();
    bench.feed.changed().await;
    assert_eq!(bench.held(), (21, 6));
    // An account that is gone.
    again.send(Notice { address: ADDRESS, slot: 22, account: None }).await.unwrap();
    bench.feed.changed().await;
    assert_eq!(bench.feed.get(&ADDRESS), Some(Held { slot: 22, account: None }));
}

#[tokio::test(start_paused = true)]
async fn connections_are_tried_with_growing_pauses_and_accounts_are_read_meanwhile() {
    let (mut bench, connection) = bench();
    bench.feed.changed().await;
    drop(connection);
    bench.chain(20, 5);
    bench.feed.changed().await;
    assert_eq!(bench.held(), (20, 5));
    sleep(Duration::from_secs(100)).await;
    let tried = bench.sockets.tried.lock().unwrap().clone();
    let pauses: Vec<u128> = tried.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(pauses[..8], [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
    assert!(bench.feed.age().unwrap() <= REREAD_EVERY + PAUSES.1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_tells_nothing_is_given_up() {
    let (mut bench, _silent) = bench();
    bench.feed.changed().await;
    let better = bench.sockets.offer();
    for n in 1..=UNTOLD {
        bench.chain(20 + u64::from(n), u64::from(n) + 1);
        bench.feed.changed().await;
    }
    better.send(notice(40, 9)).await.unwrap();
    bench.feed.changed().await;
    assert_eq!(bench.held(), (40, 9));
}

#[tokio::test]
async fn more_than_a_feed_follows_are_refused() {
    let addresses: Vec<Address> = (0..=MAX_FOLLOWED as u64)
        .map(|n| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            Address::new_from_array(bytes)
        })
        .collect();
    let refused = AccountFeed::follow(Arc::new(Fake::new("http://one")), addresses).err().unwrap();
    assert_eq!(refused, TooMany(MAX_FOLLOWED + 1));
}

/// A node's WebSocket: takes the subscription and hands over the connection.
async fn subscribed(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut socket = accept_async(stream).await.unwrap();
    let request = socket.next().await.unwrap().unwrap().into_text().unwrap();
    let request: Value = serde_json::from_str(&request).unwrap();
    assert_eq!((&request["method"], &request["params"][0]), (&json!("accountSubscribe"), &json!(ADDRESS.to_string())));
    let answer = json!({ "jsonrpc": "2.0", "result": 77, "id": request["id"] });
    socket.send(Message::text(answer.to_string())).await.unwrap();
    socket
}

async fn tell(socket: &mut WebSocketStream<TcpStream>, slot: u64, lamports: u64) {
    let value = json!({
        "lamports": lamports, "data": ["", "base64"], "owner": Address::default().to_string(),
        "executable": false, "rentEpoch": 0, "space": 0,
    });
    let result = json!({ "context": { "slot": slot }, "value": value });
    let params = json!({ "result": result, "subscription": 77 });
    let notification = json!({ "jsonrpc": "2.0", "method": "accountNotification", "params": params });
    socket.send(Message::text(notification.to_string())).await.unwrap();
}

/// Waits for a state, for as long as anything comes.
async fn until(feed: &mut AccountFeed, wanted: (u64, u64)) {
    let reached = async {
        while held(feed) != wanted {
            feed.changed().await;
        }
    };
    timeout(Duration::from_secs(20), reached).await.unwrap_or_else(|_| panic!("{wanted:?} never came"));
}

#[tokio::test]
async fn over_a_real_websocket_that_is_cut_late_and_out_of_order() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = Arc::new(Fake::with_socket("http://one", &format!("ws://{}", listener.local_addr().unwrap())));
    chain(&node, 10, 1);
    let mut feed = AccountFeed::follow(node.clone(), vec![ADDRESS]).unwrap();
    let mut socket = subscribed(&listener).await;
    until(&mut feed, (10, 1)).await;
    // Out of order, and then in order.
    for (slot, lamports) in [(13, 4), (11, 2), (12, 3), (14, 5)] {
        tell(&mut socket, slot, lamports).await;
    }
    until(&mut feed, (14, 5)).await;
    // Cut without a word; what happens meanwhile is read after the next connection, which the node takes its time for.
    chain(&node, 20, 6);
    drop(socket);
    let mut socket = subscribed(&listener).await;
    until(&mut feed, (20, 6)).await;
    // One that was sent before the cut and comes late.
    tell(&mut socket, 15, 9).await;
    tell(&mut socket, 21, 0).await;
    let gone = async {
        while feed.get(&ADDRESS) != Some(Held { slot: 21, account: None }) {
            feed.changed().await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.expect("that it is gone was told");
}

proptest! {
    #[test]
    fn the_newest_state_is_held_whatever_the_order(states in prop::collection::vec((0u64..50, 0u64..5), 1..40)) {
        let mut book = Book::default();
        let mut newest = (0, 0);
        for (slot, lamports) in states {
            book.take(ADDRESS, slot, Some(account(lamports)));
            if slot >= newest.0 {
                newest = (slot, lamports);
            }
            let held = &book.held[&ADDRESS];
            prop_assert_eq!((held.slot, held.account.as_ref().unwrap().lamports), newest);
        }
    }
}
