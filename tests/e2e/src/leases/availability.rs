//! What committees say of a row, noted while they say it: the votes of every tally, and the lower median that section 5 of
//! docs/protocol.md makes of them, computed here once more.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use datagalax::{
    constants::{BREACHED, HISTORY, NONE, VOID},
    state::{Block, Lane},
};
use datagalax_client::Reader;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Pause between two looks: a lane holds a tallied epoch for most of an epoch.
const LOOK: Duration = Duration::from_millis(700);
/// How long a verdict is waited for: two epochs of a minute, and more.
const PATIENCE: Duration = Duration::from_secs(150);
/// Looks in a row that may fail.
const FAILURES: u32 = 20;

/// An epoch's verdict on a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Availability by seat, percent; `None` for a seat that did not vote.
    pub votes: Vec<Option<u8>>,
    /// The committee's, percent; `None` when too few voted, or nobody tallied it.
    pub availability: Option<u8>,
}

/// Notes every tally of a row from the moment it is made.
pub struct Recorder {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    epochs: BTreeMap<u32, Recorded>,
    trouble: Option<String>,
}

impl Recorder {
    /// Begins to watch a row.
    pub fn watch(reader: &Reader, block: u32, row: u8) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (reader, noted) = (reader.clone(), seen.clone());
        let task = tokio::spawn(async move {
            let mut failures = 0;
            while failures < FAILURES {
                let looked = reader.block(block).await.map_err(Into::into).and_then(|found| {
                    let mut seen = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    note(&mut seen.epochs, &found, row)
                });
                match looked {
                    Ok(()) => failures = 0,
                    Err(e) => {
                        failures += 1;
                        noted.lock().unwrap_or_else(PoisonError::into_inner).trouble = Some(format!("{e:#}"));
                    }
                }
                sleep(LOOK).await;
            }
        });
        Self { seen, task }
    }

    /// What was said of an epoch, once it is known.
    pub fn of(&self, epoch: u32) -> Option<Recorded> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).epochs.get(&epoch).cloned()
    }

    /// The verdicts of the epochs `first..=last`, once all of them are known: the tally of an epoch comes in the next one.
    ///
    /// # Errors
    /// One that is not known within [`PATIENCE`]; the chain could not be read, or what it keeps is not what its votes come to.
    pub async fn verdicts(&self, first: u32, last: u32) -> Result<BTreeMap<u32, Option<u8>>> {
        let start = Instant::now();
        loop {
            {
                let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                let trouble = seen.trouble.as_deref().unwrap_or("no reason");
                ensure!(!self.task.is_finished(), "the recorder gave up: {trouble}");
                let known: BTreeMap<_, _> = seen.epochs.range(first..=last).map(|(e, r)| (*e, r.availability)).collect();
                if (first..=last).all(|epoch| known.contains_key(&epoch)) {
                    return Ok(known);
                }
                ensure!(start.elapsed() < PATIENCE, "epochs {first} to {last} are not all tallied: {known:?}");
            }
            sleep(LOOK).await;
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Notes the epochs that were tallied since the last look.
fn note(epochs: &mut BTreeMap<u32, Recorded>, block: &Block, row: u8) -> Result<()> {
    if block.last_tallied == NONE {
        return Ok(());
    }
    for epoch in epochs.last_key_value().map_or(block.last_tallied, |(last, _)| last + 1)..=block.last_tallied {
        let kept = block.rows[usize::from(row)].history[(epoch % HISTORY) as usize];
        let kept = (kept != VOID).then_some(kept & !BREACHED);
        let votes = match block.lane(epoch) {
            Ok(lane) => votes(lane, row),
            // Skipped: nobody tallied it, and a later one was. Else the look came too late for its votes.
            Err(_) => {
                ensure!(kept.is_none(), "the votes of epoch {epoch} were gone before they were seen");
                Vec::new()
            }
        };
        let availability = median(&votes);
        ensure!(availability == kept, "epoch {epoch}: {votes:?} come to {availability:?}, the chain keeps {kept:?}");
        epochs.insert(epoch, Recorded { votes, availability });
    }
    Ok(())
}

/// Availability by filled seat. Seven bits of the byte; above 100, in either of its values, a seat did not vote on the row.
fn votes(lane: &Lane, row: u8) -> Vec<Option<u8>> {
    let r = usize::from(row);
    let filled = lane.committee.iter().filter(|seat| seat.slot != NONE);
    filled
        .map(|seat| {
            let (availability, capacity) = (seat.availability[r] & 0x7f, seat.capacity[r]);
            (seat.revealed == 1 && availability <= 100 && capacity <= 100).then_some(availability)
        })
        .collect()
}

/// The lower median, if more than half of the seats voted.
fn median(seats: &[Option<u8>]) -> Option<u8> {
    let mut voted: Vec<u8> = seats.iter().copied().flatten().collect();
    voted.sort_unstable();
    (voted.len() > seats.len() / 2).then(|| voted[(voted.len() - 1) / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_of_the_seats_make_a_verdict() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[Some(7), None, None]), None);
        assert_eq!(median(&[Some(7), None, Some(3)]), Some(3), "the lower of two");
        assert_eq!(median(&[Some(7), Some(9), Some(3)]), Some(7));
        assert_eq!(median(&[Some(7), Some(9), None, None]), None, "half is not more than half");
        assert_eq!(median(&[Some(1), Some(2), Some(3), Some(4), Some(5)]), Some(3));
    }

    #[test]
    fn tallies_are_noted_and_held_against_what_the_chain_keeps() {
        let mut block: Box<Block> = bytemuck::allocation::zeroed_box();
        block.last_tallied = NONE;
        let mut noted = BTreeMap::new();
        note(&mut noted, &block, 1).unwrap();
        assert!(noted.is_empty());
        for (epoch, said) in [(4u32, [90u8, 80, 127]), (6, [0, 100, 50])] {
            block.last_tallied = epoch;
            let lane = &mut block.lanes[(epoch & 1) as usize];
            lane.epoch = epoch;
            for (at, seat) in lane.committee.iter_mut().enumerate() {
                seat.slot = if at < 3 { at as u32 } else { NONE };
                seat.revealed = u8::from(at < 3);
                seat.availability[1] = said.get(at).copied().unwrap_or_default();
            }
            block.rows[1].history[(epoch % HISTORY) as usize] = if epoch == 4 { 80 } else { 50 | BREACHED };
            block.rows[1].history[5] = VOID;
            note(&mut noted, &block, 1).unwrap();
        }
        let verdicts: Vec<_> = noted.iter().map(|(epoch, recorded)| (*epoch, recorded.availability)).collect();
        assert_eq!(verdicts, [(4, Some(80)), (5, None), (6, Some(50))]);
        assert_eq!(noted[&4].votes, [Some(90), Some(80), None]);
        block.rows[1].history[6] = 51;
        noted.remove(&6);
        assert!(note(&mut noted, &block, 1).unwrap_err().to_string().contains("the chain keeps Some(51)"));
    }
}
