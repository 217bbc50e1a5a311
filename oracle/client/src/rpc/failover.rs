//! Several nodes that stand in for each other.
//!
//! - Reads go to the first node in the order given that is not left alone at the moment; on trouble the whole read is asked of
//!   the next, so that one answer is never put together from two nodes.
//! - A node that fails, or that is far behind the best, is left alone for a pause that doubles with every trouble, and is used
//!   meanwhile only when all others fail too.
//! - What was read once is not turned back: a node that has not reached the slot another one showed says [`RpcError::Behind`],
//!   and is waited for a little when there is no better.
//! - A transaction is sent to the best node with preflight, and on to the next when it is not certain that it was taken; sent
//!   again without preflight it goes to all. That it can no longer land is believed only when no node has seen it.
//! - The first node that answers says which cluster this is; nodes of another are never used.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all, select_all},
};
use solana_account::Account;
use solana_hash::Hash;
use solana_signature::Signature;
use solana_transaction::Transaction;
use solana_transaction_error::TransactionError;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use super::{Blockhash, Fate, HttpRpc, MAX_ACCOUNTS, Node, REQUEST_TIMEOUT, Rpc, RpcError, Simulation, Snapshot, Status};
use crate::Address;

/// Most nodes: more are a mistake.
pub const MAX_NODES: usize = 16;
/// How long a node may take while there are others. Scans of all accounts have the whole [`REQUEST_TIMEOUT`].
const IMPATIENCE: Duration = Duration::from_secs(4);
/// How long a read waits for nodes that are behind.
const CATCH_UP: Duration = Duration::from_secs(4);
/// Pause between two tries meanwhile.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(200);
/// First and longest pause for which a node is left alone.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often all nodes are asked where they are.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Slots behind the best from which a node is left alone: about ten seconds.
const MAX_LAG: u64 = 25;
/// Codes by which a node says that the trouble is its own: unhealthy, internal error.
const ITS_OWN: [i64; 2] = [-32_005, -32_603];

/// Why nodes cannot be connected to. Nothing was asked yet.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// No node, or too many.
    #[error("{0} RPC nodes are named, and there must be 1 to {MAX_NODES}: name them with --rpc")]
    Count(usize),
    /// Not a URL of a node.
    #[error(
        "{url} is no URL of an RPC node (number {number}): it must be as in http://127.0.0.1:8899 or https://api.example.org"
    )]
    Url {
        /// Its place, from 1.
        number: usize,
        /// What is named, without what may be a secret in it.
        url: String,
    },
    /// Not a URL of a WebSocket.
    #[error(
        "{url} is no URL of a WebSocket (number {number}): it must be as in ws://127.0.0.1:8900 or wss://api.example.org"
    )]
    Socket {
        /// Its place, from 1.
        number: usize,
        /// What is named, without what may be a secret in it.
        url: String,
    },
    /// One node twice.
    #[error("the RPC node {0} is named twice: name it once, it stands in for nobody")]
    Twice(String),
    /// WebSockets that belong to no node.
    #[error(
        "{sockets} WebSocket URLs for {nodes} RPC nodes: name one for each node in the same order, or none (then it is the RPC's port plus one)"
    )]
    Sockets {
        /// WebSockets named.
        sockets: usize,
        /// Nodes named.
        nodes: usize,
    },
}

/// Connects to one or several nodes by their RPC URLs, the preferred first: the way in for commands and daemons.
///
/// `sockets` names the WebSocket of each node in the same order, or none: then it is by convention
/// ([`HttpRpc::default_ws`]). Connects when something is first asked, within a tokio runtime.
///
/// # Errors
/// [`ConnectError`] when the URLs cannot be meant.
pub fn connect(urls: &[String], sockets: &[String]) -> Result<Arc<Failover>, ConnectError> {
    if !(1..=MAX_NODES).contains(&urls.len()) {
        return Err(ConnectError::Count(urls.len()));
    }
    if !sockets.is_empty() && sockets.len() != urls.len() {
        return Err(ConnectError::Sockets { sockets: sockets.len(), nodes: urls.len() });
    }
    let is_url = |url: &str, schemes: [&str; 2]| {
        let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
        rest.is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') && !rest.contains(char::is_whitespace)
        })
    };
    let mut nodes: Vec<Arc<dyn Node>> = Vec::with_capacity(urls.len());
    for (at, url) in urls.iter().enumerate() {
        let number = at + 1;
        if !is_url(url, ["http://", "https://"]) {
            return Err(ConnectError::Url { number, url: HttpRpc::shown_url(url) });
        }
        if urls[..at].iter().any(|other| other.trim_end_matches('/') == url.trim_end_matches('/')) {
            return Err(ConnectError::Twice(HttpRpc::shown_url(url)));
        }
        let socket = sockets.get(at).map_or_else(|| HttpRpc::default_ws(url), String::clone);
        if !is_url(&socket, ["ws://", "wss://"]) {
            return Err(ConnectError::Socket { number, url: HttpRpc::shown_url(&socket) });
        }
        nodes.push(Arc::new(HttpRpc::new(url, Some(&socket))));
    }
    Ok(Arc::new(Failover::new(nodes)))
}

