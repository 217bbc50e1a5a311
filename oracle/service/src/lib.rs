//! What every daemon shares around its own work: settings, logs, metrics, health, an ordered end, the embedded store, and
//! what the service manager is told.
//!
//! | room | does |
//! |---|---|
//! | [`settings`] | command line, environment, file, default: one parser, one help |
//! | [`metrics`] | typed names, Prometheus text; the process's own metrics |
//! | [`health`] | reasons against being ready by topic; loops that promise to tick |
//! | [`http`] | a bounded accept loop; the monitor with /metrics, /live and /ready |
//! | [`shutdown`] | stages that stop in order within a grace period |
//! | [`store`] | SQLite in one file: migrations, one process, safe on return |
//! | [`tls`] | TLS pinned to an operator key |
//! | `notify` | READY, STATUS and WATCHDOG for systemd |
//!
//! examples/daemon.rs is a whole daemon in a page.

use std::{
    env,
    io::{IsTerminal, stderr},
    process::{self, ExitCode},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Error, Result, anyhow};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, timeout_at},
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

pub mod health;
pub mod http;
pub mod metrics;
mod notify;
pub mod settings;
pub mod shutdown;
pub mod store;
pub mod tls;

pub use health::Health;
pub use settings::{Settings, Shared};
pub use shutdown::Shutdown;

use crate::{metrics::Metrics, settings::Stopped};

/// Exit status of settings that cannot work (`EX_USAGE`): a supervisor need not start the daemon again.
pub const EXIT_SETTINGS: u8 = 64;
/// Exit status of anything else that went wrong.
pub const EXIT_FAILED: u8 = 1;

/// What a blocking call gets beyond the grace period, and what is cut off to be named.
const AFTER_GRACE: Duration = Duration::from_secs(3);

/// What ends a daemon before it is told to stop.
#[derive(Debug)]
pub enum Ended {
    /// Settings that cannot work.
    Settings(Error),
    /// Anything else.
    Failed(Error),
}

impl Ended {
    /// Settings that cannot work, for this reason.
    pub fn settings(reason: impl Into<Error>) -> Self {
        Self::Settings(reason.into())
    }

