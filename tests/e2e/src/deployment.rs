//! Deploying and populating a network on this machine, step by step, as its authority, its provider and its checkers would.

use std::{fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use datagalax::{
    constants::BPS,
    instructions::{CreateClassArgs, InitializeNetworkArgs, RegisterContainerArgs},
    math::Rate,
    state::{ClassTerms, Parameters, VestingTerms},
};
use datagalax_client::{
    Address, Pipeline, Reader, addresses,
    clock::unix_now,
    instructions,
    pipeline::{self, MemoryStore},
    rpc::{HttpRpc, Rpc},
    token,
};
use solana_keypair::Keypair;
use solana_signer::Signer;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::{sleep, timeout},
};

use crate::{daemon::Daemon, hardware::Hardware, settings::Settings, workdir::Workdir};

/// One whole $ATH in base units.
pub const ATH: u64 = 1_000_000;
/// What the rewards vault is funded with.
const FUND: u64 = 1_000_000 * ATH;
/// Emission of an epoch.
const EMISSION: u64 = 1_000 * ATH;
/// What the keeper gets for an advance, a draw and a block.
const KEEPER_FEE: u64 = ATH / 100;
/// Price of a checker's ticket.
const TICKET_PRICE: u64 = 1_000 * ATH;
/// Stake base of the demo's class.
const STAKE_BASE: u64 = 500 * ATH;
/// Weight of the demo's class. Public networks give the class `cpu` weight 0.
const UNIT_WEIGHT: u16 = 100;
/// Seconds from initialising to the start of epoch 0: time for the accounts below.
const LEAD: i64 = 12;
/// The class's id.
pub const CLASS: u16 = 1;
/// How long a daemon may take to be there.
const START: Duration = Duration::from_secs(60);

/// A checker of the run.
pub struct CheckerNode {
    /// Its id.
    pub id: u32,
    /// Its process.
    pub process: Daemon,
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
    /// The keeper's process.
    pub keeper: Daemon,
    /// Further keepers.
    pub more_keepers: Vec<Daemon>,
    localnet: Daemon,
}

/// Keys that only the deployment itself needs.
struct Keys {
    authority: Arc<Keypair>,
    owner: Arc<Keypair>,
    operator: Keypair,
    payout: Keypair,
    host: Keypair,
    host_path: PathBuf,
    keeper: Keypair,
    keeper_path: PathBuf,
    checkers: Vec<(PathBuf, Arc<Keypair>)>,
    more: Vec<Keypair>,
}

impl Keys {
    fn create(workdir: &Workdir, checkers: u32, more: &[String]) -> Result<Self> {
        let new = |name: &str| workdir.new_key(name);
        let (host_path, host) = new("container-operator")?;
        let (keeper_path, keeper) = new("keeper")?;
        let checkers = (0..checkers)
            .map(|id| new(&format!("checker-{id}")).map(|(path, key)| (path, Arc::new(key))))
            .collect::<Result<_>>()?;
        Ok(Self {
            authority: Arc::new(new("authority")?.1),
            owner: Arc::new(new("provider-owner")?.1),
            operator: new("provider-operator")?.1,
            payout: new("payout")?.1,
            host,
            host_path,
            keeper,
            keeper_path,
            checkers,
            more: more.iter().map(|name| Ok(new(name)?.1)).collect::<Result<_>>()?,
        })
    }

    /// Everybody who pays fees, with SOL to start with.
    fn funded(&self) -> Vec<String> {
        let mut all = vec![&*self.authority, &*self.owner, &self.operator, &self.keeper];
        all.extend(self.checkers.iter().map(|(_, key)| &**key));
        all.extend(&self.more);
        all.iter().map(|key| format!("{}=100", key.pubkey())).collect()
    }
}

/// The class's reference: an eighth of what one idle thread does, because on this one machine the checkers, the chain and
/// the host share the processor with whatever else runs. A real class is calibrated on hosts that do nothing else.
const fn reference(throughput: u64) -> u64 {
    throughput / 8
}

