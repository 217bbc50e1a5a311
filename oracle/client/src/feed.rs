//! Accounts in memory, as they change.
//!
//! Notifications bring changes at once, and can be lost, late or out of order. So all accounts are read anew after every connection,
//! and now and then without reason; and whatever is older than what is held is thrown away, by the slot that each state is of.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::SelectAll};
use solana_account::Account;
use solana_account_decoder_client_types::UiAccountEncoding;
use solana_client::{nonblocking::pubsub_client::PubsubClient, rpc_config::RpcAccountInfoConfig};
use solana_commitment_config::CommitmentConfig;
use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    Address,
    rpc::{HttpRpc, MAX_ACCOUNTS, Rpc, RpcError},
};

/// Most accounts of a feed: each is a subscription at the node.
pub const MAX_FOLLOWED: usize = 1_000;
/// Notifications that may wait; a connection with more is given up, and all is read.
const MAX_WAITING: usize = 4_096;
/// How often all accounts are read without reason.
const REREAD_EVERY: Duration = Duration::from_secs(30);
/// First and longest pause between two connections.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// A connection that held for so long was a good one: the next pause is short again.
const GOOD: Duration = Duration::from_secs(10);
/// How long connecting, and each subscription, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Rereads in a row that found changes of which no notification told, until the connection is taken for dead.
const UNTOLD: u32 = 2;

/// More accounts than a feed follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} accounts are to be followed, and a feed follows at most {MAX_FOLLOWED}: follow fewer, or read them")]
pub struct TooMany(usize);

/// An account as it was in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The slot.
    pub slot: u64,
    /// `None` where nothing lived.
    pub account: Option<Account>,
}

/// One notification.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Notice {
    address: Address,
    slot: u64,
    account: Option<Account>,
}

/// Opens a connection that tells of changes of these accounts. It ends when the receiver does.
trait Connect: Send + Sync + 'static {
    fn connect<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<mpsc::Receiver<Notice>, String>>;
}

/// What is held.
#[derive(Clone, Debug, Default)]
struct Book {
    held: HashMap<Address, Held>,
    /// When all of it was read last.
    read: Option<Instant>,
}

impl Book {
    /// Takes a state unless a newer one is held. Whether anything changed.
    fn take(&mut self, address: Address, slot: u64, account: Option<Account>) -> bool {
        match self.held.get_mut(&address) {
            Some(held) if slot < held.slot => false,
            Some(held) => {
                held.slot = slot;
                let changed = held.account != account;
                held.account = account;
                changed
            }
            None => {
                self.held.insert(address, Held { slot, account });
                true
            }
        }
    }
}

/// Follows some accounts: what it holds is never older than what it held before.
///
/// ```no_run
/// # async fn example(rpc: std::sync::Arc<dyn datagalax_client::rpc::Rpc>) -> Result<(), Box<dyn std::error::Error>> {
/// use datagalax_client::{addresses, feed::AccountFeed};
/// let network = addresses::network();
/// let mut feed = AccountFeed::follow(rpc, vec![network])?;
/// feed.changed().await;
/// let held = feed.get(&network).expect("it was read");
/// println!("{} bytes in slot {}", held.account.map_or(0, |a| a.data.len()), held.slot);
/// # Ok(()) }
/// ```
pub struct AccountFeed {
    book: watch::Receiver<Book>,
    task: JoinHandle<()>,
}

