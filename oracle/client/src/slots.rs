//! Every slot with its hash and its time, as they come: what beacons are found by (protocol, section 5).
//!
//! The SlotHashes sysvar names the last 512 slots with a block, newest first; a slot that was skipped is not in it. Each slot's
//! time is its block's, which is what the Clock sysvar showed in it: the same on every node, whenever it is asked. Both are
//! read together about twice a slot, so that most times come for nothing; the rest is asked with `getBlockTime`. What a node
//! cannot say is an error with a name: nothing here is guessed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    Address,
    clock::CLOCK_SYSVAR,
    rpc::{Changes, Rpc, RpcError},
};

/// Where the cluster keeps the hashes of its last slots.
pub const SLOT_HASHES_SYSVAR: Address = Address::from_str_const("SysvarS1otHashes111111111111111111111111111");
/// How many slots the sysvar holds, so how far one may fall behind.
pub const HELD: usize = 512;

/// A count, then slot and hash each.
const COUNT_BYTES: usize = 8;
const ENTRY_BYTES: usize = 40;
/// Entries that are read as long as one keeps up; all of them are read after a gap.
const USUAL: usize = 64;
/// Pause between two looks: about half a slot.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Shortest pause between two looks, however often one is woken.
const LEAST_PAUSE: Duration = Duration::from_millis(20);
/// Times asked for at once when many are missing.
const ASKED_AT_ONCE: usize = 8;

/// A slot that has a block, and what every node says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenSlot {
    /// Its number.
    pub number: u64,
    /// Its hash (of the bank, as in SlotHashes; not the blockhash).
    pub hash: [u8; 32],
    /// Time of its block, seconds since 1970. Never less than that of a slot before.
    pub time: i64,
    /// When this process saw it first. Deadlines of beacons run from here.
    pub seen: Instant,
}

/// Whether a slot that was seen can still be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// It can: ask again later.
    Waiting,
    /// It cannot, and its hash is the one that was seen.
    Final,
    /// The cluster went on without it, or with another block in it: what followed from its hash is void.
    Dropped,
}

/// Why slots cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SlotError {
    /// The node.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// Slots passed unseen, and the cluster keeps them no more.
    #[error(
        "the slots between {after} and {oldest} were not seen and the cluster keeps only the last {HELD}: a beacon may have been among them. The watch goes on from there; was this process suspended, or its node away?"
    )]
    Missed {
        /// The last slot that was seen (or asked for).
        after: u64,
        /// The oldest that the cluster still has.
        oldest: u64,
    },
    /// A slot that was seen is gone.
    #[error("slot {slot}, which was confirmed, is not part of the chain any more: what followed from its hash is void")]
    Dropped {
        /// The slot.
        slot: u64,
    },
    /// The node has the slot's hash and not its time.
    #[error(
        "the RPC node at {url} does not know the time of slot {slot}: ask again, use a node that keeps its blocks, or leave the slot out with `pass`"
    )]
    NoTime {
        /// The slot.
        slot: u64,
        /// The node.
        url: String,
    },
    /// SlotHashes or Clock are missing or not as every cluster writes them.
    #[error(
        "the RPC node at {url} shows no sound SlotHashes and Clock ({reason}): it may be no Solana node, or of another version"
    )]
    Unreadable {
        /// The node.
        url: String,
        /// What was wrong.
        reason: &'static str,
    },
}

impl SlotError {
    /// Whether the next call may go on as if nothing had happened: nothing was lost.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Rpc(_) | Self::NoTime { .. } => true,
            Self::Missed { .. } | Self::Dropped { .. } | Self::Unreadable { .. } => false,
        }
    }
}

