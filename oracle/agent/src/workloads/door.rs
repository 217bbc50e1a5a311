//! Who may hand a workload over, or open a session: the user of the container's lease, by the chain.
//!
//! An admission of its own, beside [`crate::admission`]: its messages count among themselves, and nobody else may send them, not
//! even the container's own operator.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::StatusCode;
use datagalax_client::clock::unix_now;
use datagalax_protocol::{
    Envelope, Expected, Payload, Refusal,
    lease::{SessionRequest, WorkloadRequest},
};
use solana_pubkey::Pubkey;
use tokio::time::Instant;

use super::{Runner, lock, tenancy::Tenancy};
use crate::{
    admission::{Denied, Replay},
    chain::{Chain, Lease},
    limit::{Bucket, Buckets, Rate},
    server::{Agent, Refused},
};

/// Shortest time between two looks at the chain, whoever asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What one wallet may ask: some sessions at once, then one in two seconds.
const PER_KEY: Rate = Rate { burst: 32, every: Duration::from_secs(2) };
/// What all wallets together may ask.
const IN_ALL: Rate = Rate::per_second(32, 4);
/// Most wallets that are told apart.
const KEYS: usize = 64;

/// A message about a lease.
pub(super) trait Addressed: Payload {
    /// The lease's account.
    fn lease(&self) -> Pubkey;
}

impl Addressed for WorkloadRequest {
    fn lease(&self) -> Pubkey {
        self.lease.into()
    }
}

impl Addressed for SessionRequest {
    fn lease(&self) -> Pubkey {
        self.lease.into()
    }
}

/// Decides who is a lease's user.
pub(super) struct Door {
    agent: Arc<Agent>,
    runner: Runner,
    chain: Arc<dyn Chain>,
    seen: Mutex<Seen>,
    /// Held while the chain is asked; when that was last done.
    looked: tokio::sync::Mutex<Option<Instant>>,
}

struct Seen {
    replay: Replay,
    keys: Buckets<Pubkey>,
    all: Bucket,
}

fn not_yet(text: impl Into<String>) -> Refused {
    Refused(StatusCode::SERVICE_UNAVAILABLE, text.into())
}

fn forbidden(text: impl Into<String>) -> Refused {
    Refused(StatusCode::FORBIDDEN, text.into())
}

impl Door {
    pub fn new(agent: Arc<Agent>, runner: Runner, chain: Arc<dyn Chain>) -> Self {
        let seen =
            Seen { replay: Replay::default(), keys: Buckets::new(PER_KEY, KEYS), all: Bucket::new(IN_ALL, Instant::now()) };
        Self { agent, runner, chain, seen: seen.into(), looked: tokio::sync::Mutex::default() }
    }

    /// Checks a message and records it. The lease that it is about, which is its signer's.
    pub async fn admit<P: Addressed>(&self, body: &[u8]) -> Result<(Envelope, P, Arc<Tenancy>), Refused> {
        let envelope =
            Envelope::decode(body).map_err(|malformed| Refused(StatusCode::BAD_REQUEST, malformed.to_string()))?;
        let (payload, tenancy): (P, _) = match self.check(&envelope) {
            Ok(admitted) => admitted,
            Err(Unknown::Refused(refused)) => return Err(refused),
            // The chain may have gone on since it was last looked at.
            Err(Unknown::Epoch | Unknown::Lease) => {
                let looked = self.look().await?;
                match self.check(&envelope) {
                    Ok(admitted) => admitted,
                    Err(Unknown::Refused(refused)) => return Err(refused),
                    Err(Unknown::Epoch) => {
                        return Err(not_yet("the epoch has just changed, or differs here: ask again in a second"));
                    }
                    Err(Unknown::Lease) if !looked => {
                        return Err(not_yet("this lease is not known here as of a moment ago: ask again in a second"));
                    }
                    Err(Unknown::Lease) => return Err(self.stranger()),
                }
            }
        };
        let (mut seen, now) = (lock(&self.seen), Instant::now());
        seen.keys.take(tenancy.user, now).map_err(Denied::TooFast)?;
        seen.all.take(now).map_err(Denied::Overloaded)?;
        seen.replay.record(envelope.epoch, tenancy.user, envelope.nonce)?;
        drop(seen);
        Ok((envelope, payload, tenancy))
    }

    /// Checks a message by what is known now.
    fn check<P: Addressed>(&self, envelope: &Envelope) -> Result<(P, Arc<Tenancy>), Unknown> {
        let admission = self.agent.admission().map_err(Unknown::Refused)?;
        let committee = admission.committee().ok_or(Unknown::Epoch)?;
        let signer = envelope.signer();
        let users = self.runner.users();
        if !users.contains(&signer) {
            return Err(Unknown::Lease);
        }
        let context = admission.context(committee.epoch);
        let expected = Expected { context, nonce: None, signers: &users, now: unix_now() };
        let payload: P = envelope.verify(&expected).map_err(|refusal| match refusal {
            Refusal::WrongEpoch { .. } => Unknown::Epoch,
            other => Unknown::Refused(Denied::from(other).into()),
        })?;
        let tenancy = self.runner.lease_of(&signer, &payload.lease()).map_err(|error| {
            tracing::error!(%error, "a lease cannot be served");
            Unknown::Refused(Refused(StatusCode::INTERNAL_SERVER_ERROR, "this host cannot keep workloads now".into()))
        })?;
        Ok((payload, tenancy.ok_or(Unknown::Lease)?))
    }

    fn stranger(&self) -> Refused {
        forbidden(match self.runner.current() {
            Some(Lease { address, user, .. }) => {
                format!(
                    "the container's lease is {address}, and only {user}, who opened it, may ask this: sign with that wallet"
                )
            }
            None => "the container has no lease now: it was not opened, or is over".to_owned(),
        })
    }

    /// Looks at the container and its epoch on chain, unless that was done a moment ago; whether it was done.
    async fn look(&self) -> Result<bool, Refused> {
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return Ok(false);
        }
        *looked = Some(Instant::now());
        let admission = self.agent.admission()?;
        let silent = |error: crate::chain::ChainError| not_yet(format!("the chain cannot be asked: {error}"));
        let registration = self.chain.registration(self.agent.container).await.map_err(silent)?;
        admission.refresh().await.map_err(silent)?;
        self.runner.set_current(registration.and_then(|registration| registration.lease));
        Ok(true)
    }
}

/// Why a message is not admitted by what is known now.
enum Unknown {
    /// It is of another epoch, or no epoch is known.
    Epoch,
    /// Its signer has no lease here, or not this one.
    Lease,
    /// For other reasons, which looking again does not change.
    Refused(Refused),
}
