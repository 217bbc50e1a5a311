//! What every daemon shares around its own work: reading the command line, logs, the end by a signal, the exit status.
//!
//! ```no_run
//! # #[derive(clap::Parser)] struct Settings { #[arg(long, default_value = "info")] log: String }
//! # async fn work(_: Settings) -> Result<(), datagalax_service::Ended> { Ok(()) }
//! # #[tokio::main]
//! # async fn main() -> std::process::ExitCode {
//! datagalax_service::run("datagalax-agent", |settings: &Settings| &settings.log, work).await
//! # }
//! ```

pub mod tls;

use std::{
    io::{IsTerminal, stderr},
    process::ExitCode,
};

use anyhow::{Context, Error, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Exit status of settings that cannot work (`EX_USAGE`): a supervisor need not start the daemon again.
pub const EXIT_SETTINGS: u8 = 64;
/// Exit status of anything else that went wrong.
pub const EXIT_FAILED: u8 = 1;

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
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Reads the command line (and environment), sets up logs by the filter that `filter` names, and works. What it returns is
/// the process's exit status; a failure is told on standard error, with its causes.
pub async fn run<S: Parser, F: Future<Output = Result<(), Ended>>>(
    name: &str,
    filter: impl FnOnce(&S) -> &str,
    work: impl FnOnce(S) -> F,
) -> ExitCode {
    let settings = match S::try_parse() {
        Ok(settings) => settings,
        Err(error) => {
            // Help and version come this way, too. Nobody is left to tell when even this cannot be printed.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(EXIT_SETTINGS) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match log(filter(&settings)) {
        Ok(()) => work(settings).await,
        Err(error) => Err(Ended::Settings(error)),
    };
    let (error, status) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Ended::Settings(error)) => (error, EXIT_SETTINGS),
        Err(Ended::Failed(error)) => (error, EXIT_FAILED),
    };
    eprintln!("{name}: {error:#}");
    ExitCode::from(status)
}

/// Compact lines on a terminal, JSON otherwise; to standard error either way.
fn log(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!("--log `{filter}` is no log filter: write for example info, or warn,datagalax_agent=debug")
    })?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    if stderr().is_terminal() {
        logs.compact().with_target(false).init();
    } else {
        logs.json().flatten_event(true).init();
    }
    Ok(())
}

/// Resolves at SIGINT or SIGTERM. Listens from now on, not from the first poll.
///
/// # Errors
/// The handlers cannot be installed.
pub fn signals() -> Result<impl Future<Output = ()>> {
    let watch = |kind| signal(kind).context("cannot listen for signals");
    let (mut interrupt, mut terminate) = (watch(SignalKind::interrupt())?, watch(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