/// All slots with a block, in order, none left out and none twice.
///
/// ```no_run
/// # async fn example(rpc: std::sync::Arc<dyn datagalax_client::rpc::Rpc>) {
/// use datagalax_client::slots::{SlotError, SlotWatch};
/// let mut slots = SlotWatch::new(rpc, Some("ws://127.0.0.1:8900"), None);
/// loop {
///     match slots.next().await {
///         Ok(seen) => { /* slots in order, at least one */ }
///         Err(SlotError::Missed { .. } | SlotError::Dropped { .. }) => { /* tell the beacons of this epoch */ }
///         Err(error) => { /* report it and go on: `next` pauses by itself, and nothing is lost */ }
///     }
/// }
/// # }
/// ```
pub struct SlotWatch {
    rpc: Arc<dyn Rpc>,
    wake: Option<Changes>,
    place: Option<Place>,
    /// Seen, and not yet returned: their times are looked for. They stay when a call is dropped half way.
    waiting: VecDeque<Entry>,
    times: Times,
    looked: Option<Instant>,
}

/// How far one has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    number: u64,
    /// `None` when it was only named: it may have been skipped.
    hash: Option<[u8; 32]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    number: u64,
    hash: [u8; 32],
    seen: Instant,
}

impl SlotWatch {
    /// Watches the slots of `rpc`. It looks at every notification of a slot from `ws` (without it, from the node's own
    /// WebSocket), and every 200 ms.
    ///
    /// `after` is the last slot that was dealt with, kept by the caller over a restart: the next one is the first returned,
    /// as long as the cluster still has it. Without it the newest slot is the first. Needs a tokio runtime.
    pub fn new(rpc: Arc<dyn Rpc>, ws: Option<&str>, after: Option<u64>) -> Self {
        let wake = ws.map(str::to_owned).or_else(|| rpc.sockets().into_iter().next());
        Self {
            rpc,
            wake: wake.as_deref().map(Changes::slots),
            place: after.map(|number| Place { number, hash: None }),
            waiting: VecDeque::new(),
            times: Times::default(),
            looked: None,
        }
    }

    /// Waits for the next slots: at least one, ascending. May be dropped half way (in a `select!`): nothing is lost.
    ///
    /// # Errors
    /// [`SlotError`]. After any of them the next call goes on: after [`SlotError::Missed`] with the oldest that the cluster
    /// still has, after [`SlotError::Dropped`] with what follows on that slot's number.
    pub async fn next(&mut self) -> Result<Vec<SeenSlot>, SlotError> {
        loop {
            self.pause().await;
            self.looked = Some(Instant::now());
            self.look().await?;
            let ready = self.with_times().await?;
            if !ready.is_empty() {
                return Ok(ready);
            }
        }
    }

    /// The newest slot that can no longer be undone.
    ///
    /// # Errors
    /// [`RpcError`] when the node does not answer.
    pub async fn finalized(&self) -> Result<u64, RpcError> {
        self.rpc.finalized_slot().await
    }

    /// Whether a slot that was seen is final, with the hash that was seen. A vote on a beacon waits for it.
    ///
    /// # Errors
    /// [`SlotError::Missed`] when the cluster does not keep its hash any more, otherwise as [`Self::next`].
    pub async fn finality(&self, slot: &SeenSlot) -> Result<Finality, SlotError> {
        // The finalized slot first: what is read after it descends from it.
        if self.finalized().await? < slot.number {
            return Ok(Finality::Waiting);
        }
        let (heads, _) = self.read(HELD).await?;
        match heads.entries.binary_search_by_key(&slot.number, |(number, _)| *number) {
            Ok(at) if heads.entries[at].1 == slot.hash => Ok(Finality::Final),
            Ok(_) => Ok(Finality::Dropped),
            // A node behind the one that said what is final.
            Err(at) if at == heads.entries.len() => Ok(Finality::Waiting),
            Err(0) if heads.is_cut() => Err(SlotError::Missed { after: slot.number, oldest: heads.entries[0].0 }),
            Err(_) => Ok(Finality::Dropped),
        }
    }

    /// Leaves out all slots up to and including this one: for one whose time no node knows.
    pub fn pass(&mut self, slot: u64) {
        self.waiting.retain(|entry| entry.number > slot);
        if self.place.is_none_or(|place| place.number < slot) {
            self.place = Some(Place { number: slot, hash: None });
        }
    }

