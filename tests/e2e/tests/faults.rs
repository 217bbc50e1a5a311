//! A network whose daemons live behind a proxy that breaks what passes, and die at every step of what they do. Whatever happens:
//! the books balance, nothing is done twice, and no report that was committed is lost.
//!
//! `cargo xtask test` lives through one seed (`DATAGALAX_SEED`, or 1); `cargo xtask test --long` through many, under more deaths.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    fs::OpenOptions,
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use datagalax::{
    constants::NONE,
    state::{Lease, Row},
};
use datagalax_client::{
    Address, Pipeline, Reader, addresses,
    instructions::{self, OpenLeaseArgs},
    keys,
    pipeline::{self, MemoryStore},
    token,
};
use datagalax_e2e::{
    Books, Deployment, History, Proxy, Settings,
    actions::{Action, Kind},
    daemon::Daemon,
    deployment::{ATH, Progress},
    follow::{self, View},
    proxy::{Caught, Counts, Fault, Mark, Moment, Trap, Upstream},
};
use solana_keypair::Keypair;
use solana_signer::Signer;
use tokio::{
    process::{Child, Command},
    sync::mpsc::UnboundedReceiver,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// Seconds of an epoch: a killed daemon is back within its shortest window, a sixth of this, also on a loaded machine.
const EPOCH: u32 = 24;
const CHECKERS: u32 = 5;
/// Nodes that the proxy shows.
const NODES: u8 = 2;
/// Epochs within which everything must have happened; more than three times what it takes, as a busy machine loses some.
const PATIENCE: u32 = 24;
/// Pause between two looks at the chain.
const LOOK: Duration = Duration::from_millis(400);
/// Seeds of the long form.
const SEEDS: u64 = 6;
/// Whose keys get SOL besides those of every run.
const USERS: [&str; 6] = ["user-0", "user-1", "user-2", "user-3", "user-4", "user-5"];
const SECOND_KEEPER: &str = "keeper-2";

struct Quiet;

impl Progress for Quiet {
    fn step(&self, text: &str) {
        println!("{text}");
    }
}

fn long() -> bool {
    std::env::var_os("DATAGALAX_LONG").is_some()
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// The keeper at what it does in every epoch.
    Keeper,
    /// The same at settling.
    Settler,
    Checker(usize),
    Agent,
    /// The command that claims.
    Command,
}

impl Who {
    /// The same for all that one process does.
    fn process(self) -> Self {
        if self == Self::Settler { Self::Keeper } else { self }
    }
}

/// What one seed was lived through with.
#[derive(Default)]
struct Survived {
    faults: Counts,
    requests: u64,
    kills: BTreeMap<(Kind, Moment), u32>,
    agents: u32,
    /// Reports whose checker was killed before the chain had the reveal, and how many of them were revealed in time all the same.
    interrupted: (u32, u32),
    reports: u32,
    epochs: u32,
    wasted: usize,
}

impl Survived {
    fn add(&mut self, other: &Self) {
        self.faults.add(&other.faults);
        self.requests += other.requests;
        for (at, times) in &other.kills {
            *self.kills.entry(*at).or_default() += times;
        }
        self.agents += other.agents;
        self.interrupted.0 += other.interrupted.0;
        self.interrupted.1 += other.interrupted.1;
        self.reports += other.reports;
        self.epochs += other.epochs;
        self.wasted += other.wasted;
    }
}

impl fmt::Display for Survived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "survived: {}, in {} requests", self.faults, self.requests)?;
        let killed: u32 = self.kills.values().sum();
        let moments: Vec<String> = self.kills.iter().map(|((k, m), n)| format!("{k:?} {m:?} {n}")).collect();
        writeln!(f, "survived: {} kills -9: {}, agent {}", killed + self.agents, moments.join(", "), self.agents)?;
        write!(
            f,
            "survived: {} reports committed in {} epochs, none lost; of {} whose checker was killed before its reveal landed, {} were \
             revealed in time; {} fees wasted",
            self.reports, self.epochs, self.interrupted.0, self.interrupted.1, self.wasted
        )
    }
}

