//! What a run needs: where the built pieces lie, which ports to take, how long an epoch lasts.

use std::{
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::SystemTime,
};

use anyhow::{Context, Result, bail, ensure};

/// Settings of one run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program's bytecode.
    pub program: PathBuf,
    /// Folder of the sources it is built from.
    pub sources: PathBuf,
    /// The local network's binary.
    pub localnet: PathBuf,
    /// Folder of the daemons' and the CLI's binaries.
    pub binaries: PathBuf,
    /// JSON-RPC port; the WebSocket takes the next one.
    pub rpc_port: u16,
    /// The agent's port; further hosts take the next ones.
    pub agent_port: u16,
    /// Seconds an epoch lasts, 20 to 60.
    pub epoch_seconds: u32,
    /// Checkers, each with one ticket; 3 at least, or nothing is paid.
    pub checkers: u32,
    /// Containers on this machine, each with an agent of its own; several have no GPUs.
    pub hosts: u32,
    /// Users with SOL and $ATH, whose keys are `user-0.json` and so on.
    pub users: u32,
    /// What agents do about leases.
    pub leases: Leases,
    /// Where daemons find the chain, and checkers the agent, when something stands between; `None`: directly.
    pub fronts: Option<Fronts>,
    /// Names of further keys that get SOL at the start.
    pub more_keys: Vec<String>,
}

/// What agents do about leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leases {
    /// Serve them with plain processes.
    Serve,
    /// Watch: tests start leases by hand, in the host's name.
    Leave,
}

impl std::fmt::Display for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Serve => "serve",
            Self::Leave => "leave",
        })
    }
}

/// What stands between the daemons and the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fronts {
    /// JSON-RPC URLs of nodes that stand in for each other, each with its WebSocket on the port after it.
    pub rpc: Vec<String>,
    /// The agent's URL, as it is registered.
    pub agent: String,
}

/// Seats that a paying committee needs.
const FEWEST_CHECKERS: u32 = 3;
/// More than these on one machine measure each other's load.
const MOST_CHECKERS: u32 = 16;
/// Where free ports are looked for.
const PORTS: Range<u32> = 30_100..32_500;
/// Most containers on one machine.
const MOST_HOSTS: u32 = 4;

impl Settings {
    /// Settings with the pieces where `cargo xtask demo` puts them: named by `DATAGALAX_PROGRAM_SO`, `DATAGALAX_LOCALNET`
    /// and `DATAGALAX_BIN_DIR`, else below the repository's root.
    ///
    /// # Errors
    /// A piece that is not built, with the command that builds it.
    pub fn of_this_checkout() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let piece = |variable: &str, default: &str| {
            let path = std::env::var_os(variable).map_or_else(|| root.join(default), PathBuf::from);
            path.canonicalize().with_context(|| {
                format!("{} is not there: run `cargo xtask demo`, which builds it, or set {variable}", path.display())
            })
        };
        Ok(Self {
            program: piece("DATAGALAX_PROGRAM_SO", "target/deploy/datagalax.so")?,
            sources: root.join("programs/datagalax/src"),
            localnet: piece("DATAGALAX_LOCALNET", "tests/localnet/target/debug/datagalax-localnet")?,
            binaries: piece("DATAGALAX_BIN_DIR", "target/debug")?,
            rpc_port: 8899,
            agent_port: 7070,
            epoch_seconds: 30,
            checkers: FEWEST_CHECKERS,
            hosts: 1,
            users: 0,
            leases: Leases::Leave,
            fronts: None,
            more_keys: Vec::new(),
        })
    }

    /// Takes free ports, so that runs side by side do not meet.
    ///
    /// # Errors
    /// The system has no free ports in a row.
    pub fn on_free_ports(mut self) -> Result<Self> {
        let (rpc_port, held) = free_ports(2)?;
        let (agent_port, held_for_agents) = free_ports(self.hosts)?;
        (self.rpc_port, self.agent_port) = (rpc_port, agent_port);
        drop((held, held_for_agents));
        Ok(self)
    }

    /// Checks what can be checked before anything is started.
    ///
    /// # Errors
    /// Each problem by name, with what to do.
    pub fn check(&self) -> Result<()> {
        ensure!(
            (20..=60).contains(&self.epoch_seconds),
            "--epoch-seconds {} is out of range: a local network's epochs last 20 to 60 seconds",
            self.epoch_seconds
        );
        ensure!(
            (FEWEST_CHECKERS..=MOST_CHECKERS).contains(&self.checkers),
            "--checkers {} is out of range: {FEWEST_CHECKERS} to {MOST_CHECKERS} fit a demo",
            self.checkers
        );
        let bytes = std::fs::read(&self.program).with_context(|| {
            format!("the program {} cannot be read: run `cargo xtask build-program`", self.program.display())
        })?;
        ensure!(
            bytes.starts_with(b"\x7fELF"),
            "{} is not a program: run `cargo xtask build-program`",
            self.program.display()
        );
        self.refuse_stale_program()?;
        ensure!((1..=MOST_HOSTS).contains(&self.hosts), "{} containers: one machine has 1 to {MOST_HOSTS}", self.hosts);
        let ws_port =
            self.rpc_port.checked_add(1).context("--port must be below 65535: the WebSocket takes the next one")?;
        let mut ports = vec![(self.rpc_port, "JSON-RPC", "--port"), (ws_port, "the WebSocket", "--port")];
        for number in 0..self.hosts {
            let port = u32::from(self.agent_port) + number;
            ports.push((port.try_into().context("--agent-port is too high")?, "the agent", "--agent-port"));
        }
        for (port, what, option) in ports {
            TcpListener::bind(("127.0.0.1", port)).with_context(|| {
                format!("port {port} for {what} is taken: stop what listens there (`ss -ltnp 'sport = :{port}'` names it) or choose another with {option}")
            })?;
        }
        Ok(())
    }

    /// A program older than what it is built from shows another network than the one in the repository.
    fn refuse_stale_program(&self) -> Result<()> {
        let changed = |path: &Path| -> Result<SystemTime> { Ok(path.metadata()?.modified()?) };
        let built = changed(&self.program)?;
        let mut folders = vec![self.sources.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    ensure!(
                        changed(&path)? <= built,
                        "the program {} is older than {}: run `cargo xtask build-program`",
                        self.program.display(),
                        path.display()
                    );
                }
            }
        }
        Ok(())
    }

    /// Where the network's JSON-RPC listens.
    pub fn rpc_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.rpc_port)
    }

    /// Where its WebSocket listens.
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.rpc_port.saturating_add(1))
    }

    /// JSON-RPC URLs of the daemons, as their `--rpc` takes them; the WebSocket is on the port after each.
    pub fn daemons_rpc(&self) -> String {
        self.fronts.as_ref().map_or_else(|| self.rpc_url(), |fronts| fronts.rpc.join(","))
    }

    /// Where the agent of a host is registered.
    pub fn endpoint_of(&self, host: u32) -> String {
        match &self.fronts {
            Some(fronts) if host == 0 => fronts.agent.clone(),
            _ => format!("http://{}", self.agent_address(host)),
        }
    }

    /// Where the agent of a host listens.
    pub fn agent_address(&self, host: u32) -> String {
        format!("127.0.0.1:{}", u32::from(self.agent_port) + host)
    }

    /// Where the first host's agent listens.
    pub fn agent_url(&self) -> String {
        format!("http://{}", self.agent_address(0))
    }
}

