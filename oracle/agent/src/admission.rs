//! Who may ask this host what, how often, and each message once.
//!
//! | who | may ask | known from |
//! |---|---|---|
//! | the epoch's committee of the container's block | everything | the block's seats |
//! | the user of the container's open or running lease | metrics and inspections | the container's lease |
//! | the container's own operator key | everything (self-checks, `datagalax gpu verify`) | the settings |
//!
//! Nothing is measured or computed before the signature was checked. Everybody else is refused by name.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use datagalax_protocol::{Context, Domain, Envelope, Expected, Nonce, Payload, Refusal};
use solana_pubkey::Pubkey;
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    chain::{Chain, ChainError, Cluster, Committee, Registration},
    limit::{Bucket, Buckets, Rate},
};

/// Shortest time between two looks at the chain, whoever asks.
pub const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// Most messages of one key in one epoch; a checker sends some dozens. Bounds the record of nonces to
/// [`KEYS_PER_EPOCH`] x this x 16 bytes.
pub const MESSAGES_PER_EPOCH: usize = 4_096;
/// Most keys that are answered in one epoch: five seats, at most two keys each, and the users of leases.
pub const KEYS_PER_EPOCH: usize = 64;
/// What one key may ask: some questions at once (a checker that probes and waits for a beacon), then four a second.
pub const PER_KEY: Rate = Rate::per_second(32, 4);
/// What all keys together may ask.
pub const IN_ALL: Rate = Rate::per_second(128, 20);

/// What a key is to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A seat of the epoch's committee.
    Committee,
    /// The user of the container's lease.
    Lessee,
    /// The container's own operator.
    Operator,
}

impl Role {
    /// Whether it may ask for this.
    pub const fn may(self, domain: Domain) -> bool {
        match self {
            Self::Committee | Self::Operator => true,
            Self::Lessee => matches!(domain, Domain::LivenessRequest | Domain::InspectionRequest),
        }
    }
}

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
    /// Too many keys asked in this epoch.
    #[error("more than {KEYS_PER_EPOCH} keys asked in this epoch: ask again in the next one")]
    TooManyKeys,
    /// The key asks too fast.
    #[error("this key asks too fast: ask again in {} ms", .0.as_millis())]
    TooFast(Duration),
    /// All keys together ask too fast.
    #[error("this host is asked too much: ask again in {} ms", .0.as_millis())]
    Overloaded(Duration),
    /// The key is known, and may not ask this.
    #[error("the user of a lease may ask for metrics and inspections only")]
    NotForLessees,
    /// The committee was looked up less than [`REFRESH_EVERY`] ago and the signer was not in it.
    #[error("key {0} is neither in the committee nor the lease's user as of a moment ago: ask again in a second")]
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
    operator: Pubkey,
    state: Mutex<State>,
    /// Held while the chain is asked; the instant of the last time.
    refreshing: tokio::sync::Mutex<Option<Instant>>,
}

struct State {
    registration: Registration,
    committee: Option<(Committee, Instant)>,
    replay: Replay,
    keys: Buckets<Pubkey>,
    all: Bucket,
}

/// The nonces seen in an epoch. Forgets everything when the epoch changes: messages of other epochs are refused anyway.
#[derive(Debug, Default)]
pub struct Replay {
    epoch: u32,
    seen: HashMap<Pubkey, HashSet<Nonce>>,
}