/// One network's life.
struct Run {
    net: Deployment,
    proxy: Proxy,
    caught: UnboundedReceiver<Caught>,
    node: SocketAddr,
    /// Who is still to be killed, and when: one trap of each is armed at a time.
    plan: BTreeMap<Who, VecDeque<(Kind, Moment)>>,
    /// Payers of those who sign.
    keys: BTreeMap<Who, Address>,
    place: (u32, u8),
    /// Whether the storm goes on while daemons are killed.
    rough: bool,
    armed: bool,
    epoch: u32,
    tallied: Option<u32>,
    /// Checker's id and epoch of reports whose reveal was interrupted before it landed.
    interrupted: BTreeSet<(u32, u32)>,
    /// When a process was killed last.
    killed: BTreeMap<Who, Instant>,
    command: Option<Child>,
    claims: usize,
    leases: Vec<Address>,
    opening: Option<JoinHandle<Result<Address>>>,
    second_keeper_since: Option<u32>,
    credited: bool,
    survived: Survived,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_behind_a_breaking_proxy_that_are_killed_at_every_step_lose_nothing() -> Result<()> {
    let first = std::env::var("DATAGALAX_SEED").ok().map_or(Ok(1), |text| text.parse()).context("DATAGALAX_SEED")?;
    let mut all = Survived::default();
    for seed in first..first + if long() { SEEDS } else { 1 } {
        println!("seed {seed}");
        let survived = live(seed).await.with_context(|| format!("DATAGALAX_SEED={seed}"))?;
        // Not by `println!`, which a test that passes keeps for itself; after the line that the harness has begun.
        writeln!(std::io::stdout(), "\n{survived}")?;
        all.add(&survived);
    }
    if long() {
        writeln!(std::io::stdout(), "\nsurvived: {SEEDS} seeds, in all\n{all}")?;
    }
    Ok(())
}

async fn live(seed: u64) -> Result<Survived> {
    let more_keys = USERS.iter().copied().chain([SECOND_KEEPER]).map(str::to_owned).collect();
    let mut settings =
        Settings { epoch_seconds: EPOCH, checkers: CHECKERS, more_keys, ..Settings::of_this_checkout()? }.on_free_ports()?;
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let node = local(settings.rpc_port);
    let upstream = Upstream { rpc: node, ws: local(settings.rpc_port + 1), agent: local(settings.agent_port) };
    let (proxy, caught) = Proxy::start(upstream, seed, NODES).await?;
    settings.fronts = Some(proxy.fronts().clone());
    // Daemons start into fair weather: that a node does not answer at their start is an error of its own.
    let net = Deployment::start(settings, &Quiet).await?;
    let mut run = Run::new(net, proxy, caught, node, seed).await?;
    let outcome = run.live_on().await;
    run.survived.faults = run.proxy.counts();
    run.survived.requests = run.proxy.requests();
    if outcome.is_err() || std::env::var_os("DATAGALAX_KEEP").is_some() {
        println!("so far {}", run.survived);
        println!("still to be killed: {:?}", run.plan);
        // Where the run was is gone with the machine that ran it: what is printed is what is left.
        println!("{}", run.net.logs());
        println!("logs: {}", run.net.workdir.keep().display());
    }
    let stopped = run.net.stop().await;
    outcome?;
    stopped?;
    Ok(run.survived)
}

impl Run {
    async fn new(
        net: Deployment,
        proxy: Proxy,
        caught: UnboundedReceiver<Caught>,
        node: SocketAddr,
        seed: u64,
    ) -> Result<Self> {
        use Kind::{Commit, Reveal};
        use Moment::{AfterAnswer, AfterForward, BeforeForward, Simulated};
        let container = net.reader.container(&net.container).await?;
        let mut plan = BTreeMap::new();
        // A checker that dies before its commit is sent may miss the epoch; never so many of them that no committee is left.
        let steps = [
            [(Commit, Simulated), (Reveal, AfterForward)],
            [(Commit, BeforeForward), (Reveal, AfterAnswer)],
            [(Commit, AfterForward), (Reveal, Simulated)],
            [(Commit, AfterAnswer), (Reveal, BeforeForward)],
        ];
        for (at, steps) in steps.into_iter().enumerate() {
            let index = (at + seed as usize) % net.checkers.len();
            plan.insert(Who::Checker(index), steps.into());
        }
        let mut keeper = vec![Kind::Tally];
        if long() {
            keeper.extend([Kind::Advance, Kind::Draw, Kind::Seat]);
        }
        let steps = |kind: Kind| Moment::ALL.map(|moment| (kind, moment));
        let keeper = keeper.into_iter().flat_map(steps).collect();
        plan.insert(Who::Keeper, keeper);
        plan.insert(Who::Settler, steps(Kind::Settle).into());
        plan.insert(Who::Agent, [(Kind::Other(0), AfterForward)].into());
        plan.insert(Who::Command, steps(Kind::Claim).into());
        let key =
            |name: &str| Ok::<_, anyhow::Error>(keys::load(&net.workdir.path().join(format!("{name}.json")))?.pubkey());
        let mut keys = BTreeMap::from([
            (Who::Keeper, key("keeper")?),
            (Who::Settler, key("keeper")?),
            (Who::Command, key("provider-operator")?),
        ]);
        for index in 0..net.checkers.len() {
            keys.insert(Who::Checker(index), key(&format!("checker-{index}"))?);
        }
        Ok(Self {
            net,
            proxy,
            caught,
            node,
            plan,
            keys,
            place: (container.block, container.row),
            rough: long() && seed % 2 == 1,
            armed: false,
            epoch: 0,
            tallied: None,
            interrupted: BTreeSet::new(),
            killed: BTreeMap::new(),
            command: None,
            claims: 0,
            leases: Vec::new(),
            opening: None,
            second_keeper_since: None,
            credited: false,
            survived: Survived::default(),
        })
    }

