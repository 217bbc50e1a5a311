//! The node: what this crate asks of it, behind a trait so that everything above is tested without one.
//!
//! [`connect`] is the way in: several nodes that stand in for each other ([`Failover`]), each reached over HTTP ([`HttpRpc`]).

mod changes;
mod failover;
#[cfg(test)]
pub(crate) mod fake;
mod http;

use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};
use solana_account::Account;
use solana_hash::Hash;
use solana_signature::Signature;
use solana_transaction::Transaction;
use solana_transaction_error::TransactionError;
use thiserror::Error;

pub use changes::Changes;
pub use failover::{ConnectError, Failover, NodeHealth, connect};
pub use http::HttpRpc;

use crate::Address;

/// Most accounts that one request reads (the limit of every node).
pub const MAX_ACCOUNTS: usize = 100;

/// How long one request may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a node did not answer, or answered no.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RpcError {
    /// No answer: nobody listens, the connection broke, or it took longer than [`REQUEST_TIMEOUT`].
    #[error("no answer from the RPC node at {url} ({reason}): check that it runs and that --url is right")]
    Down {
        /// The node.
        url: String,
        /// What the transport says.
        reason: String,
    },
    /// The node answered with an error of its own.
    #[error("the RPC node at {url} refused the request: {message} (code {code})")]
    Refused {
        /// The node.
        url: String,
        /// JSON-RPC code.
        code: i64,
        /// Its words.
        message: String,
    },
    /// The node has not yet seen what was read before: its answer would turn the chain's state back.
    #[error(
        "the RPC node at {url} is behind: it has not reached slot {needed}, which was read already. It catches up by itself, or it has lost its cluster"
    )]
    Behind {
        /// The node.
        url: String,
        /// The slot that its answer must not be older than.
        needed: u64,
    },
    /// The node is of another cluster than the others.
    #[error(
        "the RPC node at {url} is of another cluster (genesis hash {found}, the others have {expected}): it is not used. Take it out of --rpc"
    )]
    OtherCluster {
        /// The node.
        url: String,
        /// Its genesis hash.
        found: String,
        /// That of the first node that answered.
        expected: String,
    },
    /// The node ran the transaction before sending it and it failed; it was not sent.
    #[error("the transaction fails: {error}")]
    Preflight {
        /// Why.
        error: TransactionError,
        /// The program's log lines.
        logs: Vec<String>,
    },
    /// An answer that is not of the form the method promises.
    #[error(
        "the RPC node at {url} answered something unreadable ({reason}): it may be no Solana node, or of another version"
    )]
    Unreadable {
        /// The node.
        url: String,
        /// What was wrong.
        reason: String,
    },
}

impl RpcError {
    /// Whether trying again later may help.
    pub const fn is_transient(&self) -> bool {
        match self {
            // A page of a proxy in the place of one answer, or one cut short, says nothing about the next.
            Self::Down { .. } | Self::Refused { .. } | Self::Behind { .. } | Self::Unreadable { .. } => true,
            Self::Preflight { .. } | Self::OtherCluster { .. } => false,
        }
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Slot it landed in.
    pub slot: u64,
    /// `Err` when it landed and failed.
    pub outcome: Result<(), TransactionError>,
    /// Whether the commitment this node is asked with is reached.
    pub confirmed: bool,
}

/// Where a signed transaction stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It landed, or is about to be confirmed.
    Seen(Status),
    /// Nobody has seen it, and it may still land.
    Open,
    /// Nobody has seen it, and its last block is made: it cannot land any more.
    Expired,
}

/// What a simulated transaction would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulation {
    /// `Err` when it would fail.
    pub outcome: Result<(), TransactionError>,
    /// The programs' log lines.
    pub logs: Vec<String>,
    /// Compute units it used.
    pub units: u64,
}

/// A blockhash and how long it may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blockhash {
    /// The hash.
    pub hash: Hash,
    /// Block height after which a transaction with it can no longer land.
    pub last_valid_block_height: u64,
}

/// A slot, and accounts as they were in it.
pub type Snapshot = (u64, Vec<Option<Account>>);

