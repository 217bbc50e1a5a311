//! What the agent needs to know of the chain.

use datagalax_protocol::Digest;
use futures_util::future::BoxFuture;
use solana_pubkey::Pubkey;
use thiserror::Error;

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
    /// The key that answers for it.
    pub operator: Pubkey,
    /// The hardware it was registered for.
    pub fingerprint: Digest,
    /// Where others look for it.
    pub endpoint: String,
}

/// Who judges a block in the current epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committee {
    /// The epoch.
    pub epoch: u32,
    /// Operator keys of the seats; empty while the block is not seated.
    pub operators: Vec<Pubkey>,
    /// Seconds of the epoch that are left by the chain's clock.
    pub remaining: u32,
}

/// The chain did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ChainError(pub String);

/// The chain, as far as the agent asks it.
pub trait Chain: Send + Sync + 'static {
    /// Which network this is.
    ///
    /// # Errors
    /// The node does not answer, or the program is not initialised there.
    fn cluster(&self) -> BoxFuture<'_, Result<Cluster, ChainError>>;

    /// The container's registration, `None` when there is none at this address.
    ///
    /// # Errors
    /// The node does not answer, or the account is something else.
    fn registration(&self, container: Pubkey) -> BoxFuture<'_, Result<Option<Registration>, ChainError>>;

    /// The committee of a block in the epoch the chain's clock is in.
    ///
    /// # Errors
    /// The node does not answer.
    fn committee(&self, block: u32) -> BoxFuture<'_, Result<Committee, ChainError>>;
}
