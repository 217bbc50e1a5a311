//! A lease on this host: what is known of it, and what of that is on disk.

use std::sync::{Arc, Mutex, MutexGuard};

use datagalax_client::clock::unix_now;
use datagalax_protocol::{
    Digest,
    lease::{End, Notice, State, Status, Usage, Workload},
};
use datagalax_runtime::Id;
use serde::{Deserialize, Serialize};
use solana_pubkey::Pubkey;
use tokio::{
    sync::{Semaphore, watch},
    task::{self, JoinHandle},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::usage::Meter;
use crate::{
    chain::{Lease, Phase},
    daemon::lock,
    leases::Declined,
    state::{StateDir, StateError},
};

/// Most streams and copies of a lease at a time.
pub const STREAMS: usize = 32;
/// Most notices that are kept, the newest.
const NOTICES: usize = 32;
/// What records of leases are called.
pub(super) const PREFIX: &str = "lease-";

/// A lease as it is kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Borsh of the workload in hex; secrets included, so the file is for this process's user alone.
    pub workload: Option<String>,
    /// It came up once.
    pub began: bool,
    /// How it ended by itself.
    pub end: Option<End>,
    pub meter: Meter,
    /// What was last said of its usage.
    pub usage: Usage,
    pub notices: Vec<Notice>,
    /// The end of the escrow that the user was warned of.
    pub warned: i64,
}

/// What is known of a lease now.
pub(crate) struct Facts {
    pub record: Record,
    pub state: State,
    pub declined: Option<Declined>,
    /// Started on chain.
    pub paid: bool,
    /// When it started, unix seconds of the chain's clock.
    pub started: i64,
    /// When the escrow is used up, unix seconds of the chain's clock.
    pub ends: i64,
    /// How often its output began anew since this process began.
    pub anew: u64,
    /// Notices of this lease ever, those included that are not kept.
    pub told: u64,
    /// Since when the lease is over.
    pub past: Option<Instant>,
}

impl Facts {
    /// Says anew what was used until `now` by the chain's clock. No figure falls, whatever the clocks do.
    pub(super) fn reckon(&mut self, units: u8, now: i64) {
        let (before, now) = (self.record.usage, self.record.meter.usage(units, self.started, now.min(self.ends)));
        self.record.usage = Usage {
            gpu_seconds: now.gpu_seconds.max(before.gpu_seconds),
            joules: now.joules.max(before.joules),
            bytes: now.bytes.max(before.bytes),
        };
    }
}

/// A lease on this host.
pub(crate) struct Tenancy {
    pub lease: Pubkey,
    pub user: Pubkey,
    /// Hash of the workload that the lease is for.
    pub hash: Digest,
    pub id: Id,
    /// Places for streams and copies.
    pub streams: Arc<Semaphore>,
    /// Cancelled once the lease is over, or this agent ends.
    pub over: CancellationToken,
    facts: Mutex<Facts>,
    changed: watch::Sender<()>,
    /// What brings the workload up and watches it.
    pub life: Mutex<Option<JoinHandle<()>>>,
    /// Held while the workload is taken, and while the record is written.
    pub taking: tokio::sync::Mutex<()>,
    writing: Arc<tokio::sync::Mutex<()>>,
}

pub(super) fn record_name(lease: &Pubkey) -> String {
    format!("{PREFIX}{lease}")
}

impl Tenancy {
    pub(super) fn new(lease: &Lease, record: Record, over: CancellationToken) -> Self {
        let state = match (&record.end, &record.workload) {
            (Some(end), _) => State::Ended { end: end.clone() },
            (None, Some(_)) => State::Starting { step: "looking whether it runs".into() },
            (None, None) => State::Awaited,
        };
        let told = record.notices.len() as u64;
        let facts = Facts {
            record,
            state,
            declined: None,
            paid: lease.phase == Phase::Started,
            started: lease.started,
            ends: lease.end,
            anew: 0,
            told,
            past: None,
        };
        Self {
            lease: lease.address,
            user: lease.user,
            hash: lease.workload_hash,
            // Base58 is letters and digits, 44 at most.
            id: lease.address.to_string().parse().expect("an address is an id"),
            streams: Arc::new(Semaphore::new(STREAMS)),
            over,
            facts: facts.into(),
            changed: watch::Sender::new(()),
            life: Mutex::default(),
            taking: tokio::sync::Mutex::default(),
            writing: Arc::default(),
        }
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        lock(&self.facts)
    }

    /// Wakes at every change, the first time at the next one.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Changes the facts and wakes who waits for that.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Facts) -> T) -> T {
        let changed = change(&mut self.facts());
        self.changed.send_replace(());
        changed
    }

    /// What is being done about it.
    pub(crate) fn step(&self, step: impl Into<String>) {
        self.change(|facts| facts.state = State::Starting { step: step.into() });
    }

    /// Tells the user something.
    pub(crate) fn notice(&self, text: String) {
        tracing::info!(lease = %self.lease, text, "told the user");
        self.change(|facts| {
            let notices = &mut facts.record.notices;
            if notices.len() >= NOTICES {
                notices.remove(0);
            }
            notices.push(Notice { at: unix_now(), text });
            facts.told += 1;
        });
    }

    /// The workload that was handed over.
    pub(crate) fn workload(&self) -> Option<Workload> {
        let hex = self.facts().record.workload.clone()?;
        borsh::from_slice(&hex::decode(hex).ok()?).ok()
    }

    /// The notices after the first `told` of this lease, and how many there are now.
    pub(crate) fn notices_since(&self, told: u64) -> (Vec<Notice>, u64) {
        let facts = self.facts();
        let new = usize::try_from(facts.told.saturating_sub(told)).unwrap_or(usize::MAX);
        let notices = &facts.record.notices;
        (notices[notices.len().saturating_sub(new)..].to_vec(), facts.told)
    }

    /// The lease as its user sees it.
    pub(crate) fn status(&self) -> Status {
        let ports = self.workload().map(|workload| workload.ports).unwrap_or_default();
        let facts = self.facts();
        Status {
            lease: self.lease.to_string(),
            state: facts.state.clone(),
            ends: facts.paid.then_some(facts.ends),
            usage: facts.record.usage,
            ports: ports.into_iter().map(|port| port.name).collect(),
            notices: facts.record.notices.clone(),
        }
    }

    /// Waits until nothing is being written.
    pub(crate) async fn written(&self) {
        drop(self.writing.lock().await);
    }

    /// Puts the record on disk.
    pub(crate) async fn save(&self, state: &Arc<StateDir>) -> Result<(), StateError> {
        let turn = self.writing.clone().lock_owned().await;
        let (record, state, name) = (self.facts().record.clone(), state.clone(), record_name(&self.lease));
        let writing = task::spawn_blocking(move || {
            // Whoever waits for this may be gone; the next one writes, or removes, after it all the same.
            let _turn = turn;
            state.write(&name, &record)
        });
        writing.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}