/// How a node does, for readiness and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeHealth {
    /// The node.
    pub url: String,
    /// Whether it is left alone for now: it failed, or is far behind the others.
    pub left_alone: bool,
    /// What the last trouble was.
    pub reason: Option<String>,
    /// Requests that it failed, since the start.
    pub failures: u64,
    /// Its newest slot when it was last asked.
    pub slot: Option<u64>,
}

/// [`Rpc`] over several nodes.
pub struct Failover {
    inner: Arc<Inner>,
    /// Whether the task that asks all nodes where they are was started.
    probing: OnceLock<()>,
}

struct Inner {
    members: Vec<Member>,
    /// The genesis hash of the first node that answered.
    genesis: OnceLock<Hash>,
    url: String,
}

struct Member {
    node: Arc<dyn Node>,
    health: Mutex<Health>,
}

/// What is known of a node.
#[derive(Clone, Debug, Default)]
struct Health {
    /// Troubles, less the successes since: sets the pause.
    trouble: u32,
    until: Option<Instant>,
    /// Whether it was far behind the best when they were last asked.
    behind: bool,
    reason: Option<String>,
    failures: u64,
    slot: Option<u64>,
    /// Whether it is known to be of the same cluster.
    checked: bool,
}

impl Health {
    fn pauses(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn is_left(&self, now: Instant) -> bool {
        self.behind || self.pauses(now)
    }

    fn failed(&mut self, now: Instant, reason: String) {
        // Several requests fail at once when a node goes down: that is one trouble.
        if !self.pauses(now) {
            self.trouble = (self.trouble + 1).min(16);
            let (first, longest) = PAUSES;
            self.until = Some(now + (first * 2u32.pow(self.trouble - 1)).min(longest));
        }
        self.failures += 1;
        self.reason = Some(reason);
    }

    fn fine(&mut self, now: Instant) {
        // A node that fails now and then must earn its trust.
        if !self.pauses(now) && self.until.take().is_none() {
            self.trouble = self.trouble.saturating_sub(1);
        }
        if self.trouble == 0 && !self.behind {
            self.reason = None;
        }
    }
}

/// Members in the order to ask them: those in use as given, then those left alone, the next to come back first, then those that
/// are behind.
fn order(health: &[Health], now: Instant) -> Vec<usize> {
    let mut order: Vec<usize> = (0..health.len()).collect();
    order.sort_by_key(|&i| (health[i].behind, health[i].until.filter(|until| now < *until)));
    order
}

impl Failover {
    /// These nodes, the preferred first. None of them twice, at least one.
    ///
    /// # Panics
    /// Without a node.
    pub fn new(nodes: Vec<Arc<dyn Node>>) -> Self {
        assert!(!nodes.is_empty(), "at least one node");
        let url = nodes.iter().map(|node| node.url()).collect::<Vec<_>>().join(", ");
        let members = nodes.into_iter().map(|node| Member { node, health: Mutex::default() }).collect();
        Self { inner: Arc::new(Inner { members, genesis: OnceLock::new(), url }), probing: OnceLock::new() }
    }

    /// How each node does, in the order given.
    pub fn health(&self) -> Vec<NodeHealth> {
        let now = Instant::now();
        let of = |member: &Member| {
            let health = member.health();
            NodeHealth {
                url: member.node.url().to_owned(),
                left_alone: health.is_left(now),
                reason: health.reason.clone(),
                failures: health.failures,
                slot: health.slot,
            }
        };
        self.inner.members.iter().map(of).collect()
    }

