//! What a checker needs of the chain.

use datagalax_gpu::{
    ask::Ask,
    beacon::{Slot, Watch},
    location::Position,
};
use datagalax_protocol::{Digest, ReportValues};
use futures_util::future::BoxFuture;
use solana_pubkey::Pubkey;
use thiserror::Error;
use tokio::time::Instant;

pub use datagalax_client::instructions::SeatRef;

/// Which network this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's genesis hash, as the network's account keeps it.
    pub genesis_hash: Digest,
    /// The program's address.
    pub program: Pubkey,
}

/// The epoch that the chain's clock is in. Times are seconds of that clock.
#[derive(Clone, Copy, Debug)]
pub struct EpochView {
    /// Its number.
    pub number: u32,
    /// The chain's clock.
    pub now: i64,
    /// When it began.
    pub start: i64,
    /// When it ends; commits are taken until then.
    pub end: i64,
    /// When measuring ends.
    pub measure_until: i64,
    /// Finds the epoch's beacons, fresh; `None` until the committees are drawn.
    pub watch: Option<Watch>,
    /// The slot it was drawn from; 0 until it is.
    pub draw_slot: u64,
}

/// One seat of one of this operator's checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Where.
    pub at: SeatRef,
    /// Whose.
    pub checker: u32,
}

/// The seats of some checkers in an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seats {
    /// Those written into their blocks, ascending.
    pub seated: Vec<Seat>,
    /// Blocks where the draw puts one of the checkers, but whose committee nobody has written yet.
    pub waiting: usize,
}

/// A container to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Row of the block.
    pub row: u8,
    /// The container's account.
    pub container: Pubkey,
    /// The key that answers for it.
    pub operator: Pubkey,
    /// Where it is reached: a stranger's text.
    pub endpoint: String,
    /// The hardware it was registered for.
    pub fingerprint: Digest,
    /// Registered units: GPUs, but in the class `cpu`.
    pub gpus: u8,
    /// The class's least memory of a GPU in bytes; 0 for the class `cpu`, or when the class is not on chain.
    pub minimum_memory: u64,
    /// What a beacon asks of it; `None` when no challenge can be planned for its class.
    pub ask: Option<Ask>,
    /// Where it claims to be; `None` when that is no place on Earth.
    pub claimed: Option<Position>,
}

/// A slot with the moment it was first seen here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenSlot {
    /// The slot.
    pub slot: Slot,
    /// When; `None` when it was old already (after a start, or a gap): nothing can be timed from it.
    pub seen: Option<Instant>,
}

/// News of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slots {
    /// New ones, ascending, none left out.
    New(Vec<SeenSlot>),
    /// Some passed unseen and cannot be had any more.
    Missed,
    /// What was seen from this number on is not part of the chain any more.
    Dropped(u64),
}

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// Not final yet.
    Open,
    /// Final, with the hash it was seen with.
    Final,
    /// Another block, or none, is final in its place: everything measured at it counts for nothing.
    Dropped,
    /// Too long ago: the cluster does not keep its hash any more.
    Forgotten,
}

/// A seat as the chain has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatState {
    /// Whose it is.
    pub checker: u32,
    /// The commitment, zero before the first; the evidence root once revealed.
    pub commitment: Digest,
    /// Whether the report was revealed.
    pub revealed: bool,
}

/// The reveal window of an epoch, seconds of the chain's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevealWindow {
    /// The chain's clock.
    pub now: i64,
    /// First second that takes reveals, and the first that takes no commits any more.
    pub opens: i64,
    /// First second that does not any more.
    pub closes: i64,
    /// Start of the epoch itself: tells the epochs of two networks with the same genesis hash apart.
    pub epoch_start: i64,
}

/// Something the chain did not do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ChainError {
    /// What and why, for people.
    pub message: String,
    /// The chain said nothing: trouble on the way to it, worth trying again at once. Otherwise it refused, or the node did: one
    /// that is behind refuses what the chain would take.
    pub transient: bool,
    /// No node will ever take it, however far it is.
    pub hopeless: bool,
}

/// A commitment to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where, and whose seat.
    pub seat: Seat,
    /// What.
    pub commitment: Digest,
}

/// What is revealed of a report.
#[derive(Clone, Copy, Debug)]
pub struct Reveal<'a> {
    /// The salt.
    pub salt: &'a [u8; 32],
    /// The evidence root.
    pub evidence_root: &'a Digest,
    /// The values.
    pub values: &'a ReportValues,
}

/// What a checker could claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pay {
    /// Base units of $ATH that its tickets accrued.
    pub amount: u64,
    /// The slots of those tickets, ascending.
    pub tickets: Vec<u32>,
}

/// The chain, as far as a checker uses it. Every method may fail because the node does not answer.
pub trait Chain: Send + Sync + 'static {
    /// Which network this is.
    fn cluster(&self) -> BoxFuture<'_, Result<Cluster, ChainError>>;
    /// The operator key of a checker, `None` when there is no such checker.
    fn operator(&self, checker: u32) -> BoxFuture<'_, Result<Option<Pubkey>, ChainError>>;
    /// The epoch the clock is in.
    fn epoch(&self) -> BoxFuture<'_, Result<EpochView, ChainError>>;
    /// The seats of these checkers in a drawn epoch.
    fn seats<'a>(&'a self, epoch: u32, checkers: &'a [u32]) -> BoxFuture<'a, Result<Seats, ChainError>>;
    /// The containers in a block's occupied rows, by row, and what beacons of the epoch ask of them as of now.
    fn targets(&self, block: u32, epoch: u32) -> BoxFuture<'_, Result<Vec<Target>, ChainError>>;
    /// Waits for slots that were not seen before; the first call begins with the current epoch's draw slot if the cluster still
    /// has that.
    fn slots(&self) -> BoxFuture<'_, Result<Slots, ChainError>>;
    /// Whether a slot is final, and still the same.
    fn finality(&self, slot: Slot) -> BoxFuture<'_, Result<Finality, ChainError>>;
    /// A seat, `None` when the block's lane belongs to another epoch.
    fn seat(&self, at: SeatRef) -> BoxFuture<'_, Result<Option<SeatState>, ChainError>>;
    /// The reveal window of an epoch.
    fn reveal_window(&self, epoch: u32) -> BoxFuture<'_, Result<RevealWindow, ChainError>>;
    /// Commits seats, as few transactions as they fit in; what became of each, in order. `Ok` is confirmed.
    fn commit<'a>(&'a self, commits: &'a [Commit]) -> BoxFuture<'a, Vec<Result<(), ChainError>>>;
    /// Reveals a seat's report; on return it is confirmed.
    fn reveal<'a>(&'a self, at: SeatRef, report: Reveal<'a>) -> BoxFuture<'a, Result<(), ChainError>>;
    /// What a checker could claim.
    fn pay(&self, checker: u32) -> BoxFuture<'_, Result<Pay, ChainError>>;
    /// Claims that; on return it is confirmed.
    fn claim<'a>(&'a self, checker: u32, pay: &'a Pay) -> BoxFuture<'a, Result<(), ChainError>>;
    /// A registered container's block, row, operator and endpoint; `None` when there is none at this address.
    fn registration(&self, container: Pubkey) -> BoxFuture<'_, Result<Option<Registration>, ChainError>>;
}

/// Where a registered container is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The key that answers for it.
    pub operator: Pubkey,
    /// Its endpoint: a stranger's text.
    pub endpoint: String,
}
