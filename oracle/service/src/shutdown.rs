//! An ordered end: stages stop one after the other, all within a grace period.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Error, Result, anyhow};
use futures_util::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// When a daemon ends. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    requested: CancellationToken,
    stages: Mutex<Vec<Member>>,
    failure: Mutex<Option<Error>>,
}

#[derive(Clone, Debug)]
struct Member {
    name: &'static str,
    token: CancellationToken,
    tasks: TaskTracker,
}

/// Tasks that stop together, once those of all earlier stages have ended. Clones share it.
#[derive(Clone, Debug)]
pub struct Stage {
    member: Member,
    shutdown: Shutdown,
}

impl Shutdown {
    /// Resolves once the end was asked for; at once when it was.
    pub async fn requested(&self) {
        self.0.requested.cancelled().await;
    }

    /// Cancelled once the end is asked for: for loops that stop at once, whatever the stages.
    pub fn token(&self) -> CancellationToken {
        self.0.requested.clone()
    }

    /// Asks for the end.
    pub fn request(&self) {
        self.0.requested.cancel();
    }

    /// Asks for the end because something essential failed; the first failure is the process's.
    pub fn fail(&self, error: Error) {
        let mut failure = lock(&self.0.failure);
        match &*failure {
            None => *failure = Some(error),
            Some(_) => tracing::error!(error = format!("{error:#}"), "failed, too"),
        }
        self.request();
    }

    /// A new stage. Stages stop in the order in which they are made: first what takes in work, then what works, then what it
    /// works with.
    pub fn stage(&self, name: &'static str) -> Stage {
        let member = Member { name, token: CancellationToken::new(), tasks: TaskTracker::new() };
        lock(&self.0.stages).push(member.clone());
        Stage { member, shutdown: self.clone() }
    }

    /// Once the end is asked for, stops the stages in order. Resolves when the tasks of the last have ended.
    pub(crate) async fn stages_ended(&self) {
        self.requested().await;
        let mut at = 0;
        // By index: a stage may still be made while earlier ones end.
        loop {
            let Some(Member { name, token, tasks }) = lock(&self.0.stages).get(at).cloned() else { return };
            tracing::debug!(stage = name, tasks = tasks.len(), "stopping");
            token.cancel();
            tasks.close();
            tasks.wait().await;
            at += 1;
        }
    }

    /// What still runs, as text.
    pub(crate) fn running(&self) -> Vec<String> {
        let stages = lock(&self.0.stages);
        let busy = stages.iter().filter(|member| !member.tasks.is_empty());
        busy.map(|member| format!("{} ({})", member.name, member.tasks.len())).collect()
    }

    /// The failure that ended the daemon, if any.
    pub(crate) fn failure(&self) -> Option<Error> {
        lock(&self.0.failure).take()
    }
}

impl Stage {
    /// Cancelled when it is this stage's turn to stop.
    pub fn token(&self) -> CancellationToken {
        self.member.token.clone()
    }

    /// Resolves when it is this stage's turn to stop.
    pub async fn stopped(&self) {
        self.member.token.cancelled().await;
    }

    /// Runs a task that the end waits for. It is to end soon after [`Self::token`] is cancelled; when it fails or panics
    /// before, the daemon ends with its failure.
    pub fn spawn(&self, task: &'static str, work: impl Future<Output = Result<()>> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.member.tasks.spawn(async move {
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => shutdown.fail(error.context(task)),
                Err(_) => shutdown.fail(anyhow!("{task} panicked: the log above says where; please report it")),
            }
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn stages_stop_in_their_order_and_each_waits_for_the_one_before() {
        let shutdown = Shutdown::default();
        let (sender, mut ended) = mpsc::unbounded_channel();
        let [first, second] = ["intake", "work"].map(|name| shutdown.stage(name));
        for (name, stage, pauses) in [("work", &second, 0), ("intake", &first, 50)] {
            let (sender, token) = (sender.clone(), stage.token());
            stage.spawn(name, async move {
                token.cancelled().await;
                for _ in 0..pauses {
                    tokio::task::yield_now().await;
                }
                sender.send(name)?;
                Ok(())
            });
        }
        assert_eq!(shutdown.running(), ["intake (1)", "work (1)"]);
        shutdown.request();
        shutdown.stages_ended().await;
        assert_eq!((ended.recv().await, ended.recv().await), (Some("intake"), Some("work")));
        assert!(shutdown.running().is_empty() && shutdown.failure().is_none());
    }

    #[tokio::test]
    async fn a_task_that_fails_or_panics_ends_the_daemon_with_its_reason() {
        for (panics, says) in [(false, "looks: no chain"), (true, "looks panicked")] {
            let shutdown = Shutdown::default();
            shutdown.stage("work").spawn("looks", async move {
                if panics {
                    panic!("of the test");
                }
                Err(anyhow!("no chain"))
            });
            shutdown.stages_ended().await;
            let failure = format!("{:#}", shutdown.failure().unwrap());
            assert!(failure.starts_with(says), "{failure}");
        }
    }
}