    async fn live_on(&mut self) -> Result<()> {
        self.proxy.storm(true);
        loop {
            tokio::select! {
                caught = self.caught.recv() => self.kill(caught.context("the proxy is gone")?).await?,
                () = sleep(LOOK) => if self.look().await? { break },
            }
        }
        self.proxy.storm(false);
        self.nothing_is_pending().await?;
        Books::audit(&self.net.reader).await?;
        self.nothing_twice().await?;
        let mut missing = self.proxy.counts().missing();
        // The only node there is does not go down.
        missing.retain(|fault| NODES > 1 || *fault != Fault::Outage);
        ensure!(missing.is_empty(), "no fault of these kinds was injected, so nothing was shown about them: {missing:?}");
        Ok(())
    }

    /// Looks at the chain and does what it is time for. Whether everything has happened.
    async fn look(&mut self) -> Result<bool> {
        self.net.check()?;
        let view = follow::look(&self.net, self.place).await?;
        let Some(epoch) = view.epoch else { return Ok(false) };
        self.epoch = epoch;
        ensure!(epoch <= PATIENCE, "not everything has happened in {PATIENCE} epochs");
        let tallied = view.block.last_tallied;
        if tallied != NONE && self.tallied != Some(tallied) {
            self.tallied = Some(tallied);
            self.judge(&view, tallied).await?;
        }
        self.credited |= view.row.accrued > 0;
        if view.row.status == Row::LIVE && !self.armed {
            // From here on it is the deaths that are looked at, and in the long form both at once, too.
            self.proxy.storm(self.rough);
            println!("epoch {epoch}: live; {}", self.proxy.counts());
            self.armed = true;
            for who in self.plan.keys().copied().filter(|who| *who != Who::Command).collect::<Vec<_>>() {
                self.arm(who);
            }
        }
        self.lease(&view).await?;
        self.claim(&view).await?;
        if self.second_keeper_since.is_none() && self.plan.iter().all(|(who, left)| *who == Who::Command || left.is_empty())
        {
            println!("epoch {epoch}: a second keeper, and the storm again");
            self.net.add_keeper(SECOND_KEEPER)?;
            self.second_keeper_since = Some(epoch);
            self.proxy.storm(true);
        }
        let side_by_side = self.second_keeper_since.is_some_and(|since| tallied != NONE && tallied > since);
        let paid = self.claims == 2 && self.command.is_none();
        Ok(side_by_side && paid && self.plan.values().all(VecDeque::is_empty) && self.settled().await? == self.leases.len())
    }

