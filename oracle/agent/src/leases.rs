//! Following the container's leases: what is to be done about each, and who does the work.
//!
//! The decision is pure ([`step`]); [`Follower`] carries it out. Running workloads is behind [`Workloads`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use datagalax_service::metrics::{Counter, Family};
use futures_util::{FutureExt, future::BoxFuture};
use solana_pubkey::Pubkey;
use tokio::time::Instant;

use crate::{
    chain::{Act, Lease, Phase},
    metrics::{Lease as Event, Metrics, Reject},
    retry::Retry,
};

/// Why a lease was rejected, as `detail` of the lease on chain.
pub mod code {
    /// This agent runs no workloads.
    pub const NO_RUNTIME: u16 = 1;
    /// The hardware is unfit.
    pub const UNFIT: u16 = 2;
    /// The runtime does not take this workload.
    pub const DECLINED: u16 = 3;
    /// The workload did not come up.
    pub const FAILED: u16 = 4;
    /// The workload would not have come up in time.
    pub const LATE: u16 = 5;
}

/// A lease is rejected so many seconds before its time to start is over, rather than missed: time for a transaction to land.
pub const REJECT_AHEAD: i64 = 15;
/// Most leases that ended and whose workload is still being stopped.
const MOST_ENDED: usize = 32;

/// Why a workload is not taken on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// A code of [`code`].
    pub code: u16,
    /// For the operator.
    pub reason: String,
}

/// Where a workload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not here: never begun, or cleaned up.
    Absent,
    /// Its user has not handed it over yet.
    Awaited,
    /// Coming up.
    Starting,
    /// It came up. It may have ended by itself since: what it was to do is done.
    Running,
    /// It is not taken on, or did not come up.
    Failed(Declined),
}

/// Runs what users lease a host for.
pub trait Workloads: Send + Sync + 'static {
    /// The container's lease, as the chain has it `now` (its time). At each look, before anything else is asked.
    fn seen<'a>(&'a self, lease: Option<&'a Lease>, now: i64) -> BoxFuture<'a, ()>;

    /// Begins to bring up a lease's workload and returns; [`Self::status`] says how it goes. Doing it twice changes nothing.
    ///
    /// # Errors
    /// It is not taken on.
    fn start<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), Declined>>;

    /// Ends a workload and removes everything of it. Doing it twice changes nothing.
    ///
    /// # Errors
    /// What is left behind, and why.
    fn stop(&self, lease: Pubkey) -> BoxFuture<'_, Result<(), String>>;

    /// Where a lease's workload is.
    fn status(&self, lease: Pubkey) -> BoxFuture<'_, Status>;
}

/// No runtime: declines every workload.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRuntime;

impl Workloads for NoRuntime {
    fn seen<'a>(&'a self, _: Option<&'a Lease>, _: i64) -> BoxFuture<'a, ()> {
        async {}.boxed()
    }

    fn start<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, Result<(), Declined>> {
        let declined = Declined { code: code::NO_RUNTIME, reason: "this agent runs no workloads: see --runtime".into() };
        async { Err(declined) }.boxed()
    }

    fn stop(&self, _: Pubkey) -> BoxFuture<'_, Result<(), String>> {
        async { Ok(()) }.boxed()
    }

    fn status(&self, _: Pubkey) -> BoxFuture<'_, Status> {
        async { Status::Absent }.boxed()
    }
}

/// What is to be done about a lease now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Bring its workload up.
    BringUp,
    /// Say on chain that it runs: from here on it is paid for.
    Start,
    /// Say on chain that it will not run.
    Reject(Declined),
    /// End its workload.
    Stop,
}

/// What is to be done about a lease, by the chain's time. `unfit` says why no tenant may come.
pub fn step(lease: &Lease, status: &Status, unfit: Option<&str>, now: i64) -> Step {
    let reject = |code, reason: &str| Step::Reject(Declined { code, reason: reason.to_owned() });
    match (lease.phase, status) {
        // Too late for anything but being cancelled by somebody.
        (Phase::Open, Status::Absent) if now > lease.start_by => Step::Nothing,
        (Phase::Open, _) if now > lease.start_by => Step::Stop,
        (Phase::Open, _) if unfit.is_some() => reject(code::UNFIT, unfit.unwrap_or_default()),
        (Phase::Open, Status::Running) => Step::Start,
        (Phase::Open, Status::Failed(declined)) => Step::Reject(declined.clone()),
        (Phase::Open, Status::Awaited) if now > lease.start_by - REJECT_AHEAD => {
            reject(code::LATE, "no workload was handed over")
        }
        (Phase::Open, _) if now > lease.start_by - REJECT_AHEAD => {
            reject(code::LATE, "its workload would not come up before the time to start it is over")
        }
        (Phase::Open, Status::Absent) => Step::BringUp,
        (Phase::Open, Status::Awaited | Status::Starting) => Step::Nothing,
        // What was escrowed is used up. The chain says so once somebody closes it; the host is not paid for longer.
        (Phase::Started, Status::Absent) if now >= lease.end => Step::Nothing,
        (Phase::Started, _) if now >= lease.end => Step::Stop,
        // After a restart of the host or the agent: what is paid for is to run. A hardware fault does not end it: the user
        // sees what runs and decides, and closing it in the host's name costs stake.
        (Phase::Started, Status::Absent) => Step::BringUp,
        (Phase::Started, _) => Step::Nothing,
        (Phase::Ended, Status::Absent) => Step::Nothing,
        (Phase::Ended, _) => Step::Stop,
    }
}