/// So many free ports in a row, and what holds them until it is dropped.
///
/// Of those that the system hands to no connection, as an agent that was killed wants its own again after a while.
fn free_ports(count: u32) -> Result<(u16, Vec<TcpListener>)> {
    /// Attempts of this process, each so far from the one before that they do not overlap.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..1_000 {
        let step = NEXT.fetch_add(MOST_HOSTS.max(2), Ordering::Relaxed);
        let at = std::process::id().wrapping_mul(7).wrapping_add(step) % PORTS.len() as u32;
        let first = PORTS.start + at;
        let bind = |port: u32| TcpListener::bind(("127.0.0.1", u16::try_from(port).ok()?)).ok();
        let held: Vec<_> = (first..first + count).map_while(bind).collect();
        if held.len() == count as usize {
            return Ok((u16::try_from(first)?, held));
        }
    }
    bail!("no {count} free ports in a row on 127.0.0.1 from {} on", PORTS.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(folder: &Path) -> Settings {
        let (sources, program) = (folder.join("src"), folder.join("program.so"));
        std::fs::create_dir(&sources).unwrap();
        std::fs::write(sources.join("lib.rs"), "").unwrap();
        std::fs::write(&program, b"\x7fELF").unwrap();
        let (localnet, binaries) = (PathBuf::new(), PathBuf::new());
        Settings {
            program,
            sources,
            localnet,
            binaries,
            rpc_port: 1,
            agent_port: 1,
            epoch_seconds: 30,
            checkers: 3,
            hosts: 1,
            users: 0,
            leases: Leases::Leave,
            fronts: None,
            more_keys: Vec::new(),
        }
        .on_free_ports()
        .unwrap()
    }

    #[test]
    fn a_taken_port_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        settings.check().unwrap();
        let taken = TcpListener::bind(("127.0.0.1", settings.rpc_port + 1)).unwrap();
        let message = format!("{:#}", settings.check().unwrap_err());
        assert!(
            message.contains(&format!("port {} for the WebSocket is taken", taken.local_addr().unwrap().port())),
            "{message}"
        );
    }

    #[test]
    fn a_stale_program_and_impossible_numbers_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let good = settings(folder.path());
        for (bad, expected) in [
            (Settings { epoch_seconds: 19, ..good.clone() }, "--epoch-seconds 19"),
            (Settings { checkers: 2, ..good.clone() }, "--checkers 2"),
            (Settings { program: folder.path().join("none.so"), ..good.clone() }, "cargo xtask build-program"),
        ] {
            let message = format!("{:#}", bad.check().unwrap_err());
            assert!(message.contains(expected), "{message}");
        }
        std::fs::write(&good.program, b"not a program").unwrap();
        assert!(format!("{:#}", good.check().unwrap_err()).contains("is not a program"));
    }

    #[test]
    fn a_program_older_than_its_sources_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let source = std::fs::File::open(settings.sources.join("lib.rs")).unwrap();
        source.set_modified(SystemTime::now() + std::time::Duration::from_secs(10)).unwrap();
        let message = format!("{:#}", settings.check().unwrap_err());
        assert!(message.contains("is older than") && message.contains("cargo xtask build-program"), "{message}");
    }
}
