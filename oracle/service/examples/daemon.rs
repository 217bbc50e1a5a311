//! A whole daemon in a page: it notes numbers in its store, one after the other, and says each once it is safe.
//!
//! `cargo run -p datagalax-service --example daemon -- --state-dir /tmp/notes --monitor 9600`

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use datagalax_service::{
    Ended, Service, Settings, Shared,
    metrics::{Counter, Family, label},
    store::{Schema, Store},
};

/// Notes numbers, one after the other.
#[derive(Debug, Parser)]
#[command(name = "daemon", version)]
struct Options {
    /// Folder for what was noted.
    #[arg(long, env = "DAEMON_STATE_DIR", value_name = "DIR")]
    state_dir: PathBuf,
    /// Milliseconds between two numbers.
    #[arg(long, env = "DAEMON_EVERY", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    every: u64,
    /// For tests: how to behave badly after the first number.
    #[arg(long, env = "DAEMON_MISBEHAVE", value_enum, value_name = "HOW")]
    misbehave: Option<Misbehaviour>,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Misbehaviour {
    /// Go on when asked to stop.
    Stubborn,
    /// Come round no more.
    Hang,
    /// Never give a blocking thread back.
    Block,
}

impl Settings for Options {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}

label! {
    /// Which numbers.
    enum Parity: "parity" { Even = "even", Odd = "odd" }
}

datagalax_service::metrics! {
    /// What it counts.
    struct Metrics: "datagalax_example" {
        /// Numbers noted, by parity.
        noted: Family<Parity, Counter>,
    }
}

const SCHEMA: Schema = Schema { daemon: "daemon", steps: &["CREATE TABLE numbers (number INTEGER PRIMARY KEY)"] };

#[tokio::main]
async fn main() -> ExitCode {
    datagalax_service::serve(work).await
}

async fn work(options: Options, service: Service<Metrics>) -> Result<(), Ended> {
    let store = Store::open(&options.state_dir, "notes", SCHEMA).context("--state-dir")?;
    let noting = service.shutdown.stage("noting");
    let (stop, health, metrics) = (noting.token(), service.health.clone(), service.metrics.clone());
    noting.spawn("noting", async move {
        let watchdog = health.watch("noting", Duration::from_secs(3));
        loop {
            let noted = store.write(|t| {
                let next =
                    t.query_row("SELECT coalesce(max(number), 0) + 1 FROM numbers", [], |row| row.get::<_, u64>(0))?;
                t.execute("INSERT INTO numbers VALUES (?1)", [next])?;
                Ok(next)
            });
            let number = noted.await?;
            let parity = if number.is_multiple_of(2) { Parity::Even } else { Parity::Odd };
            metrics.noted.get_or_create(&parity).inc();
            health.started();
            println!("{number}");
            watchdog.tick();
            match options.misbehave {
                Some(Misbehaviour::Hang) => std::future::pending().await,
                Some(Misbehaviour::Block) => drop(tokio::task::spawn_blocking(|| {
                    loop {
                        std::thread::park()
                    }
                })),
                Some(Misbehaviour::Stubborn) | None => {}
            }
            tokio::select! {
                () = stop.cancelled(), if options.misbehave != Some(Misbehaviour::Stubborn) => return Ok(()),
                () = tokio::time::sleep(Duration::from_millis(options.every)) => {}
            }
        }
    });
    service.shutdown.requested().await;
    Ok(())
}