    async fn pause(&mut self) {
        let Some(looked) = self.looked else { return };
        let until = looked + LOOK_EVERY;
        match &mut self.wake {
            Some(wake) => {
                wake.next(until.saturating_duration_since(Instant::now())).await;
                sleep_until(looked + LEAST_PAUSE).await;
            }
            None if until > Instant::now() => sleep_until(until).await,
            // However slowly the node answers, others get their turn.
            None => sleep(LEAST_PAUSE).await,
        }
    }

    /// Takes what is new into `waiting`.
    async fn look(&mut self) -> Result<(), SlotError> {
        let (mut heads, mut clock) = self.read(USUAL).await?;
        if heads.may_hide(self.place) {
            (heads, clock) = self.read(HELD).await?;
        }
        self.times.know(clock.0, clock.1);
        let seen = Instant::now();
        let step = step(self.place, &heads);
        if let Some(&(number, hash)) = step.new.last() {
            self.place = Some(Place { number, hash: Some(hash) });
        } else if step.break_in.is_some() {
            self.place = self.place.map(|place| Place { hash: None, ..place });
        }
        self.waiting.extend(step.new.iter().map(|&(number, hash)| Entry { number, hash, seen }));
        // Not more than the cluster keeps, even when no time can be had for as long.
        if let Some(over) = self.waiting.len().checked_sub(HELD).filter(|over| *over > 0) {
            let after = self.waiting[0].number;
            self.waiting.drain(..over);
            return Err(SlotError::Missed { after, oldest: self.waiting[0].number });
        }
        match step.break_in {
            None => Ok(()),
            Some(error) => {
                if let SlotError::Dropped { .. } = error {
                    // What was waiting is of the same fork.
                    self.waiting.clear();
                    self.times = Times::default();
                    self.waiting.extend(step.new.iter().map(|&(number, hash)| Entry { number, hash, seen }));
                }
                Err(error)
            }
        }
    }

    /// The slots whose times are known now, taken out of `waiting`.
    async fn with_times(&mut self) -> Result<Vec<SeenSlot>, SlotError> {
        let missing: Vec<u64> =
            self.waiting.iter().map(|entry| entry.number).filter(|slot| self.times.of(*slot).is_none()).collect();
        let rpc = self.rpc.clone();
        let mut asked = stream::iter(missing)
            .map(|slot| {
                let rpc = rpc.clone();
                async move { rpc.block_time(slot).await.map(|time| (slot, time)) }
            })
            .buffered(ASKED_AT_ONCE);
        let mut trouble = None;
        loop {
            match asked.try_next().await {
                Ok(Some((slot, Some(time)))) => self.times.know(slot, time),
                Ok(Some((slot, None))) => {
                    trouble = Some(SlotError::NoTime { slot, url: rpc.url().to_owned() });
                    break;
                }
                Ok(None) => break,
                Err(error) => {
                    trouble = Some(error.into());
                    break;
                }
            }
        }
        drop(asked);
        let mut ready = Vec::new();
        while let Some(&Entry { number, hash, seen }) = self.waiting.front()
            && let Some(time) = self.times.of(number)
        {
            ready.push(SeenSlot { number, hash, time, seen });
            self.waiting.pop_front();
        }
        // What is known is handed out first; the trouble shows again with the next call if it lasts.
        match trouble {
            Some(error) if ready.is_empty() => Err(error),
            _ => Ok(ready),
        }
    }

    /// The newest `entries` of SlotHashes, and slot and time of the Clock beside them.
    async fn read(&self, entries: usize) -> Result<(Heads, (u64, i64)), SlotError> {
        let bytes = COUNT_BYTES + ENTRY_BYTES * entries;
        let mut read = self.rpc.heads(&[SLOT_HASHES_SYSVAR, CLOCK_SYSVAR], bytes).await?.into_iter();
        let unreadable = |reason| SlotError::Unreadable { url: self.rpc.url().to_owned(), reason };
        let hashes = read.next().flatten().ok_or_else(|| unreadable("there is no SlotHashes account"))?;
        let clock = read.next().flatten().ok_or_else(|| unreadable("there is no Clock account"))?;
        let heads = Heads::parse(&hashes.data, entries).map_err(unreadable)?;
        let clock = clock_of(&clock.data).ok_or_else(|| unreadable("the Clock is too short"))?;
        Ok((heads, clock))
    }
}