    fn tell(self, name: &str) -> u8 {
        let (error, status) = match self {
            Self::Settings(error) => (error, EXIT_SETTINGS),
            Self::Failed(error) => (error, EXIT_FAILED),
        };
        eprintln!("{name}: {error:#}");
        status
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What a daemon's work is given.
#[derive(Clone, Debug)]
pub struct Service<M = ()> {
    /// Its metrics, served at /metrics.
    pub metrics: M,
    /// Whether it can work, served at /live and /ready. Call [`Health::started`] once it does.
    pub health: Health,
    /// When to end. The work is to return soon after [`Shutdown::requested`].
    pub shutdown: Shutdown,
}

/// A daemon's life: reads its settings, sets up logs, the monitor and signals, works, and ends in order. What it returns is
/// the process's exit status; a failure is told on standard error, with its causes.
///
/// At the first SIGINT or SIGTERM, stages stop in their order while `work` gets to return, all within `--grace`; a second
/// signal ends the process at once.
pub async fn serve<S: Settings, M: Metrics, F: Future<Output = Result<(), Ended>>>(
    work: impl FnOnce(S, Service<M>) -> F,
) -> ExitCode {
    let command = S::command();
    let (name, version) = (command.get_name().to_owned(), command.get_version().unwrap_or_default().to_owned());
    let arguments: Vec<_> = env::args_os().collect();
    // Before anything is required.
    if settings::is_given(&arguments, "print-metrics") {
        print!("{}", metrics::print::<M>(&name, &version));
        return ExitCode::SUCCESS;
    }
    let settings: S = match settings::read(arguments, |variable| env::var_os(variable)) {
        Ok(settings) => settings,
        Err(Stopped::Printed(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Stopped::Refused(refusal)) => return ExitCode::from(Ended::settings(refusal).tell(&name)),
    };
    let shared = settings.shared().clone();
    let shutdown = Shutdown::default();
    let outcome = match log(&shared.log) {
        Ok(()) => live(&name, &version, settings, &shared, shutdown.clone(), work).await,
        Err(error) => Err(Ended::Settings(error)),
    };
    match (outcome, shutdown.failure()) {
        (Ok(()), None) => ExitCode::SUCCESS,
        (Ok(()), Some(failure)) => ExitCode::from(Ended::Failed(failure).tell(&name)),
        (Err(ended), _) => ExitCode::from(ended.tell(&name)),
    }
}

async fn live<S: Settings, M: Metrics, F: Future<Output = Result<(), Ended>>>(
    name: &str,
    version: &str,
    settings: S,
    shared: &Shared,
    shutdown: Shutdown,
    work: impl FnOnce(S, Service<M>) -> F,
) -> Result<(), Ended> {
    let health = Health::default();
    let manager = notify::Manager::of_environment()?;
    let asked = shutdown.clone();
    let mut signals = Signals::listen()?;
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("stopping; a second signal ends at once");
        asked.request();
        let number = signals.next().await;
        eprintln!("ended at once by a second signal");
        // As a shell says of a process that a signal ended.
        process::exit(128 + number);
    });
    let mut registry = metrics::registry(name, version, &health);
    let metrics = M::register(&mut registry);
    let end = tokio_util::sync::CancellationToken::new();
    let monitor = match shared.monitor {
        None => None,
        Some(address) => {
            let listener = http::listen(address, "--monitor").await?;
            tracing::info!(monitor = %listener.local_addr().context("--monitor")?, "serving /metrics, /live and /ready");
            let stop = end.clone().cancelled_owned();
            Some(tokio::spawn(http::monitor(listener, Arc::new(registry), health.clone(), stop)))
        }
    };
    let ended = async {
        let stages = shutdown.clone();
        let work = work(settings, Service { metrics, health: health.clone(), shutdown: shutdown.clone() });
        let work = async {
            let outcome = work.await;
            // The work's end is the daemon's end.
            shutdown.request();
            outcome
        };
        let both = async { tokio::join!(work, stages.stages_ended()).0 };
        tokio::pin!(both);
        tokio::select! {
            outcome = &mut both => return outcome,
            () = shutdown.requested() => {}
        }
        if let Some(manager) = &manager {
            manager.stopping();
        }
        end_for_sure(shared.grace);
        let Ok(outcome) = timeout_at(Instant::now() + shared.grace, both).await else {
            let running = shutdown.running().join(", ");
            let running = if running.is_empty() { "its main work".to_owned() } else { running };
            let grace = humantime::format_duration(shared.grace);
            return Err(Ended::Failed(anyhow!("cut off after the --grace of {grace}, still running: {running}")));
        };
        outcome
    };
    let telling = async {
        match &manager {
            Some(manager) => manager.tell(&health).await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        outcome = ended => outcome,
        () = telling => Ok(()),
    };
    // Last, so that the end can be watched.
    end.cancel();
    if let Some(monitor) = monitor {
        monitor.await.context("the monitor ended unexpectedly")?;
    }
    outcome
}

/// Ends the process some time after the grace period, whatever blocks: the runtime waits for its blocking threads for ever.
fn end_for_sure(grace: Duration) {
    thread::spawn(move || {
        thread::sleep(grace.saturating_add(AFTER_GRACE));
        eprintln!("ended by force: a blocking call did not return within the --grace");
        process::exit(EXIT_FAILED.into());
    });
}

/// Compact lines on a terminal, JSON otherwise; to standard error either way.
fn log(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!("--log `{filter}` is no log filter: write for example info, or warn,datagalax_agent=debug")
    })?;
    let logs = tracing_subscriber::fmt::layer().with_writer(stderr);
    let registry = tracing_subscriber::registry().with(filter).with(metrics::CountEvents);
    if stderr().is_terminal() {
        registry.with(logs.compact().with_target(false)).init();
    } else {
        registry.with(logs.json().flatten_event(true)).init();
    }
    Ok(())
}

/// Resolves at SIGINT or SIGTERM. Listens from now on, not from the first poll.
///
/// # Errors
/// The handlers cannot be installed.
pub fn signals() -> Result<impl Future<Output = ()>> {
    let mut signals = Signals::listen()?;
    Ok(async move {
        signals.next().await;
    })
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The next one's number.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.terminate.recv() => libc::SIGTERM,
        }
    }
}