    /// After a tally: the books balance, and what was committed was revealed.
    async fn judge(&mut self, view: &View, epoch: u32) -> Result<()> {
        Books::audit(&self.net.reader).await?;
        let lane = view.block.lane(epoch).ok().context("the lane of the epoch tallied last")?;
        let mut said = Vec::new();
        for seat in lane.committee.iter().filter(|seat| seat.is_filled()) {
            let revealed = seat.revealed == 1;
            said.push(match (seat.has_committed(), revealed) {
                (_, true) => "revealed",
                (true, false) => "committed",
                (false, false) => "absent",
            });
            self.survived.reports += u32::from(seat.has_committed());
            let interrupted = self.interrupted.contains(&(seat.checker, epoch));
            if interrupted && seat.has_committed() {
                self.survived.interrupted.0 += 1;
                self.survived.interrupted.1 += u32::from(revealed);
            }
            ensure!(
                revealed || interrupted || !seat.has_committed(),
                "checker {} committed in epoch {epoch}, lived through the window and did not reveal; the end of its log:\n{}",
                seat.checker,
                self.net.checkers[seat.checker as usize].process.log_tail()
            );
        }
        self.survived.epochs += 1;
        println!("epoch {epoch} tallied: {}; the row has {}", said.join(", "), view.row.accrued);
        Ok(())
    }

    fn arm(&self, who: Who) {
        let Some(&(kind, moment)) = self.plan.get(&who).and_then(VecDeque::front) else { return };
        let mark = match self.keys.get(&who) {
            Some(key) => Mark::Transaction(*key, kind),
            None => Mark::Asked,
        };
        self.proxy.arm(Trap { mark, moment });
    }

    /// Kills whose request is held, lets go of it and starts it again.
    async fn kill(&mut self, caught: Caught) -> Result<()> {
        let planned =
            |who: &Who| self.plan.get(who).and_then(VecDeque::front).is_some_and(|step| step.1 == caught.trap.moment);
        let who = match caught.trap.mark {
            Mark::Asked => Who::Agent,
            Mark::Transaction(key, kind) => {
                let mut of = self.keys.iter().filter(|(_, k)| **k == key).map(|(who, _)| *who);
                of.find(|who| planned(who) && self.plan[who][0].0 == kind).context("a trap that nobody armed")?
            }
        };
        if self.killed.get(&who.process()).is_some_and(|last| *last > caught.at) {
            // Its sender died of another trap before this one was looked at: the moment has passed.
            drop(caught);
            self.arm(who);
            return Ok(());
        }
        let (kind, moment) = self.plan.get_mut(&who).and_then(VecDeque::pop_front).context("nothing was planned")?;
        let report = caught.actions.iter().find(|action| action.kind == kind).and_then(Action::epoch);
        if who == Who::Agent {
            println!("epoch {}: the agent killed while it was asked", self.epoch);
        } else {
            println!("epoch {}: {who:?} killed at {kind:?}, {moment:?}", self.epoch);
        }
        match who {
            Who::Command => {
                let mut command = self.command.take().context("no command runs")?;
                command.kill().await?;
                drop(caught);
                // The second claim has the last moment for itself.
                let again = self.plan.get(&who).is_some_and(|left| left.len() > 1);
                self.start_claim(again)?;
            }
            _ => {
                let daemon = self.daemon(who)?;
                daemon.kill().await?;
                drop(caught);
                self.killed.insert(who.process(), Instant::now());
                self.daemon(who)?.restart()?;
                self.arm(who);
            }
        }
        match (who, kind, moment) {
            (Who::Agent, ..) => self.survived.agents += 1,
            (Who::Checker(index), Kind::Reveal, Moment::Simulated | Moment::BeforeForward) => {
                let checker = self.net.checkers[index].id;
                self.interrupted.insert((checker, report.context("a reveal names its epoch")?));
                *self.survived.kills.entry((kind, moment)).or_default() += 1;
            }
            _ => *self.survived.kills.entry((kind, moment)).or_default() += 1,
        }
        Ok(())
    }

