//! Reports, what they are made of, and their evidence, in one SQLite file.
//!
//! - What is measured is written as it comes, a batch at a time: a restart loses at most what was in flight ([`Store::record`]).
//! - At the end of measuring a block, its votes and the evidence of every row become one record ([`Store::finish`]).
//! - A report is complete on disk, flushed, before its commitment is sent: what was committed to can be revealed whatever happens
//!   in between. Until then its salt and values are secret: the file is of mode 0600 in a folder of mode 0700.
//! - Everything is kept for 30 days ([`KEEP_SECONDS`]), less when the bound on the disk is reached: then the oldest evidence goes
//!   first, and reports that are not yet revealed never.
//!
//! | room | keeps |
//! |---|---|
//! | [`measuring`] | what is measured, until its block is done, and the times of its last epochs |
//! | [`report`] | reports on their way to the chain |
//! | [`sightings`] | cards, fingerprints and endpoints, and at which containers they were seen, over blocks |
//!
//! Earlier releases kept files; nothing was deployed with them, so nothing is read from them.

use std::path::Path;

use datagalax_protocol::{Digest, evidence::Opening, merkle::Tree};
use datagalax_service::store::{
    Schema, Store as Database,
    rusqlite::{self, OptionalExtension, Transaction, params},
};

use crate::chain::{Cluster, SeatRef};

pub mod measuring;
pub mod report;
pub mod sightings;

pub use measuring::{Measured, Record, Resumed, RowFinish, Times, What};
pub use report::{SavedReport, Stage};
pub use sightings::{Elsewhere, Sighting};

/// How long reports and evidence are kept, in seconds (protocol section 5).
pub const KEEP_SECONDS: i64 = 30 * 86_400;

pub use datagalax_service::store::StoreError;

/// The tables, one step for each release that changed them.
const SCHEMA: Schema = Schema { daemon: "datagalax-checker", steps: &[TABLES, INSPECTIONS, sightings::TABLE] };

const TABLES: &str = "
    CREATE TABLE report (
        epoch_start INTEGER NOT NULL, epoch INTEGER NOT NULL, block INTEGER NOT NULL, seat INTEGER NOT NULL,
        checker INTEGER NOT NULL, salt BLOB NOT NULL, evidence_root BLOB NOT NULL, vote BLOB NOT NULL,
        commitment BLOB NOT NULL, stage INTEGER NOT NULL, reason TEXT NOT NULL,
        PRIMARY KEY (epoch_start, epoch, block, seat)
    ) STRICT;
    CREATE TABLE beacon (
        epoch_start INTEGER NOT NULL, epoch INTEGER NOT NULL, slot INTEGER NOT NULL, hash BLOB NOT NULL, time INTEGER NOT NULL,
        PRIMARY KEY (epoch_start, epoch, slot)
    ) STRICT;
    CREATE TABLE probe (
        epoch_start INTEGER NOT NULL, epoch INTEGER NOT NULL, block INTEGER NOT NULL, row INTEGER NOT NULL,
        container BLOB NOT NULL, asked_at_ms INTEGER NOT NULL, answered INTEGER NOT NULL, took_us INTEGER NOT NULL,
        exchange BLOB NOT NULL
    ) STRICT;
    CREATE INDEX probe_place ON probe (epoch_start, epoch, block, row);
    CREATE TABLE answer (
        epoch_start INTEGER NOT NULL, epoch INTEGER NOT NULL, block INTEGER NOT NULL, row INTEGER NOT NULL,
        slot INTEGER NOT NULL, container BLOB NOT NULL, score BLOB NOT NULL, evidence BLOB NOT NULL,
        PRIMARY KEY (epoch_start, epoch, block, row, slot)
    ) STRICT;
    CREATE TABLE measured (
        epoch_start INTEGER NOT NULL, epoch INTEGER NOT NULL, block INTEGER NOT NULL,
        vote BLOB NOT NULL, evidence_root BLOB NOT NULL,
        PRIMARY KEY (epoch_start, epoch, block)
    ) STRICT;
    CREATE TABLE evidence (
        epoch_start INTEGER NOT NULL, epoch INTEGER NOT NULL, block INTEGER NOT NULL, row INTEGER NOT NULL,
        leaf BLOB NOT NULL, bytes BLOB NOT NULL,
        PRIMARY KEY (epoch_start, epoch, block, row)
    ) STRICT;
";

/// `inspection`: at most one for each row of a block that is being measured. `timing`: one record for each block and epoch, of the
/// last [`measuring::TIMED_EPOCHS`] of each block.
const INSPECTIONS: &str = "
    CREATE TABLE inspection (
        epoch_start INTEGER NOT NULL, epoch INTEGER NOT NULL, block INTEGER NOT NULL, row INTEGER NOT NULL,
        container BLOB NOT NULL, answered INTEGER NOT NULL, exchange BLOB NOT NULL,
        PRIMARY KEY (epoch_start, epoch, block, row)
    ) STRICT;
    CREATE TABLE timing (
        epoch_start INTEGER NOT NULL, epoch INTEGER NOT NULL, block INTEGER NOT NULL, times BLOB NOT NULL,
        PRIMARY KEY (block, epoch_start, epoch)
    ) STRICT;