/// Parameters for epochs of seconds: the windows keep the proportions that [`Parameters::validate`] demands.
fn parameters(epoch: u32) -> Parameters {
    Parameters {
        ticket_price: TICKET_PRICE,
        max_rate: Rate { hi: u64::MAX >> 8, lo: 0 },
        max_seat_pay: EMISSION,
        keeper_fee: KEEPER_FEE,
        indexer_stake: 0,
        breaker_limits: [FUND; 3],
        draw_delay: 2,
        commit_lead: epoch / 6,
        reveal_window: epoch / 3,
        case_window: 8 * epoch,
        unbonding: 12 * epoch,
        start_timeout: 60,
        time_lock: 60,
        beacon_modulus: 16,
        stake_coefficient_bps: BPS as u32,
        container_share_bps: 7_500,
        checker_share_bps: 2_000,
        treasury_share_bps: 500,
        lease_fee_bps: 2_000,
        indexer_share_bps: 1_000,
        availability_threshold: 80,
        capacity_threshold: 50,
        breach_threshold: 50,
        tolerance: 5,
        tokens_required: 1,
        reserved: [0; 37],
    }
}

/// Says what is done, for people.
pub trait Progress {
    /// A step begins.
    fn step(&self, text: &str);
}

impl Deployment {
    /// Starts the network, deploys the program, registers everybody and starts the daemons. On return the container is
    /// registered and every process runs.
    ///
    /// # Errors
    /// What failed, in which step; processes already started are stopped.
    pub async fn start(settings: Settings, progress: &dyn Progress) -> Result<Self> {
        settings.check()?;
        let workdir = Workdir::create()?;
        let keys = Keys::create(&workdir, settings.checkers, &settings.more_keys)?;

        progress.step("Starting a local Solana network with the program");
        let localnet = start_localnet(&settings, &workdir, &keys).await?;
        let rpc = Arc::new(HttpRpc::new(&settings.rpc_url(), Some(&settings.ws_url())));
        let reader = Reader::new(rpc.clone());

        progress.step("Reading this machine and timing the capacity challenge on it");
        let machine_id = machine_id(&workdir)?;
        let hardware = tokio::task::spawn_blocking({
            let machine_id = machine_id.clone();
            move || Hardware::measure(unix_now(), machine_id)
        })
        .await??;
        let reference = reference(hardware.throughput).max(1);

        let chain = Chain { rpc, reader: &reader, keys: &keys };
        progress.step("Creating $ATH, the network, its vaults and the class of this machine");
        let mint = chain.create_mint().await?;
        chain.initialize_network(&mint, settings.epoch_seconds).await?;
        chain.create_class(&hardware, reference).await?;
        chain
            .pay(
                &keys.authority,
                "fund the rewards vault",
                &[instructions::fund_rewards(&keys.authority.pubkey(), &*reader.network().await?, FUND)],
            )
            .await?;

        progress.step("Registering a provider with stake, a block of 256 rows, and three checkers with tickets");
        chain.register_provider(&mint).await?;
        chain.pay(&keys.authority, "create block 0", &instructions::create_whole_block(&keys.authority.pubkey(), 0)).await?;
        for (id, (_, key)) in (0u32..).zip(&keys.checkers) {
            chain.register_checker(&mint, id, key).await?;
        }

        progress.step("Starting the keeper; waiting for epoch 0");
        let mut keeper =
            start_daemon("keeper", &settings, &workdir, &[("--keypair", keys.keeper_path.display().to_string())])?;
        wait_for(
            "the keeper to advance to epoch 0",
            || keeper.check(),
            || async { Ok((reader.network().await?.current_epoch != datagalax::constants::NONE).then_some(())) },
        )
        .await?;

        progress.step("Registering this machine as a container and starting its agent");
        let container = chain.register_container(&hardware, &settings.agent_endpoint()).await?;
        let mut arguments = vec![
            ("--keypair", keys.host_path.display().to_string()),
            ("--container", container.to_string()),
            ("--listen", format!("127.0.0.1:{}", settings.agent_port)),
            ("--state-dir", workdir.path().join("agent").display().to_string()),
            // The tests start leases by hand, in the host's name.
            ("--leases", "leave".to_owned()),
        ];
        if let Some(path) = &machine_id {
            arguments.push(("--machine-id", path.display().to_string()));
        }
        let mut agent = start_daemon("agent", &settings, &workdir, &arguments)?;
        wait_for(
            "the agent to listen",
            || agent.check(),
            || async { Ok(tokio::net::TcpStream::connect(("127.0.0.1", settings.agent_port)).await.ok().map(drop)) },
        )
        .await?;

        progress.step("Starting the checkers");
        let mut checkers = Vec::new();
        for (id, (key_path, _)) in (0u32..).zip(&keys.checkers) {
            checkers.push(CheckerNode { id, process: start_checker(&settings, &workdir, id, key_path)? });
        }
        let payout = keys.payout.pubkey();
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
        let key = self.workdir.path().join(format!("{name}.json"));
        let arguments = [("--keypair", key.display().to_string())];
        self.more_keepers.push(start_daemon(name, &self.settings, &self.workdir, &arguments)?);
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
        let keepers = self.more_keepers.iter_mut();
        checkers.chain(keepers).chain([&mut self.agent, &mut self.keeper, &mut self.localnet])
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

async fn start_localnet(settings: &Settings, workdir: &Workdir, keys: &Keys) -> Result<Daemon> {
    let mut arguments: Vec<String> = vec![
        "--json".into(),
        "--port".into(),
        settings.rpc_port.to_string(),
        "--program".into(),
        format!("{}={}", addresses::PROGRAM, settings.program.display()),
        "--upgrade-authority".into(),
        keys.authority.pubkey().to_string(),
        format!("--exit-with-parent={}", std::process::id()),
    ];
    for fund in keys.funded() {
        arguments.extend(["--fund".into(), fund]);
    }
    let (mut localnet, stdout) = Daemon::start_talking("localnet", &settings.localnet, &arguments, workdir.path())?;
    let mut lines = BufReader::new(stdout).lines();
    match timeout(START, lines.next_line()).await {
        Ok(Ok(Some(line))) if line.starts_with('{') => {
            // Keep the pipe open and empty: the network would fail on a closed one.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            Ok(localnet)
        }
        _ => {
            // It ends with its parent; give it the moment that its own message takes.
            sleep(Duration::from_millis(300)).await;
            localnet.check()?;
            anyhow::bail!("the local network was not ready within {} s:\n{}", START.as_secs(), localnet.log_tail())
        }
    }
}

fn start_daemon(name: &str, settings: &Settings, workdir: &Workdir, arguments: &[(&str, String)]) -> Result<Daemon> {
    let mut all = vec!["--rpc".to_owned(), settings.daemons_rpc()];
    all.extend(arguments.iter().flat_map(|(option, value)| [(*option).to_owned(), value.clone()]));
    let binary = name.split('-').next().unwrap_or(name);
    Daemon::start(name, &settings.binaries.join(format!("datagalax-{binary}")), &all, workdir.path())
}

fn start_checker(settings: &Settings, workdir: &Workdir, id: u32, key: &std::path::Path) -> Result<Daemon> {
    let store = workdir.path().join(format!("checker-{id}-store"));
    start_daemon(
        &format!("checker-{id}"),
        settings,
        workdir,
        &[
            ("--keypair", key.display().to_string()),
            ("--checker-id", id.to_string()),
            ("--state-dir", store.display().to_string()),
        ],
    )
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

/// `None` where the system has a machine id. A bare container image has none: then the run makes one of its own.
fn machine_id(workdir: &Workdir) -> Result<Option<PathBuf>> {
    let present = |path: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim().len() == 32);
    if present("/etc/machine-id") || present("/var/lib/dbus/machine-id") {
        return Ok(None);
    }
    let path = workdir.path().join("machine-id");
    let id: String = Keypair::new().pubkey().to_bytes()[..16].iter().map(|b| format!("{b:02x}")).collect();
    std::fs::write(&path, id + "\n")?;
    Ok(Some(path))
}

/// The on-chain steps.
struct Chain<'a> {
    rpc: Arc<HttpRpc>,
    reader: &'a Reader,
    keys: &'a Keys,
}

impl Chain<'_> {
    async fn pay(&self, payer: &Arc<Keypair>, label: &str, all: &[solana_instruction::Instruction]) -> Result<()> {
        self.sign(payer, label, all, &[]).await
    }

