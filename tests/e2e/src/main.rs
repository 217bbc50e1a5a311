//! `datagalax-demo`: the network on this machine's own hardware, from nothing to a claimed reward.

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::Parser;
use datagalax_e2e::{
    Books, Deployment, Settings, closing,
    deployment::Progress,
    follow::{self, Observer, View},
    settings::Leases,
};
use indicatif::{ProgressBar, ProgressStyle};

/// Runs Datagalax on this machine: a local Solana network, one container (this machine), three checkers and a keeper,
/// until an epoch is credited and the reward is claimed.
#[derive(Parser)]
#[command(name = "datagalax-demo", version)]
struct Options {
    /// JSON-RPC port of the local network; the WebSocket takes the next one
    #[arg(long, default_value_t = 8899)]
    port: u16,
    /// Port of this machine's agent
    #[arg(long, default_value_t = 7070)]
    agent_port: u16,
    /// Seconds an epoch lasts, 20 to 60
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(20..=60))]
    epoch_seconds: u32,
    /// Checkers, 3 to 16
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=16))]
    checkers: u32,
    /// Leave everything running at the end and print the URLs; Ctrl-C stops it
    #[arg(long)]
    keep: bool,
}

/// Exit status of a command line that cannot be run (`EX_USAGE`).
const USAGE: u8 = 64;

/// Somebody pressed Ctrl-C: nothing went wrong, so nothing is kept.
#[derive(Debug)]
struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stopped by Ctrl-C before the end; everything it had started is stopped")
    }
}

impl std::error::Error for Interrupted {}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("\ndemo: {e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    let settings = Settings {
        rpc_port: options.port,
        agent_port: options.agent_port,
        epoch_seconds: options.epoch_seconds,
        checkers: options.checkers,
        users: 1,
        leases: Leases::Serve,
        ..Settings::of_this_checkout()?
    };
    let screen = Screen::new();
    let mut deployment = tokio::select! {
        started = Deployment::start(settings, &screen) => started?,
        () = interrupted() => bail!(Interrupted),
    };
    let outcome = tokio::select! {
        outcome = show(&mut deployment, screen) => outcome,
        () = interrupted() => Err(Interrupted.into()),
    };
    // From here on Ctrl-C is how the demo is meant to end.
    let outcome = match outcome {
        Ok(()) if options.keep => keep_running(&mut deployment).await,
        other => other,
    };
    if outcome.as_ref().is_err_and(|e| !e.is::<Interrupted>()) {
        eprintln!("The keys, stores and logs of this run stay in {}", deployment.workdir.keep().display());
    }
    let stopped = deployment.stop().await;
    outcome.and(stopped)
}

async fn show(deployment: &mut Deployment, mut screen: Screen) -> Result<()> {
    let credited = follow::until_credited(deployment, &mut screen).await?;
    screen.step("Claiming the reward with the datagalax command, and withdrawing what vests at once");
    let claim = closing::claim(deployment, &credited).await?;
    screen.step("Auditing the books from the chain");
    let books = Books::audit(&deployment.reader).await?;
    screen.bar.finish_and_clear();
    println!("{}", closing::table(deployment, &credited, &claim, &books));
    println!("The books balance.");
    Ok(())
}

/// Prints where everything is. Ends by Ctrl-C, or with an error when a process does.
async fn keep_running(deployment: &mut Deployment) -> Result<()> {
    let settings = &deployment.settings;
    println!("\nEverything goes on running until Ctrl-C:");
    println!("  JSON-RPC   {}", settings.rpc_url());
    println!("  WebSocket  {}", settings.ws_url());
    println!("  agent      {}/v1/info", settings.agent_url());
    println!("  keys, logs {}", deployment.workdir.path().display());
    let command = deployment.command_line();
    println!("  try        {}", command.line("user-0", "network show"));
    // The shortest lease owes 600 s; a user of the demo has the means for hours.
    let lease =
        format!("run --container {} --for 10min --yes -- sh -c 'echo hello from $(hostname); nproc'", deployment.container);
    println!("  rent       {}", command.line("user-0", &lease));
    loop {
        tokio::select! {
            () = interrupted() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(1)) => deployment.check()?,
        }
    }
}

async fn interrupted() {
    match datagalax_service::signals() {
        Ok(signalled) => signalled.await,
        // Without a handler the signal ends the process, and its daemons with it.
        Err(_) => std::future::pending().await,
    }
}

/// A spinner with the network's state on a terminal, plain lines elsewhere.
struct Screen {
    bar: ProgressBar,
    plain: bool,
}

impl Screen {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, plain: !std::io::stderr().is_terminal() }
    }

    fn line(&self, text: &str) {
        let text = format!("{:>4} s  {text}", self.bar.elapsed().as_secs());
        if self.plain {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }
}

impl Progress for Screen {
    fn step(&self, text: &str) {
        self.line(text);
        self.bar.set_message(text.to_owned());
    }
}

impl Observer for Screen {
    fn looked(&mut self, view: &View) {
        let Some(epoch) = view.epoch else { return };
        let seats = match view.seats(epoch) {
            Some((committed, _, seats)) => format!("committed {committed}/{seats}"),
            None => "not seated yet".into(),
        };
        let before = epoch.checked_sub(1).and_then(|e| view.seats(e).map(|(_, revealed, seats)| (e, revealed, seats)));
        let before = before.map_or(String::new(), |(e, revealed, seats)| {
            let tallied = if view.is_tallied(e) { ", tallied" } else { "" };
            format!("; epoch {e}: revealed {revealed}/{seats}{tallied}")
        });
        self.bar.set_message(format!("epoch {epoch}, {} s left: {seats}{before}", view.left));
    }

    fn happened(&mut self, line: String) {
        self.line(&line);
    }
}
