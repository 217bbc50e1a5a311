//! A node of the tests' own: it answers from a state that the test sets, and fails when it is told to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use futures_util::{FutureExt, future::BoxFuture};
use solana_account::Account;
use solana_hash::Hash;
use solana_signature::Signature;
use solana_transaction::Transaction;

use super::{Blockhash, Fate, Node, Rpc, RpcError, Simulation, Snapshot, Status, fate};
use crate::Address;

/// What the node knows and does.
#[derive(Default)]
pub(crate) struct State {
    pub accounts: HashMap<Address, Account>,
    pub slot: u64,
    pub finalized: u64,
    pub genesis: u8,
    pub height: u64,
    pub times: BTreeMap<u64, i64>,
    pub statuses: HashMap<Signature, Status>,
    pub sent: Vec<Transaction>,
    /// Every request fails with this while it is set.
    pub trouble: Option<RpcError>,
    /// Every send fails with this while it is set, whether or not it was taken.
    pub send_trouble: Option<RpcError>,
    /// Requests are never answered while it is set.
    pub hangs: bool,
    /// Names of the requests that came in.
    pub asked: Vec<&'static str>,
}

/// The node.
#[derive(Default)]
pub(crate) struct Fake {
    url: String,
    socket: Option<String>,
    state: Mutex<State>,
    shown: AtomicU64,
    required: AtomicU64,
}

impl Fake {
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }

    pub fn with_socket(url: &str, socket: &str) -> Self {
        Self { url: url.to_owned(), socket: Some(socket.to_owned()), ..Self::default() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn down(&self) -> RpcError {
        RpcError::Down { url: self.url.clone(), reason: "refused".into() }
    }

    fn answer<'a, T: Send + 'a>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut State) -> T,
    ) -> BoxFuture<'a, Result<T, RpcError>> {
        let mut state = self.state();
        state.asked.push(what);
        let of_state = ["accounts", "accounts_at", "heads", "program_accounts", "latest_blockhash", "fate"].contains(&what);
        let needed = self.required.load(Relaxed);
        let result = match state.trouble.clone() {
            Some(error) => Err(error),
            None if of_state && state.slot < needed => Err(RpcError::Behind { url: self.url.clone(), needed }),
            None => {
                if of_state {
                    self.shown.fetch_max(state.slot, Relaxed);
                }
                Ok(work(&mut state))
            }
        };
        let hangs = state.hangs;
        // Not at once: whoever waits is seen to wait.
        async move {
            tokio::task::yield_now().await;
            if hangs {
                std::future::pending::<()>().await;
            }
            result
        }
        .boxed()
    }
}

impl Node for Fake {
    fn probe(&self) -> BoxFuture<'_, Result<u64, RpcError>> {
        self.answer("probe", |s| s.slot)
    }
    fn shown(&self) -> u64 {
        self.shown.load(Relaxed)
    }
    fn require(&self, slot: u64) {
        self.required.fetch_max(slot, Relaxed);
    }
}

impl Rpc for Fake {
    fn url(&self) -> &str {
        &self.url
    }
    fn sockets(&self) -> Vec<String> {
        self.socket.iter().cloned().collect()
    }
    fn accounts<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        self.answer("accounts", |s| addresses.iter().map(|a| s.accounts.get(a).cloned()).collect())
    }
    fn accounts_at<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Snapshot, RpcError>> {
        self.answer("accounts_at", |s| (s.slot, addresses.iter().map(|a| s.accounts.get(a).cloned()).collect()))
    }
    fn heads<'a>(&'a self, addresses: &'a [Address], bytes: usize) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        self.answer("heads", |s| {
            let head = |a: &Account| Account { data: a.data[..a.data.len().min(bytes)].to_vec(), ..a.clone() };
            addresses.iter().map(|a| s.accounts.get(a).map(head)).collect()
        })
    }
    fn program_accounts<'a>(
        &'a self,
        program: &'a Address,
        _: &'a [(usize, Vec<u8>)],
    ) -> BoxFuture<'a, Result<Vec<(Address, Account)>, RpcError>> {
        self.answer("program_accounts", |s| {
            s.accounts.iter().filter(|(_, a)| a.owner == *program).map(|(k, a)| (*k, a.clone())).collect()
        })
    }
    fn recent_fees<'a>(&'a self, _: &'a [Address]) -> BoxFuture<'a, Result<Vec<u64>, RpcError>> {
        self.answer("recent_fees", |_| vec![])
    }
    fn latest_blockhash(&self) -> BoxFuture<'_, Result<Blockhash, RpcError>> {
        self.answer("latest_blockhash", |s| Blockhash {
            hash: Hash::new_from_array([s.height as u8; 32]),
            last_valid_block_height: s.height + 150,
        })
    }
    fn block_height(&self) -> BoxFuture<'_, Result<u64, RpcError>> {
        self.answer("block_height", |s| s.height)
    }
    fn finalized_slot(&self) -> BoxFuture<'_, Result<u64, RpcError>> {
        self.answer("finalized_slot", |s| s.finalized)
    }
    fn block_time(&self, slot: u64) -> BoxFuture<'_, Result<Option<i64>, RpcError>> {
        self.answer("block_time", |s| s.times.get(&slot).copied())
    }
    fn genesis_hash(&self) -> BoxFuture<'_, Result<Hash, RpcError>> {
        self.answer("genesis_hash", |s| Hash::new_from_array([s.genesis; 32]))
    }
    fn rent(&self, _: usize) -> BoxFuture<'_, Result<u64, RpcError>> {
        self.answer("rent", |_| 1)
    }
    fn simulate<'a>(&'a self, _: &'a Transaction) -> BoxFuture<'a, Result<Simulation, RpcError>> {
        self.answer("simulate", |_| Simulation { outcome: Ok(()), logs: vec![], units: 10_000 })
    }
    fn send<'a>(&'a self, transaction: &'a Transaction, _: bool) -> BoxFuture<'a, Result<(), RpcError>> {
        let sent = self.answer("send", |s| {
            s.sent.push(transaction.clone());
            s.send_trouble.clone().map_or(Ok(()), Err)
        });
        async move { sent.await? }.boxed()
    }
    fn statuses<'a>(&'a self, signatures: &'a [Signature]) -> BoxFuture<'a, Result<Vec<Option<Status>>, RpcError>> {
        self.answer("statuses", |s| signatures.iter().map(|x| s.statuses.get(x).cloned()).collect())
    }
    fn fate<'a>(&'a self, signature: &'a Signature, last_valid_block_height: u64) -> BoxFuture<'a, Result<Fate, RpcError>> {
        self.answer("fate", |s| fate(s.statuses.get(signature).cloned(), s.height, last_valid_block_height))
    }
    fn confirmed<'a>(&'a self, _: &'a Signature) -> BoxFuture<'a, ()> {
        std::future::pending().boxed()
    }
}
