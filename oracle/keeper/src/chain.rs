//! The chain as the keeper sees it: read, look again, act, be woken. A trait, so that the loop is tested without a cluster.

use std::time::Duration;

use datagalax_client::ReadError;
use futures_util::future::BoxFuture;
use solana_signature::Signature;

use crate::decide::{Action, ChainView};

/// An action that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The transaction.
    pub signature: Signature,
    /// The slot it landed in.
    pub slot: u64,
    /// Compute units that the whole transaction took.
    pub units: u64,
}

/// Why an action was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Somebody else did it, or the chain moved on since it was read. No trouble: read again.
    Raced(String),
    /// The node or the cluster does not answer. Try again.
    Transient(String),
    /// Anything else. Tried again too, but with growing pauses, and said as a warning.
    Refused(String),
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it was carried out.
    pub result: Result<Done, Failure>,
    /// The transaction that was sent for it, if one was.
    pub signature: Option<Signature>,
    /// Its part of the fees that were paid for trying, lamports: what landed and failed costs as much as what landed.
    pub fee: u64,
    /// Base units that the program paid for it.
    pub pay: u64,
}

impl Outcome {
    /// Failed before it cost anything.
    pub const fn free(failure: Failure) -> Self {
        Self { result: Err(failure), signature: None, fee: 0, pay: 0 }
    }
}

/// What the keeper needs of the chain.
pub trait Chain: Send + Sync {
    /// Reads everything a decision needs, and the chain's time in seconds.
    fn view(&self) -> BoxFuture<'_, Result<(ChainView, i64), ReadError>>;
    /// Whether each of these is still to be done, read anew: asked just before they are sent. They are of one kind and epoch.
    fn undone<'a>(&'a self, view: &'a ChainView, actions: &'a [Action]) -> BoxFuture<'a, Result<Vec<bool>, ReadError>>;
    /// Carries out actions of one kind that the view allowed, in as few transactions as will do; one that fails does not keep the
    /// others back. An outcome for each, in their order.
    fn perform<'a>(&'a self, view: &'a ChainView, actions: &'a [Action]) -> BoxFuture<'a, Vec<Outcome>>;
    /// Waits until something may have changed, at most for `longest`.
    fn changed(&self, longest: Duration) -> BoxFuture<'_, ()>;
}
