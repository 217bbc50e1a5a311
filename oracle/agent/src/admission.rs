//! Who may ask this host anything: the committee of its block in the current epoch, each message once.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use datagalax_protocol::{Context, Envelope, Expected, Nonce, Payload, Refusal};
use solana_pubkey::Pubkey;
use thiserror::Error;
use tokio::time::Instant;

use crate::chain::{Chain, ChainError, Cluster, Committee};

/// Shortest time between two looks at the chain, whoever asks.
pub const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// Most messages of one key in one epoch; a checker sends some dozens. Bounds the record of nonces to
/// 5 keys x this x 16 bytes.
pub const MESSAGES_PER_EPOCH: usize = 4_096;

/// Why a message is not acted on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    /// The message itself is wrong.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The same message was seen before.
    #[error("this message was already answered: choose another nonce")]
    Replayed,
    /// The key asked too much in this epoch.
    #[error("more than {MESSAGES_PER_EPOCH} messages of this key in this epoch")]
    TooMany,
    /// The committee was looked up less than [`REFRESH_EVERY`] ago and the signer was not in it.
    #[error("key {0} is not in the committee as of a moment ago: ask again in a second")]
    NotYet(Pubkey),
    /// The committee cannot be looked up.
    #[error("the committee cannot be looked up: {0}")]
    Chain(#[from] ChainError),
}

/// Decides who may ask. One for the life of the process.
pub struct Admission {
    chain: Arc<dyn Chain>,
    cluster: Cluster,
    container: Pubkey,
    block: u32,
    state: Mutex<State>,
    /// Held while the chain is asked; the instant of the last time.
    refreshing: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct State {
    committee: Option<(Committee, Instant)>,
    replay: Replay,
}

/// The nonces seen in an epoch. Forgets everything when the epoch changes: messages of other epochs are refused anyway.
#[derive(Debug, Default)]
pub struct Replay {
    epoch: u32,
    seen: HashMap<Pubkey, HashSet<Nonce>>,
}

impl Replay {
    /// Records a nonce. Only keys of the committee may get here, which bounds the memory.
    ///
    /// # Errors
    /// Seen before, or too many of this key.
    pub fn record(&mut self, epoch: u32, signer: Pubkey, nonce: Nonce) -> Result<(), Denied> {
        if epoch != self.epoch {
            self.seen.clear();
            self.epoch = epoch;
        }
        let seen = self.seen.entry(signer).or_default();
        if seen.contains(&nonce) {
            return Err(Denied::Replayed);
        }
        if seen.len() >= MESSAGES_PER_EPOCH {
            return Err(Denied::TooMany);
        }
        seen.insert(nonce);
        Ok(())
    }
}

impl Admission {
    /// Admits the committee of this container's block.
    pub fn new(chain: Arc<dyn Chain>, cluster: Cluster, container: Pubkey, block: u32) -> Self {
        Self { chain, cluster, container, block, state: Mutex::default(), refreshing: tokio::sync::Mutex::new(None) }
    }

    /// What messages of this epoch are about.
    pub fn context(&self, epoch: u32) -> Context {
        Context { genesis_hash: self.cluster.genesis_hash, program: self.cluster.program, subject: self.container, epoch }
    }

    /// The committee last seen, `None` before the first look and after its epoch's end.
    pub fn committee(&self) -> Option<Committee> {
        let state = self.state();
        let (committee, until) = state.committee.as_ref()?;
        (Instant::now() < *until).then(|| committee.clone())
    }

    /// Checks a request and records it. `now` is this host's clock in unix seconds.
    ///
    /// # Errors
    /// Why it is not acted on.
    pub async fn admit<P: Payload>(&self, envelope: &Envelope, now: i64) -> Result<P, Denied> {
        let payload = match self.verify(envelope, now) {
            Err(Refusal::WrongEpoch { .. } | Refusal::WrongKey(_)) => {
                let looked = self.refresh().await?;
                match self.verify(envelope, now) {
                    Err(Refusal::WrongEpoch { .. } | Refusal::WrongKey(_)) if !looked => {
                        return Err(Denied::NotYet(envelope.signer()));
                    }
                    other => other?,
                }
            }
            other => other?,
        };
        self.state().replay.record(envelope.epoch, envelope.signer(), envelope.nonce)?;
        Ok(payload)
    }

    /// Looks the committee up, unless that was done a moment ago; says whether it was looked up.
    ///
    /// # Errors
    /// The chain does not answer.
    pub async fn refresh(&self) -> Result<bool, ChainError> {
        let mut last = self.refreshing.lock().await;
        if last.is_some_and(|last| last.elapsed() < REFRESH_EVERY) {
            return Ok(false);
        }
        // Counted from the asking, and also when it fails: a node in trouble is not asked more often.
        *last = Some(Instant::now());
        let committee = self.chain.committee(self.block).await?;
        let until = Instant::now() + Duration::from_secs(u64::from(committee.remaining));
        let mut state = self.state();
        let known = state.committee.as_ref().map(|(known, _)| known);
        if known.is_none_or(|known| known.epoch != committee.epoch || known.operators != committee.operators) {
            tracing::info!(epoch = committee.epoch, seats = committee.operators.len(), "committee");
        }
        state.committee = Some((committee, until));
        Ok(true)
    }

    fn verify<P: Payload>(&self, envelope: &Envelope, now: i64) -> Result<P, Refusal> {
        // Without a committee nobody has a say, in any epoch.
        let (epoch, operators) =
            self.committee().map_or((envelope.epoch, Vec::new()), |committee| (committee.epoch, committee.operators));
        envelope.verify(&Expected { context: self.context(epoch), nonce: None, signers: &operators, now })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(n: u32) -> Nonce {
        let mut nonce = Nonce::default();
        nonce[..4].copy_from_slice(&n.to_le_bytes());
        nonce
    }

    #[test]
    fn a_nonce_counts_once_an_epoch_and_key() {
        let (a, b) = (Pubkey::from([1; 32]), Pubkey::from([2; 32]));
        let mut replay = Replay::default();
        assert_eq!(replay.record(4, a, nonce(1)), Ok(()));
        assert_eq!(replay.record(4, a, nonce(1)), Err(Denied::Replayed));
        assert_eq!(replay.record(4, b, nonce(1)), Ok(()));
        assert_eq!(replay.record(5, a, nonce(1)), Ok(()));
    }

    #[test]
    fn the_record_is_bounded() {
        let key = Pubkey::from([1; 32]);
        let mut replay = Replay::default();
        for n in 0..MESSAGES_PER_EPOCH as u32 {
            replay.record(4, key, nonce(n)).unwrap();
        }
        assert_eq!(replay.record(4, key, nonce(u32::MAX)), Err(Denied::TooMany));
        assert_eq!(replay.record(4, key, nonce(1)), Err(Denied::Replayed));
        replay.record(5, key, nonce(1)).unwrap();
        assert_eq!(replay.seen[&key].len(), 1);
    }
}