/// Follows the leases of one container.
pub struct Follower {
    workloads: Arc<dyn Workloads>,
    act: Arc<dyn Act>,
    current: Option<(Lease, Retry)>,
    /// Leases that are no longer the container's, until their workload is gone.
    ended: BTreeMap<Pubkey, Lease>,
    events: Family<Event, Counter>,
    rejects: Family<Reject, Counter>,
}

impl Follower {
    /// Follows with this runtime and counts what happens.
    pub fn new(workloads: Arc<dyn Workloads>, act: Arc<dyn Act>, metrics: &Metrics) -> Self {
        let (events, rejects) = (metrics.leases.clone(), metrics.lease_rejects.clone());
        Self { workloads, act, current: None, ended: BTreeMap::new(), events, rejects }
    }

    fn count(&self, event: Event) {
        self.events.get_or_create(&event).inc();
    }

    /// The lease that the container has now.
    pub fn current(&self) -> Option<&Lease> {
        self.current.as_ref().map(|(lease, _)| lease)
    }

    /// Does what is to be done now that the container's lease is this one. `now` is the chain's time. Says what is in the way
    /// of it, if anything.
    pub async fn follow(&mut self, lease: Option<Lease>, unfit: Option<&str>, now: i64) -> Option<String> {
        self.workloads.seen(lease.as_ref(), now).await;
        self.take_over(lease);
        let mut trouble = None;
        for (address, lease) in std::mem::take(&mut self.ended) {
            let status = self.workloads.status(address).await;
            if step(&lease, &status, None, now) == Step::Stop {
                tracing::info!(lease = %address, "lease ended; stopping its workload");
                if let Err(left) = self.workloads.stop(address).await {
                    trouble = Some(format!("the workload of lease {address} is not gone: {left}"));
                    self.ended.insert(address, lease);
                }
            }
        }
        let Some((lease, mut retry)) = self.current.take() else { return trouble };
        if retry.is_due(Instant::now()) {
            if let Err(reason) = self.act_on(&lease, unfit, now).await {
                self.count(Event::Failed);
                retry.failed(Instant::now());
                tracing::warn!(lease = %lease.address, reason, "will try again");
                trouble = Some(format!("lease {}: {reason}", lease.address));
            } else {
                retry.succeeded();
            }
        } else {
            trouble = Some(format!("lease {}: the last attempt failed; waiting to try again", lease.address));
        }
        self.current = Some((lease, retry));
        trouble
    }

    fn take_over(&mut self, lease: Option<Lease>) {
        match (&mut self.current, lease) {
            (Some((known, _)), Some(lease)) if known.address == lease.address => *known = lease,
            (_, lease) => {
                if let Some((gone, _)) = self.current.take() {
                    if gone.phase == Phase::Started {
                        self.count(Event::Ended);
                    }
                    if self.ended.len() < MOST_ENDED {
                        self.ended.insert(gone.address, Lease { phase: Phase::Ended, ..gone });
                    }
                }
                if let Some(lease) = lease {
                    tracing::info!(lease = %lease.address, user = %lease.user, phase = ?lease.phase, "lease");
                    self.count(Event::Seen);
                    self.current = Some((lease, Retry::new(Duration::from_secs(2), Duration::from_secs(30))));
                }
            }
        }
    }