    /// Starts to look where the nodes are, when there is a choice. Here rather than at the start: this is within a runtime.
    fn probe(&self) {
        if self.inner.members.len() > 1 {
            self.probing.get_or_init(|| {
                let inner = Arc::downgrade(&self.inner);
                tokio::spawn(probe(inner));
            });
        }
    }

    async fn read<'a, T: 'a>(
        &'a self,
        limit: Duration,
        ask: impl Fn(&'a dyn Node) -> BoxFuture<'a, Result<T, RpcError>>,
    ) -> Result<T, RpcError> {
        self.probe();
        let start = Instant::now();
        loop {
            let mut errors = Vec::new();
            for i in self.inner.order() {
                match self.inner.ask(i, limit, &ask).await {
                    Err(error @ RpcError::Preflight { .. }) => return Err(error),
                    Err(error) => errors.push(error),
                    done => return done,
                }
            }
            let behind = errors.iter().any(|e| matches!(e, RpcError::Behind { .. }));
            if !behind || start.elapsed() > CATCH_UP {
                // The preferred node's error says most.
                return Err(errors.swap_remove(0));
            }
            sleep(CATCH_UP_PAUSE).await;
        }
    }
}

impl Inner {
    fn order(&self) -> Vec<usize> {
        let health: Vec<Health> = self.members.iter().map(|member| member.health().clone()).collect();
        order(&health, Instant::now())
    }

    /// Asks one node, which must be of the right cluster and not behind the others; its health follows from what it says.
    async fn ask<'a, T>(
        &'a self,
        i: usize,
        limit: Duration,
        ask: &impl Fn(&'a dyn Node) -> BoxFuture<'a, Result<T, RpcError>>,
    ) -> Result<T, RpcError> {
        let member = &self.members[i];
        // A single node has none to be compared with, and nobody to turn to.
        let alone = self.members.len() == 1;
        let limit = if alone { REQUEST_TIMEOUT * 2 } else { limit };
        let result = async {
            if !alone {
                self.check(member, limit).await?;
                let others = self.members.iter().enumerate().filter(|(j, _)| *j != i);
                member.node.require(others.map(|(_, other)| other.node.shown()).max().unwrap_or(0));
            }
            within(limit, member, ask(member.node.as_ref())).await
        }
        .await;
        member.judge(&result);
        result
    }

    /// Makes sure once that a node is of the cluster of the first that answered.
    async fn check(&self, member: &Member, limit: Duration) -> Result<(), RpcError> {
        if member.health().checked {
            return Ok(());
        }
        let found = within(limit, member, member.node.genesis_hash()).await?;
        let expected = *self.genesis.get_or_init(|| found);
        if found != expected {
            return Err(RpcError::OtherCluster {
                url: member.node.url().to_owned(),
                found: found.to_string(),
                expected: expected.to_string(),
            });
        }
        member.health().checked = true;
        Ok(())
    }