    fn daemon(&mut self, who: Who) -> Result<&mut Daemon> {
        Ok(match who {
            Who::Keeper | Who::Settler => &mut self.net.keeper,
            Who::Agent => &mut self.net.agent,
            Who::Checker(index) => &mut self.net.checkers.get_mut(index).context("no such checker")?.process,
            Who::Command => bail!("the command is no daemon"),
        })
    }

    /// A lease as soon as the container is live; once an epoch was credited without one, further ones until the keeper died at every
    /// step of settling.
    async fn lease(&mut self, view: &View) -> Result<()> {
        if let Some(opening) = self.opening.take_if(|opening| opening.is_finished()) {
            let lease = opening.await??;
            println!("epoch {}: a lease has ended and waits to be settled", self.epoch);
            self.leases.push(lease);
        }
        let wanted = !self.plan[&Who::Settler].is_empty() && self.leases.len() < USERS.len();
        let due = self.armed && wanted && (self.leases.is_empty() || self.credited);
        // Within one epoch, so that one settlement does it all.
        if due && self.opening.is_none() && view.left > 8 && self.settled().await? == self.leases.len() {
            let folder = self.net.workdir.path().to_owned();
            let user = USERS[self.leases.len()];
            self.opening =
                Some(tokio::spawn(lease(self.net.reader.clone(), folder, self.net.container, self.net.mint, user)));
        }
        Ok(())
    }

    /// Leases that are settled, each to the last unit.
    async fn settled(&self) -> Result<usize> {
        let mut settled = 0;
        for address in &self.leases {
            let lease = self.net.reader.get::<Lease>(address).await?;
            let held = lease.held().ok().context("a lease handed out more than was put in")?;
            ensure!(
                lease.escrowed == lease.paid + lease.fee + lease.refunded + held,
                "escrowed {}, paid {}, fee {}, refunded {}, held {held}",
                lease.escrowed,
                lease.paid,
                lease.fee,
                lease.refunded
            );
            ensure!(lease.status != Lease::SETTLED || held == 0, "a settled lease holds {held}");
            settled += usize::from(lease.status == Lease::SETTLED);
        }
        Ok(settled)
    }

    /// Claims as soon as there is something, twice.
    async fn claim(&mut self, view: &View) -> Result<()> {
        if let Some(command) = &mut self.command
            && let Some(status) = command.try_wait()?
        {
            let said = std::fs::read_to_string(self.net.workdir.path().join("claim.log")).unwrap_or_default();
            self.command = None;
            if status.success() {
                self.claims += 1;
                println!("epoch {}: claimed", self.epoch);
            } else {
                // A command says what is wrong and leaves it to its user to repeat it.
                ensure!(self.proxy.is_storm(), "`datagalax claim` ended ({status}): {said}");
                println!("epoch {}: the claim is repeated", self.epoch);
                self.start_claim(false)?;
            }
        }
        if self.command.is_none() && self.claims < 2 && view.row.accrued > 0 {
            self.start_claim(true)?;
        }
        Ok(())
    }

    fn start_claim(&mut self, trap: bool) -> Result<()> {
        if trap {
            self.arm(Who::Command);
        }
        let folder = self.net.workdir.path();
        let log = OpenOptions::new().create(true).append(true).open(folder.join("claim.log"))?;
        let mut command = Command::new(self.net.settings.binaries.join("datagalax"));
        command.args(["--output", "json", "--rpc", &self.net.settings.daemons_rpc(), "--keypair"]);
        command.arg(folder.join("provider-operator.json")).arg("--pending").arg(folder.join("command-pending")).arg("claim");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        self.command = Some(command.spawn().context("cannot start the datagalax command")?);
        Ok(())
    }

