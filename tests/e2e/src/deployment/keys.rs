//! The keys of a run, each in a file of its own.

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use solana_keypair::Keypair;
use solana_signer::Signer;

use crate::{settings::Settings, workdir::Workdir};

/// A key and the file it is in.
pub struct KeyFile {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub key: Arc<Keypair>,
}

/// Everybody of a run.
pub struct Keys {
    pub authority: Arc<Keypair>,
    pub owner: Arc<Keypair>,
    pub operator: Arc<Keypair>,
    pub payout: Arc<Keypair>,
    pub keeper: KeyFile,
    /// Operators of the containers.
    pub hosts: Vec<KeyFile>,
    pub checkers: Vec<KeyFile>,
    pub users: Vec<KeyFile>,
    pub more: Vec<Arc<Keypair>>,
}

impl Keys {
    /// Creates them in the run's folder.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn create(workdir: &Workdir, settings: &Settings) -> Result<Self> {
        let new = |name: &str| workdir.new_key(name).map(|(path, key)| KeyFile { path, key: Arc::new(key) });
        let numbered = |what: &str, count: u32| (0..count).map(|i| new(&format!("{what}-{i}"))).collect::<Result<Vec<_>>>();
        let mut hosts = vec![new("container-operator")?];
        hosts.extend((1..settings.hosts).map(|i| new(&format!("container-operator-{i}"))).collect::<Result<Vec<_>>>()?);
        Ok(Self {
            authority: new("authority")?.key,
            owner: new("provider-owner")?.key,
            operator: new("provider-operator")?.key,
            payout: new("payout")?.key,
            keeper: new("keeper")?,
            hosts,
            checkers: numbered("checker", settings.checkers)?,
            users: numbered("user", settings.users)?,
            more: settings.more_keys.iter().map(|name| Ok(new(name)?.key)).collect::<Result<_>>()?,
        })
    }

    /// Everybody who pays fees, with SOL to start with, as the local network takes it.
    pub fn funded(&self) -> Vec<String> {
        let files = [std::slice::from_ref(&self.keeper), &self.hosts, &self.checkers, &self.users];
        let mut all: Vec<&Arc<Keypair>> = files.into_iter().flatten().map(|file| &file.key).collect();
        all.extend([&self.authority, &self.owner, &self.operator]);
        all.extend(&self.more);
        all.iter().map(|key| format!("{}=100", key.pubkey())).collect()
    }
}
