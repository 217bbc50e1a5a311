//! What a checker needs of the chain.

use datagalax_protocol::{Digest, ReportValues};
use futures_util::future::BoxFuture;
use solana_pubkey::Pubkey;
use thiserror::Error;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Whether the committees are drawn.
    pub drawn: bool,
}

/// A checker's seats in an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seats {
    /// Those written into their blocks, ascending.
    pub seated: Vec<SeatRef>,
    /// Blocks where the draw puts the checker, but whose committee nobody has written yet.
    pub waiting: usize,
}

/// A container to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Row of the block.
    pub row: u8,
    /// The container's account.
    pub container: Pubkey,
    /// The key that answers for it.
    pub operator: Pubkey,
    /// Where it is reached: a stranger's text.
    pub endpoint: String,
    /// Operations a second that are 100 percent: the class's reference times the units.
    pub reference: u64,
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
    /// First second that takes reveals.
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
    /// Whether trying again may help.
    pub transient: bool,
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

/// The chain, as far as a checker uses it. Every method may fail because the node does not answer.
pub trait Chain: Send + Sync + 'static {
    /// Which network this is.
    fn cluster(&self) -> BoxFuture<'_, Result<Cluster, ChainError>>;
    /// The operator key of a checker, `None` when there is no such checker.
    fn operator(&self, checker: u32) -> BoxFuture<'_, Result<Option<Pubkey>, ChainError>>;
    /// The epoch the clock is in.
    fn epoch(&self) -> BoxFuture<'_, Result<EpochView, ChainError>>;
    /// A checker's seats in a drawn epoch.
    fn seats(&self, epoch: u32, checker: u32) -> BoxFuture<'_, Result<Seats, ChainError>>;
    /// The containers in a block's occupied rows, by row.
    fn targets(&self, block: u32) -> BoxFuture<'_, Result<Vec<Target>, ChainError>>;
    /// A seat, `None` when the block's lane belongs to another epoch.
    fn seat(&self, at: SeatRef) -> BoxFuture<'_, Result<Option<SeatState>, ChainError>>;
    /// The reveal window of an epoch.
    fn reveal_window(&self, epoch: u32) -> BoxFuture<'_, Result<RevealWindow, ChainError>>;
    /// Commits a seat of this checker; on return it is confirmed.
    fn commit(&self, at: SeatRef, checker: u32, commitment: Digest) -> BoxFuture<'_, Result<(), ChainError>>;
    /// Reveals a seat's report; on return it is confirmed.
    fn reveal<'a>(&'a self, at: SeatRef, report: Reveal<'a>) -> BoxFuture<'a, Result<(), ChainError>>;
}
