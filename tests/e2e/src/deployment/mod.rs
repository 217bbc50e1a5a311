//! Deploying and populating a network on this machine, step by step, as its authority, its provider and its checkers would.

use std::{fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use datagalax_client::{
    Address, Reader,
    clock::{read_clock, unix_now},
    rpc::HttpRpc,
};
use solana_keypair::Keypair;
use solana_signer::Signer;
use tokio::time::{sleep, timeout};

use crate::{daemon::Daemon, hardware::Hardware, settings::Settings, workdir::Workdir};

mod chain;
mod keys;
mod processes;

use chain::Chain;
pub use chain::{CLASS, USER_FUNDS};
use keys::Keys;

/// One whole $ATH in base units.
pub const ATH: u64 = 1_000_000;
/// How long a daemon may take to be there.
const START: Duration = Duration::from_secs(60);

/// A checker of the run.
pub struct CheckerNode {
    /// Its id.
    pub id: u32,
    /// Its process.
    pub process: Daemon,
}

/// A further container on this machine, with an operator and an agent of its own.
pub struct Host {
    /// The container's address.
    pub container: Address,
    /// The agent's process.
    pub agent: Daemon,
}

/// A running network with all its roles.
pub struct Deployment {
    /// How it was started.
    pub settings: Settings,
    /// Its folder.
    pub workdir: Workdir,
    /// Reads its chain.
    pub reader: Reader,
    /// This machine.
    pub hardware: Hardware,
    /// Throughput that is 100 percent of the demo's class, operations a second.
    pub reference: u64,
    /// The $ATH mint.
    pub mint: Address,
    /// Container's address.
    pub container: Address,
    /// Provider's id.
    pub provider: u32,
    /// Wallet that rewards go to.
    pub payout: Address,
    /// The checkers.
    pub checkers: Vec<CheckerNode>,
    /// The agent's process.
    pub agent: Daemon,
    /// Further containers, [`Settings::hosts`] less the first.
    pub more_hosts: Vec<Host>,
    /// The keeper's process.
    pub keeper: Daemon,
    /// Further keepers.
    pub more_keepers: Vec<Daemon>,
    localnet: Daemon,
}

/// Says what is done, for people.
pub trait Progress {
    /// A step begins.
    fn step(&self, text: &str);
}

/// Says it on standard output.
#[derive(Clone, Copy, Debug)]
pub struct Printed;

impl Progress for Printed {
    fn step(&self, text: &str) {
        println!("{text}");
    }
}

impl Deployment {
    /// Starts the network, deploys the program, registers everybody and starts the daemons. On return the containers are
    /// registered and every process runs.
    ///
    /// # Errors
    /// What failed, in which step; processes already started are stopped.
    pub async fn start(settings: Settings, progress: &dyn Progress) -> Result<Self> {
        settings.check()?;
        let workdir = Workdir::create()?;
        let keys = Keys::create(&workdir, &settings)?;

        progress.step("Starting a local Solana network with the program");
        let localnet = processes::start_localnet(&settings, &workdir, &keys).await?;
        let rpc = Arc::new(HttpRpc::new(&settings.rpc_url(), Some(&settings.ws_url())));
        let reader = Reader::new(rpc.clone());

        progress.step("Reading this machine and timing the capacity challenge on it");
        // Cards belong to one host: several hosts on one machine leave them alone.
        let gpus = settings.hosts == 1;
        let machine_ids = (0..settings.hosts).map(|host| machine_id(&workdir, host)).collect::<Result<Vec<_>>>()?;
        let hardware = tokio::task::spawn_blocking({
            let machine_ids = machine_ids.clone();
            move || machine_ids.into_iter().map(|id| Hardware::measure(unix_now(), id, gpus)).collect::<Result<Vec<_>>>()
        })
        .await??;
        let reference = chain::reference(hardware[0].throughput).max(1);

        let chain = Chain { rpc, reader: &reader, keys: &keys };
        progress.step("Creating $ATH, the network, its vaults and the class of this machine");
        let mint = chain.create_mint().await?;
        chain.initialize_network(&mint, settings.epoch_seconds).await?;
        chain.create_class(&hardware[0], reference).await?;
        chain.fund_rewards().await?;

        progress.step("Registering a provider with stake, a block of 256 rows, and three checkers with tickets");
        chain.hand_out(&mint).await?;
        chain.register_provider().await?;
        chain.create_block().await?;
        chain.register_checkers().await?;

        progress.step("Starting the keeper; waiting for epoch 0");
        let mut keeper = processes::start_keeper("keeper", &settings, &workdir)?;
        wait_for(
            "the keeper to advance to epoch 0",
            || keeper.check(),
            || async { Ok((reader.network().await?.current_epoch != datagalax::constants::NONE).then_some(())) },
        )
        .await?;

        // What comes now fits into what is left of this epoch, so that all are there when the next one begins.
        half_an_epoch(&reader).await?;
        progress.step("Registering this machine as a container and starting its agent");
        let mut hosts = Vec::new();
        for (number, (hardware, machine_id)) in (0u32..).zip(hardware.iter().zip(&machine_ids)) {
            let key = &keys.hosts[number as usize];
            let container = chain.register_container(hardware, &key.key.pubkey(), &settings.endpoint_of(number)).await?;
            let place = processes::Place { number, container, key: &key.path, machine_id: machine_id.as_deref(), gpus };
            let mut agent = processes::start_agent(&settings, &workdir, &place)?;
            wait_for(
                "the agent to listen",
                || agent.check(),
                || async { Ok(tokio::net::TcpStream::connect(settings.agent_address(number)).await.ok().map(drop)) },
            )
            .await?;
            hosts.push(Host { container, agent });
        }

        progress.step("Starting the checkers");
        let mut checkers = Vec::new();
        for (id, file) in (0u32..).zip(&keys.checkers) {
            checkers.push(CheckerNode { id, process: processes::start_checker(&settings, &workdir, id, &file.path)? });
        }
        let payout = keys.payout.pubkey();
        let more_hosts = hosts.split_off(1);
        let Host { container, agent } = hosts.pop().context("there is no host")?;
        let hardware = hardware.into_iter().next().context("there is no host")?;
        Ok(Self {
            settings,
            workdir,
            reader,
            hardware,
            reference,
            mint,
            container,
            provider: 0,
            payout,
            checkers,
            agent,
            more_hosts,
            keeper,
            more_keepers: Vec::new(),
            localnet,
        })
    }

    /// Starts a further keeper with the key of this name, one of [`Settings::more_keys`] that begins with `keeper-`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn add_keeper(&mut self, name: &str) -> Result<()> {
        self.more_keepers.push(processes::start_keeper(name, &self.settings, &self.workdir)?);
        Ok(())
    }

    /// Fails when a process that should run has ended.
    ///
    /// # Errors
    /// The process and the end of its log.
    pub fn check(&mut self) -> Result<()> {
        self.daemons().try_for_each(Daemon::check)
    }

    /// Everything that runs, last started first.
    fn daemons(&mut self) -> impl Iterator<Item = &mut Daemon> {
        let checkers = self.checkers.iter_mut().map(|c| &mut c.process);
        let agents = self.more_hosts.iter_mut().map(|host| &mut host.agent).chain([&mut self.agent]);
        let keepers = self.more_keepers.iter_mut();
        checkers.chain(keepers).chain(agents).chain([&mut self.keeper, &mut self.localnet])
    }

    /// The end of every daemon's log.
    pub fn logs(&mut self) -> String {
        self.daemons().map(|daemon| format!("--- {}\n{}\n", daemon.name(), daemon.log_tail())).collect()
    }

    /// Stops everything that was started, last started first.
    ///
    /// # Errors
    /// All daemons that did not end in order.
    pub async fn stop(&mut self) -> Result<()> {
        let mut troubles = String::new();
        for daemon in self.daemons() {
            if let Err(e) = daemon.stop().await {
                let _ = writeln!(troubles, "{e:#}");
            }
        }
        ensure!(troubles.is_empty(), "{troubles}");
        Ok(())
    }
}