    async fn sign(
        &self,
        payer: &Arc<Keypair>,
        label: &str,
        all: &[solana_instruction::Instruction],
        signers: &[&Keypair],
    ) -> Result<()> {
        let store = Arc::new(MemoryStore::default());
        let pipeline = Pipeline::new(self.rpc.clone(), payer.clone(), store, pipeline::Settings::default());
        pipeline.send(label, all, signers).await?;
        Ok(())
    }

    async fn create_mint(&self) -> Result<Address> {
        let mint = Keypair::new();
        let (authority, address) = (self.keys.authority.pubkey(), mint.pubkey());
        let rent = self.rpc.rent(token::MINT_LEN).await?;
        let mut all = token::create_mint(&authority, &address, &authority, rent).to_vec();
        all.push(token::create_associated_account(&authority, &authority, &address));
        all.push(token::mint_to(&address, &token::associated_account(&authority, &address), &authority, 2 * FUND));
        self.sign(&self.keys.authority, "create $ATH", &all, &[&mint]).await?;
        Ok(address)
    }

    async fn give(&self, mint: &Address, wallet: &Address, amount: u64) -> Result<()> {
        let authority = self.keys.authority.pubkey();
        let mut all = vec![token::create_associated_account(&authority, wallet, mint)];
        if amount > 0 {
            all.push(token::mint_to(mint, &token::associated_account(wallet, mint), &authority, amount));
        }
        self.pay(&self.keys.authority, "hand out $ATH", &all).await
    }

