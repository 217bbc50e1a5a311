//! What keeping costs and earns, by kind of action and epoch.

use std::{
    collections::BTreeMap,
    future::ready,
    sync::{Mutex, PoisonError},
};

use futures_util::{FutureExt, future::BoxFuture};
use solana_signature::Signature;

use crate::{
    chain::Outcome,
    decide::{Action, Kind},
};

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It may land: it was sent, or was about to be when the keeper stopped.
    Open,
    /// It landed and did what it should.
    Done,
    /// It landed and failed: its fee is lost.
    Wasted,
    /// It can no longer land, and cost nothing.
    Expired,
}

/// One transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The transaction.
    pub signature: Signature,
    /// The kind of its actions.
    pub kind: Kind,
    /// How many there are in it.
    pub actions: u32,
    /// The epoch in which it was sent, by the chain's clock.
    pub epoch: u32,
    /// When, seconds of the chain's clock.
    pub at: i64,
    /// Lamports that it costs once it lands.
    pub fee: u64,
    /// Base units that the program pays for it.
    pub pay: u64,
    /// What became of it.
    pub fate: Fate,
}

impl Entry {
    /// The transactions of a batch, by what became of its actions. What never became a transaction is none.
    pub fn of(batch: &[(Action, Outcome)], epoch: u32, at: i64) -> Vec<Self> {
        let mut entries = BTreeMap::<Signature, Self>::new();
        for (action, outcome) in batch {
            let Some(signature) = outcome.signature else { continue };
            let fate = match (&outcome.result, outcome.fee) {
                (Ok(_), _) => Fate::Done,
                (Err(_), 0) => Fate::Open,
                (Err(_), _) => Fate::Wasted,
            };
            let kind = action.kind();
            let new = Self { signature, kind, actions: 0, epoch, at, fee: 0, pay: 0, fate };
            let entry = entries.entry(signature).or_insert(new);
            entry.actions += 1;
            entry.fee += outcome.fee;
            entry.pay += outcome.pay;
        }
        entries.into_values().collect()
    }
}

/// A line of the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Actions done.
    pub done: u64,
    /// Actions that landed and failed.
    pub wasted: u64,
    /// Transactions that landed.
    pub transactions: u64,
    /// Lamports paid, for what failed too.
    pub fees: u64,
    /// Of them, for what failed.
    pub fees_wasted: u64,
    /// Base units earned.
    pub pay: u64,
}

impl Sum {
    /// Adds another.
    pub const fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.wasted += other.wasted;
        self.transactions += other.transactions;
        self.fees += other.fees;
        self.fees_wasted += other.fees_wasted;
        self.pay += other.pay;
    }

    /// Of one transaction; nothing of one that did not land.
    pub const fn of(entry: &Entry) -> Self {
        let (actions, fee) = (entry.actions as u64, entry.fee);
        match entry.fate {
            Fate::Done => Self { done: actions, wasted: 0, transactions: 1, fees: fee, fees_wasted: 0, pay: entry.pay },
            Fate::Wasted => Self { done: 0, wasted: actions, transactions: 1, fees: fee, fees_wasted: fee, pay: 0 },
            Fate::Open | Fate::Expired => Self { done: 0, wasted: 0, transactions: 0, fees: 0, fees_wasted: 0, pay: 0 },
        }
    }
}

/// Sums by epoch and kind.
pub type Sums = BTreeMap<(u32, Kind), Sum>;

/// Why books cannot be written or read.
pub type BooksError = Box<dyn std::error::Error + Send + Sync>;

/// Where transactions are written down: open before they are sent, and with their fate when it is known. So a keeper that is killed
/// between the two knows what to ask the chain for.
pub trait Books: Send + Sync {
    /// Writes entries; of those that are there, the fate and the pay, unless their fate is known already. Safe on return.
    ///
    /// # Errors
    /// The disk.
    fn write(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), BooksError>>;
    /// Those whose fate is not known.
    ///
    /// # Errors
    /// The disk.
    fn open(&self) -> BoxFuture<'_, Result<Vec<Entry>, BooksError>>;
    /// Lamports paid since a time, seconds of the chain's clock; what may still land counts as paid.
    ///
    /// # Errors
    /// The disk.
    fn spent_since(&self, time: i64) -> BoxFuture<'_, Result<u64, BooksError>>;
    /// Sums by kind of the epochs from `first` on.
    ///
    /// # Errors
    /// The disk.
    fn sums(&self, first: u32) -> BoxFuture<'_, Result<Sums, BooksError>>;
}

/// In memory, for tests.
#[derive(Default)]
pub struct MemoryBooks(Mutex<BTreeMap<Signature, Entry>>);

impl MemoryBooks {
    fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
    }
}

impl Books for MemoryBooks {
    fn write(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), BooksError>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            let old = kept.entry(entry.signature).or_insert(entry);
            if old.fate == Fate::Open {
                (old.fate, old.pay) = (entry.fate, entry.pay);
            }
        }
        ready(Ok(())).boxed()
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<Entry>, BooksError>> {
        ready(Ok(self.entries().into_iter().filter(|entry| entry.fate == Fate::Open).collect())).boxed()
    }

    fn spent_since(&self, time: i64) -> BoxFuture<'_, Result<u64, BooksError>> {
        let counts = |entry: &Entry| entry.at >= time && entry.fate != Fate::Expired;
        ready(Ok(self.entries().iter().filter(|entry| counts(entry)).map(|entry| entry.fee).sum())).boxed()
    }

    fn sums(&self, first: u32) -> BoxFuture<'_, Result<Sums, BooksError>> {
        let mut sums = Sums::new();
        for entry in self.entries().iter().filter(|entry| entry.epoch >= first) {
            sums.entry((entry.epoch, entry.kind)).or_default().add(&Sum::of(entry));
        }
        ready(Ok(sums)).boxed()
    }
}
