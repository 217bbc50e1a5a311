//! Stopping a request at a moment, until its sender is dead.

use std::time::Duration;

use datagalax_client::Address;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::actions::{Action, Kind};

/// Longest that a caught request is held.
const HOLD: Duration = Duration::from_secs(10);

/// When on a transaction's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// It is simulated: nothing is signed yet.
    Simulated,
    /// It is signed and kept, and the node has not got it: it never will.
    BeforeForward,
    /// The node has it and its sender has no answer: it never gets one.
    AfterForward,
    /// Its sender has the answer that it is on its way.
    AfterAnswer,
}

impl Moment {
    /// In order.
    pub const ALL: [Self; 4] = [Self::Simulated, Self::BeforeForward, Self::AfterForward, Self::AfterAnswer];
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// A transaction of this payer that does this.
    Transaction(Address, Kind),
    /// A question to the agent.
    Asked,
}

/// Waits for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Which.
    pub mark: Mark,
    /// When.
    pub moment: Moment,
}

/// A request that is held. Dropping this lets go: its connection is cut then, unless the answer was given.
#[derive(Debug)]
pub struct Caught {
    /// What caught it.
    pub trap: Trap,
    /// What the caught transaction does; empty for a question to the agent.
    pub actions: Vec<Action>,
    /// When.
    pub at: Instant,
    _release: oneshot::Sender<()>,
}

impl Caught {
    /// With a future that ends when it is let go, or after ten seconds.
    pub(super) fn of(trap: Trap, actions: Vec<Action>) -> (Self, impl Future<Output = ()>) {
        let (release, released) = oneshot::channel();
        // Dropped or too late: either way it is let go.
        let wait = async { drop(timeout(HOLD, released).await) };
        (Self { trap, actions, at: Instant::now(), _release: release }, wait)
    }
}