impl AccountFeed {
    /// Follows these accounts over the WebSockets of `rpc`, one after the other as they break; without one it reads them every
    /// 30 seconds. Needs a tokio runtime; ends when it is dropped.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn follow(rpc: Arc<dyn Rpc>, addresses: Vec<Address>) -> Result<Self, TooMany> {
        let sockets = Sockets(rpc.clone());
        Self::with(rpc, Arc::new(sockets), addresses)
    }

    fn with(rpc: Arc<dyn Rpc>, connect: Arc<dyn Connect>, mut addresses: Vec<Address>) -> Result<Self, TooMany> {
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.len() > MAX_FOLLOWED {
            return Err(TooMany(addresses.len()));
        }
        let (sender, book) = watch::channel(Book::default());
        let task = tokio::spawn(async move { Follower { rpc, connect, addresses, book: sender }.run().await });
        Ok(Self { book, task })
    }

    /// What is held of an account; `None` before it was first read, and for one that is not followed.
    pub fn get(&self, address: &Address) -> Option<Held> {
        self.book.borrow().held.get(address).cloned()
    }

    /// How long ago all accounts were read; `None` before the first time. A notification may have been lost since then: whoever
    /// must not act on anything older than this asks here.
    pub fn age(&self) -> Option<Duration> {
        self.book.borrow().read.map(|read| read.elapsed())
    }

    /// Waits until something has changed since the last call (the first read is a change).
    pub async fn changed(&mut self) {
        if self.book.changed().await.is_err() {
            // The task ends only with this feed, or with the runtime.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for AccountFeed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Follower {
    rpc: Arc<dyn Rpc>,
    connect: Arc<dyn Connect>,
    addresses: Vec<Address>,
    book: watch::Sender<Book>,
}

impl Follower {
    async fn run(&self) {
        let (mut pause, longest) = PAUSES;
        loop {
            match self.connect.connect(&self.addresses).await {
                Ok(notices) => {
                    let since = Instant::now();
                    self.listen(notices).await;
                    if since.elapsed() >= GOOD {
                        pause = PAUSES.0;
                    }
                }
                Err(reason) => {
                    tracing::debug!(reason, "accounts are not notified; connecting again in {pause:?}");
                    // Without a connection what is held grows old no faster than with one that loses everything.
                    let old = self.book.borrow().read.is_none_or(|read| read.elapsed() >= REREAD_EVERY);
                    if old && let Err(error) = self.reread().await {
                        tracing::debug!(%error, "followed accounts could not be read");
                    }
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Listens to one connection to its end.
    async fn listen(&self, mut notices: mpsc::Receiver<Notice>) {
        // Anything may have happened before this connection.
        let mut next = Instant::now();
        let (mut first, mut told, mut untold) = (true, false, 0);
        loop {
            tokio::select! {
                notice = notices.recv() => {
                    let Some(notice) = notice else { return };
                    told = true;
                    self.book.send_if_modified(|book| book.take(notice.address, notice.slot, notice.account));
                }
                () = sleep_until(next) => {
                    match self.reread().await {
                        Ok(changed) => {
                            next = Instant::now() + REREAD_EVERY;
                            untold = if changed && !told && !first { untold + 1 } else { 0 };
                            (first, told) = (false, false);
                            if untold >= UNTOLD {
                                tracing::warn!("a WebSocket tells of no changes; connecting again");
                                return;
                            }
                        }
                        Err(error) => {
                            tracing::debug!(%error, "followed accounts could not be read");
                            next = Instant::now() + PAUSES.0 * 4;
                        }
                    }
                }
            }
        }
    }

    /// Reads all accounts. Whether anything changed.
    async fn reread(&self) -> Result<bool, RpcError> {
        let mut all = Vec::with_capacity(self.addresses.len());
        for part in self.addresses.chunks(MAX_ACCOUNTS) {
            let (slot, accounts) = self.rpc.accounts_at(part).await?;
            all.extend(part.iter().zip(accounts).map(|(address, account)| (*address, slot, account)));
        }
        Ok(self.book.send_if_modified(|book| {
            book.read = Some(Instant::now());
            // Not the first that changes only: all are taken.
            all.into_iter().fold(false, |changed, (address, slot, account)| book.take(address, slot, account) || changed)
        }))
    }
}

/// The WebSockets of a node, or of several.
struct Sockets(Arc<dyn Rpc>);

impl Connect for Sockets {
    fn connect<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<mpsc::Receiver<Notice>, String>> {
        async move {
            let mut reason = "the node has no WebSocket".to_owned();
            for url in self.0.sockets() {
                match open(&url, addresses).await {
                    Ok(notices) => return Ok(notices),
                    // What the transport says may quote the URL, and with it a key.
                    Err(why) => reason = format!("{}: {}", HttpRpc::shown_url(&url), why.replace(&url, "it")),
                }
            }
            Err(reason)
        }
        .boxed()
    }
}

/// Opens one WebSocket and subscribes to all accounts.
async fn open(url: &str, addresses: &[Address]) -> Result<mpsc::Receiver<Notice>, String> {
    let client =
        timeout(CONNECT_TIMEOUT, PubsubClient::new(url)).await.map_err(|_| "connecting took too long".to_owned())?;
    let client = client.map_err(|e| e.to_string())?;
    let (sender, notices) = mpsc::channel(MAX_WAITING);
    let (ready, subscribed) = tokio::sync::oneshot::channel();
    let addresses = addresses.to_vec();
    // The notifications borrow the client, so one task holds both.
    tokio::spawn(async move {
        let config = RpcAccountInfoConfig {
            encoding: Some(UiAccountEncoding::Base64),
            commitment: Some(CommitmentConfig::confirmed()),
            ..RpcAccountInfoConfig::default()
        };
        let mut all = SelectAll::new();
        for address in addresses {
            match timeout(CONNECT_TIMEOUT, client.account_subscribe(&address, Some(config.clone()))).await {
                Ok(Ok((stream, _))) => all.push(stream.map(move |update| (address, update)).boxed()),
                Ok(Err(error)) => return drop(ready.send(Err(error.to_string()))),
                Err(_) => return drop(ready.send(Err("subscribing took too long".to_owned()))),
            }
        }
        if ready.send(Ok(())).is_err() {
            return;
        }
        loop {
            let update = tokio::select! {
                update = all.next() => update,
                () = sender.closed() => return,
            };
            let Some((address, update)) = update else { return };
            // Without a decoded account nothing is known of it but that it changed: the connection is given up, and all is read.
            let Some(account) = update.value.decode::<Account>() else { return };
            // One that was closed is told as one without lamports.
            let account = Some(account).filter(|account| account.lamports > 0);
            if sender.try_send(Notice { address, slot: update.context.slot, account }).is_err() {
                return;
            }
        }
    });
    subscribed.await.map_err(|_| "the connection broke".to_owned())??;
    Ok(notices)
}

#[cfg(test)]
mod tests;
