//! Where the marks of containers (cards, fingerprints, endpoints) were seen: what containers of different blocks share.
//!
//! A checker sits now on one block and now on another, so that two registrations of one card seldom come before it together. It
//! notes since when and until when it saw each mark at each container. A card that moved, from one that was closed to one that
//! was registered later, was never at both: the times do not overlap. One that is shared was seen again at the first after it was
//! seen at the second. So each sighting of a shared mark but the first of each container shows it.

use std::collections::{BTreeMap, BTreeSet};

use datagalax_gpu::uniqueness::{Container, Mark, Observation};
use datagalax_service::store::rusqlite::{self, Transaction, params};

use super::{BlockKey, KEEP_SECONDS, Store, StoreError};

/// One row for each mark of each container. `epoch_start` and `epoch` are of the last epoch in which it was seen there.
pub(super) const TABLE: &str = "
    CREATE TABLE sighting (
        mark BLOB NOT NULL, container BLOB NOT NULL, block INTEGER NOT NULL,
        first_start INTEGER NOT NULL, epoch_start INTEGER NOT NULL, epoch INTEGER NOT NULL,
        PRIMARY KEY (mark, container)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sighting_age ON sighting (epoch_start);
";

/// Bytes of a mark's digest that are kept. It takes 2^128 attempts to make a mark that is taken for a given one.
const DIGEST_BYTES: usize = 16;
/// Bytes of disk that a sighting takes, with its place in the index.
const SIGHTING_BYTES: u64 = 160;
/// Sightings take at most this part of the bound on the disk.
const PART_OF_DISK: u64 = 8;
/// Most other containers that are named for one mark.
pub const NAMED: usize = 3;

/// Another container, in another block, at which a mark was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The container.
    pub container: Container,
    /// Its block.
    pub block: u32,
    /// The last epoch in which this checker saw it there: its evidence shows it.
    pub epoch: u32,
}

/// What containers share with ones that were seen in other blocks: marks, each with at most [`NAMED`] of the others.
pub type Elsewhere = BTreeMap<Container, Vec<(Mark, Vec<Sighting>)>>;

impl Store {
    /// Which marks of these containers, all of one block, were seen at containers that are not among them, while they had them. To
    /// be asked before the block is finished; what another block's finish notes later is found in the next epoch.
    ///
    /// # Errors
    /// The disk.
    pub async fn elsewhere(&self, place: BlockKey, observations: &[Observation]) -> Result<Elsewhere, StoreError> {
        let marks: Vec<(Container, BTreeSet<Mark>)> =
            observations.iter().map(|observation| (observation.container, observation.marks().collect())).collect();
        let work = move |transaction: &Transaction<'_>| {
            let here: BTreeSet<Container> = marks.iter().map(|(container, _)| *container).collect();
            let mut shared = Elsewhere::new();
            for (container, marks) in marks {
                for mark in marks {
                    let others = others(transaction, place, &container, &mark, &here)?;
                    if !others.is_empty() {
                        shared.entry(container).or_default().push((mark, others));
                    }
                }
            }
            Ok(shared)
        };
        self.database.read(work).await
    }
}

/// Containers not `here` that were seen with this mark since `container` first was. What is older than its evidence does not count;
/// an epoch that is not over yet is of another network with the same genesis hash.
fn others(
    transaction: &Transaction<'_>,
    place: BlockKey,
    container: &Container,
    mark: &Mark,
    here: &BTreeSet<Container>,
) -> rusqlite::Result<Vec<Sighting>> {
    let digest = digest(mark);
    let mut statement = transaction.prepare_cached(
        "SELECT container, block, epoch FROM sighting
         WHERE mark = ?1 AND container <> ?2 AND epoch <= ?4 AND epoch_start >= ?5 AND epoch_start >= coalesce(
             (SELECT first_start FROM sighting WHERE mark = ?1 AND container = ?2 AND epoch <= ?4 AND epoch_start >= ?5), ?3)",
    )?;
    let (start, number) = (place.epoch.start, place.epoch.number);
    let mut rows = statement.query(params![digest, container, start, number, start.saturating_sub(KEEP_SECONDS)])?;
    let mut others = Vec::new();
    while let Some(row) = rows.next()? {
        let other = Sighting { container: row.get(0)?, block: row.get(1)?, epoch: row.get(2)? };
        if !here.contains(&other.container) {
            others.push(other);
            if others.len() == NAMED {
                break;
            }
        }
    }
    Ok(others)
}

/// Notes that a container had these marks.
pub(super) fn note(
    transaction: &Transaction<'_>,
    place: BlockKey,
    container: &Container,
    marks: &[Mark],
) -> rusqlite::Result<()> {
    // What is of another network, or older than its evidence, begins anew.
    let mut statement = transaction.prepare_cached(
        "INSERT INTO sighting VALUES (?1, ?2, ?3, ?4, ?4, ?5)
         ON CONFLICT (mark, container) DO UPDATE SET
             first_start = iif(epoch > ?5 OR epoch_start < ?6, ?4, first_start),
             block = ?3, epoch_start = ?4, epoch = ?5",
    )?;
    let (start, number) = (place.epoch.start, place.epoch.number);
    for mark in marks {
        let old = start.saturating_sub(KEEP_SECONDS);
        statement.execute(params![digest(mark), container, place.block, start, number, old])?;
    }
    Ok(())
}

/// Removes the oldest sightings over their part of a disk of so many bytes; never those of the newest epoch.
pub(super) fn bound(transaction: &Transaction<'_>, disk: u64) -> rusqlite::Result<()> {
    let most = i64::try_from(disk / PART_OF_DISK / SIGHTING_BYTES).unwrap_or(i64::MAX);
    let sql = "DELETE FROM sighting WHERE epoch_start < (
                   SELECT epoch_start FROM sighting ORDER BY epoch_start DESC LIMIT 1 OFFSET ?)";
    transaction.execute(sql, [most]).map(drop)
}

fn digest(mark: &Mark) -> [u8; DIGEST_BYTES] {
    let digest = mark.digest();
    std::array::from_fn(|at| digest[at])
}
