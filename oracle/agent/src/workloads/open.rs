//! The runtime that the settings ask for.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

use datagalax_runtime::{
    Limits, Runtime, RuntimeError,
    oci::Containers,
    process::{Isolation, Processes},
};
use sysinfo::System;

use super::{Patience, Running, policy::Policy};
use crate::{
    daemon::Leases,
    settings::{RuntimeKind, WorkloadSettings, WorkloadUsers},
    state::StateDir,
};

/// Least memory and disk that are given when the host's are not known.
const LEAST: u64 = 64 << 20;

/// What becomes of leases, by the settings. `gpus`: this host's cards are given to workloads.
///
/// # Errors
/// A runtime that was asked for by name cannot be had.
pub async fn open(settings: &WorkloadSettings, state: &StateDir, gpus: bool) -> Result<Leases, RuntimeError> {
    let there = || socket(&settings.docker_host).is_ok_and(Path::exists);
    let (opened, takes_images) = match settings.runtime {
        RuntimeKind::None => return Ok(Leases::Decline),
        RuntimeKind::Process => (processes(settings, state), false),
        RuntimeKind::Docker => (docker(settings, state).await, true),
        RuntimeKind::Auto if there() => (docker(settings, state).await, true),
        RuntimeKind::Auto => (processes(settings, state), false),
    };
    let runtime = match opened {
        Err(error) if settings.runtime == RuntimeKind::Auto => {
            tracing::warn!(%error, "no runtime: leases are rejected; see --runtime");
            return Ok(Leases::Decline);
        }
        opened => opened?,
    };
    tracing::info!(runtime = if takes_images { "docker" } else { "process" }, "workloads of leases are run");
    let policy = Policy {
        images: settings.images.clone(),
        takes_images,
        takes_processes: !takes_images,
        gpus,
        limits: limits(settings, state),
    };
    Ok(Leases::Run(Running {
        runtime,
        policy,
        grace: settings.stop_grace,
        warn_before: settings.warn_before,
        usage_every: settings.usage_every,
        patience: Patience::default(),
    }))
}

/// The path of the engine's socket.
fn socket(host: &str) -> Result<&Path, RuntimeError> {
    let path = host.strip_prefix("unix://").filter(|path| path.starts_with('/'));
    let other = || RuntimeError::Setting(format!("--docker-host {host}: expected unix:///<path of its socket>"));
    path.map(Path::new).ok_or_else(other)
}

/// Where workloads are kept, unless the settings say otherwise.
fn root(settings: &WorkloadSettings, state: &StateDir) -> PathBuf {
    let beside = || {
        let mut name = state.folder().file_name().unwrap_or_default().to_owned();
        name.push("-workloads");
        state.folder().with_file_name(name)
    };
    settings.workloads_dir.clone().unwrap_or_else(beside)
}

async fn docker(settings: &WorkloadSettings, state: &StateDir) -> Result<Arc<dyn Runtime>, RuntimeError> {
    Ok(Arc::new(Containers::open(&root(settings, state), socket(&settings.docker_host)?).await?))
}

fn processes(settings: &WorkloadSettings, state: &StateDir) -> Result<Arc<dyn Runtime>, RuntimeError> {
    let own = || env::current_exe().ok().map(|agent| agent.with_file_name("datagalax-shim"));
    let shim = settings.shim.clone().or_else(own).unwrap_or_else(|| PathBuf::from("datagalax-shim"));
    let isolation = match settings.workload_users {
        WorkloadUsers::From(first) => Isolation::Users(first),
        WorkloadUsers::Agent => Isolation::SameUser,
    };
    Ok(Arc::new(Processes::open(&root(settings, state), &shim, isolation)?))
}

fn limits(settings: &WorkloadSettings, state: &StateDir) -> Limits {
    let memory = || {
        let mut system = System::new();
        system.refresh_memory();
        (system.total_memory() / 2).max(LEAST)
    };
    Limits {
        memory: settings.lease_memory.map_or_else(memory, |mib| mib << 20),
        disk: settings.lease_disk.map_or_else(|| (state.free() / 2).max(LEAST), |mib| mib << 20),
        processes: settings.lease_processes,
        ..Limits::default()
    }
}
