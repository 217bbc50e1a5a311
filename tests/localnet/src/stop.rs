//! The reasons to stop: a signal, or a parent that has ended.

use std::{os::unix::process::parent_id, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

/// How often the parent is looked at.
const PARENT_POLL: Duration = Duration::from_millis(200);

/// Watches for a reason to stop from the moment it is made.
#[derive(Debug)]
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    parent: Option<u32>,
}

impl Stop {
    /// Watches the signals and, with `Some`, the parent: the given process id, else whoever is the parent now.
    ///
    /// # Errors
    /// When a signal cannot be watched, or the given process is not this one's parent (any more).
    pub fn watch(parent: Option<Option<u32>>) -> Result<Self> {
        let watch = |kind| signal(kind).context("signals cannot be watched");
        let current = parent_id();
        if let Some(Some(expected)) = parent {
            ensure!(
                current == expected,
                "--exit-with-parent {expected}: the parent of this process is {current}; the one that started it has ended, or give its own process id"
            );
        }
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            hangup: watch(SignalKind::hangup())?,
            parent: parent.map(|_| current),
        })
    }

    /// Waits for the first reason to stop.
    pub async fn requested(&mut self) {
        let parent = self.parent;
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
            () = parent_gone(parent) => {}
        }
    }
}

/// Polls, since Linux's own notice of a parent's death goes by the thread that forked and not by the process. An orphan is
/// given to another parent, so a changed id means the parent has ended.
async fn parent_gone(parent: Option<u32>) {
    let Some(parent) = parent else {
        return std::future::pending().await;
    };
    let mut ticks = interval(PARENT_POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while parent_id() == parent {
        ticks.tick().await;
    }
}