    /// Asks all nodes that are not left alone where they are, and leaves those alone that are far behind.
    async fn look(&self) {
        let now = Instant::now();
        let asked = join_all(self.members.iter().map(|member| async move {
            if member.health().pauses(now) {
                return None;
            }
            let result = match self.check(member, IMPATIENCE).await {
                Ok(()) => within(IMPATIENCE, member, member.node.probe()).await,
                Err(e) => Err(e),
            };
            if result.is_err() {
                member.judge(&result);
            }
            result.ok()
        }))
        .await;
        let best = asked.iter().flatten().max().copied().unwrap_or(0);
        for (member, slot) in self.members.iter().zip(asked) {
            let Some(slot) = slot else { continue };
            let mut health = member.health();
            health.slot = Some(slot);
            let lag = best - slot;
            let behind = lag > MAX_LAG;
            if behind != health.behind {
                tracing::warn!(url = member.node.url(), lag, behind, "an RPC node's distance to the others changed");
            }
            health.behind = behind;
            if behind {
                health.reason = Some(format!("it is {lag} slots behind"));
            }
        }
    }
}

impl Member {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge<T>(&self, result: &Result<T, RpcError>) {
        let now = Instant::now();
        let mut health = self.health();
        match result {
            Ok(_) => health.fine(now),
            // An answer all the same, to a question that another node may like better.
            Err(RpcError::Preflight { .. }) => {}
            Err(RpcError::Refused { code, .. }) if !ITS_OWN.contains(code) => {}
            Err(error) => {
                if !health.pauses(now) {
                    tracing::warn!(%error, "an RPC node is left alone for a while");
                }
                health.failed(now, error.to_string());
            }
        }
    }
}

/// Many accounts are read with several requests, one after the other.
fn patience(addresses: &[Address]) -> Duration {
    let requests = addresses.len().div_ceil(MAX_ACCOUNTS).clamp(1, 1_000);
    IMPATIENCE * u32::try_from(requests).unwrap_or(1)
}

async fn within<T>(
    limit: Duration,
    member: &Member,
    asked: impl Future<Output = Result<T, RpcError>>,
) -> Result<T, RpcError> {
    match timeout(limit, asked).await {
        Ok(result) => result,
        Err(_) => Err(RpcError::Down { url: member.node.url().to_owned(), reason: format!("nothing within {limit:?}") }),
    }
}

/// Looks where the nodes are as long as somebody uses them.
async fn probe(inner: Weak<Inner>) {
    while let Some(inner) = inner.upgrade() {
        inner.look().await;
        drop(inner);
        sleep(PROBE_EVERY).await;
    }
}

/// What several nodes said to one send, taken together. `None` as long as the next is to be asked.
#[derive(Default)]
struct Verdict {
    /// Somebody may have taken it.
    unclear: Option<RpcError>,
    /// It was refused for an age that another node may see otherwise.
    unknown_blockhash: Option<RpcError>,
}

impl Verdict {
    /// Takes one node's answer; `Some` when nothing that others say can change the outcome.
    fn take(&mut self, answer: Result<(), RpcError>) -> Option<Result<(), RpcError>> {
        match answer {
            Ok(()) => Some(Ok(())),
            Err(RpcError::Preflight { error: TransactionError::AlreadyProcessed, .. }) => Some(answer),
            Err(error @ RpcError::Preflight { error: TransactionError::BlockhashNotFound, .. }) => {
                self.unknown_blockhash.get_or_insert(error);
                None
            }
            // Refused, but perhaps because a node before took it and it landed: that has to be found out.
            Err(RpcError::Preflight { .. }) => Some(self.unclear.take().map_or(answer, Err)),
            // It never reached the cluster.
            Err(error @ (RpcError::Behind { .. } | RpcError::OtherCluster { .. })) => {
                self.unknown_blockhash.get_or_insert(error);
                None
            }
            Err(error) => {
                self.unclear.get_or_insert(error);
                None
            }
        }
    }

    fn end(self) -> Result<(), RpcError> {
        self.unclear.or(self.unknown_blockhash).map_or(Ok(()), Err)
    }
}

impl Rpc for Failover {
    fn url(&self) -> &str {
        &self.inner.url
    }

    fn sockets(&self) -> Vec<String> {
        self.inner.order().into_iter().flat_map(|i| self.inner.members[i].node.sockets()).collect()
    }

    fn accounts<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        self.read(patience(addresses), move |node| node.accounts(addresses)).boxed()
    }

    fn accounts_at<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Snapshot, RpcError>> {
        self.read(IMPATIENCE, move |node| node.accounts_at(addresses)).boxed()
    }

    fn heads<'a>(&'a self, addresses: &'a [Address], bytes: usize) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        self.read(patience(addresses), move |node| node.heads(addresses, bytes)).boxed()
    }