    async fn act_on(&mut self, lease: &Lease, unfit: Option<&str>, now: i64) -> Result<(), String> {
        let address = lease.address;
        let status = self.workloads.status(address).await;
        let next = match step(lease, &status, unfit, now) {
            // What is declined at once is rejected at once.
            Step::BringUp => match self.workloads.start(lease).await {
                Ok(()) => Step::Nothing,
                Err(declined) if lease.phase == Phase::Open => Step::Reject(declined),
                Err(declined) => return Err(format!("it is paid for and does not run: {}", declined.reason)),
            },
            other => other,
        };
        match next {
            Step::Nothing | Step::BringUp => {}
            Step::Start => {
                self.act.start(address).await.map_err(|error| error.to_string())?;
                self.count(Event::Started);
                tracing::info!(lease = %address, "lease started");
            }
            Step::Reject(Declined { code, reason }) => {
                self.act.reject(address, code).await.map_err(|error| error.to_string())?;
                self.count(Event::Rejected);
                self.rejects.get_or_create(&reject_of(code)).inc();
                tracing::warn!(lease = %address, code, reason, "lease rejected");
                self.workloads.stop(address).await?;
            }
            Step::Stop => self.workloads.stop(address).await?,
        }
        match status {
            Status::Failed(declined) if lease.phase == Phase::Started && now < lease.end => {
                Err(format!("its workload failed: {}", declined.reason))
            }
            Status::Awaited if lease.phase == Phase::Started && now < lease.end => {
                Err("it is paid for and its workload is not here: its user has to hand it over again".into())
            }
            _ => Ok(()),
        }
    }
}

