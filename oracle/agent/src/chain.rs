//! What the agent needs to know of the chain, and the little that it does there.

use std::time::Duration;

use datagalax_gpu::{
    ask::Ask,
    beacon::{Slot, Watch},
};
use datagalax_protocol::{Digest, lease::Usage};
use futures_util::future::BoxFuture;
use solana_pubkey::Pubkey;
use thiserror::Error;
use tokio::time::Instant;

/// Which network this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's genesis hash, as the network's account keeps it.
    pub genesis_hash: Digest,
    /// The program's address.
    pub program: Pubkey,
}

/// What the container's account says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its block.
    pub block: u32,
    /// Its row there.
    pub row: u8,
    /// Units of its class.
    pub gpus: u8,
    /// The class.
    pub class: u16,
    /// Least memory of one unit of the class, bytes; 0 for a class of processors.
    pub minimum_memory: u64,
    /// Its provider's id.
    pub provider: u32,
    /// The key that answers for it.
    pub operator: Pubkey,
    /// The hardware it was registered for.
    pub fingerprint: Digest,
    /// What its provider may change, as it is.
    pub offer: Offer,
    /// The open or running lease, if there is one.
    pub lease: Option<Lease>,
}

/// What a provider offers, all of which `update_container` sets anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Where others look for it.
    pub endpoint: String,
    /// Price per hour, base units.
    pub price_per_hour: u64,
    /// Whether it takes new leases.
    pub accepting: bool,
    /// Least length of a lease, seconds.
    pub minimum_lease: u32,
    /// Hash of the published specification.
    pub spec_hash: Digest,
}

/// Where a lease is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Paid for, not started.
    Open,
    /// Running.
    Started,
    /// Ended, in whatever way.
    Ended,
}

/// A lease of this container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its account.
    pub address: Pubkey,
    /// Who pays.
    pub user: Pubkey,
    /// Where it is.
    pub phase: Phase,
    /// Until when it may be started, unix seconds of the chain's clock.
    pub start_by: i64,
    /// When it started, unix seconds of the chain's clock; 0 before.
    pub started: i64,
    /// When what was escrowed is used up, unix seconds of the chain's clock; meaningless before it started.
    pub end: i64,
    /// Hash of what the user will hand over.
    pub workload_hash: Digest,
}

/// Who judges a block in the current epoch, and by what.
#[derive(Clone, Debug)]
pub struct Committee {
    /// The epoch.
    pub epoch: u32,
    /// Operator keys of the seats; empty while the block is not seated.
    pub operators: Vec<Pubkey>,
    /// Seconds of the epoch that are left by the chain's clock.
    pub remaining: u32,
    /// The epoch's beacons, `None` until it is drawn.
    pub beacons: Option<Watch>,
    /// What a beacon asks of this container now, or why nothing can be asked of it.
    pub ask: Result<Ask, String>,
}

/// A slot and when it was seen here.
#[derive(Clone, Copy, Debug)]
pub struct SeenSlot {
    /// The slot.
    pub slot: Slot,
    /// When this host saw it: where deadlines run from.
    pub seen: Instant,
}

/// The chain did not answer, or refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ChainError(pub String);

/// Why the next slots are not told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SlotsError {
    /// Slots from this one on were undone: the cluster went on without them, or with other blocks in them.
    #[error("slots from {from} on were undone")]
    Undone {
        /// The first that is void.
        from: u64,
    },
    /// Something else, for people. Some slots may never be told.
    #[error("{0}")]
    Trouble(String),
}

/// The chain's slots as they come.
pub trait Slots: Send {
    /// The next ones, ascending; waits until there are some. May be dropped half way.
    ///
    /// # Errors
    /// [`SlotsError`]. Asking again goes on; it pauses by itself.
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<SeenSlot>, SlotsError>>;
}

/// An account whose changes are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The container's: its lease, its offer.
    Container(Pubkey),
    /// A block's, by index: it changes when its seats are filled, right after the draw.
    Block(u32),
}

/// Being woken when an account changes. A hint: notifications get lost.
pub trait Wake: Send {
    /// Waits for a change, at most for `longest`.
    fn next(&mut self, longest: Duration) -> BoxFuture<'_, ()>;
}

/// The chain, as far as the agent asks it.
pub trait Chain: Send + Sync + 'static {
    /// Which network this is.
    ///
    /// # Errors
    /// The node does not answer, or the program is not initialised there.
    fn cluster(&self) -> BoxFuture<'_, Result<Cluster, ChainError>>;

    /// The chain's time, unix seconds.
    ///
    /// # Errors
    /// The node does not answer.
    fn time(&self) -> BoxFuture<'_, Result<i64, ChainError>>;

    /// The container's registration, `None` when there is none at this address.
    ///
    /// # Errors
    /// The node does not answer, or the account is something else.
    fn registration(&self, container: Pubkey) -> BoxFuture<'_, Result<Option<Registration>, ChainError>>;

    /// The committee of a container's block in the epoch the chain's clock is in.
    ///
    /// # Errors
    /// The node does not answer.
    fn committee<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Committee, ChainError>>;

    /// A lease by address, `None` when it is no more.
    ///
    /// # Errors
    /// The node does not answer.
    fn lease(&self, address: Pubkey) -> BoxFuture<'_, Result<Option<Lease>, ChainError>>;

    /// Slots, from some minutes back on.
    fn slots(&self) -> Box<dyn Slots>;

    /// Changes of an account.
    fn changes(&self, of: Watched) -> Box<dyn Wake>;
}

/// What the agent does on the chain. Each of these is known to have happened, or not, on return.
pub trait Act: Send + Sync + 'static {
    /// Rejects an open lease with a code of [`crate::leases`]; its user gets everything back. The container's operator signs.
    ///
    /// # Errors
    /// Why it did not happen.
    fn reject(&self, lease: Pubkey, code: u16) -> BoxFuture<'_, Result<(), ChainError>>;

    /// Starts an open lease. The container's operator signs.
    ///
    /// # Errors
    /// Why it did not happen.
    fn start(&self, lease: Pubkey) -> BoxFuture<'_, Result<(), ChainError>>;

    /// Notes what a lease used so far, as far as the chain takes it: nothing falls, and GPU-seconds stay within the time that
    /// passed. The container's operator signs.
    ///
    /// # Errors
    /// Why it did not happen.
    fn record_usage(&self, lease: Pubkey, usage: Usage) -> BoxFuture<'_, Result<(), ChainError>>;

    /// Replaces the offer. The provider's operator signs.
    ///
    /// # Errors
    /// Why it did not happen.
    fn offer<'a>(&'a self, container: Pubkey, offer: &'a Offer) -> BoxFuture<'a, Result<(), ChainError>>;

    /// Whether [`Self::offer`] can be done: there is a provider's key.
    fn can_offer(&self) -> bool;

    /// The keys that pay for it, and the lamports they have: the container's operator, then the provider's.
    ///
    /// # Errors
    /// The node does not answer.
    fn funds(&self) -> BoxFuture<'_, Result<Vec<(Pubkey, u64)>, ChainError>>;

    /// Finds out what became of transactions that an earlier run left behind. Before any other.
    ///
    /// # Errors
    /// The node does not answer.
    fn resolve(&self) -> BoxFuture<'_, Result<(), ChainError>>;
}
