//! Settings: flags, then environment.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf};

use clap::Parser;
use solana_pubkey::Pubkey;

/// The agent on a GPU host: reads its real metrics and answers the probes and challenges of the committee that judges its
/// container in the current epoch. It holds no money and registers nothing; register the container first, with the
/// fingerprint that `--print-fingerprint` shows and the public key of --keypair as its operator.
#[derive(Clone, Debug, Parser)]
#[command(name = "datagalax-agent", version)]
pub struct Settings {
    /// JSON-RPC address of a Solana node.
    #[arg(long, env = "DATAGALAX_RPC", default_value = "http://127.0.0.1:8899")]
    pub rpc: String,
    /// WebSocket address of the node [default: the RPC's port plus one].
    #[arg(long, env = "DATAGALAX_WS")]
    pub ws: Option<String>,
    /// The container's operator key, a Solana JSON keypair file of mode 0600.
    #[arg(long, env = "DATAGALAX_AGENT_KEYPAIR", required_unless_present = "print_fingerprint")]
    pub keypair: Option<PathBuf>,
    /// Address of the container's account.
    #[arg(long, env = "DATAGALAX_CONTAINER", required_unless_present = "print_fingerprint")]
    pub container: Option<Pubkey>,
    /// Where to listen. The endpoint registered on chain must lead here.
    #[arg(long, env = "DATAGALAX_AGENT_LISTEN", default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,
    /// Seconds to wait at start for the node and the registration before giving up; 0: one try.
    #[arg(long, env = "DATAGALAX_AGENT_START_TIMEOUT", default_value_t = 30)]
    pub start_timeout: u64,
    /// Threads for challenges [default: all of this host's].
    #[arg(long, env = "DATAGALAX_AGENT_THREADS")]
    pub threads: Option<NonZeroUsize>,
    /// Do not look for GPUs: be of the class `cpu` whatever this host has.
    #[arg(long, env = "DATAGALAX_AGENT_NO_GPU")]
    pub no_gpu: bool,
    /// File with the machine id (32 hex digits) of a host without GPUs [default: /etc/machine-id].
    #[arg(long, env = "DATAGALAX_AGENT_MACHINE_ID")]
    pub machine_id: Option<PathBuf>,
    /// Log filter, such as `info` or `datagalax_agent=debug`.
    #[arg(long, env = "DATAGALAX_LOG", default_value = "info")]
    pub log: String,
    /// Print this host's hardware fingerprint in hex and exit.
    #[arg(long)]
    pub print_fingerprint: bool,
}
