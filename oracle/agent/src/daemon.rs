//! Start, readiness and ordered shutdown: the tasks that keep everything going.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use datagalax_client::clock::unix_now;
use datagalax_gpu::{
    Probe, ProbeError,
    ask::Ask,
    beacon::Kind,
    capacity::{Limits, ProveError},
};
use datagalax_protocol::Inspection;
use datagalax_relay::{
    Tunnel, name,
    tunnel::{Identity, RelayAddress},
};
use datagalax_service::{Service, health::START, tls};
use serde::{Deserialize, Serialize};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore, oneshot},
    time::{self, Instant},
};

use crate::{
    admission::Admission,
    beacon::prover::{Cause, OpenDevices, Prover, Task, Unproven},
    chain::{Act, Chain, Cluster, Phase, Registration, SeenSlot, SlotsError, Watched},
    faults::{
        Fault,
        fitness::{Fitness, Policy, Record},
    },
    leases::{Follower, NoRuntime, Workloads},
    listen::{self, Entrances},
    metrics::Metrics,
    offer::{Keeper, Wanted},
    retry::Retry,
    selfcheck,
    server::{Agent, PROBING, WAITING, router},
    state::{StateDir, StateError},
    workloads::{self, Runner, Users},
};

/// How often an agent without the current committee looks for it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often the committee is read when it is complete: keys are changed, and a notification of a lease may get lost.
const COMMITTEE_EVERY: Duration = Duration::from_secs(30);
/// Shortest pause between two such looks, however often the block changes.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// How often the container's account is read when nothing says that it changed.
const READ_EVERY: Duration = Duration::from_secs(15);
/// How often a lease that is not started is looked after, and what failed is tried again.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);
/// How often the rest of the self-check is repeated.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// Longest that reading the hardware may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the times in the record of faults are brought up to date on the disk.
const RECORD_EVERY: Duration = Duration::from_secs(60);
/// Pauses between attempts to bring the chain in step.
const OFFER_RETRY: Retry = Retry::new(Duration::from_secs(10), Duration::from_secs(600));
/// How long the looks for the committee may take at worst, waits for nodes included, before they count as hanging.
const COMMITTEE_HANGS: Duration = Duration::from_secs(300);
/// The same for a look at the hardware, which waits [`PROBE_TIMEOUT`] for the driver and then goes on without it.
const HARDWARE_HANGS: Duration = Duration::from_secs(120);
/// The same for following the container: each transaction may be sent until its blockhash expires, some times over.
const FOLLOW_HANGS: Duration = Duration::from_secs(900);
/// Name of the record of faults.
const FAULTS: &str = "faults";

/// What an agent is made of.
pub struct Parts {
    /// The container's operator key.
    pub key: Keypair,
    /// The container's account.
    pub container: Pubkey,
    /// The hardware.
    pub probe: Arc<dyn Probe>,
    /// Opens the devices that answer beacons.
    pub devices: OpenDevices,
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// What is done there.
    pub act: Arc<dyn Act>,
    /// What becomes of leases.
    pub leases: Leases,
    /// What is kept on disk.
    pub state: Arc<StateDir>,
    /// Threads for challenges.
    pub threads: NonZeroUsize,
    /// Most bytes of proofs kept.
    pub proof_memory: u64,
    /// What the chain should say.
    pub wanted: Wanted,
    /// How long faults count.
    pub policy: Policy,
    /// How often the hardware is looked at.
    pub inspect_every: Duration,
    /// Forget the faults on record.
    pub clear_faults: bool,
    /// Whether the registered endpoint is tried from here.
    pub check_endpoint: bool,
    /// Relays to be reached through; none: only by the listener.
    pub relays: Vec<RelayAddress>,
    /// How long to wait for chain and registration.
    pub start_timeout: Duration,
}

/// What becomes of the container's leases.
pub enum Leases {
    /// They are somebody else's; this agent only watches them.
    Leave,
    /// They are rejected: nothing is run here.
    Decline,
    /// Their workloads are run this way.
    Run(workloads::Running),
}

/// The record of faults.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Health {
    faults: Record,
    /// Whether it was this agent that closed the container to new leases.
    closed: bool,
}

