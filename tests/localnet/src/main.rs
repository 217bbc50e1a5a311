//! The local Solana network of Datagalax: Surfpool in one binary, with JSON-RPC and WebSocket on fixed ports.

mod blocks;
mod health;
mod network;
mod ports;
mod program;
mod settings;
mod stop;

use std::{
    convert::Infallible,
    future::pending,
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::json;

use solana_pubkey::Pubkey;

use crate::{
    network::Network,
    ports::{Ports, Urls},
    program::Program,
    settings::Settings,
    stop::Stop,
};

/// The exit status of a command line that asks for something impossible (`EX_USAGE`).
const USAGE: u8 = 64;

/// The exit status of everything else that went wrong.
const FAILURE: u8 = 1;

fn main() -> ExitCode {
    let settings = match Settings::try_parse() {
        Ok(settings) => settings,
        Err(e) => {
            // Where even that cannot be printed, the status still says it.
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if let Err(e) = settings.check() {
        eprintln!("datagalax-localnet: {e}");
        return ExitCode::from(USAGE);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("datagalax-localnet: the async runtime cannot be started: {e}");
            return ExitCode::from(FAILURE);
        }
    };
    let outcome = runtime.block_on(run(&settings));
    // The network's own threads end with the process. A runtime that is shut down under them would make them panic.
    std::mem::forget(runtime);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("datagalax-localnet: {e:#}");
            ExitCode::from(FAILURE)
        }
    }
}

/// Serves the network until it is told to stop.
async fn run(settings: &Settings) -> Result<()> {
    let mut stop = Stop::watch(settings.exit_with_parent)?;
    let ports = Ports::take(settings.port).map_err(anyhow::Error::msg)?;
    let urls = ports.urls();
    let programs = settings.programs.iter().map(Program::read).collect::<Result<Vec<_>>>()?;
    let ids: Vec<Pubkey> = programs.iter().map(Program::id).collect();
    let mut network = Network::start(settings, ports, &programs).await?;
    let outcome = tokio::select! {
        () = stop.requested() => Ok(()),
        e = network.failed() => Err(e),
        Err(e) = announce(settings, &urls, &ids) => Err(e),
    };
    network.stop().await;
    outcome
}

/// Says on stdout, once the network is healthy, where it is; then never ends unless that failed.
async fn announce(settings: &Settings, urls: &Urls, programs: &[Pubkey]) -> Result<Infallible> {
    let genesis_hash = health::wait(urls, programs).await?;
    let text = if settings.json {
        let programs: Vec<String> = programs.iter().map(Pubkey::to_string).collect();
        format!(
            "{}\n",
            json!({
                "rpc": urls.rpc,
                "ws": urls.ws,
                "genesis_hash": genesis_hash,
                "programs": programs,
                "slot_time_ms": settings.slot_time_ms,
                "pid": std::process::id(),
            })
        )
    } else {
        let mut text = format!("The local network is up, a slot every {} ms.\n", settings.slot_time_ms);
        text += &format!("  JSON-RPC    {}\n  WebSocket   {}\n  genesis     {genesis_hash}\n", urls.rpc, urls.ws);
        for id in programs {
            text += &format!("  program     {id}\n");
        }
        text += "Its state is in memory. Ctrl-C stops it.\n";
        text
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("stdout cannot be written to")?;
    drop(stdout);
    pending().await
}
