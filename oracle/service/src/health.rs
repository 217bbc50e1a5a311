//! Whether a daemon lives and can do its work, and if not, why.
//!
//! *Ready* is about the world: a node that does not answer, a key without balance. *Live* is about the daemon itself: a loop
//! that promised to come round and did not is a bug or a deadlock, and only a restart helps.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::time::Instant;

/// The topic a daemon is unready by until [`Health::started`].
pub const START: &str = "start";

/// Reasons against being ready by topic, and the loops that promised to tick. Clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    reasons: BTreeMap<&'static str, String>,
    loops: Vec<Watched>,
    next: u64,
}

#[derive(Debug)]
struct Watched {
    id: u64,
    name: &'static str,
    last: Instant,
    every: Duration,
}

impl Default for Health {
    fn default() -> Self {
        let reasons = BTreeMap::from([(START, "starting".to_owned())]);
        Self(Arc::new(Mutex::new(State { reasons, loops: Vec::new(), next: 0 })))
    }
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets or clears (`None`) the reason of a topic. A topic's coming and going is logged, not each change of its words.
    pub fn set(&self, topic: &'static str, reason: Option<String>) {
        let mut state = self.state();
        let known = state.reasons.contains_key(topic);
        match (known, reason) {
            (true, None) => {
                state.reasons.remove(topic);
                tracing::info!(topic, "{}", if topic == START { "started" } else { "fine again" });
            }
            (_, Some(reason)) => {
                if !known {
                    tracing::warn!(topic, reason, "not ready");
                }
                state.reasons.insert(topic, reason);
            }
            (false, None) => {}
        }
    }

    /// Clears the reason that every daemon starts with: it works from now on, if nothing else is in the way.
    pub fn started(&self) {
        self.set(START, None);
    }

    /// What is in the way, by topic; empty when ready.
    pub fn topics(&self) -> BTreeMap<&'static str, String> {
        self.state().reasons.clone()
    }

    /// What is in the way, as `topic: reason`; empty when ready.
    pub fn reasons(&self) -> Vec<String> {
        self.topics().into_iter().map(|(topic, reason)| format!("{topic}: {reason}")).collect()
    }

    /// A promise to [`tick`](Watchdog::tick) at least every `every`, from now on until the watchdog is dropped. Promise some
    /// multiple of what a round takes at worst: a broken promise gets the daemon restarted.
    pub fn watch(&self, name: &'static str, every: Duration) -> Watchdog {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.loops.push(Watched { id, name, last: Instant::now(), every });
        Watchdog { health: self.clone(), id }
    }

    /// The loops that broke their promise, as sentences; empty while the daemon lives.
    pub fn hanging(&self) -> Vec<String> {
        let now = Instant::now();
        let late = |watched: &&Watched| now.saturating_duration_since(watched.last) > watched.every;
        let describe = |watched: &Watched| {
            let silent = now.saturating_duration_since(watched.last).as_secs();
            let Watched { name, every, .. } = watched;
            format!(
                "the loop `{name}` was last round {silent} s ago, promised every {} s: restart the daemon",
                every.as_secs()
            )
        };
        self.state().loops.iter().filter(late).map(describe).collect()
    }
}

/// A loop's promise. Dropping it ends the promise, except while panicking: a loop that died is not one that ended.
#[must_use = "dropping it ends the promise"]
#[derive(Debug)]
pub struct Watchdog {
    health: Health,
    id: u64,
}

impl Watchdog {
    /// The loop came round.
    pub fn tick(&self) {
        let mut state = self.health.state();
        if let Some(watched) = state.loops.iter_mut().find(|watched| watched.id == self.id) {
            watched.last = Instant::now();
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.health.state().loops.retain(|watched| watched.id != self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_unready_and_names_what_is_missing() {
        let health = Health::default();
        assert_eq!(health.reasons(), ["start: starting"]);
        health.set("chain", Some("no answer".into()));
        health.started();
        health.clone().set("chain", Some("still no answer".into()));
        assert_eq!(health.reasons(), ["chain: still no answer"]);
        health.set("chain", None);
        assert!(health.reasons().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_is_named_and_one_that_ended_is_not() {
        let health = Health::default();
        let (hangs, ends) = (health.watch("hangs", Duration::from_secs(5)), health.watch("ends", Duration::from_secs(5)));
        tokio::time::advance(Duration::from_secs(4)).await;
        ends.tick();
        hangs.tick();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(health.hanging().is_empty());
        drop(ends);
        tokio::time::advance(Duration::from_secs(2)).await;
        let hanging = health.hanging();
        assert!(hanging.len() == 1 && hanging[0].contains("`hangs` was last round 7 s ago"), "{hanging:?}");
        hangs.tick();
        assert!(health.hanging().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_panicked_counts_as_hanging() {
        let health = Health::default();
        let watchdog = health.watch("dies", Duration::from_secs(5));
        let died = tokio::spawn(async move {
            let _watchdog = watchdog;
            panic!("of the test");
        });
        assert!(died.await.is_err());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(health.hanging().len(), 1);
    }
}
