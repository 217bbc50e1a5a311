//! A proxy between daemons and the world that breaks what passes: JSON-RPC, WebSocket and agents' HTTP.
//!
//! Faults are dealt by a seed from decks that hold every kind, so that the n-th request of a kind meets the same in every run; traps stop a chosen transaction at a chosen moment, so that its sender can
//! be killed exactly there.

mod deck;
pub(crate) mod http;
mod rpc;
mod socket;
#[cfg(test)]
mod tests;
mod trap;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};

pub use deck::{Fault, Route};
pub use trap::{Caught, Mark, Moment, Trap};

use crate::{actions::Action, settings::Fronts};
use deck::Deck;

/// Blockhashes that are remembered, one for each answer.
const BLOCKHASHES: usize = 256;
/// Different questions whose answers are remembered.
const QUESTIONS: usize = 512;
/// Connections at a time on each front; further ones wait.
const CONNECTIONS: usize = 256;

/// What the proxy stands in front of.
#[derive(Clone, Copy, Debug)]
pub struct Upstream {
    /// JSON-RPC.
    pub rpc: SocketAddr,
    /// WebSocket.
    pub ws: SocketAddr,
    /// The agent.
    pub agent: SocketAddr,
}

/// How many faults of each kind were injected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<Fault, u64>);

impl Counts {
    /// Faults of one kind.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Kinds of which there was none.
    pub fn missing(&self) -> Vec<Fault> {
        Fault::ALL.into_iter().filter(|fault| self.of(*fault) == 0).collect()
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (fault, count) in &other.0 {
            *self.0.entry(*fault).or_default() += count;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} faults", self.total())?;
        for (at, fault) in Fault::ALL.into_iter().enumerate() {
            write!(f, "{}{} {}", if at == 0 { ": " } else { ", " }, self.of(fault), fault.name())?;
        }
        Ok(())
    }
}

/// A running proxy; it ends with the value.
pub struct Proxy {
    shared: Arc<Shared>,
    fronts: Fronts,
    // Ends every connection when it is dropped.
    _servers: JoinSet<()>,
}

/// A node as the proxy shows it: several stand in for each other, and each has troubles of its own.
struct Node {
    decks: Mutex<Vec<Deck>>,
    down_until: Mutex<Option<Instant>>,
}

impl Node {
    fn new(seed: u64) -> Self {
        Self { decks: Mutex::new(Route::ALL.map(|route| Deck::new(route, seed)).into()), down_until: Mutex::default() }
    }

    fn is_down(&self) -> bool {
        lock(&self.down_until).is_some_and(|until| Instant::now() < until)
    }
}

/// What connections share.
struct Shared {
    upstream: Upstream,
    pace: u32,
    storm: AtomicBool,
    requests: AtomicU64,
    nodes: Vec<Node>,
    counts: Mutex<Counts>,
    traps: Mutex<Vec<Trap>>,
    caught: mpsc::UnboundedSender<Caught>,
    blockhashes: Mutex<VecDeque<Value>>,
    past: Mutex<HashMap<String, VecDeque<(Instant, Value)>>>,
}

/// No code that holds a lock can leave what it guards half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Listens on free ports of 127.0.0.1, and shows the one node as `nodes` of them. No fault is injected before [`Self::storm`].
    /// What traps catch comes out of the receiver.
    ///
    /// # Errors
    /// The system has no free port.
    pub async fn start(upstream: Upstream, seed: u64, nodes: u8) -> Result<(Self, mpsc::UnboundedReceiver<Caught>)> {
        Self::start_at(upstream, seed, nodes, 1).await
    }

    /// With every wait divided by `pace`.
    async fn start_at(
        upstream: Upstream,
        seed: u64,
        nodes: u8,
        pace: u32,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Caught>)> {
        let (caught, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            upstream,
            pace,
            storm: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            // Far apart, so that the second node of a seed is not the first of the next.
            nodes: (0..nodes).map(|node| Node::new(seed ^ (u64::from(node) << 48))).collect(),
            counts: Mutex::default(),
            traps: Mutex::default(),
            caught,
            blockhashes: Mutex::default(),
            past: Mutex::default(),
        });
        let mut servers = JoinSet::new();
        let mut rpc = Vec::new();
        for node in 0..shared.nodes.len() {
            let (listener, socket) = neighbours().await?;
            rpc.push(format!("http://{}", listener.local_addr()?));
            servers.spawn(accept(listener, Front::Rpc(node), shared.clone()));
            servers.spawn(accept(socket, Front::Socket(node), shared.clone()));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port for the proxy")?;
        let agent = format!("http://{}", listener.local_addr()?);
        servers.spawn(accept(listener, Front::Agent, shared.clone()));
        let fronts = Fronts { rpc, agent };
        Ok((Self { shared, fronts, _servers: servers }, receiver))
    }

    /// Where daemons find the world.
    pub fn fronts(&self) -> &Fronts {
        &self.fronts
    }

    /// Lets faults come, or stops them. Traps work in both weathers.
    pub fn storm(&self, on: bool) {
        self.shared.storm.store(on, Ordering::Relaxed);
    }

    /// Whether faults come.
    pub fn is_storm(&self) -> bool {
        self.shared.storm.load(Ordering::Relaxed)
    }

    /// Arms a trap for the next request that it fits; it catches once.
    pub fn arm(&self, trap: Trap) {
        lock(&self.shared.traps).push(trap);
    }

    /// Faults so far.
    pub fn counts(&self) -> Counts {
        lock(&self.shared.counts).clone()
    }

    /// Requests and connections so far, harmed or not.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

