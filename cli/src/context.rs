//! What commands work with: the chain to read, and a key to sign with once one is needed.

use std::{env, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use datagalax::{constants::NONE, state::Network};
use datagalax_client::{
    Address, Pipeline, Reader, keys,
    pipeline::{DirectoryStore, Landed, Resolved, Settings},
    rpc::{self, Failover, HttpRpc},
};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;

use crate::{
    lease::kept::Kept,
    options::{Options, Output},
};

/// The chain, and the options.
pub struct Context {
    options: Options,
    rpc: Arc<Failover>,
    /// Reads the chain.
    pub reader: Reader,
}

impl Context {
    /// Connects when something is first read.
    ///
    /// # Errors
    /// Options that cannot be meant.
    pub fn new(options: Options) -> Result<Self> {
        let (least, most) = (options.priority_fee, options.max_priority_fee);
        ensure!(least <= most, "--priority-fee {least} is more than --max-priority-fee {most}: raise the latter");
        let rpc = rpc::connect(&options.url, &options.ws)?;
        Ok(Self { reader: Reader::new(rpc.clone()), rpc, options })
    }

    /// The key of `--keypair` and a pipeline that it pays for. What an earlier run left on its way is resolved first.
    pub async fn signer(&self) -> Result<Signing> {
        let keypair = Arc::new(self.load_key()?);
        let pending = match &self.options.pending {
            Some(path) => path.clone(),
            None => home()?.join(".local/state/datagalax/pending"),
        };
        // Of each payer its own folder: two people's commands do not wait for each other's transactions.
        let store = Arc::new(DirectoryStore::open(&pending.join(keypair.pubkey().to_string()))?);
        let (priority_fee, max_priority_fee) = (self.options.priority_fee, self.options.max_priority_fee);
        let settings = Settings { priority_fee, max_priority_fee, ..Settings::default() };
        let pipeline = Pipeline::new(self.rpc.clone(), keypair.clone(), store, settings);
        for (pending, outcome) in pipeline.resolve_pending().await? {
            let became = match outcome {
                Resolved::Landed => "landed".to_owned(),
                Resolved::Failed(e) => format!("failed ({e})"),
                Resolved::Expired => "did not land".to_owned(),
            };
            eprintln!("note: `{}` of an earlier run {became} ({})", pending.label, pending.signature());
        }
        Ok(Signing { keypair, pipeline })
    }

    /// Where the workloads of leases are kept.
    pub fn leases(&self) -> Result<Kept> {
        let folder = match &self.options.leases {
            Some(path) => path.clone(),
            None => home()?.join(".datagalax/leases"),
        };
        Ok(Kept::new(folder))
    }

    /// How to answer.
    pub const fn output(&self) -> Output {
        self.options.output
    }

    /// The file of `--keypair`.
    pub fn keypair_path(&self) -> Result<PathBuf> {
        match &self.options.keypair {
            Some(path) => Ok(path.clone()),
            None => Ok(home()?.join(".config/solana/id.json")),
        }
    }

    /// The key of `--keypair`.
    pub fn load_key(&self) -> Result<Keypair> {
        Ok(keys::load(&self.keypair_path()?)?)
    }

    /// The nodes, the preferred first: their RPC and WebSocket URLs.
    pub fn nodes(&self) -> Vec<(String, String)> {
        let ws = |(at, url): (usize, &String)| self.options.ws.get(at).cloned().unwrap_or_else(|| HttpRpc::default_ws(url));
        self.options.url.iter().enumerate().map(|node| (node.1.clone(), ws(node))).collect()
    }

    /// The network, which must have been initialised.
    pub async fn network(&self) -> Result<Box<Network>> {
        self.reader.network().await.map_err(|e| {
            if e.is_not_found() {
                let url = self.reader.rpc().url();
                anyhow::anyhow!("there is no Datagalax network at {url}: initialise one with `datagalax network init`, or name another node with --url")
            } else {
                e.into()
            }
        })
    }
}

fn home() -> Result<PathBuf> {
    let home = env::var_os("HOME").context("HOME is not set: name the files with --keypair, --pending and --leases")?;
    ensure!(!home.is_empty(), "HOME is empty: name the files with --keypair, --pending and --leases");
    Ok(home.into())
}

/// A key that signs and pays.
pub struct Signing {
    keypair: Arc<Keypair>,
    pipeline: Pipeline,
}

impl Signing {
    /// Its address.
    pub fn address(&self) -> Address {
        self.keypair.pubkey()
    }

    /// The key itself, for messages.
    pub const fn key(&self) -> &Arc<Keypair> {
        &self.keypair
    }

    /// Sends instructions as one transaction and waits for it.
    pub async fn send(&self, label: &str, instructions: &[Instruction]) -> Result<Landed> {
        self.send_with(label, instructions, &[]).await
    }

    /// [`Self::send`] with further signers.
    pub async fn send_with(&self, label: &str, instructions: &[Instruction], signers: &[&Keypair]) -> Result<Landed> {
        Ok(self.pipeline.send(label, instructions, signers).await?)
    }
}

/// An epoch's, block's or id's number, where the program keeps [`NONE`] for nothing.
pub fn some(number: u32) -> Option<u32> {
    (number != NONE).then_some(number)
}
