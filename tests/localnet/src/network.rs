//! The network itself: Surfpool's virtual machine, its two servers and the threads that drive them.

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, Sender};
use surfpool_core::{
    runloops::start_local_surfnet_runloop,
    surfnet::{
        locker::SurfnetSvmLocker,
        svm::{SurfnetSvm, SurfnetSvmConfig},
    },
};
use surfpool_types::{
    BlockProductionMode, ClockCommand, RpcConfig, SimnetCommand, SimnetConfig, SimnetEvent, SurfpoolConfig, SvmFeatureConfig,
};
use tokio::{runtime::Handle, sync::mpsc, time::timeout};

use crate::{
    blocks,
    ports::{HOST, Ports},
    program::Program,
    settings::{Funding, Settings},
};

/// Bytes of program logs kept per transaction, as a real cluster does.
const LOG_BYTES: usize = 10_000;

/// Transaction profiles kept; nothing here reads them.
const PROFILES: usize = 1;

/// How long the servers may take to close before the process leaves anyway, which closes them too.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// JSON-RPC and WebSocket: the servers that say when they have closed.
const SERVERS: usize = 2;

/// A running network. All of its state is in memory and goes with it.
pub struct Network {
    commands: Sender<SimnetCommand>,
    notices: mpsc::UnboundedReceiver<Notice>,
    // Held so that no other local network takes the ports.
    _ports: Ports,
}

/// What the network's threads tell the main one.
#[derive(Debug)]
enum Notice {
    /// Both servers listen.
    Ready,
    /// A server has closed.
    Closed,
    /// The network cannot go on, and why.
    Failed(String),
}

impl Network {
    /// Starts the network with these programs and funds; returns once both servers listen.
    ///
    /// # Errors
    /// When a program is refused, an account cannot be funded, or a server cannot be started.
    pub async fn start(settings: &Settings, ports: Ports, programs: &[Program]) -> Result<Self> {
        let simnet = SimnetConfig {
            // Never ask another cluster for anything.
            offline_mode: true,
            remote_rpc_url: None,
            slot_time: settings.slot_time_ms,
            // Not Surfpool's ticker: see `blocks`.
            block_production_mode: BlockProductionMode::Manual,
            // Profiling would run every transaction twice, the first time on a copy of the whole state.
            instruction_profiling_enabled: false,
            max_profiles: PROFILES,
            log_bytes_limit: Some(LOG_BYTES),
            ..Default::default()
        };
        let (mut svm, events, _) = SurfnetSvm::new(SurfnetSvmConfig {
            surfnet_id: simnet.surfnet_id.clone(),
            feature_config: SvmFeatureConfig::default(),
            slot_time: simnet.slot_time,
            instruction_profiling_enabled: simnet.instruction_profiling_enabled,
            max_profiles: simnet.max_profiles,
            log_bytes_limit: simnet.log_bytes_limit,
            skip_blockhash_check: simnet.skip_blockhash_check,
        })
        .map_err(|e| anyhow!("Surfpool does not start: {e}"))?;

        // From here on, since Surfpool waits when nobody takes its events.
        let (notify, notices) = mpsc::unbounded_channel();
        let verbose = settings.verbose;
        spawn("events", {
            let notify = notify.clone();
            move || forward(&events, &notify, verbose)
        })?;
        for program in programs {
            program.load(&mut svm, settings.upgrade_authority)?;
        }
        for fund in &settings.funds {
            give(&mut svm, fund)?;
        }

        let config = SurfpoolConfig {
            simnets: vec![simnet],
            rpc: RpcConfig { bind_host: HOST.to_string(), bind_port: ports.rpc, ws_port: ports.ws, ..Default::default() },
            ..Default::default()
        };
        let locker = SurfnetSvmLocker::new(svm);
        let (commands, commands_rx) = crossbeam_channel::unbounded();
        // Surfpool loads any library a caller of its RPC names as a plugin, whichever web page the call comes from. The
        // plugin thread ends at once when nobody can send it events, and such calls then fail.
        let (_, no_plugin_events) = crossbeam_channel::bounded(0);
        // Its ticker also makes a block every 75 slots in any mode.
        commands.send(SimnetCommand::CommandClock(None, ClockCommand::Pause)).context("Surfpool does not start")?;

        let runtime = Handle::current();
        spawn("surfnet", {
            let (runtime, locker, commands, notify) = (runtime.clone(), locker.clone(), commands.clone(), notify.clone());
            move || {
                let run = start_local_surfnet_runloop(locker, config, commands, commands_rx, no_plugin_events);
                if let Err(e) = runtime.block_on(run) {
                    // Nobody listens any more only when the process is leaving.
                    let _ = notify.send(Notice::Failed(e.to_string()));
                }
            }
        })?;
        let mut network = Self { commands, notices, _ports: ports };
        match network.notices.recv().await {
            Some(Notice::Ready) => {}
            Some(Notice::Failed(e)) => return Err(anyhow!("Surfpool does not start: {e}")),
            Some(Notice::Closed) | None => {
                return Err(anyhow!("Surfpool stopped while it started"));
            }
        }
        let slot_time = Duration::from_millis(settings.slot_time_ms);
        spawn("blocks", move || {
            let Err(e) = runtime.block_on(blocks::produce(locker, slot_time));
            let _ = notify.send(Notice::Failed(format!("{e:#}")));
        })?;
        Ok(network)
    }

