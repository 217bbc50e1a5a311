//! Blockhashes: kept fresh in the background, so that no send waits for one; and which signatures were made with them.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use solana_hash::Hash;
use solana_signature::Signature;
use tokio::time::{Instant, sleep};

use crate::rpc::{Blockhash, Rpc, RpcError};

/// Blockhashes whose signatures are remembered: one every few seconds, over more than the 150 blocks that one is good for.
const REMEMBERED: usize = 64;

/// The newest blockhash.
pub(super) struct Blockhashes {
    rpc: Arc<dyn Rpc>,
    latest: Arc<Mutex<Option<(Blockhash, Instant)>>>,
    every: Duration,
    watching: OnceLock<Watcher>,
}

/// Ends with its pipeline.
struct Watcher(tokio::task::JoinHandle<()>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Blockhashes {
    pub fn new(rpc: Arc<dyn Rpc>, every: Duration) -> Self {
        Self { rpc, latest: Arc::default(), every, watching: OnceLock::new() }
    }

    /// The newest known, which is asked for only when the watcher could not get one for a while.
    pub async fn latest(&self) -> Result<Blockhash, RpcError> {
        self.watching.get_or_init(|| Watcher(tokio::spawn(watch(self.rpc.clone(), self.latest.clone(), self.every))));
        let known = *self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some((blockhash, at)) if at.elapsed() < self.every * 3 => Ok(blockhash),
            _ => fetch(self.rpc.as_ref(), &self.latest, self.every).await,
        }
    }

    /// Another than this one: the same would give the same signature.
    pub async fn other_than(&self, last: &Blockhash, patience: Duration) -> Result<Blockhash, RpcError> {
        let until = Instant::now() + patience;
        let mut blockhash = self.latest().await?;
        while blockhash.hash == last.hash && Instant::now() < until {
            sleep(Duration::from_millis(400)).await;
            blockhash = fetch(self.rpc.as_ref(), &self.latest, self.every).await?;
        }
        Ok(blockhash)
    }
}

async fn watch(rpc: Arc<dyn Rpc>, latest: Arc<Mutex<Option<(Blockhash, Instant)>>>, every: Duration) {
    loop {
        sleep(every).await;
        if let Err(error) = fetch(rpc.as_ref(), &latest, every).await {
            tracing::debug!(%error, "no fresh blockhash");
        }
    }
}

async fn fetch(rpc: &dyn Rpc, latest: &Mutex<Option<(Blockhash, Instant)>>, every: Duration) -> Result<Blockhash, RpcError> {
    let fetched = rpc.latest_blockhash().await?;
    let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
    // Of two answers that cross, the one that is good for longer stays.
    match &*latest {
        Some((known, at)) if known.last_valid_block_height > fetched.last_valid_block_height && at.elapsed() < every => {
            Ok(*known)
        }
        _ => {
            *latest = Some((fetched, Instant::now()));
            Ok(fetched)
        }
    }
}

/// Signatures made with recent blockhashes. The same action sent twice with one blockhash would have one signature, and the
/// second be taken for the first.
#[derive(Default)]
pub(super) struct Signed(Mutex<VecDeque<(Hash, HashSet<Signature>)>>);

impl Signed {
    /// Whether this signature is new; it is not from now on.
    pub fn is_new(&self, blockhash: Hash, signature: Signature) -> bool {
        let mut signed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, signatures)) = signed.iter_mut().find(|(hash, _)| *hash == blockhash) {
            return signatures.insert(signature);
        }
        if signed.len() >= REMEMBERED {
            signed.pop_front();
        }
        signed.push_back((blockhash, HashSet::from([signature])));
        true
    }
}