    /// Waits, in fair weather, until no pending store holds anything.
    async fn nothing_is_pending(&mut self) -> Result<()> {
        let folder = self.net.workdir.path().to_owned();
        let start = Instant::now();
        loop {
            self.net.check()?;
            let pending = pending(&folder)?;
            if pending.is_empty() {
                return Ok(());
            }
            ensure!(start.elapsed() < Duration::from_secs(60), "still pending: {pending:?}");
            sleep(LOOK).await;
        }
    }

    /// The whole history: every action once, and no more than one fee wasted on any.
    async fn nothing_twice(&mut self) -> Result<()> {
        let history = History::read(self.node).await?;
        let once = [Kind::Advance, Kind::Draw, Kind::Seat, Kind::Tally, Kind::Commit, Kind::Reveal, Kind::Settle];
        for (action, times) in history.times(true) {
            ensure!(times == 1 || !once.contains(&action.kind), "done {times} times: {action:?}");
        }
        let advances = history.count(Kind::Advance);
        ensure!(history.count(Kind::Draw) <= advances, "more epochs were drawn than advanced to");
        let claims = history.count_by(&self.keys[&Who::Command], Kind::Claim);
        ensure!(claims == self.claims, "{claims} claims landed, {} were made", self.claims);
        let reveals = history.count(Kind::Reveal);
        ensure!(reveals <= history.count(Kind::Commit), "more was revealed than committed");
        for (action, times) in history.times(false) {
            // Of two keepers one is too late; nobody else competes.
            ensure!(times <= 1, "{times} fees were wasted on {action:?}");
            self.survived.wasted += 1;
        }
        println!("{} transactions landed, {advances} advances, {reveals} reveals", history.0.len());
        Ok(())
    }
}

/// Opens, starts and ends a lease of the container by a user of its own.
async fn lease(reader: Reader, folder: PathBuf, container: Address, mint: Address, user: &str) -> Result<Address> {
    let key = |name: &str| keys::load(&folder.join(format!("{name}.json")));
    let (user, host, authority) = (Arc::new(key(user)?), key("container-operator")?, Arc::new(key("authority")?));
    let pipeline = |payer: &Arc<Keypair>| {
        Pipeline::new(reader.rpc().clone(), payer.clone(), Arc::new(MemoryStore::default()), pipeline::Settings::default())
    };
    let wallet = token::associated_account(&user.pubkey(), &mint);
    let gift = [
        token::create_associated_account(&authority.pubkey(), &user.pubkey(), &mint),
        token::mint_to(&mint, &wallet, &authority.pubkey(), 10 * ATH),
    ];
    pipeline(&authority).send("give the user $ATH", &gift, &[]).await?;
    let pipeline = pipeline(&user);
    let (network, offer) = (reader.network().await?, reader.container(&container).await?);
    let args = OpenLeaseArgs {
        nonce: 1,
        seconds: 600,
        max_price_per_hour: offer.price_per_hour,
        workload_hash: [0; 32],
        match_expires: 0,
    };
    let open = instructions::open_lease(&user.pubkey(), &network, &container, &offer, None, args);
    pipeline.send("open a lease", &[open], &[]).await?;
    let address = addresses::lease(&user.pubkey(), 1);
    let lease = reader.get::<Lease>(&address).await?;
    pipeline.send("start the lease", &[instructions::start_lease(&host.pubkey(), &address, &lease)], &[&host]).await?;
    sleep(Duration::from_secs(2)).await;
    let lease = reader.get::<Lease>(&address).await?;
    let close = instructions::close_lease(&user.pubkey(), &address, &lease, true, 7);
    timeout(Duration::from_secs(60), pipeline.send("close the lease", &[close], &[])).await??;
    Ok(address)
}

/// Files of transactions on their way, of every daemon and command of the run.
fn pending(folder: &std::path::Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "pending") {
                found.push(path);
            }
        }
    }
    Ok(found)
}