    /// Waits until the network ends by itself, and says why.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.notices.recv().await {
            Some(Notice::Failed(e)) => anyhow!(e),
            Some(Notice::Closed) => {
                anyhow!("somebody stopped the network through JSON-RPC (`exit`)")
            }
            Some(Notice::Ready) | None => anyhow!("the network's threads ended"),
        }
    }

    /// Closes both servers. Whatever has not closed in time closes with the process.
    pub async fn stop(mut self) {
        if self.commands.send(SimnetCommand::Terminate(None)).is_err() {
            return;
        }
        let closed = async {
            let mut closed = 0;
            while closed < SERVERS {
                match self.notices.recv().await {
                    Some(Notice::Closed) => closed += 1,
                    Some(Notice::Ready | Notice::Failed(_)) => {}
                    None => return,
                }
            }
        };
        if timeout(STOP_TIMEOUT, closed).await.is_err() {
            eprintln!("datagalax-localnet: open connections are cut off");
        }
    }
}

/// Gives an account its first lamports, from the faucet `requestAirdrop` uses too.
fn give(svm: &mut SurfnetSvm, fund: &Funding) -> Result<()> {
    let Funding { account, lamports } = fund;
    let outcome =
        svm.airdrop(account, *lamports).map_err(|e| anyhow!("{account} cannot be given {lamports} lamports: {e:?}"))?;
    outcome.map_err(|e| anyhow!("{account} cannot be given {lamports} lamports: {}", e.err))?;
    Ok(())
}

/// Takes Surfpool's events: what ends the network goes to the main thread, the rest to the log when it is wanted.
fn forward(events: &Receiver<SimnetEvent>, notify: &mpsc::UnboundedSender<Notice>, verbose: bool) {
    for event in events {
        let notice = match event {
            SimnetEvent::Ready(_) => Notice::Ready,
            SimnetEvent::Shutdown => Notice::Closed,
            SimnetEvent::Aborted(reason) => Notice::Failed(reason),
            event => {
                if verbose && let Some(line) = line(&event) {
                    eprintln!("{line}");
                }
                continue;
            }
        };
        // The main thread has gone; keep taking events until the process has too.
        let _ = notify.send(notice);
    }
}

fn line(event: &SimnetEvent) -> Option<String> {
    match event {
        SimnetEvent::InfoLog(_, text) => Some(format!("info: {text}")),
        SimnetEvent::WarnLog(_, text) => Some(format!("warning: {text}")),
        SimnetEvent::ErrorLog(_, text) => Some(format!("error: {text}")),
        SimnetEvent::TransactionProcessed(_, meta, None) => Some(format!("transaction {}: ok", meta.signature)),
        SimnetEvent::TransactionProcessed(_, meta, Some(e)) => Some(format!("transaction {}: {e}", meta.signature)),
        _ => None,
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new().name(name.into()).spawn(run).with_context(|| format!("the thread `{name}` cannot be started"))?;
    Ok(())
}
