//! A node of the tests' own: it answers from a state that the test sets, and fails when it is told to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard},
};

use futures_util::{FutureExt, future::BoxFuture};
use solana_account::Account;
use solana_hash::Hash;
use solana_signature::Signature;
use solana_transaction::Transaction;

use super::{Blockhash, Rpc, RpcError, Simulation, Status};
use crate::Address;

/// What the node knows and does.
#[derive(Default)]
pub(crate) struct State {
    pub accounts: HashMap<Address, Account>,
    pub finalized: u64,
    pub height: u64,
    pub times: BTreeMap<u64, i64>,
    pub statuses: HashMap<Signature, Status>,
    pub sent: Vec<Transaction>,
    /// Every request fails with this while it is set.
    pub trouble: Option<RpcError>,
    /// Names of the requests that came in.
    pub asked: Vec<&'static str>,
}

/// The node.
#[derive(Default)]
pub(crate) struct Fake {
    url: String,
    state: Mutex<State>,
}

impl Fake {
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), state: Mutex::default() }
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
        let result = match state.trouble.clone() {
            Some(error) => Err(error),
            None => Ok(work(&mut state)),
        };
        // Not at once: whoever waits is seen to wait.
        async move {
            tokio::task::yield_now().await;
            result
        }
        .boxed()
    }
}

impl Rpc for Fake {
    fn url(&self) -> &str {
        &self.url
    }
    fn accounts<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        self.answer("accounts", |s| addresses.iter().map(|a| s.accounts.get(a).cloned()).collect())
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
        self.answer("genesis_hash", |_| Hash::default())
    }
    fn rent(&self, _: usize) -> BoxFuture<'_, Result<u64, RpcError>> {
        self.answer("rent", |_| 1)
    }
    fn simulate<'a>(&'a self, _: &'a Transaction) -> BoxFuture<'a, Result<Simulation, RpcError>> {
        self.answer("simulate", |_| Simulation { outcome: Ok(()), logs: vec![], units: 10_000 })
    }
    fn send<'a>(&'a self, transaction: &'a Transaction, _: bool) -> BoxFuture<'a, Result<(), RpcError>> {
        self.answer("send", |s| s.sent.push(transaction.clone()))
    }
    fn statuses<'a>(&'a self, signatures: &'a [Signature]) -> BoxFuture<'a, Result<Vec<Option<Status>>, RpcError>> {
        self.answer("statuses", |s| signatures.iter().map(|x| s.statuses.get(x).cloned()).collect())
    }
    fn confirmed<'a>(&'a self, _: &'a Signature) -> BoxFuture<'a, ()> {
        std::future::pending().boxed()
    }
}
