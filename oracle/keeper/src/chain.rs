//! The chain as the keeper sees it: read, act, be woken. A trait, so that the loop is tested without a cluster.

use std::{sync::Arc, time::Duration};

use datagalax::{
    constants::{NONE, ROWS},
    error::DatagalaxError,
};
use datagalax_client::{
    Pipeline, ReadError, Reader, addresses, clock::read_clock, instructions, pipeline::SendError, rpc::Changes,
};
use futures_util::{FutureExt, future::BoxFuture};
use solana_instruction::Instruction;
use solana_signature::Signature;
use tokio::sync::Mutex;

use crate::decide::{Action, ChainView};

/// An action that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The transaction.
    pub signature: Signature,
    /// Compute units it took.
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

/// What the keeper needs of the chain.
pub trait Chain: Send + Sync {
    /// Reads everything a decision needs, and the chain's time in seconds.
    fn view(&self) -> BoxFuture<'_, Result<(ChainView, i64), ReadError>>;
    /// Carries out an action that the view allowed.
    fn perform<'a>(&'a self, view: &'a ChainView, action: Action) -> BoxFuture<'a, Result<Done, Failure>>;
    /// Waits until something may have changed, at most for `longest`.
    fn changed(&self, longest: Duration) -> BoxFuture<'_, ()>;
}

/// A real cluster.
pub struct ClusterChain {
    reader: Reader,
    pipeline: Pipeline,
    changes: Option<Mutex<Changes>>,
}

impl ClusterChain {
    /// Reads and sends through this pipeline's node; with a WebSocket URL, is woken when the network or its tickets change.
    pub fn new(pipeline: Pipeline, ws: Option<&str>) -> Self {
        let watched = vec![addresses::network(), addresses::checker_set()];
        let changes = ws.map(|url| Mutex::new(Changes::watch(url, watched)));
        Self { reader: Reader::new(Arc::clone(pipeline.rpc())), pipeline, changes }
    }

    /// The pipeline, to resolve what a stopped keeper left behind.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    async fn read(&self) -> Result<(ChainView, i64), ReadError> {
        let network = self.reader.network().await?;
        let epoch = match network.current_epoch {
            NONE => None,
            number => Some(self.reader.epoch(number).await?),
        };
        let blocks = self.reader.blocks(network.blocks).await?;
        // Last, so that nothing read is of a later time than the clock.
        let clock = read_clock(self.reader.rpc().as_ref()).await?;
        Ok((ChainView { network, slot: clock.slot, epoch, blocks }, clock.unix_timestamp))
    }

    fn instruction(&self, view: &ChainView, action: Action) -> Instruction {
        match action {
            Action::Advance(number) => instructions::advance_epoch(&self.pipeline.payer(), &view.network, number),
            Action::Churn(epoch) => instructions::churn(epoch),
            Action::Draw(epoch) => instructions::draw(epoch),
            Action::SeatBlock { epoch, block } => instructions::seat_block(epoch, block),
            Action::Tally { epoch, block } => instructions::tally_block(&view.network, epoch, block, ROWS as u16),
        }
    }
}

/// Refusals that mean: done already, or the moment has passed, or is not there yet. The next view tells.
const RACES: [DatagalaxError; 16] = [
    DatagalaxError::AlreadyAdvanced,
    DatagalaxError::AlreadyDrawn,
    DatagalaxError::AlreadySeated,
    DatagalaxError::AlreadyTallied,
    DatagalaxError::NothingToChurn,
    DatagalaxError::ChurnPending,
    DatagalaxError::WrongEpoch,
    DatagalaxError::EpochVoid,
    DatagalaxError::NotDrawn,
    DatagalaxError::NotSeated,
    DatagalaxError::BlockEmpty,
    DatagalaxError::TooEarlyToDraw,
    DatagalaxError::OutsideTallyWindow,
    DatagalaxError::CurrentEpochRequired,
    DatagalaxError::PreviousEpochRequired,
    DatagalaxError::NotStarted,
];

fn failure(action: Action, error: &SendError) -> Failure {
    let text = error.to_string();
    if error.is_transient() {
        return Failure::Transient(text);
    }
    let Some(refusal) = error.refusal() else { return Failure::Refused(text) };
    // An advance creates the epoch's account: that it exists already is said by the system program or the framework.
    let exists = matches!(action, Action::Advance(_))
        && refusal.advice().is_some_and(|a| matches!(a.name, "AccountAlreadyInUse" | "AccountAlreadyInitialized"));
    if exists || RACES.iter().any(|race| refusal.is(*race)) {
        Failure::Raced(refusal.advice().map_or(text, |advice| advice.name.to_owned()))
    } else {
        Failure::Refused(text)
    }
}

impl Chain for ClusterChain {
    fn view(&self) -> BoxFuture<'_, Result<(ChainView, i64), ReadError>> {
        self.read().boxed()
    }

    fn perform<'a>(&'a self, view: &'a ChainView, action: Action) -> BoxFuture<'a, Result<Done, Failure>> {
        async move {
            let instruction = self.instruction(view, action);
            match self.pipeline.send(&action.to_string(), &[instruction], &[]).await {
                Ok(landed) => Ok(Done { signature: landed.signature, units: landed.units }),
                Err(e) => Err(failure(action, &e)),
            }
        }
        .boxed()
    }

    fn changed(&self, longest: Duration) -> BoxFuture<'_, ()> {
        async move {
            match &self.changes {
                Some(changes) => {
                    changes.lock().await.next(longest).await;
                }
                None => tokio::time::sleep(longest).await,
            }
        }
        .boxed()
    }
}
