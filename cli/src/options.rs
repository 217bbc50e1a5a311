//! Options that every command takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where, as whom, and how to answer.
#[derive(Args)]
pub struct Options {
    /// JSON-RPC URL of a Solana node; several, separated by commas, stand in for each other, the preferred first
    #[arg(
        long,
        visible_alias = "rpc",
        global = true,
        env = "DATAGALAX_RPC",
        default_value = "http://127.0.0.1:8899",
        value_delimiter = ',',
        value_name = "URL"
    )]
    pub url: Vec<String>,
    /// WebSocket URL of each node, in the same order; without it, the RPC's port plus one
    #[arg(long, global = true, env = "DATAGALAX_WS", value_delimiter = ',', value_name = "URL")]
    pub ws: Vec<String>,
    /// Solana JSON keypair file to sign and pay with; without it, ~/.config/solana/id.json
    #[arg(long, global = true, env = "DATAGALAX_KEYPAIR", value_name = "FILE")]
    pub keypair: Option<PathBuf>,
    /// Folder for transactions on their way; without it, ~/.local/state/datagalax/pending
    #[arg(long, global = true, env = "DATAGALAX_PENDING", value_name = "DIR")]
    pub pending: Option<PathBuf>,
    /// Folder for the workloads of your leases, which hold secrets; without it, ~/.datagalax/leases
    #[arg(long, global = true, env = "DATAGALAX_LEASES", value_name = "DIR")]
    pub leases: Option<PathBuf>,
    /// Least price of a compute unit in micro-lamports; what others pay of late is paid above it
    #[arg(long, global = true, env = "DATAGALAX_PRIORITY_FEE", default_value_t = 0, value_name = "MICRO-LAMPORTS")]
    pub priority_fee: u64,
    /// Most that is paid for a compute unit in micro-lamports, whatever others pay
    #[arg(
        long,
        global = true,
        env = "DATAGALAX_MAX_PRIORITY_FEE",
        default_value_t = 1_000_000,
        value_name = "MICRO-LAMPORTS"
    )]
    pub max_priority_fee: u64,
    /// Tables for people or JSON for programs (amounts as strings of base units)
    #[arg(long, global = true, value_enum, default_value_t = Output::Table, value_name = "FORM")]
    pub output: Output,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables.
    Table,
    /// One JSON object.
    Json,
}