/// What the tasks share beside [`Agent`].
struct Shared {
    agent: Arc<Agent>,
    chain: Arc<dyn Chain>,
    act: Arc<dyn Act>,
    state: Arc<StateDir>,
    fitness: Mutex<Fitness>,
    closed: Mutex<bool>,
    /// Held while both are put on the disk.
    recording: tokio::sync::Mutex<()>,
    /// Something happened that the follower of the chain should look at now.
    look: Arc<Notify>,
    /// The way to this host changed.
    recheck: Notify,
}

/// Serves until the end is asked for, then ends requests in flight within a grace period.
///
/// # Errors
/// The chain or the registration does not appear in time, the registration is not this host's, or the state cannot be read.
pub async fn run(parts: Parts, listener: TcpListener, service: Service<Metrics>) -> anyhow::Result<()> {
    let threads = parts.threads;
    let limits = if parts.probe.hardware_class() == "cpu" { Limits::CPU } else { Limits::default() };
    let limits = Limits { host_memory: parts.proof_memory, ..limits };
    let Health { faults, closed } = parts.state.read(FAULTS)?;
    let mut fitness = Fitness::new(parts.policy, faults);
    if parts.clear_faults {
        fitness.clear();
        // At once: an end right after the start must not bring them back.
        parts.state.write(FAULTS, &Health { faults: fitness.record(), closed })?;
    }
    let agent = Arc::new(Agent {
        prover: Prover::new(parts.container, parts.devices, limits, threads, parts.state.clone(), service.metrics.clone())?,
        beacons: Mutex::default(),
        key: parts.key,
        container: parts.container,
        probe: parts.probe,
        health: service.health.clone(),
        metrics: service.metrics.clone(),
        admission: OnceLock::new(),
        waiting: Semaphore::new(WAITING),
        probing: Arc::new(Semaphore::new(PROBING)),
    });
    let shared = Shared {
        agent: agent.clone(),
        chain: parts.chain,
        act: parts.act,
        state: parts.state,
        fitness: fitness.into(),
        closed: closed.into(),
        recording: tokio::sync::Mutex::default(),
        look: Arc::new(Notify::new()),
        recheck: Notify::new(),
    };
    let (runner, runs): (Option<Runner>, Option<Arc<dyn Workloads>>) = match parts.leases {
        Leases::Run(running) => {
            let (state, chain, act) = (shared.state.clone(), shared.chain.clone(), shared.act.clone());
            let runner = Runner::new(running, state, chain, act, service.metrics.clone(), shared.look.clone());
            (Some(runner.clone()), Some(Arc::new(runner)))
        }
        Leases::Decline => (None, Some(Arc::new(NoRuntime))),
        Leases::Leave => (None, None),
    };
    let users =
        runner.clone().map(|runner| workloads::router(Arc::new(Users::new(agent.clone(), runner, shared.chain.clone()))));
    let (stop_server, server_stopped) = oneshot::channel::<()>();
    let (open_tunnel, tunnel) = oneshot::channel();
    let entrances = Entrances { listener, tls: tls::server(&agent.key), tunnel };
    let server = tokio::spawn(listen::serve(entrances, router(agent.clone(), users), async {
        // An error means that the sender is gone, which is a reason to stop, too.
        server_stopped.await.ok();
    }));
    let work = async {
        let cluster = shared.start(parts.start_timeout).await?;
        let links = shared.relays(cluster, &parts.relays, open_tunnel);
        if let Some(runner) = &runner {
            runner.set_units(shared.admission().registration().gpus);
        }
        let serves = runs.is_some();
        let follow = shared.follow(runs, parts.wanted);
        tokio::join!(
            shared.committee(),
            follow,
            shared.hardware(parts.inspect_every),
            shared.checks(parts.check_endpoint, serves),
            links,
            shared.beacons(),
            agent.prover.work(|trouble| shared.devices(trouble)),
        );
        Ok(())
    };
    let ended = tokio::select! {
        ended = work => ended,
        () = service.shutdown.requested() => Ok(()),
    };
    if let Some(runner) = &runner {
        runner.close().await;
    }
    // The server may have ended by itself only by a panic, which the join below reports.
    stop_server.send(()).ok();
    server.await.context("the server ended unexpectedly")?;
    ended
}