/// Waits until at least half of the current epoch is left.
async fn half_an_epoch(reader: &Reader) -> Result<()> {
    loop {
        let (network, now) = (reader.network().await?, read_clock(reader.rpc().as_ref()).await?.unix_timestamp);
        let epoch = network.epoch_at(now).ok().context("epoch 0 has not begun")?;
        let (start, end) = network.bounds(epoch);
        if end - now >= (end - start) / 2 {
            return Ok(());
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Waits until `done` gives something, as long as `alive` does not fail, for at most a minute.
async fn wait_for<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut alive: impl FnMut() -> Result<()>,
    done: impl Fn() -> F,
) -> Result<T> {
    let waiting = async {
        loop {
            alive()?;
            if let Some(value) = done().await? {
                return Ok(value);
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(START, waiting).await.with_context(|| format!("waited {} s for {what}", START.as_secs()))?
}

/// `None` for the first host where the system has a machine id. A bare container image has none, and further hosts on this machine
/// would be the same one: then the run makes one of its own.
fn machine_id(workdir: &Workdir, host: u32) -> Result<Option<PathBuf>> {
    let present = |path: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim().len() == 32);
    if host == 0 && (present("/etc/machine-id") || present("/var/lib/dbus/machine-id")) {
        return Ok(None);
    }
    let path = workdir.path().join(format!("machine-id-{host}"));
    let id: String = Keypair::new().pubkey().to_bytes()[..16].iter().map(|b| format!("{b:02x}")).collect();
    std::fs::write(&path, id + "\n")?;
    Ok(Some(path))
}