    fn slices<'a>(
        &'a self,
        addresses: &'a [Address],
        from: usize,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        self.read(patience(addresses), move |node| node.slices(addresses, from, bytes)).boxed()
    }

    fn program_accounts<'a>(
        &'a self,
        program: &'a Address,
        holding: &'a [(usize, Vec<u8>)],
    ) -> BoxFuture<'a, Result<Vec<(Address, Account)>, RpcError>> {
        self.read(REQUEST_TIMEOUT, move |node| node.program_accounts(program, holding)).boxed()
    }

    fn recent_fees<'a>(&'a self, writable: &'a [Address]) -> BoxFuture<'a, Result<Vec<u64>, RpcError>> {
        self.read(IMPATIENCE, move |node| node.recent_fees(writable)).boxed()
    }

    fn latest_blockhash(&self) -> BoxFuture<'_, Result<Blockhash, RpcError>> {
        self.read(IMPATIENCE, |node| node.latest_blockhash()).boxed()
    }

    fn block_height(&self) -> BoxFuture<'_, Result<u64, RpcError>> {
        self.read(IMPATIENCE, |node| node.block_height()).boxed()
    }

    fn finalized_slot(&self) -> BoxFuture<'_, Result<u64, RpcError>> {
        self.read(IMPATIENCE, |node| node.finalized_slot()).boxed()
    }

    fn block_time(&self, slot: u64) -> BoxFuture<'_, Result<Option<i64>, RpcError>> {
        async move {
            self.probe();
            let mut trouble = None;
            let mut answered = false;
            for i in self.inner.order() {
                match self.inner.ask(i, IMPATIENCE, &|node| node.block_time(slot)).await {
                    // Another node may keep its blocks for longer.
                    Ok(None) => answered = true,
                    Ok(time) => return Ok(time),
                    Err(error) => trouble = trouble.or(Some(error)),
                }
            }
            match trouble {
                Some(error) if !answered => Err(error),
                _ => Ok(None),
            }
        }
        .boxed()
    }

    fn genesis_hash(&self) -> BoxFuture<'_, Result<Hash, RpcError>> {
        self.read(IMPATIENCE, |node| node.genesis_hash()).boxed()
    }

    fn rent(&self, bytes: usize) -> BoxFuture<'_, Result<u64, RpcError>> {
        self.read(IMPATIENCE, move |node| node.rent(bytes)).boxed()
    }

    fn simulate<'a>(&'a self, transaction: &'a Transaction) -> BoxFuture<'a, Result<Simulation, RpcError>> {
        self.read(IMPATIENCE, move |node| node.simulate(transaction)).boxed()
    }

    fn send<'a>(&'a self, transaction: &'a Transaction, preflight: bool) -> BoxFuture<'a, Result<(), RpcError>> {
        async move {
            self.probe();
            let ask = move |node: &'a dyn Node| node.send(transaction, preflight);
            let mut verdict = Verdict::default();
            if preflight {
                for i in self.inner.order() {
                    if let Some(decided) = verdict.take(self.inner.ask(i, IMPATIENCE, &ask).await) {
                        return decided;
                    }
                }
            } else {
                let all = (0..self.inner.members.len()).map(|i| self.inner.ask(i, IMPATIENCE, &ask));
                let (good, bad): (Vec<_>, Vec<_>) = join_all(all).await.into_iter().partition(Result::is_ok);
                if !good.is_empty() {
                    return Ok(());
                }
                for answer in bad {
                    verdict.take(answer);
                }
            }
            verdict.end()
        }
        .boxed()
    }

    fn statuses<'a>(&'a self, signatures: &'a [Signature]) -> BoxFuture<'a, Result<Vec<Option<Status>>, RpcError>> {
        self.read(IMPATIENCE, move |node| node.statuses(signatures)).boxed()
    }

    fn confirmed<'a>(&'a self, signature: &'a Signature) -> BoxFuture<'a, ()> {
        select_all(self.inner.members.iter().map(|member| member.node.confirmed(signature))).map(|_| ()).boxed()
    }

    fn fate<'a>(&'a self, signature: &'a Signature, last_valid_block_height: u64) -> BoxFuture<'a, Result<Fate, RpcError>> {
        async move {
            let ask = move |node: &'a dyn Node| node.fate(signature, last_valid_block_height);
            let first = self.read(IMPATIENCE, ask).await?;
            if first != Fate::Expired || self.inner.members.len() == 1 {
                return Ok(first);
            }
            // Giving up is for good: whoever has seen it, or thinks that it may still land, is believed.
            // (Not that it may land, when the node is left alone because it is far behind.)
            let said = join_all((0..self.inner.members.len()).map(|i| async move {
                let left = self.inner.members[i].health().is_left(Instant::now());
                let said = self.inner.ask(i, IMPATIENCE, &ask).await;
                said.ok().filter(|fate| !left || *fate != Fate::Open)
            }));
            let mut said: Vec<Fate> = said.await.into_iter().flatten().collect();
            match said.iter().position(|fate| matches!(fate, Fate::Seen(_))) {
                Some(at) => Ok(said.swap_remove(at)),
                None if said.contains(&Fate::Open) => Ok(Fate::Open),
                None => Ok(Fate::Expired),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
