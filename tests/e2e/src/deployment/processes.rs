//! The processes of a run, and the arguments that an operator would give each.

use std::{path::Path, time::Duration};

use anyhow::Result;
use datagalax_client::{Address, addresses};
use solana_signer::Signer;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::{sleep, timeout},
};

use super::{START, keys::Keys};
use crate::{
    daemon::Daemon,
    settings::{Leases, Settings},
    workdir::Workdir,
};

/// The first of the user numbers that workloads run as.
const FIRST_WORKLOAD_USER: u32 = 1_880_000_000;
/// User numbers that an agent's workloads have.
const WORKLOAD_USERS: u32 = 64;

/// Starts the local network and waits until it answers.
pub async fn start_localnet(settings: &Settings, workdir: &Workdir, keys: &Keys) -> Result<Daemon> {
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

/// Starts a keeper with the key of its name.
pub fn start_keeper(name: &str, settings: &Settings, workdir: &Workdir) -> Result<Daemon> {
    let key = workdir.path().join(format!("{name}.json"));
    start_daemon(name, settings, workdir, &[("--keypair", path(&key))])
}

/// Starts the checker of this id.
pub fn start_checker(settings: &Settings, workdir: &Workdir, id: u32, key: &Path) -> Result<Daemon> {
    let store = workdir.path().join(format!("checker-{id}-store"));
    let arguments = [("--keypair", path(key)), ("--checker-id", id.to_string()), ("--state-dir", path(&store))];
    start_daemon(&format!("checker-{id}"), settings, workdir, &arguments)
}

/// A container on this machine.
pub struct Place<'a> {
    /// Which of the run's.
    pub number: u32,
    /// Its address.
    pub container: Address,
    /// File of its operator's key.
    pub key: &'a Path,
    /// File of its machine id, `None`: the system's.
    pub machine_id: Option<&'a Path>,
    /// Whether it has the machine's GPUs.
    pub gpus: bool,
}

/// Starts the agent of a container.
pub fn start_agent(settings: &Settings, workdir: &Workdir, place: &Place<'_>) -> Result<Daemon> {
    let name = if place.number == 0 { "agent".to_owned() } else { format!("agent-{}", place.number) };
    let mut arguments = vec![
        ("--keypair", path(place.key)),
        ("--container", place.container.to_string()),
        ("--listen", settings.agent_address(place.number)),
        ("--state-dir", path(&workdir.path().join(format!("{name}-state")))),
        ("--leases", settings.leases.to_string()),
    ];
    if settings.leases == Leases::Serve {
        arguments.extend([
            ("--runtime", "process".to_owned()),
            ("--docker-host", "unix:///var/run/docker.sock".to_owned()),
            ("--workloads-dir", path(&workdir.workloads().join(&name))),
            ("--workload-users", workload_users(place.number)),
            // In proportion to epochs of seconds.
            ("--stop-grace", "3s".to_owned()),
            ("--usage-every", "5s".to_owned()),
        ]);
    }
    if let Some(file) = place.machine_id {
        arguments.push(("--machine-id", path(file)));
    }
    if !place.gpus {
        arguments.push(("--no-gpu", String::new()));
    }
    start_daemon(&name, settings, workdir, &arguments)
}

/// Users that only this host's workloads have, where this process may be others; else its own.
fn workload_users(host: u32) -> String {
    // SAFETY: geteuid cannot fail and touches no memory.
    let root = unsafe { libc::geteuid() } == 0;
    if root { (FIRST_WORKLOAD_USER + host * WORKLOAD_USERS).to_string() } else { "agent".to_owned() }
}

fn start_daemon(name: &str, settings: &Settings, workdir: &Workdir, arguments: &[(&str, String)]) -> Result<Daemon> {
    let mut all = vec!["--rpc".to_owned(), settings.daemons_rpc()];
    for (option, value) in arguments {
        all.push((*option).to_owned());
        // An option without a value is a switch.
        all.extend((!value.is_empty()).then(|| value.clone()));
    }
    let binary = name.split('-').next().unwrap_or(name);
    Daemon::start(name, &settings.binaries.join(format!("datagalax-{binary}")), &all, workdir.path())
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
