//! What this machine's GPUs can do.

mod bench;
mod verify;

use anyhow::Result;
use clap::Subcommand;

use crate::{context::Context, report::Report};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Measure this machine as a checker would, and say which class it fits and what that would earn
    Bench(bench::Bench),
    /// Challenge an agent as a checker does and show the score it would get; --keypair is the container's operator
    Verify(verify::Verify),
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Bench(bench) => bench.run(context).await,
            Self::Verify(verify) => verify.run(context).await,
        }
    }
}