fn reject_of(code: u16) -> Reject {
    match code {
        code::NO_RUNTIME => Reject::NoRuntime,
        code::UNFIT => Reject::Unfit,
        code::DECLINED => Reject::Declined,
        code::LATE => Reject::Late,
        _ => Reject::Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use datagalax_protocol::lease::Usage;
    use datagalax_service::metrics::{Metrics as _, Registry};

    use super::*;
    use crate::chain::{ChainError, Offer};

    const NOW: i64 = 10_000;

    fn lease(phase: Phase) -> Lease {
        Lease {
            address: Pubkey::new_from_array([1; 32]),
            user: Pubkey::new_from_array([2; 32]),
            phase,
            start_by: NOW + 60,
            started: 0,
            end: NOW + 3_600,
            workload_hash: [0; 32],
        }
    }

    #[test]
    fn what_is_to_be_done_follows_from_lease_workload_fitness_and_time() {
        use Status::{Absent, Awaited, Failed, Running, Starting};
        let failed = Failed(Declined { code: code::FAILED, reason: "no image".into() });
        let at = |phase, status: &Status, unfit, now| step(&lease(phase), status, unfit, now);
        let code = |step| match step {
            Step::Reject(declined) => declined.code,
            other => panic!("{other:?}"),
        };
        assert_eq!(at(Phase::Open, &Absent, None, NOW), Step::BringUp);
        assert_eq!(at(Phase::Open, &Starting, None, NOW), Step::Nothing);
        assert_eq!(at(Phase::Open, &Running, None, NOW + 60), Step::Start, "to the last second");
        assert_eq!(code(at(Phase::Open, &failed, None, NOW)), code::FAILED);
        for status in [&Absent, &Awaited, &Starting, &Running] {
            assert_eq!(code(at(Phase::Open, status, Some("Xid 79"), NOW)), code::UNFIT);
        }
        assert_eq!(at(Phase::Open, &Starting, None, NOW + 45), Step::Nothing);
        assert_eq!(code(at(Phase::Open, &Starting, None, NOW + 46)), code::LATE, "rejected rather than missed");
        assert_eq!(at(Phase::Open, &Awaited, None, NOW + 45), Step::Nothing);
        let Step::Reject(never) = at(Phase::Open, &Awaited, None, NOW + 46) else { panic!("it is rejected") };
        assert_eq!((never.code, never.reason.as_str()), (code::LATE, "no workload was handed over"));
        assert_eq!(at(Phase::Open, &Absent, Some("Xid 79"), NOW + 61), Step::Nothing, "nothing can be done any more");
        assert_eq!(at(Phase::Open, &Running, None, NOW + 61), Step::Stop);
        assert_eq!(at(Phase::Started, &Absent, None, NOW), Step::BringUp, "after a restart");
        assert_eq!(at(Phase::Started, &Running, Some("Xid 79"), NOW), Step::Nothing);
        assert_eq!(at(Phase::Started, &Running, None, NOW + 3_600), Step::Stop, "the escrow is used up");
        assert_eq!(at(Phase::Started, &Absent, None, NOW + 3_600), Step::Nothing);
        assert_eq!(at(Phase::Ended, &Absent, None, NOW), Step::Nothing);
        assert_eq!(at(Phase::Ended, &Running, None, NOW), Step::Stop);
    }

    #[derive(Default)]
    struct Recorder {
        done: Mutex<Vec<String>>,
        refuse: Mutex<bool>,
        status: Mutex<Option<Status>>,
    }

    impl Recorder {
        fn note(&self, what: String) -> BoxFuture<'_, Result<(), ChainError>> {
            async move {
                if *self.refuse.lock().unwrap() {
                    return Err(ChainError("the node is down".into()));
                }
                self.done.lock().unwrap().push(what);
                Ok(())
            }
            .boxed()
        }
        fn done(&self) -> Vec<String> {
            std::mem::take(&mut self.done.lock().unwrap())
        }
    }

    impl Act for Recorder {
        fn reject(&self, _: Pubkey, code: u16) -> BoxFuture<'_, Result<(), ChainError>> {
            self.note(format!("reject {code}"))
        }
        fn start(&self, _: Pubkey) -> BoxFuture<'_, Result<(), ChainError>> {
            self.note("start".into())
        }
        fn record_usage(&self, _: Pubkey, _: Usage) -> BoxFuture<'_, Result<(), ChainError>> {
            self.note("usage".into())
        }
        fn offer<'a>(&'a self, _: Pubkey, _: &'a Offer) -> BoxFuture<'a, Result<(), ChainError>> {
            self.note("offer".into())
        }
        fn can_offer(&self) -> bool {
            false
        }
        fn funds(&self) -> BoxFuture<'_, Result<Vec<(Pubkey, u64)>, ChainError>> {
            async { Ok(Vec::new()) }.boxed()
        }
        fn resolve(&self) -> BoxFuture<'_, Result<(), ChainError>> {
            async { Ok(()) }.boxed()
        }
    }

    impl Workloads for Recorder {
        fn seen<'a>(&'a self, _: Option<&'a Lease>, _: i64) -> BoxFuture<'a, ()> {
            async {}.boxed()
        }
        fn start<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, Result<(), Declined>> {
            async {
                *self.status.lock().unwrap() = Some(Status::Starting);
                Ok(())
            }
            .boxed()
        }
        fn stop(&self, _: Pubkey) -> BoxFuture<'_, Result<(), String>> {
            async {
                *self.status.lock().unwrap() = None;
                self.done.lock().unwrap().push("stop".into());
                Ok(())
            }
            .boxed()
        }
        fn status(&self, _: Pubkey) -> BoxFuture<'_, Status> {
            async { self.status.lock().unwrap().clone().unwrap_or(Status::Absent) }.boxed()
        }
    }

    fn follower(workloads: Arc<dyn Workloads>, act: Arc<Recorder>) -> (Follower, Family<Event, Counter>) {
        let metrics = Metrics::register(&mut Registry::default());
        (Follower::new(workloads, act, &metrics), metrics.leases)
    }

    /// Seen, started, rejected, ended, failed.
    fn counted(events: &Family<Event, Counter>) -> [u64; 5] {
        [Event::Seen, Event::Started, Event::Rejected, Event::Ended, Event::Failed].map(|e| events.get_or_create(&e).get())
    }

    #[tokio::test]
    async fn without_a_runtime_a_lease_is_rejected_with_the_reason() {
        let act = Arc::new(Recorder::default());
        let (mut follower, events) = follower(Arc::new(NoRuntime), act.clone());
        assert_eq!(follower.follow(Some(lease(Phase::Open)), None, NOW).await, None);
        assert_eq!(act.done(), ["reject 1"]);
        assert_eq!(follower.follow(None, None, NOW + 5).await, None);
        assert_eq!(counted(&events), [1, 0, 1, 0, 0]);
        // A lease that was started by hand is not touched, and it is said that it does not run.
        let trouble = follower.follow(Some(lease(Phase::Started)), None, NOW).await.unwrap();
        assert!(trouble.contains("runs no workloads"), "{trouble}");
        assert_eq!(act.done(), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_that_fails_is_tried_again_with_growing_pauses() {
        let act = Arc::new(Recorder::default());
        let (mut follower, events) = follower(Arc::new(NoRuntime), act.clone());
        *act.refuse.lock().unwrap() = true;
        let open = Some(lease(Phase::Open));
        assert!(follower.follow(open, None, NOW).await.unwrap().contains("the node is down"));
        assert!(follower.follow(open, None, NOW).await.is_some());
        assert_eq!(counted(&events), [1, 0, 0, 0, 1], "not at once");
        *act.refuse.lock().unwrap() = false;
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(follower.follow(open, None, NOW).await, None);
        assert_eq!(act.done(), ["reject 1"]);
    }

    #[tokio::test]
    async fn a_lease_lives_and_ends() {
        let both = Arc::new(Recorder::default());
        let (mut follower, events) = follower(both.clone(), both.clone());
        follower.follow(Some(lease(Phase::Open)), None, NOW).await;
        follower.follow(Some(lease(Phase::Open)), None, NOW).await;
        assert_eq!(both.done(), Vec::<String>::new(), "it comes up first");
        *both.status.lock().unwrap() = Some(Status::Running);
        follower.follow(Some(lease(Phase::Open)), None, NOW).await;
        assert_eq!(both.done(), ["start"]);
        follower.follow(Some(lease(Phase::Started)), None, NOW).await;
        assert_eq!(follower.follow(None, None, NOW).await, None);
        assert_eq!(both.done(), ["stop"]);
        assert_eq!((counted(&events), follower.current()), ([1, 1, 0, 1, 0], None));
    }
}