impl Shared {
    /// Finds the registration, and finds out what became of transactions that an earlier run left behind.
    async fn start(&self, timeout: Duration) -> anyhow::Result<Cluster> {
        let (agent, deadline) = (&self.agent, Instant::now() + timeout);
        let (cluster, registration) = loop {
            let found = async {
                let cluster = self.chain.cluster().await?;
                let registration = self.chain.registration(agent.container).await?;
                self.act.resolve().await?;
                Ok::<_, anyhow::Error>((cluster, registration))
            };
            let reason = match found.await {
                Ok((cluster, Some(registration))) => break (cluster, registration),
                Ok((_, None)) => format!("there is no container at {}: register it, or check --container", agent.container),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                bail!("{reason} (gave up after {} s)", timeout.as_secs());
            }
            agent.health.set(START, Some(reason));
            time::sleep(LOOK_EVERY.min(deadline - Instant::now())).await;
        };
        check_registration(agent, &registration)?;
        let Registration { block, row, .. } = registration;
        tracing::info!(container = %agent.container, block, row, endpoint = registration.offer.endpoint, "registered; answering");
        agent.admission.get_or_init(|| Admission::new(self.chain.clone(), cluster, agent.container, registration));
        agent.health.started();
        Ok(cluster)
    }

    /// Dials out to the relays, hands what they pass on to the server, and tells for ever whether they are connected.
    async fn relays(&self, cluster: Cluster, relays: &[RelayAddress], server: oneshot::Sender<Tunnel>) {
        if relays.is_empty() {
            return;
        }
        let identity = Identity {
            key: Arc::new(self.agent.key.insecure_clone()),
            container: self.agent.container,
            genesis_hash: cluster.genesis_hash,
            program: cluster.program,
        };
        for relay in relays {
            let (label, name) = (name::label(&self.agent.key.pubkey()), relay.name());
            tracing::info!(endpoint = format!("https://{label}.{name}"), %relay, "reached through a relay, at its public port");
        }
        let tunnel = Tunnel::open(&identity, relays);
        let mut links = tunnel.links();
        if server.send(tunnel).is_err() {
            // It has stopped, and so does everything else.
            return;
        }
        loop {
            let trouble = links.trouble();
            if trouble.is_none() {
                self.recheck.notify_one();
            }
            self.agent.health.set("relay", trouble);
            links.changed().await;
        }
    }

    fn admission(&self) -> &Admission {
        // Every task begins after `start`.
        self.agent.admission.get().expect("the registration was found")
    }

    /// Keeps the committee fresh for ever: who may ask, when beacons are, what they ask.
    async fn committee(&self) {
        let admission = self.admission();
        let watchdog = self.agent.health.watch("committee", COMMITTEE_HANGS);
        let mut changes = self.chain.changes(Watched::Block(admission.registration().block));
        let mut looked: Option<Instant> = None;
        loop {
            watchdog.tick();
            let known = admission.committee();
            // Seats may be filled and the epoch drawn some time after it began.
            let incomplete = known.is_none_or(|known| known.operators.is_empty() || known.beacons.is_none());
            if incomplete || looked.is_none_or(|looked| looked.elapsed() >= COMMITTEE_EVERY) {
                self.refresh().await;
                looked = Some(Instant::now());
            }
            // Woken by the seats, which are filled right after the draw: the first beacon may follow at once.
            changes.next(LOOK_EVERY).await;
            time::sleep(LOOK_PAUSE).await;
        }
    }

    async fn refresh(&self) {
        let trouble = self.admission().refresh_now().await.err();
        self.agent.health.set("chain", trouble.map(|error| error.to_string()));
        self.enter_epoch();
    }

    /// Tells the beacons which epoch it is.
    fn enter_epoch(&self) {
        let Some(committee) = self.admission().committee() else { return };
        self.agent.metrics.epoch.set(i64::from(committee.epoch));
        self.agent.metrics.committee_keys.set(committee.operators.len() as i64);
        self.agent.health.set("class", committee.ask.as_ref().err().map(|reason| format!("no challenge fits: {reason}")));
        let Some(watch) = committee.beacons else { return };
        let (found, latest) = {
            let mut beacons = lock(&self.agent.beacons);
            (beacons.enter(committee.epoch, watch), beacons.latest().copied())
        };
        // Slots that came before the epoch was known: those whose answers may still count are computed now.
        let fresh = |seen: &SeenSlot, ask: &Ask| {
            let age = latest.map_or(0, |latest| latest.slot.time.saturating_sub(seen.slot.time));
            u64::try_from(age).is_ok_and(|age| Duration::from_secs(age) < ask.schedule.deadline)
        };
        if let Ok(ask) = &committee.ask {
            let found = found.into_iter().filter(|(seen, _)| fresh(seen, ask));
            self.prove(committee.epoch, ask, found);
        }
    }