/// Two free ports in a row: a node's WebSocket is on the one after its JSON-RPC.
async fn neighbours() -> Result<(TcpListener, TcpListener)> {
    for _ in 0..100 {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let Some(next) = first.local_addr()?.port().checked_add(1) else { continue };
        if let Ok(second) = TcpListener::bind((Ipv4Addr::LOCALHOST, next)).await {
            return Ok((first, second));
        }
    }
    bail!("no two free ports in a row for the proxy")
}

#[derive(Clone, Copy)]
enum Front {
    Rpc(usize),
    Socket(usize),
    Agent,
}

async fn accept(listener: TcpListener, front: Front, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files: wait for some to be closed.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        shared.requests.fetch_add(1, Ordering::Relaxed);
        let shared = shared.clone();
        connections.spawn(async move {
            // A connection that breaks by itself is the daemons' to live with, like those broken here.
            let _ = match front {
                Front::Rpc(node) => rpc::serve(&shared, node, stream).await,
                Front::Socket(node) => socket::serve(&shared, node, stream).await,
                Front::Agent => serve_agent(&shared, stream).await,
            };
        });
    }
}

impl Shared {
    /// The next request's fault at a node, if there is a storm.
    fn deal(&self, node: usize, route: Route) -> (Option<Fault>, u64) {
        if !self.storm.load(Ordering::Relaxed) {
            return (None, 0);
        }
        lock(&self.nodes[node].decks)[route as usize].deal()
    }

    /// How late a delayed answer comes.
    fn lateness(&self, detail: u64) -> Duration {
        Duration::from_millis(300 + detail % 2_200) / self.pace
    }

    /// Counts a fault that is injected.
    fn count(&self, fault: Fault) {
        *lock(&self.counts).0.entry(fault).or_default() += 1;
    }

    /// Takes the first trap that fits.
    fn trapped(&self, fits: impl Fn(&Trap) -> bool) -> Option<Trap> {
        let mut traps = lock(&self.traps);
        let at = traps.iter().position(fits)?;
        Some(traps.remove(at))
    }

    /// Says that something is caught and waits until it is let go.
    async fn hold(&self, trap: Trap, actions: Vec<Action>) {
        let (caught, released) = Caught::of(trap, actions);
        if self.caught.send(caught).is_ok() {
            released.await;
        }
    }
}

/// Something that is no answer, with a length that is right.
fn garbage(detail: u64) -> http::Message {
    if detail.is_multiple_of(2) {
        http::Message::answer("200 OK", "text/html", b"<html><body>502 Bad Gateway</body></html>")
    } else {
        let bytes: Vec<u8> = detail.to_le_bytes().iter().cycle().take(200).copied().collect();
        http::Message::answer("200 OK", "application/json", &bytes)
    }
}

fn http_error(detail: u64) -> http::Message {
    let status = if detail.is_multiple_of(2) { "500 Internal Server Error" } else { "429 Too Many Requests" };
    http::Message::answer(status, "text/plain", b"injected")
}

/// One request to the agent.
async fn serve_agent(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    use tokio::io::AsyncWriteExt;
    let Some(request) = http::read(&mut stream).await? else { return Ok(()) };
    if let Some(trap) = shared.trapped(|trap| trap.mark == Mark::Asked) {
        if trap.moment != Moment::BeforeForward {
            // The agent has the question; whatever it says is lost with it.
            let asked = http::forward(shared.upstream.agent, &request);
            tokio::select! {
                _ = asked => {}
                () = shared.hold(trap, Vec::new()) => {}
            }
        } else {
            shared.hold(trap, Vec::new()).await;
        }
        return Ok(());
    }
    let (fault, detail) = shared.deal(0, Route::Agent);
    if let Some(fault) = fault {
        shared.count(fault);
    }
    let answer = match fault {
        Some(Fault::Cut) => return Ok(()),
        Some(Fault::HttpError) => http_error(detail),
        Some(Fault::Garbage) => garbage(detail),
        _ => http::forward(shared.upstream.agent, &request).await?,
    };
    let mut bytes = answer.bytes();
    match fault {
        Some(Fault::LostAnswer) => return Ok(()),
        Some(Fault::Delay) => sleep(shared.lateness(detail)).await,
        Some(Fault::Truncated) => bytes.truncate(bytes.len() / 2),
        _ => {}
    }
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}