/// A node of the cluster. All reads are at the commitment the implementation was made with.
pub trait Rpc: Send + Sync + 'static {
    /// Where it is, for messages: without what may be a secret in it.
    fn url(&self) -> &str;

    /// WebSocket URLs for notifications, the best first; none where it has none.
    fn sockets(&self) -> Vec<String> {
        Vec::new()
    }

    /// Accounts by address, `None` where nothing lives; any number of them.
    fn accounts<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>>;

    /// At most [`MAX_ACCOUNTS`] accounts by address, as [`Rpc::accounts`], and the slot whose state they are: of one moment.
    fn accounts_at<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Snapshot, RpcError>>;

    /// The first `bytes` bytes of accounts by address: for growable accounts of which only the head is of interest.
    fn heads<'a>(&'a self, addresses: &'a [Address], bytes: usize) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>>;

    /// `bytes` bytes from `from` on of accounts by address, fewer where the account ends before: for large accounts of which one field
    /// is of interest. A node that cannot cut reads the head up to there.
    fn slices<'a>(
        &'a self,
        addresses: &'a [Address],
        from: usize,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        async move {
            let mut read = self.heads(addresses, from.saturating_add(bytes)).await?;
            for account in read.iter_mut().flatten() {
                account.data.drain(..from.min(account.data.len()));
            }
            Ok(read)
        }
        .boxed()
    }

    /// All accounts of a program whose data holds each of these bytes at its offset, in no particular order.
    fn program_accounts<'a>(
        &'a self,
        program: &'a Address,
        holding: &'a [(usize, Vec<u8>)],
    ) -> BoxFuture<'a, Result<Vec<(Address, Account)>, RpcError>>;

    /// What transactions that lock these accounts for writing paid at least to get into the last blocks (150 or so): prices of a
    /// compute unit in micro-lamports, one a slot, in no order. Empty where nobody pays.
    fn recent_fees<'a>(&'a self, writable: &'a [Address]) -> BoxFuture<'a, Result<Vec<u64>, RpcError>>;

    /// A recent blockhash.
    fn latest_blockhash(&self) -> BoxFuture<'_, Result<Blockhash, RpcError>>;

    /// Height of the newest block.
    fn block_height(&self) -> BoxFuture<'_, Result<u64, RpcError>>;

    /// The newest slot that can no longer be undone.
    fn finalized_slot(&self) -> BoxFuture<'_, Result<u64, RpcError>>;

    /// Time of the block in a slot, seconds since 1970: what the Clock sysvar showed in it, so the same on every node. `None`
    /// where the node has no block or knows no time: the slot was skipped, is not confirmed yet, or is too old.
    fn block_time(&self, slot: u64) -> BoxFuture<'_, Result<Option<i64>, RpcError>>;

    /// The cluster's genesis hash.
    fn genesis_hash(&self) -> BoxFuture<'_, Result<Hash, RpcError>>;

    /// Lamports an account of this many bytes must hold to stay.
    fn rent(&self, bytes: usize) -> BoxFuture<'_, Result<u64, RpcError>>;

    /// Runs a transaction without sending it; its signatures are not checked.
    fn simulate<'a>(&'a self, transaction: &'a Transaction) -> BoxFuture<'a, Result<Simulation, RpcError>>;

    /// Hands a signed transaction to the cluster; with `preflight` the node runs it first and refuses one that fails.
    fn send<'a>(&'a self, transaction: &'a Transaction, preflight: bool) -> BoxFuture<'a, Result<(), RpcError>>;

    /// What became of transactions, `None` where the node has not seen one (old ones are searched for too).
    fn statuses<'a>(&'a self, signatures: &'a [Signature]) -> BoxFuture<'a, Result<Vec<Option<Status>>, RpcError>>;

    /// Resolves when a notification says that the transaction is confirmed. A hint only: it may never resolve, and whoever
    /// waits asks [`Rpc::statuses`] too.
    fn confirmed<'a>(&'a self, signature: &'a Signature) -> BoxFuture<'a, ()>;

    /// Where a signed transaction stands. [`Fate::Expired`] is said only by who would have seen it: the height is read first, and
    /// the look for the transaction is not older.
    fn fate<'a>(&'a self, signature: &'a Signature, last_valid_block_height: u64) -> BoxFuture<'a, Result<Fate, RpcError>> {
        async move {
            let height = self.block_height().await?;
            let seen = self.statuses(std::slice::from_ref(signature)).await?.into_iter().next().flatten();
            Ok(fate(seen, height, last_valid_block_height))
        }
        .boxed()
    }
}

/// What follows from a look that is not older than the height.
fn fate(seen: Option<Status>, height: u64, last_valid_block_height: u64) -> Fate {
    match seen {
        Some(status) => Fate::Seen(status),
        None if height > last_valid_block_height => Fate::Expired,
        None => Fate::Open,
    }
}

/// A node among several: it tells how far it is, and answers nothing older than what another one showed.
pub trait Node: Rpc {
    /// Asks the node for its newest confirmed slot.
    fn probe(&self) -> BoxFuture<'_, Result<u64, RpcError>>;

    /// The newest slot whose state its answers showed.
    fn shown(&self) -> u64;

    /// From now on answers of state older than this slot are [`RpcError::Behind`]. Never lowered.
    fn require(&self, slot: u64);
}
