//! The loop: read, decide, send, wait.

use std::{collections::HashMap, fmt, time::Duration};

use datagalax_client::ReadError;
use futures_util::{StreamExt, stream};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    chain::{Chain, Failure},
    decide::{Action, ChainView, next_actions, next_moment},
};

/// Tries to reach the node before the keeper gives up at its start.
pub const START_TRIES: u32 = 5;
/// Actions sent side by side.
const CONCURRENCY: usize = 8;
/// Longest time between two reads, so that a lost notification strands nothing.
const LONGEST_IDLE: Duration = Duration::from_secs(5);
/// Shortest time between two reads, so that a busy chain does not make a busy loop.
const SHORTEST_IDLE: Duration = Duration::from_millis(200);
/// First and longest pause after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Why a keeper did not start.
#[derive(Debug)]
pub struct StartError {
    tries: u32,
    error: ReadError,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (tried {} times)", self.error, self.tries)
    }
}

impl std::error::Error for StartError {}

/// Carries out what is due until it is told to stop.
pub struct Keeper<C> {
    chain: C,
    /// Actions that failed: when to try again, and the pause before the try after that.
    resting: HashMap<Action, (Instant, Duration)>,
    waiting_for_network: bool,
}

impl<C: Chain> Keeper<C> {
    /// A keeper of this chain.
    pub fn new(chain: C) -> Self {
        Self { chain, resting: HashMap::new(), waiting_for_network: false }
    }

    /// The chain.
    pub fn chain(&self) -> &C {
        &self.chain
    }

    /// Makes sure that the node answers, so that a wrong URL is an error and not an endless loop.
    ///
    /// # Errors
    /// [`StartError`] after [`START_TRIES`] tries, or at once when the node answers something that waiting does not mend.
    pub async fn start(&self) -> Result<(), StartError> {
        let mut pause = BACKOFF.0;
        let mut tries = 1;
        loop {
            match self.chain.view().await {
                Ok(_) => return Ok(()),
                // Not initialised yet: the keeper waits for that.
                Err(e) if e.is_not_found() => return Ok(()),
                Err(error) if !error.is_transient() || tries >= START_TRIES => return Err(StartError { tries, error }),
                Err(e) => tracing::warn!("{e}; trying again in {pause:?}"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
            tries += 1;
        }
    }

    /// Runs until `stop` says so; actions on their way are waited for.
    pub async fn run(&mut self, mut stop: watch::Receiver<bool>) {
        let mut pause = BACKOFF.0;
        while !*stop.borrow() {
            let idle = match self.round(&stop).await {
                Ok(idle) => {
                    pause = BACKOFF.0;
                    idle
                }
                Err(e) if e.is_not_found() => {
                    if !std::mem::replace(&mut self.waiting_for_network, true) {
                        tracing::info!("{e}; waiting for it");
                    }
                    Duration::from_secs(1)
                }
                Err(e) => {
                    tracing::warn!("reading the chain failed: {e}; trying again in {pause:?}");
                    let next = (pause * 2).min(BACKOFF.1);
                    std::mem::replace(&mut pause, next)
                }
            };
            tokio::select! {
                _ = stop.changed() => {}
                () = async { sleep(SHORTEST_IDLE.min(idle)).await; self.chain.changed(idle.saturating_sub(SHORTEST_IDLE)).await } => {}
            }
        }
    }

    /// Reads once and carries out everything due. How long nothing is due after it.
    async fn round(&mut self, stop: &watch::Receiver<bool>) -> Result<Duration, ReadError> {
        let (view, now) = self.chain.view().await?;
        self.waiting_for_network = false;
        let due = next_actions(&view, now);
        self.resting.retain(|action, _| due.contains(action));
        let clock = Instant::now();
        let ready: Vec<Action> =
            due.iter().copied().filter(|a| self.resting.get(a).is_none_or(|(until, _)| *until <= clock)).collect();
        if ready.is_empty() {
            let until_moment = u64::try_from(next_moment(&view, now).saturating_sub(now)).unwrap_or(1);
            let rest = self.resting.values().map(|(until, _)| until.saturating_duration_since(clock)).min();
            return Ok(Duration::from_secs(until_moment).min(rest.unwrap_or(LONGEST_IDLE)).min(LONGEST_IDLE));
        }
        let mut results = Box::pin(
            stream::iter(ready).map(|action| perform(&self.chain, &view, action, stop)).buffer_unordered(CONCURRENCY),
        );
        let mut outcomes = Vec::new();
        while let Some(outcome) = results.next().await {
            outcomes.push(outcome);
        }
        drop(results);
        for (action, outcome) in outcomes {
            let pause = match outcome {
                Outcome::Done => continue,
                // The chain is ahead of the view, or one slot behind it: look again soon.
                Outcome::Raced => BACKOFF.0,
                Outcome::Failed => self.resting.get(&action).map_or(BACKOFF.0, |(_, pause)| (*pause * 2).min(BACKOFF.1)),
            };
            self.resting.insert(action, (Instant::now() + pause, pause));
        }
        // Whatever was done may have made the next thing due.
        Ok(Duration::ZERO)
    }
}

enum Outcome {
    Done,
    Raced,
    Failed,
}

/// One action, logged in one line. A failure of any kind ends nothing.
async fn perform<C: Chain>(chain: &C, view: &ChainView, action: Action, stop: &watch::Receiver<bool>) -> (Action, Outcome) {
    // Told to stop: what is on its way is waited for, nothing new begins.
    if *stop.borrow() {
        return (action, Outcome::Done);
    }
    let start = Instant::now();
    let result = chain.perform(view, action).await;
    let ms = start.elapsed().as_millis();
    match result {
        Ok(done) => {
            tracing::info!(signature = %done.signature, units = done.units, ms, "{action}");
            (action, Outcome::Done)
        }
        Err(Failure::Raced(why)) => {
            tracing::info!(ms, "{action}: somebody was faster, or the moment has passed ({why})");
            (action, Outcome::Raced)
        }
        Err(Failure::Transient(why) | Failure::Refused(why)) => {
            tracing::warn!(ms, "{action}: {why}");
            (action, Outcome::Failed)
        }
    }
}
