//! Settings: flags, then environment.

use std::path::PathBuf;

use clap::{Parser, value_parser};

/// The daemon of a checker: in every epoch it measures the containers of the blocks it sits on at random instants, commits to
/// its report before the epoch ends and reveals it after. It may be stopped and started at any instant: what it committed to
/// is in --state-dir.
#[derive(Clone, Debug, Parser)]
#[command(name = "datagalax-checker", version)]
pub struct Settings {
    /// JSON-RPC address of a Solana node.
    #[arg(long, env = "DATAGALAX_RPC", default_value = "http://127.0.0.1:8899")]
    pub rpc: String,
    /// WebSocket address of the node [default: the RPC's port plus one].
    #[arg(long, env = "DATAGALAX_WS")]
    pub ws: Option<String>,
    /// The checker's operator key, a Solana JSON keypair file of mode 0600. It pays the fees of commits and reveals.
    #[arg(long, env = "DATAGALAX_CHECKER_KEYPAIR")]
    pub keypair: PathBuf,
    /// The checker's id on chain.
    #[arg(long, env = "DATAGALAX_CHECKER_ID")]
    pub checker_id: u32,
    /// Folder for reports, evidence and pending transactions. Losing it in mid-epoch loses that epoch's reports.
    #[arg(long, env = "DATAGALAX_CHECKER_STATE_DIR")]
    pub state_dir: PathBuf,
    /// Liveness probes of each container in an epoch, at random instants.
    #[arg(long, env = "DATAGALAX_CHECKER_PROBES", default_value_t = 8, value_parser = value_parser!(u16).range(1..=1_000))]
    pub probes: u16,
    /// Most questions in flight.
    #[arg(long, env = "DATAGALAX_CHECKER_CONCURRENCY", default_value_t = 256, value_parser = value_parser!(u16).range(1..=4_096))]
    pub concurrency: u16,
    /// Price of a compute unit in micro-lamports.
    #[arg(long, env = "DATAGALAX_PRIORITY_FEE", default_value_t = 0)]
    pub priority_fee: u64,
    /// Seconds to wait at start for the node and the registration before giving up; 0: one try.
    #[arg(long, env = "DATAGALAX_CHECKER_START_TIMEOUT", default_value_t = 30)]
    pub start_timeout: u64,
    /// File to describe each report in as JSON, with what was measured. It shows votes before they are revealed: keep it
    /// private.
    #[arg(long, env = "DATAGALAX_CHECKER_STATUS_JSON")]
    pub status_json: Option<PathBuf>,
    /// Log filter, such as `info` or `datagalax_checker=debug`.
    #[arg(long, env = "DATAGALAX_LOG", default_value = "info")]
    pub log: String,
}