impl Replay {
    /// Records a nonce.
    ///
    /// # Errors
    /// Seen before, or too many of this key, or too many keys.
    pub fn record(&mut self, epoch: u32, signer: Pubkey, nonce: Nonce) -> Result<(), Denied> {
        if epoch != self.epoch {
            self.seen.clear();
            self.epoch = epoch;
        }
        if self.seen.len() >= KEYS_PER_EPOCH && !self.seen.contains_key(&signer) {
            return Err(Denied::TooManyKeys);
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
    /// Admits whom a container's registration and block name.
    pub fn new(chain: Arc<dyn Chain>, cluster: Cluster, container: Pubkey, registration: Registration) -> Self {
        let state = State {
            registration: registration.clone(),
            committee: None,
            replay: Replay::default(),
            keys: Buckets::new(PER_KEY, KEYS_PER_EPOCH),
            all: Bucket::new(IN_ALL, Instant::now()),
        };
        let operator = registration.operator;
        Self { chain, cluster, container, operator, state: state.into(), refreshing: tokio::sync::Mutex::new(None) }
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

    /// The registration last seen.
    pub fn registration(&self) -> Registration {
        self.state().registration.clone()
    }

    /// Takes note of what the container's account says now.
    pub fn set_registration(&self, registration: Registration) {
        self.state().registration = registration;
    }

    /// What a key is to this host, as far as is known now.
    pub fn role(&self, key: &Pubkey) -> Option<Role> {
        if *key == self.operator {
            return Some(Role::Operator);
        }
        if self.committee().is_some_and(|committee| committee.operators.contains(key)) {
            return Some(Role::Committee);
        }
        let lease = self.state().registration.lease;
        lease.filter(|lease| lease.user == *key).map(|_| Role::Lessee)
    }

    /// Checks a request and records it; says who asked. `now` is this host's clock in unix seconds.
    ///
    /// # Errors
    /// Why it is not acted on.
    pub async fn admit<P: Payload>(&self, envelope: &Envelope, now: i64) -> Result<(P, Role), Denied> {
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
        let signer = envelope.signer();
        let role = self.role(&signer).ok_or(Refusal::WrongKey(signer))?;
        if !role.may(P::DOMAIN) {
            return Err(Denied::NotForLessees);
        }
        let (mut state, now) = (self.state(), Instant::now());
        state.keys.take(signer, now).map_err(Denied::TooFast)?;
        state.all.take(now).map_err(Denied::Overloaded)?;
        state.replay.record(envelope.epoch, signer, envelope.nonce)?;
        Ok((payload, role))
    }

    /// Looks the committee up, unless that was done a moment ago; says whether it was looked up.
    ///
    /// # Errors
    /// The chain does not answer.
    pub async fn refresh(&self) -> Result<bool, ChainError> {
        let last = self.refreshing.lock().await;
        if last.is_some_and(|last| last.elapsed() < REFRESH_EVERY) {
            return Ok(false);
        }
        self.look(last).await.map(|()| true)
    }

    /// Looks the committee up, however lately that was done: for what the chain says, not for what strangers ask.
    ///
    /// # Errors
    /// The chain does not answer.
    pub async fn refresh_now(&self) -> Result<(), ChainError> {
        self.look(self.refreshing.lock().await).await
    }

    async fn look(&self, mut last: tokio::sync::MutexGuard<'_, Option<Instant>>) -> Result<(), ChainError> {
        // Counted from the asking, and also when it fails: a node in trouble is not asked more often.
        *last = Some(Instant::now());
        let committee = self.chain.committee(&self.registration()).await?;
        let until = Instant::now() + Duration::from_secs(u64::from(committee.remaining));
        let mut state = self.state();
        let known = state.committee.as_ref().map(|(known, _)| known);
        if known.is_none_or(|known| known.epoch != committee.epoch || known.operators != committee.operators) {
            tracing::info!(epoch = committee.epoch, seats = committee.operators.len(), "committee");
        }
        state.committee = Some((committee, until));
        Ok(())
    }

    fn verify<P: Payload>(&self, envelope: &Envelope, now: i64) -> Result<P, Refusal> {
        // Without a committee nobody has a say, in any epoch.
        let (epoch, mut signers) =
            self.committee().map_or((envelope.epoch, Vec::new()), |committee| (committee.epoch, committee.operators));
        // The operator and the user have a say in the epoch that the chain is in, seated or not.
        let signer = envelope.signer();
        if self.committee().is_some() && self.role(&signer).is_some() {
            signers.push(signer);
        }
        envelope.verify(&Expected { context: self.context(epoch), nonce: None, signers: &signers, now })
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
        let key = |n: u8| Pubkey::from([n; 32]);
        let mut replay = Replay::default();
        for n in 0..MESSAGES_PER_EPOCH as u32 {
            replay.record(4, key(1), nonce(n)).unwrap();
        }
        assert_eq!(replay.record(4, key(1), nonce(u32::MAX)), Err(Denied::TooMany));
        assert_eq!(replay.record(4, key(1), nonce(1)), Err(Denied::Replayed));
        for n in 2..=KEYS_PER_EPOCH as u8 {
            replay.record(4, key(n), nonce(0)).unwrap();
        }
        assert_eq!(replay.record(4, key(99), nonce(0)), Err(Denied::TooManyKeys));
        assert_eq!(replay.record(4, key(2), nonce(1)), Ok(()), "those that are known go on");
        replay.record(5, key(99), nonce(1)).unwrap();
        assert_eq!(replay.seen.len(), 1);
    }

    #[test]
    fn users_see_metrics_and_nothing_else() {
        let asked = [Domain::LivenessRequest, Domain::InspectionRequest, Domain::BeaconRequest, Domain::SampleRequest];
        assert_eq!(asked.map(|domain| Role::Lessee.may(domain)), [true, true, false, false]);
        assert!(asked.iter().all(|domain| Role::Committee.may(*domain) && Role::Operator.may(*domain)));
    }
}
