//! One's leases.

mod inside;
mod list;
mod money;
mod show;

use anyhow::Result;
use clap::Subcommand;
use datagalax_client::Address;

pub use money::{end, refused_with};

use crate::{context::Context, report::Report};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Your leases, the newest first
    List(list::List),
    /// A lease by the chain's word, the checkers' and the host's, side by side
    Show {
        /// Lease's address
        lease: Address,
    },
    /// Output of its workload, raw on standard output; --keypair is its user
    Logs(inside::Logs),
    /// Run a command beside its workload; the exit status is the command's; --keypair is its user
    Exec(inside::Exec),
    /// Ports of its workload on this machine, until Ctrl-C; --keypair is its user
    Ports(inside::Ports),
    /// Copy a file in or out, paths in the lease relative to the workload's folder; --keypair is its user
    Cp(inside::Copy),
    /// Hand its workload over again, as after a stop between opening the lease and that; --keypair is its user
    HandOver(inside::HandOver),
    /// What a lease came to so far, epoch by epoch
    Bill {
        /// Lease's address
        lease: Address,
    },
    /// Lengthen a running lease, at its own price; --keypair is its user
    TopUp(money::TopUp),
    /// End a lease and show its bill; one that its host did not start in time is cancelled; --keypair is its user, or its
    /// container's operator, who pays for an early end
    Close(money::Close),
    /// Settle what checkers have judged, and show the bill; anybody may
    Settle(money::Settle),
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        context.network().await?;
        match self {
            Self::List(list) => list.run(context).await,
            Self::Show { lease } => show::run(context, &lease).await,
            Self::Logs(logs) => logs.run(context).await,
            Self::Exec(exec) => exec.run(context).await,
            Self::Ports(ports) => ports.run(context).await,
            Self::Cp(copy) => copy.run(context).await,
            Self::HandOver(hand_over) => hand_over.run(context).await,
            Self::Bill { lease } => money::bill(context, &lease).await,
            Self::TopUp(top_up) => top_up.run(context).await,
            Self::Close(close) => close.run(context).await,
            Self::Settle(settle) => settle.run(context).await,
        }
    }
}
