//! The agent's own settings.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum, value_parser};
use datagalax_client::amount::parse_ath;
use datagalax_relay::tunnel::RelayAddress;
use datagalax_service::Shared;
use solana_pubkey::Pubkey;

use crate::faults::fitness::Return;

/// Longest endpoint that the chain takes, in bytes.
const MAX_ENDPOINT: usize = 128;

/// What becomes of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Leases {
    /// This agent serves them, and rejects at once, with the reason, what it cannot serve.
    Serve,
    /// Somebody else starts and rejects them; this agent only watches.
    Leave,
}

/// What runs the workloads of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuntimeKind {
    /// Docker where its socket is there, else plain processes where they can be kept apart, else nothing; the log says which.
    Auto,
    /// OCI containers through the Docker API.
    Docker,
    /// Plain processes, each lease in a folder and as a user of its own.
    Process,
    /// Nothing: every lease is rejected at once, with the reason.
    None,
}

/// As whom plain processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadUsers {
    /// Each lease as a user of its own, of the 64 from this number on.
    From(u32),
    /// As the agent's own user.
    Agent,
}

impl std::str::FromStr for WorkloadUsers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "agent" => Ok(Self::Agent),
            Ok(first) if (1_000..=u32::MAX - 64).contains(&first) => Ok(Self::From(first)),
            _ => Err("expected the number of a user, at least 1000, or `agent`".into()),
        }
    }
}

impl std::fmt::Display for WorkloadUsers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::From(first) => write!(formatter, "{first}"),
            Self::Agent => formatter.write_str("agent"),
        }
    }
}

/// How the workloads of leases are run.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Workloads of leases")]
pub struct WorkloadSettings {
    /// What runs them.
    #[arg(long, env = "DATAGALAX_AGENT_RUNTIME", value_enum, default_value_t = RuntimeKind::Auto)]
    pub runtime: RuntimeKind,
    /// The Docker daemon's socket. Whoever may use it is root on this host, this agent included.
    #[arg(long, env = "DATAGALAX_AGENT_DOCKER_HOST", default_value = "unix:///var/run/docker.sock", value_name = "URL")]
    pub docker_host: String,
    /// Folder of workloads and their output [default: the state folder's name with -workloads]. The users of plain processes
    /// must be able to pass through every folder above it. Two agents cannot share one.
    #[arg(long, env = "DATAGALAX_AGENT_WORKLOADS_DIR", value_name = "DIR")]
    pub workloads_dir: Option<PathBuf>,
    /// The supervisor of plain processes [default: datagalax-shim beside the agent].
    #[arg(long, env = "DATAGALAX_AGENT_SHIM", value_name = "FILE")]
    pub shim: Option<PathBuf>,
    /// First of 64 user numbers that only plain processes' workloads of this agent have, which needs an agent that is root; or
    /// `agent`: they run as the agent's own user, and can read its keys. For development only.
    #[arg(long, env = "DATAGALAX_AGENT_WORKLOAD_USERS", default_value_t = WorkloadUsers::From(1_880_000_000), value_name = "NUMBER|agent")]
    pub workload_users: WorkloadUsers,
    /// Beginnings of the images that are taken, such as docker.io/library/; several by commas or by repeating the option
    /// [default: any]. Others are declined, and their users told so.
    #[arg(long, env = "DATAGALAX_AGENT_IMAGES", value_delimiter = ',', value_name = "PREFIX")]
    pub images: Vec<String>,
    /// Memory that a workload may use, MiB [default: half of this host's].
    #[arg(long, env = "DATAGALAX_AGENT_LEASE_MEMORY", value_parser = value_parser!(u64).range(16..=1 << 30), value_name = "MIB")]
    pub lease_memory: Option<u64>,
    /// Disk that a workload may use, MiB [default: half of what is free at start].
    #[arg(long, env = "DATAGALAX_AGENT_LEASE_DISK", value_parser = value_parser!(u64).range(16..=1 << 30), value_name = "MIB")]
    pub lease_disk: Option<u64>,
    /// Processes that a workload may have at a time.
    #[arg(long, env = "DATAGALAX_AGENT_LEASE_PROCESSES", default_value_t = 4_096, value_parser = value_parser!(u64).range(1..=1 << 20), value_name = "COUNT")]
    pub lease_processes: u64,
    /// What a workload gets to end by itself when its lease is over.
    #[arg(long, env = "DATAGALAX_AGENT_STOP_GRACE", default_value = "30s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub stop_grace: Duration,
    /// How long before what was escrowed is used up the user is told.
    #[arg(long, env = "DATAGALAX_AGENT_WARN_BEFORE", default_value = "5m", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub warn_before: Duration,
    /// How often what a lease used is noted on chain, beside once at its end. Each time costs a transaction's fee.
    #[arg(long, env = "DATAGALAX_AGENT_USAGE_EVERY", default_value = "15m", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub usage_every: Duration,
}