";

/// An epoch of a network; the start tells apart networks that were created anew with the same genesis hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochKey {
    /// Start of the epoch by the chain's clock, unix seconds.
    pub start: i64,
    /// Its number.
    pub number: u32,
}

/// A block in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockKey {
    /// The epoch.
    pub epoch: EpochKey,
    /// The block.
    pub block: u32,
}

/// What a checker keeps of one cluster. Clones share it.
#[derive(Clone)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens or creates the store of a cluster in `folder`. Blocks; for the start.
    ///
    /// # Errors
    /// The folder cannot be created or written, another process has it, or the file is damaged or of a newer release.
    pub fn open(folder: &Path, cluster: &Cluster) -> Result<Self, StoreError> {
        let name = format!("checker-{}", hex::encode(&cluster.genesis_hash[..8]));
        Ok(Self { database: Database::open(folder, &name, SCHEMA)? })
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        self.database.path()
    }

    /// A row's evidence with its way to the root, once this checker has revealed the seat's report; the newest when networks with
    /// one genesis hash followed each other.
    ///
    /// # Errors
    /// The disk.
    pub async fn opening(&self, at: SeatRef, row: u8) -> Result<Option<Opening>, StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let start: Option<i64> = transaction
                .prepare_cached(
                    "SELECT epoch_start FROM report WHERE epoch = ? AND block = ? AND seat = ? AND stage = 2
                     ORDER BY epoch_start DESC LIMIT 1",
                )?
                .query_row(params![at.epoch, at.block, at.seat], |row| row.get(0))
                .optional()?;
            let Some(start) = start else { return Ok(None) };
            let leaves: Vec<(u8, Digest)> = transaction
                .prepare_cached(
                    "SELECT row, leaf FROM evidence WHERE epoch_start = ? AND epoch = ? AND block = ? ORDER BY row",
                )?
                .query_map(params![start, at.epoch, at.block], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            let Some(index) = leaves.iter().position(|(number, _)| *number == row) else { return Ok(None) };
            let bytes: Vec<u8> = transaction
                .prepare_cached("SELECT bytes FROM evidence WHERE epoch_start = ? AND epoch = ? AND block = ? AND row = ?")?
                .query_row(params![start, at.epoch, at.block, row], |row| row.get(0))?;
            let tree = Tree::of_hashed(leaves.iter().map(|(_, leaf)| *leaf).collect());
            // Both at most 256.
            Ok(Opening::new(&tree, leaves.len() as u32, index as u32, bytes))
        };
        self.database.read(work).await
    }

    /// Bytes of the database in use.
    ///
    /// # Errors
    /// The disk.
    pub async fn size(&self) -> Result<u64, StoreError> {
        self.database.read(size).await
    }

    /// Removes what is older than [`KEEP_SECONDS`] before `now` (the chain's clock), then the oldest sightings over their part of
    /// `most` bytes, then the oldest epochs' evidence until the database has at most `most` bytes in use; never what belongs to a
    /// report that is still to be revealed, nor evidence of an epoch that began less than `spare` seconds ago. Freed pages are used
    /// again, the file does not shrink.
    ///
    /// # Errors
    /// The disk.
    pub async fn prune(&self, now: i64, most: u64, spare: i64) -> Result<Pruned, StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let mut pruned = Pruned::default();
            let old = now.saturating_sub(KEEP_SECONDS);
            const OPEN: &str = "SELECT epoch_start FROM report WHERE stage < 2";
            for table in ["evidence", "measured", "probe", "inspection", "answer", "beacon", "timing", "sighting"] {
                let sql = format!("DELETE FROM {table} WHERE epoch_start < ? AND epoch_start NOT IN ({OPEN})");
                transaction.execute(&sql, [old])?;
            }
            pruned.expired = transaction.execute("DELETE FROM report WHERE epoch_start < ? AND stage >= 2", [old])? as u64;
            sightings::bound(transaction, most)?;
            let young = now.saturating_sub(spare);
            while size(transaction)? > most {
                let sql =
                    format!("SELECT min(epoch_start) FROM evidence WHERE epoch_start < ? AND epoch_start NOT IN ({OPEN})");
                let oldest: Option<i64> = transaction.query_row(&sql, [young], |row| row.get(0))?;
                let Some(oldest) = oldest else { break };
                transaction.execute("DELETE FROM evidence WHERE epoch_start = ?", [oldest])?;
                pruned.early += 1;
            }
            Ok(pruned)
        };
        self.database.write(work).await
    }
}

fn size(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let of = |pragma: &str| transaction.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let pages = of("page_count")?.saturating_sub(of("freelist_count")?);
    Ok(pages.saturating_mul(of("page_size")?).unsigned_abs())
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Reports whose time was over.
    pub expired: u64,
    /// Epochs whose evidence went before its time, for the bound on the disk.
    pub early: u64,
}