    /// Has beacons computed, at once.
    fn prove(&self, epoch: u32, ask: &Ask, found: impl IntoIterator<Item = (SeenSlot, Kind)>) {
        for (seen, kind) in found {
            let deadline = seen.seen + ask.schedule.deadline;
            tracing::info!(epoch, slot = seen.slot.number, ?kind, "beacon");
            self.agent.metrics.beacon_slot.set(gauge(seen.slot.number));
            let task = Task { epoch, slot: seen.slot, seen: seen.seen, ask: *ask, cause: Cause::Beacon { deadline } };
            if let Err(error) = self.agent.prover.request(task) {
                tracing::error!(slot = seen.slot.number, %error, "a beacon is not computed");
            }
        }
    }

    /// Watches for beacons for ever.
    async fn beacons(&self) {
        let mut slots = self.chain.slots();
        loop {
            match slots.next().await {
                Ok(new) => {
                    self.agent.health.set("slots", None);
                    if let Some(last) = new.last() {
                        self.agent.metrics.slot.set(gauge(last.slot.number));
                    }
                    self.enter_epoch();
                    let found = lock(&self.agent.beacons).see(&new);
                    if found.is_empty() {
                        continue;
                    }
                    match self.admission().committee() {
                        Some(committee) if committee.beacons.is_some() => match &committee.ask {
                            Ok(ask) => self.prove(committee.epoch, ask, found),
                            Err(reason) => tracing::error!(reason, "a beacon that nothing can be asked at"),
                        },
                        // The epoch ended by the chain's clock a moment ago.
                        _ => tracing::warn!("a beacon of an epoch that is over"),
                    }
                }
                Err(SlotsError::Undone { from }) => {
                    tracing::warn!(from, "slots were undone");
                    lock(&self.agent.beacons).undo(from);
                }
                Err(SlotsError::Trouble(reason)) => {
                    self.agent.health.set("slots", Some(format!("beacons may be missed: {reason}")));
                    // What the implementation promises, and not relied upon: a busy loop would starve the rest.
                    time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Takes note of what is in the way of computing.
    fn devices(&self, trouble: Option<&Unproven>) {
        // One that came too late, or was called off, says nothing about the next.
        let lasting = trouble.filter(|error| !matches!(error, Unproven::Late | Unproven::Prove(ProveError::CalledOff)));
        self.agent.health.set("devices", lasting.map(|error| format!("beacons cannot be answered: {error}")));
        if let Some(Unproven::OtherRoot) = trouble {
            lock(&self.fitness).note(Fault::WrongRoot, unix_now(), unix_now());
            self.tell_faults();
            self.look.notify_one();
        }
    }

    /// Looks at the hardware for ever.
    async fn hardware(&self, every: Duration) {
        let health = &self.agent.health;
        let watchdog = health.watch("hardware", HARDWARE_HANGS);
        // Those on the disk; after --clear-faults they are not those that count.
        let mut written: Option<Vec<Fault>> = None;
        let mut recorded = Instant::now();
        let mut reading = None;
        loop {
            watchdog.tick();
            let registration = self.admission().registration();
            // A driver that hangs is waited for, not asked again and again.
            let read = reading.get_or_insert_with(|| {
                let probe = self.agent.probe.clone();
                tokio::task::spawn_blocking(move || probe.inspect(unix_now()))
            });
            let changed = match time::timeout(PROBE_TIMEOUT, read).await {
                Ok(read) => {
                    reading = None;
                    read.map_or_else(
                        |error| {
                            tracing::error!(%error, "the probe panicked");
                            false
                        },
                        |inspection| self.inspected(&registration, inspection.as_ref()),
                    )
                }
                Err(_) => {
                    let seconds = PROBE_TIMEOUT.as_secs();
                    health.set("driver", Some(format!("the driver has not answered for {seconds} s: reboot the host")));
                    lock(&self.fitness).note(Fault::Unreadable, unix_now(), unix_now());
                    true
                }
            };
            self.tell_faults();
            if changed {
                self.look.notify_one();
            }
            let faults: Vec<Fault> = lock(&self.fitness).faults().cloned().collect();
            let stale = !faults.is_empty() && recorded.elapsed() >= RECORD_EVERY;
            if stale || written.as_ref() != Some(&faults) {
                self.record().await;
                (written, recorded) = (Some(faults), Instant::now());
            }
            time::sleep(every).await;
        }
    }

    /// Takes note of what the hardware shows. Whether there are other faults than before.
    fn inspected(&self, registration: &Registration, inspection: Result<&Inspection, &ProbeError>) -> bool {
        let (health, metrics) = (&self.agent.health, &self.agent.metrics);
        health.set("driver", inspection.err().map(ToString::to_string));
        if let Ok(inspection) = inspection {
            let small = selfcheck::class(registration, inspection);
            health.set("cards", small.or_else(|| selfcheck::cards(registration, inspection)));
            let cards = &inspection.metrics.gpus;
            let hottest = cards.iter().filter_map(|gpu| gpu.temperature).max().unwrap_or(0);
            metrics.hottest_celsius.set(i64::from(hottest));
            let power: u64 = cards.iter().filter_map(|gpu| gpu.power).map(u64::from).sum();
            metrics.power_watts.set(power as f64 / 1_000.0);
        }
        // A class of processors has units, not cards.
        let gpus = if registration.minimum_memory == 0 { 0 } else { registration.gpus };
        lock(&self.fitness).look(inspection, gpus, unix_now())
    }

    fn tell_faults(&self) {
        let (unfit, count) = {
            let fitness = lock(&self.fitness);
            (fitness.unfit(), fitness.faults().count())
        };
        self.agent.metrics.faults.set(count as i64);
        self.agent.health.set("hardware", unfit.map(|reason| format!("unfit for tenants: {reason}")));
    }

    /// Puts faults, and who closed the container, on the disk.
    async fn record(&self) {
        // What is read later is written later: an older record never replaces a newer one.
        let _turn = self.recording.lock().await;
        let health = Health { faults: lock(&self.fitness).record(), closed: *lock(&self.closed) };
        let state = self.state.clone();
        let written = tokio::task::spawn_blocking(move || state.write(FAULTS, &health)).await;
        let failed = |error: StateError| error.to_string();
        let trouble = written.map_or_else(|error| Some(error.to_string()), |written| written.err().map(failed));
        self.agent.health.set("state", trouble);
    }

    /// Follows the container's account for ever: its lease, and what it offers.
    async fn follow(&self, workloads: Option<Arc<dyn Workloads>>, wanted: Wanted) {
        let (agent, admission) = (&self.agent, self.admission());
        let mut follower = workloads.map(|workloads| Follower::new(workloads, self.act.clone(), &agent.metrics));
        let mut keeper = Keeper::new(self.act.clone(), agent.container, wanted, OFFER_RETRY);
        let mut changes = self.chain.changes(Watched::Container(agent.container));
        let watchdog = agent.health.watch("container", FOLLOW_HANGS);
        loop {
            watchdog.tick();
            let read = async {
                let registration = self.chain.registration(agent.container).await?;
                Ok::<_, crate::chain::ChainError>((registration, self.chain.time().await?))
            };
            let mut pause = READ_EVERY;
            match read.await {
                Ok((Some(registration), now)) => {
                    agent.health.set("registration", check_registration(agent, &registration).err().map(|e| e.to_string()));
                    agent.health.set("clock", selfcheck::clock(unix_now(), now));
                    let Metrics { clock_ahead_seconds, accepting, price_per_hour, leased, .. } = &agent.metrics;
                    clock_ahead_seconds.set(unix_now().saturating_sub(now));
                    accepting.set(i64::from(registration.offer.accepting));
                    price_per_hour.set(gauge(registration.offer.price_per_hour));
                    leased.set(i64::from(registration.lease.is_some()));
                    let leased = |registration: &Registration| registration.lease.map(|lease| (lease.address, lease.phase));
                    let changed = leased(&admission.registration()) != leased(&registration);
                    admission.set_registration(registration.clone());
                    if changed {
                        // What a beacon asks depends on it.
                        self.refresh().await;
                    }
                    let unfit = lock(&self.fitness).unfit();
                    if self.offer(&mut keeper, &registration, unfit.is_some()).await {
                        pause = FOLLOW_EVERY;
                    }
                    if let Some(follower) = &mut follower {
                        let trouble = follower.follow(registration.lease, unfit.as_deref(), now).await;
                        agent.health.set("lease", trouble);
                        pause = match registration.lease {
                            Some(lease) if lease.phase == Phase::Open => FOLLOW_EVERY,
                            // On time at its end.
                            Some(lease) if lease.end > now => pause.min(Duration::from_secs(lease.end.abs_diff(now))),
                            _ => pause,
                        };
                    }
                    agent.health.set("follow", None);
                }
                Ok((None, _)) => {
                    let reason = format!("the container {} is no more: it was vacated", agent.container);
                    agent.health.set("registration", Some(reason));
                }
                Err(error) => {
                    agent.health.set("follow", Some(format!("leases cannot be followed: {error}")));
                    pause = FOLLOW_EVERY;
                }
            }
            tokio::select! {
                () = changes.next(pause) => {}
                () = self.look.notified() => {}
            }
            // However many notifications come.
            time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Keeps the offer in step. Whether there is something to try again soon.
    async fn offer(&self, keeper: &mut Keeper, registration: &Registration, unfit: bool) -> bool {
        let closed = *lock(&self.closed);
        let due = keeper.due(&registration.offer, unfit, closed);
        // Before it is sent: whatever comes between, it is known whose doing a closed container is.
        let closes = unfit && registration.offer.accepting && keeper.can();
        let reopened = closed && !unfit && registration.offer.accepting;
        if closes && !closed || reopened {
            *lock(&self.closed) = closes;
            self.record().await;
        }
        let trouble = match &due {
            None => None,
            Some(due) => keeper.keep(&registration.offer, due).await,
        };
        let again = trouble.is_some() && keeper.can();
        self.agent.health.set("offer", trouble);
        again
    }

    /// Repeats the rest of the self-check for ever.
    async fn checks(&self, endpoint: bool, serves: bool) {
        loop {
            let state = self.state.clone();
            if let Ok(free) = tokio::task::spawn_blocking(move || state.free()).await {
                self.agent.health.set("disk", selfcheck::disk(free));
            }
            // A node that does not answer is told by others.
            if let Ok(funds) = self.act.funds().await {
                // The operator's key pays for leases alone.
                self.agent.health.set("fees", selfcheck::fees(&funds[usize::from(!serves).min(funds.len())..]));
            }
            if endpoint {
                let registered = self.admission().registration().offer.endpoint;
                let answer = ask(&registered, &self.agent.key.pubkey()).await;
                let reason = selfcheck::endpoint(&registered, &answer, &self.agent.container.to_string());
                self.agent.health.set("endpoint", reason);
            }
            tokio::select! {
                () = time::sleep(CHECK_EVERY) => {}
                () = self.recheck.notified() => {}
            }
        }
    }
}

/// Most bytes read of what answers at the endpoint.
const MAX_INFO: usize = 16 << 10;

/// As a checker asks: `https` only with the operator's own key.
async fn ask(endpoint: &str, operator: &Pubkey) -> Result<String, String> {
    let http = if endpoint.starts_with("https:") { tls::http(operator) } else { reqwest::Client::builder() };
    let http = http.timeout(selfcheck::ENDPOINT_TIMEOUT).build().map_err(|error| error.to_string())?;
    let url = format!("{}/v1/info", endpoint.trim_end_matches('/'));
    let mut answer = http.get(url).send().await.map_err(|error| error.without_url().to_string())?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| error.without_url().to_string())? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_INFO {
            return Err(format!("it answers with more than {MAX_INFO} bytes"));
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// A number as a gauge holds it.
fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Locks, also after a panic of another holder: no code of this crate that holds such a lock can leave what it guards half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_registration(agent: &Agent, registration: &Registration) -> anyhow::Result<()> {
    let key = agent.key.pubkey();
    if registration.operator != key {
        bail!("the container's operator is {}, but --keypair is {key}: name the operator's keypair", registration.operator);
    }
    let fingerprint = agent.probe.fingerprint();
    if registration.fingerprint != fingerprint {
        let [registered, found] = [registration.fingerprint, fingerprint].map(hex::encode);
        bail!("the container was registered for hardware {registered}, but this host is {found}: register this host");
    }
    Ok(())
}