/// The agent on a GPU host: reads its real metrics, answers the committee that judges its container in the current epoch,
/// computes every beacon on all its devices, follows its leases, and keeps tenants away from failing hardware. It registers
/// nothing; register the container first, with the fingerprint that `--print-fingerprint` shows and the public key of --keypair
/// as its operator.
#[derive(Clone, Debug, Parser)]
#[command(name = "datagalax-agent", version)]
pub struct Settings {
    /// JSON-RPC addresses of Solana nodes, the preferred first; several by commas or by repeating the option. When one fails or
    /// falls behind, the next stands in.
    #[arg(long, env = "DATAGALAX_RPC", default_value = "http://127.0.0.1:8899", value_delimiter = ',', value_name = "URL")]
    pub rpc: Vec<String>,
    /// WebSocket addresses of the nodes, in the same order [default: each RPC's port plus one].
    #[arg(long, env = "DATAGALAX_WS", value_delimiter = ',', value_name = "URL")]
    pub ws: Vec<String>,
    /// The container's operator key, a Solana JSON keypair file of mode 0600. It pays the fees of rejecting and starting leases:
    /// keep a little SOL on it.
    #[arg(long, env = "DATAGALAX_AGENT_KEYPAIR", required_unless_present = "print_fingerprint", value_name = "FILE")]
    pub keypair: Option<PathBuf>,
    /// Address of the container's account.
    #[arg(long, env = "DATAGALAX_CONTAINER", required_unless_present = "print_fingerprint", value_name = "ADDRESS")]
    pub container: Option<Pubkey>,
    /// The provider's operator key, a Solana JSON keypair file of mode 0600. With it the agent closes the container to new
    /// leases when its hardware fails, and keeps endpoint and price in step by itself. Without it, it rejects the leases of a
    /// failing host one by one, and says which command to run.
    #[arg(long, env = "DATAGALAX_PROVIDER_KEYPAIR", value_name = "FILE")]
    pub provider_keypair: Option<PathBuf>,
    /// Folder for what must survive a restart: signed roots, faults, transactions on their way. Two agents cannot share one.
    #[arg(long, env = "DATAGALAX_AGENT_STATE_DIR", default_value = "datagalax-agent-state", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Where to listen. The endpoint registered on chain must lead here.
    #[arg(long, env = "DATAGALAX_AGENT_LISTEN", default_value = "127.0.0.1:7070", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Relay to dial out to, name:port, for a host that cannot be reached; several by commas or by repeating the option. The
    /// endpoint is then https://<label>.<name>, the label being the operator key in base32; the log says it at start.
    #[arg(long, env = "DATAGALAX_AGENT_RELAY", value_delimiter = ',', value_name = "NAME:PORT")]
    pub relay: Vec<RelayAddress>,
    /// The endpoint that the chain is to have: where others reach this agent [default: what the chain has].
    #[arg(long, env = "DATAGALAX_AGENT_ENDPOINT", value_parser = endpoint, value_name = "URL")]
    pub endpoint: Option<String>,
    /// The price per hour in ATH that the chain is to have [default: what the chain has].
    #[arg(long, env = "DATAGALAX_AGENT_PRICE_PER_HOUR", value_parser = parse_ath, value_name = "ATH")]
    pub price_per_hour: Option<u64>,
    /// What becomes of this container's leases.
    #[arg(long, env = "DATAGALAX_AGENT_LEASES", value_enum, default_value_t = Leases::Serve)]
    pub leases: Leases,
    /// How workloads are run.
    #[command(flatten)]
    pub workloads: WorkloadSettings,
    /// Do not try from here whether the registered endpoint leads here: for hosts that cannot reach their own public address.
    #[arg(long, env = "DATAGALAX_AGENT_NO_ENDPOINT_CHECK")]
    pub no_endpoint_check: bool,
    /// Temperature from which a card is too hot for tenants, degrees Celsius.
    #[arg(long, env = "DATAGALAX_AGENT_MAX_TEMPERATURE", default_value_t = 90, value_parser = value_parser!(u16).range(50..=120), value_name = "CELSIUS")]
    pub max_temperature: u16,
    /// How long a fault of the hardware must have been gone before tenants are let in again. Faults that only a reset mends
    /// last until the host was rebooted, however long that takes.
    #[arg(long, env = "DATAGALAX_AGENT_FAULT_QUIET", default_value = "30m", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub fault_quiet: Duration,
    /// Who lets tenants in again after a fault.
    #[arg(long, env = "DATAGALAX_AGENT_FAULT_RETURN", value_enum, default_value_t = Return::Automatic)]
    pub fault_return: Return,
    /// Forget the faults on record, once, at this start: the hardware was reset, mended or exchanged.
    #[arg(long)]
    pub clear_faults: bool,
    /// Most memory for the proofs of the epoch's beacons, MiB. The last beacon's is kept whatever it takes, if it fits at all.
    #[arg(long, env = "DATAGALAX_AGENT_PROOF_MEMORY", default_value_t = 8_192, value_parser = value_parser!(u64).range(64..=1_048_576), value_name = "MIB")]
    pub proof_memory: u64,
    /// Least price of a compute unit in micro-lamports; what others pay of late is paid above it.
    #[arg(long, env = "DATAGALAX_PRIORITY_FEE", default_value_t = 0, value_name = "MICRO-LAMPORTS")]
    pub priority_fee: u64,
    /// Most that is paid for a compute unit in micro-lamports, whatever others pay.
    #[arg(long, env = "DATAGALAX_MAX_PRIORITY_FEE", default_value_t = 1_000_000, value_name = "MICRO-LAMPORTS")]
    pub max_priority_fee: u64,
    /// Seconds to wait at start for the node and the registration before giving up; 0: one try.
    #[arg(long, env = "DATAGALAX_AGENT_START_TIMEOUT", default_value_t = 30, value_name = "SECONDS")]
    pub start_timeout: u64,
    /// Threads for challenges [default: all of this host's].
    #[arg(long, env = "DATAGALAX_AGENT_THREADS", value_name = "COUNT")]
    pub threads: Option<NonZeroUsize>,
    /// Do not look for GPUs: be of the class `cpu` whatever this host has.
    #[arg(long, env = "DATAGALAX_AGENT_NO_GPU")]
    pub no_gpu: bool,
    /// File with the machine id (32 hex digits) of a host without GPUs [default: /etc/machine-id].
    #[arg(long, env = "DATAGALAX_AGENT_MACHINE_ID", value_name = "FILE")]
    pub machine_id: Option<PathBuf>,
    /// Print this host's hardware fingerprint in hex and exit.
    #[arg(long)]
    pub print_fingerprint: bool,
    /// Those of every daemon.
    #[command(flatten)]
    pub shared: Shared,
}

impl datagalax_service::Settings for Settings {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// An endpoint as the chain takes it, and free of what a shell or a log would read otherwise.
fn endpoint(text: &str) -> Result<String, String> {
    let sound = |c: char| c.is_ascii_graphic() && !"'\"\\`$<>{}|^".contains(c);
    if text.len() > MAX_ENDPOINT {
        return Err(format!("{} bytes, the chain takes {MAX_ENDPOINT}", text.len()));
    }
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if rest.is_none_or(str::is_empty) || !text.chars().all(sound) {
        return Err("expected http://host:port or https://host:port, in ASCII".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_checked_before_they_reach_the_chain_or_a_shell() {
        assert_eq!(endpoint("https://a.example:7070").unwrap(), "https://a.example:7070");
        for bad in [
            "",
            "a.example",
            "ftp://a",
            "http://",
            "http://a'b",
            "http://a b",
            "http://ä",
            &format!("http://{}", "x".repeat(122)),
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
