//! `datagalax doctor`: what stands in the way of running here, and what to do about it.
//!
//! Checks are pure functions from readings to findings; what gathers the readings waits five seconds for each at most, for all
//! at the same time. A reading that could not be taken is a finding of its own and makes those that need it skipped.

mod agent;
mod checker;
mod host;
mod keeper;
mod node;

use std::{net::ToSocketAddrs, path::PathBuf};

use anyhow::Result;
use clap::Args;
use datagalax::state::Network;
use datagalax_client::Address;
use tokio::{join, net::TcpStream, task::spawn_blocking};

use crate::{
    context::Context,
    finding::{Finding, Reading, bounded},
    progress::Steps,
    report::Report,
};

/// What to look at.
#[derive(Args)]
pub struct Doctor {
    /// What an agent needs as well: its container, cards, endpoint and stake; --keypair is the container's operator
    #[arg(long)]
    agent: bool,
    /// What a checker needs as well: its tickets, record, seats and state; --keypair is its operator
    #[arg(long)]
    checker: bool,
    /// What a keeper needs as well; --keypair is its wallet
    #[arg(long)]
    keeper: bool,
    /// Days that the balance must last for
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3_650), value_name = "DAYS")]
    days: u32,
    /// Folder where the daemon keeps its state; without it, the present one
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// With --agent: the container's address; without it, the one whose operator is --keypair
    #[arg(long, requires = "agent", value_name = "ADDRESS")]
    container: Option<Address>,
    /// With --agent: do not look for GPUs, as the agent with its --no-gpu
    #[arg(long, requires = "agent")]
    no_gpu: bool,
    /// With --agent: file of the machine id of a host without GPUs
    #[arg(long, requires = "agent", value_name = "FILE")]
    machine_id: Option<PathBuf>,
    /// With --agent: URL of a checker's evidence server that shall try to reach the agent from outside
    #[arg(long, requires = "agent", value_name = "URL")]
    ask: Option<String>,
    /// With --checker: its id; without it, the one whose operator is --keypair
    #[arg(long, requires = "checker", value_name = "ID")]
    checker_id: Option<u32>,
    /// With --checker: where its evidence server listens, as others reach it
    #[arg(long, requires = "checker", value_name = "HOST:PORT")]
    evidence: Option<String>,
}

impl Doctor {
    /// Looks at everything at once.
    ///
    /// # Errors
    /// Never for what it finds, which is in the report.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let steps = Steps::new();
        steps.step("looking");
        let (nodes, chain, host) = join!(node::endpoints(context), node::chain(context), host::gather(&self, context));
        let mut findings = node::check(&nodes, &chain);
        findings.extend(host::check(&host, self.checker));
        match on_chain(context, &chain, &host) {
            Ok(on) => {
                let (agent, checker, keeper) = join!(
                    async { if self.agent { agent::look(&self, &on).await } else { Vec::new() } },
                    async { if self.checker { checker::look(&self, &on).await } else { Vec::new() } },
                    async { if self.keeper { keeper::look(&self, &on).await } else { Vec::new() } },
                );
                findings.extend([agent, checker, keeper].into_iter().flatten());
            }
            Err((why, advice)) => {
                let roles = [(self.agent, "agent"), (self.checker, "checker"), (self.keeper, "keeper")];
                let wanted = roles.into_iter().filter(|(wanted, _)| *wanted);
                findings.extend(wanted.map(|(_, id)| Finding::skipped(id, why, advice)));
            }
        }
        if !(self.agent || self.checker || self.keeper) {
            findings.push(host::balance(&host, 0, self.days));
        }
        drop(steps);
        Ok(Report::new().checks(findings))
    }
}

/// What the checks of a role go by.
struct OnChain<'a> {
    context: &'a Context,
    network: &'a Network,
    /// Seconds of the chain's clock.
    now: i64,
    /// The key of `--keypair`.
    key: &'a Address,
    host: &'a host::Host,
}

/// What a role needs, or why it cannot be looked at and what to do about that.
fn on_chain<'a>(
    context: &'a Context,
    chain: &'a node::Chain,
    host: &'a host::Host,
) -> Result<OnChain<'a>, (&'static str, &'static str)> {
    let mend = "mend the node's and the program's checks first";
    let network = chain.network.as_ref().map_err(|_| ("the network cannot be read", mend))?;
    let now = chain.clock.as_ref().map_err(|_| ("the chain's clock cannot be read", mend))?.chain.unix_timestamp;
    let key = host.key.as_ref().map_err(|_| ("the key cannot be read", "mend key.readable first"))?;
    Ok(OnChain { context, network, now, key, host })
}

/// Opens a connection to `host:port` and closes it.
async fn connect(address: &str) -> Reading<()> {
    let name = address.to_owned();
    bounded(async move {
        let found = spawn_blocking(move || name.to_socket_addrs().map(Iterator::collect::<Vec<_>>)).await;
        let found = found.map_err(std::io::Error::other)??;
        TcpStream::connect(&found[..]).await.map(drop)
    })
    .await
}
