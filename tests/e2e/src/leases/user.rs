//! Somebody with a wallet who rents, through the `datagalax` command as anybody would.

use std::{process::Output, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use datagalax::state::Lease;
use datagalax_client::{
    Address, Pipeline, Reader, addresses, instructions,
    instructions::OpenLeaseArgs,
    keys,
    pipeline::{self, MemoryStore},
    token,
};
use serde_json::Value;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tokio::process::Child;

use crate::{Deployment, command::CommandLine};

/// A user of the run.
pub struct User {
    /// Name of the key.
    name: String,
    key: Arc<Keypair>,
    line: CommandLine,
    reader: Reader,
}

/// Seconds asked for: the least there is.
pub const SECONDS: u32 = 600;

impl User {
    /// The user whose key has this name.
    ///
    /// # Errors
    /// There is no such key.
    pub fn new(net: &Deployment, name: &str) -> Result<Self> {
        let line = net.command_line();
        let key = Arc::new(keys::load(&line.key(name))?);
        Ok(Self { name: name.to_owned(), key, line, reader: net.reader.clone() })
    }

    /// The wallet.
    pub fn address(&self) -> Address {
        self.key.pubkey()
    }

    /// Base units of $ATH in the wallet.
    ///
    /// # Errors
    /// The chain cannot be read.
    pub async fn balance(&self) -> Result<u64> {
        let wallet = token::home(&self.address(), &*self.reader.network().await?);
        Ok(self.reader.token_balance(&wallet).await?.unwrap_or(0))
    }

    /// The JSON that the command prints.
    ///
    /// # Errors
    /// The command failed.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        self.line.json(&self.name, arguments).await
    }

    /// What a command that must be refused says.
    ///
    /// # Errors
    /// It went through.
    pub async fn refused(&self, arguments: &[&str]) -> Result<String> {
        match self.json(arguments).await {
            Ok(said) => bail!("`datagalax {}` of {} went through: {said}", arguments.join(" "), self.name),
            Err(e) => Ok(format!("{e:#}")),
        }
    }

    /// What the command does and prints for people.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn text(&self, arguments: &[&str]) -> Result<Output> {
        self.line.text(&self.name, arguments).await
    }

    /// Starts the command, to be read while it runs.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Result<Child> {
        self.line.start(&self.name, arguments)
    }

    /// Rents containers for the least time, in one transaction, to run a shell script each. Gives the leases in their order.
    ///
    /// # Errors
    /// The command failed, or opened other leases than these.
    pub async fn rent(&self, containers: &[Address], script: &str) -> Result<Vec<Address>> {
        let length = format!("{SECONDS}s");
        let named: Vec<String> = containers.iter().map(ToString::to_string).collect();
        let mut arguments = vec!["rent", "--for", &length, "--yes"];
        for container in &named {
            arguments.extend(["--container", container]);
        }
        arguments.extend(["--", "sh", "-c", script]);
        let said = self.json(&arguments).await?;
        let leases = said["leases"].as_array().with_context(|| format!("no leases: {said}"))?;
        ensure!(leases.len() == containers.len(), "{} leases of {} containers: {said}", leases.len(), containers.len());
        let mut found = Vec::new();
        for container in &named {
            let lease = leases.iter().find(|lease| lease["container"] == container.as_str());
            let lease = lease.and_then(|lease| lease["lease"].as_str()).with_context(|| format!("{container}: {said}"))?;
            found.push(lease.parse()?);
        }
        Ok(found)
    }

    /// Opens leases by hand, all in one transaction: of each a container, and the most it may ask for an hour.
    ///
    /// # Errors
    /// The transaction was refused.
    pub async fn open(&self, wanted: &[(Address, u64)], first_nonce: u64) -> Result<Vec<Address>> {
        let network = self.reader.network().await?;
        let (mut leases, mut all) = (Vec::new(), Vec::new());
        for (nonce, (address, max_price_per_hour)) in (first_nonce..).zip(wanted) {
            let container = self.reader.container(address).await?;
            let args = OpenLeaseArgs {
                nonce,
                seconds: SECONDS,
                max_price_per_hour: *max_price_per_hour,
                workload_hash: [0; 32],
                match_expires: 0,
            };
            all.push(instructions::open_lease(&self.address(), &network, address, &container, None, args));
            leases.push(addresses::lease(&self.address(), nonce));
        }
        let store = Arc::new(MemoryStore::default());
        let pipeline = Pipeline::new(self.reader.rpc().clone(), self.key.clone(), store, pipeline::Settings::default());
        pipeline.send("open leases", &all, &[]).await?;
        Ok(leases)
    }

    /// A lease, as the chain has it.
    ///
    /// # Errors
    /// There is none, or the chain cannot be read.
    pub async fn lease(&self, address: &Address) -> Result<Box<Lease>> {
        Ok(self.reader.get::<Lease>(address).await?)
    }
}