    async fn initialize_network(&self, mint: &Address, epoch: u32) -> Result<()> {
        let authority = self.keys.authority.pubkey();
        let now = datagalax_client::clock::read_clock(self.rpc.as_ref()).await?.unix_timestamp;
        let args = InitializeNetworkArgs {
            genesis_hash: self.rpc.genesis_hash().await?.to_bytes(),
            guardian: authority,
            first_epoch_start: now.saturating_add(LEAD),
            epoch_length: epoch,
            parameters: parameters(epoch),
            emission: EMISSION,
            decay_bps: 0,
            decay_every: 0,
            vesting: VestingTerms {
                id: 1,
                immediate_bps: 3_000,
                short_bps: 3_000,
                short_days: 90,
                long_bps: 4_000,
                long_days: 180,
                from_day: 0,
            },
            allow_freeze_authority: 0,
        };
        let treasury = token::associated_account(&authority, mint);
        self.pay(
            &self.keys.authority,
            "initialise the network",
            &[instructions::initialize_network(&authority, mint, &treasury, &token::TOKEN_PROGRAM, args)],
        )
        .await
    }

    async fn create_class(&self, hardware: &Hardware, reference: u64) -> Result<()> {
        let mut name = [0; 32];
        for (to, from) in name.iter_mut().zip(hardware.class.bytes().filter(u8::is_ascii)) {
            *to = from;
        }
        let args = CreateClassArgs {
            id: CLASS,
            name,
            terms: ClassTerms {
                stake_base: STAKE_BASE,
                minimum_vram: 0,
                reference_throughput: reference,
                unit_weight: UNIT_WEIGHT,
                active: 1,
                reserved: [0; 5],
            },
        };
        self.pay(&self.keys.authority, "create a class", &[instructions::create_class(&self.keys.authority.pubkey(), args)])
            .await
    }

    async fn register_provider(&self, mint: &Address) -> Result<()> {
        let owner = self.keys.owner.pubkey();
        self.give(mint, &owner, 2 * STAKE_BASE).await?;
        self.give(mint, &self.keys.payout.pubkey(), 0).await?;
        let all = [
            instructions::register_provider(&owner, 0, &self.keys.operator.pubkey(), &self.keys.payout.pubkey()),
            instructions::stake(&owner, &*self.reader.network().await?, 0, STAKE_BASE),
        ];
        self.pay(&self.keys.owner, "register the provider and stake", &all).await
    }

    async fn register_checker(&self, mint: &Address, id: u32, key: &Arc<Keypair>) -> Result<()> {
        let owner = key.pubkey();
        self.give(mint, &owner, TICKET_PRICE).await?;
        let all = [
            instructions::register_checker(&owner, id, &owner, &owner, 0),
            instructions::register_tickets(&owner, &*self.reader.network().await?, id, 1),
        ];
        self.pay(key, "register a checker with a ticket", &all).await
    }

    async fn register_container(&self, hardware: &Hardware, endpoint: &str) -> Result<Address> {
        let network = self.reader.network().await?;
        let block = self.reader.block(0).await?;
        let mut region = [0; 16];
        region[..5].copy_from_slice(b"local");
        let args = RegisterContainerArgs {
            fingerprint: hardware.fingerprint,
            operator: self.keys.host.pubkey(),
            spec_hash: [0; 32],
            gpus: u8::try_from(hardware.metrics.gpus.len().max(1)).context("too many GPUs for one container")?,
            latitude: 0,
            longitude: 0,
            region,
            price_per_hour: ATH,
            minimum_lease: 600,
            endpoint: endpoint.to_owned(),
        };
        let owner = self.keys.owner.pubkey();
        let all = [instructions::register_container(&owner, &network, 0, CLASS, &block, args)];
        self.pay(&self.keys.owner, "register the container", &all).await?;
        Ok(addresses::container(0, &hardware.fingerprint))
    }
}