/// Slot and time.
fn clock_of(data: &[u8]) -> Option<(u64, i64)> {
    let field = |at: usize| data.get(at..at + 8).and_then(|b| <[u8; 8]>::try_from(b).ok());
    Some((u64::from_le_bytes(field(0)?), i64::from_le_bytes(field(32)?)))
}

/// The newest entries of SlotHashes, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heads {
    /// Entries that the sysvar has, of which these are the newest.
    total: usize,
    entries: Vec<(u64, [u8; 32])>,
}

impl Heads {
    /// Reads at most `most` entries from the account's first bytes.
    fn parse(data: &[u8], most: usize) -> Result<Self, &'static str> {
        let (count, rest) = data.split_first_chunk::<COUNT_BYTES>().ok_or("SlotHashes is too short")?;
        let total =
            usize::try_from(u64::from_le_bytes(*count)).ok().filter(|n| *n <= HELD).ok_or("SlotHashes is too long")?;
        let wanted = total.min(most);
        let mut entries = Vec::with_capacity(wanted);
        for entry in rest.chunks_exact(ENTRY_BYTES).take(wanted) {
            let (number, hash) = entry.split_first_chunk::<8>().ok_or("SlotHashes is too short")?;
            entries.push((u64::from_le_bytes(*number), hash.try_into().map_err(|_| "SlotHashes is too short")?));
        }
        if entries.len() < wanted {
            return Err("SlotHashes is too short");
        }
        if !entries.windows(2).all(|pair| pair[0].0 > pair[1].0) {
            return Err("SlotHashes is not in order");
        }
        entries.reverse();
        Ok(Self { total, entries })
    }

    /// Whether there may be slots after `place` that were not read.
    fn may_hide(&self, place: Option<Place>) -> bool {
        let Some(place) = place else { return false };
        self.entries.len() < self.total && self.entries.first().is_some_and(|(oldest, _)| *oldest > place.number)
    }

    /// Whether older slots were dropped from the sysvar.
    fn is_cut(&self) -> bool {
        self.total == HELD
    }
}

/// What is new since a place.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    new: Vec<(u64, [u8; 32])>,
    /// Why they do not follow on what was seen before.
    break_in: Option<SlotError>,
}

/// Finds what follows on a place. `heads` must reach back to it or hold all that the cluster has.
fn step(place: Option<Place>, heads: &Heads) -> Step {
    let Some(place) = place else {
        return Step { new: heads.entries.last().copied().into_iter().collect(), break_in: None };
    };
    let after = heads.entries.partition_point(|(number, _)| *number <= place.number);
    let new = heads.entries[after..].to_vec();
    let before = heads.entries[..after].last();
    let break_in = match (place.hash, before, heads.entries.first()) {
        // The node is behind: it says nothing about where we are.
        _ if new.is_empty() && before.is_none_or(|(number, _)| *number < place.number) => None,
        (Some(hash), Some(entry), _) if *entry != (place.number, hash) => Some(SlotError::Dropped { slot: place.number }),
        // Number by number there is room for a slot between.
        (_, None, Some((oldest, _))) if heads.is_cut() && oldest - place.number > 1 => {
            Some(SlotError::Missed { after: place.number, oldest: *oldest })
        }
        _ => None,
    };
    Step { new, break_in }
}

/// Times that are known for sure.
#[derive(Default)]
struct Times(BTreeMap<u64, i64>);

impl Times {
    fn know(&mut self, slot: u64, time: i64) {
        self.0.insert(slot, time);
        while self.0.len() > 2 * HELD {
            self.0.pop_first();
        }
    }

    /// The chain's time never runs backwards, so that a slot between two of the same second is of that second.
    fn of(&self, slot: u64) -> Option<i64> {
        let (at, before) = self.0.range(..=slot).next_back()?;
        if *at == slot {
            return Some(*before);
        }
        self.0.range(slot..).next().map(|(_, after)| *after).filter(|after| after == before)
    }
}

#[cfg(test)]
mod tests;
