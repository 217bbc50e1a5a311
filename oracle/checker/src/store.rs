//! Reports, what they are made of, and their evidence, in one SQLite file.
//!
//! - What is measured is written as it comes, a batch at a time: a restart loses at most what was in flight ([`Store::record`]).
//! - At the end of measuring a block, its votes and the evidence of every row become one record ([`Store::finish`]).
//! - A report is complete on disk, flushed, before its commitment is sent: what was committed to can be revealed whatever happens
//!   in between. Until then its salt and values are secret: the file is of mode 0600 in a folder of mode 0700.
//! - Everything is kept for 30 days ([`KEEP_SECONDS`]), less when the bound on the disk is reached: then the oldest evidence goes
//!   first, and reports that are not yet revealed never.
//!
//! Earlier releases kept files; nothing was deployed with them, so nothing is read from them.

use std::{path::Path, time::Duration};

use borsh::BorshDeserialize;
use datagalax::report::{REPORT_LEN, Seating, commitment};
use datagalax_gpu::beacon::Slot;
use datagalax_protocol::{
    Digest, ReportValues, RowEvidence,
    evidence::{BeaconEvidence, Exchange, Opening, Outcome},
    merkle::{self, Tree},
};
use datagalax_service::store::{
    Schema, Store as Database,
    rusqlite::{self, OptionalExtension, Row, Transaction, params, types::Type},
};

use crate::{
    chain::{Cluster, Seat, SeatRef},
    score::BeaconScore,
};

/// How long reports and evidence are kept, in seconds (protocol section 5).
pub const KEEP_SECONDS: i64 = 30 * 86_400;

pub use datagalax_service::store::StoreError;

/// The tables, one step for each release that changed them.
const SCHEMA: Schema = Schema { daemon: "datagalax-checker", steps: &[TABLES] };

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

/// Where a report is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// On disk; the commitment may or may not have landed.
    Saved,
    /// The commitment is on chain.
    Committed,
    /// The report is on chain.
    Revealed,
    /// It will never be, for this reason.
    Lost(String),
}

impl Stage {
    fn number(&self) -> (i64, &str) {
        match self {
            Self::Saved => (0, ""),
            Self::Committed => (1, ""),
            Self::Revealed => (2, ""),
            Self::Lost(reason) => (3, reason),
        }
    }
}

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

/// A report as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedReport {
    /// Epoch.
    pub epoch: u32,
    /// Start of the epoch.
    pub epoch_start: i64,
    /// Block.
    pub block: u32,
    /// Seat.
    pub seat: u8,
    /// The checker's id.
    pub checker: u32,
    /// Secret until the reveal.
    pub salt: [u8; 32],
    /// Root over the rows' evidence.
    pub evidence_root: Digest,
    /// The votes.
    pub values: [u8; REPORT_LEN],
    /// What is committed.
    pub commitment: Digest,
    /// Where it is on its way.
    pub stage: Stage,
}

impl SavedReport {
    /// A new report with a random salt.
    pub fn new(cluster: &Cluster, seat: Seat, epoch_start: i64, measured: &Measured) -> Self {
        // From the thread's cryptographic generator, seeded by the system.
        let salt: [u8; 32] = rand::random();
        let (values, evidence_root) = (*measured.values.as_bytes(), measured.evidence_root);
        let SeatRef { block, epoch, seat: number } = seat.at;
        let seating = Seating {
            program: &cluster.program,
            genesis_hash: &cluster.genesis_hash,
            block,
            epoch,
            seat: number,
            checker: seat.checker,
        };
        let commitment = commitment(&seating, &salt, &evidence_root, &values);
        let stage = Stage::Saved;
        let (seat, checker) = (number, seat.checker);
        Self { epoch, epoch_start, block, seat, checker, salt, evidence_root, values, commitment, stage }
    }

    /// The seat it is of.
    pub fn at(&self) -> SeatRef {
        SeatRef { block: self.block, epoch: self.epoch, seat: self.seat }
    }

    /// Whether anything is left to do for it.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Saved | Stage::Committed)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let reason: String = row.get(10)?;
        let stage = match row.get::<_, i64>(9)? {
            0 => Stage::Saved,
            1 => Stage::Committed,
            2 => Stage::Revealed,
            _ => Stage::Lost(reason),
        };
        Ok(Self {
            epoch_start: row.get(0)?,
            epoch: row.get(1)?,
            block: row.get(2)?,
            seat: row.get(3)?,
            checker: row.get(4)?,
            salt: row.get(5)?,
            evidence_root: row.get(6)?,
            values: row.get(7)?,
            commitment: row.get(8)?,
            stage,
        })
    }
}

/// A block that was measured: the same for all seats of this operator in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The votes.
    pub values: ReportValues,
    /// Root over the rows' evidence.
    pub evidence_root: Digest,
}

/// Something measured of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Block and epoch.
    pub place: BlockKey,
    /// Row.
    pub row: u8,
    /// The container's account.
    pub container: [u8; 32],
    /// What.
    pub what: What,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A liveness probe.
    Probe(Box<Exchange>),
    /// A beacon.
    Beacon(BeaconScore, BeaconEvidence),
}

/// What an earlier run measured of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Liveness probes: whether answered, and the time each took.
    pub probes: Vec<(bool, Duration)>,
    /// Beacons: slot, score, and time to the root in microseconds if it was taken.
    pub beacons: Vec<(u64, Digest, BeaconScore, Option<u64>)>,
}

/// The last words on one row, when its block is done.
#[derive(Clone, Debug)]
pub struct RowFinish {
    /// Row.
    pub row: u8,
    /// The container's account.
    pub container: [u8; 32],
    /// See [`RowEvidence::findings`].
    pub findings: Vec<String>,
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

    /// Writes what was measured, all or nothing.
    ///
    /// # Errors
    /// The disk.
    pub async fn record(&self, records: Vec<Record>) -> Result<(), StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            for record in &records {
                let Record { place: BlockKey { epoch, block }, row, container, what } = record;
                match what {
                    What::Probe(exchange) => {
                        let answered = matches!(exchange.outcome, Outcome::Answered(_));
                        let took = i64::try_from(exchange.took_us).unwrap_or(i64::MAX);
                        transaction.prepare_cached("INSERT INTO probe VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(
                            params![
                                epoch.start,
                                epoch.number,
                                block,
                                row,
                                container,
                                exchange.asked_at_ms,
                                answered,
                                took,
                                encode(exchange.as_ref())
                            ],
                        )?;
                    }
                    What::Beacon(score, evidence) => {
                        transaction
                            .prepare_cached("INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?
                            .execute(params![
                                epoch.start,
                                epoch.number,
                                block,
                                row,
                                slot_number(evidence.slot),
                                container,
                                encode(score),
                                encode(evidence)
                            ])?;
                    }
                }
            }
            Ok(())
        };
        self.database.write(work).await
    }

    /// Notes a beacon, so that a restart knows of it.
    ///
    /// # Errors
    /// The disk.
    pub async fn note_beacon(&self, epoch: EpochKey, slot: Slot) -> Result<(), StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let values = params![epoch.start, epoch.number, slot_number(slot.number), slot.hash, slot.time];
            transaction.execute("INSERT OR REPLACE INTO beacon VALUES (?, ?, ?, ?, ?)", values).map(drop)
        };
        self.database.write(work).await
    }

    /// The beacons noted of an epoch, ascending.
    ///
    /// # Errors
    /// The disk.
    pub async fn beacons(&self, epoch: EpochKey) -> Result<Vec<Slot>, StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let sql = "SELECT slot, hash, time FROM beacon WHERE epoch_start = ? AND epoch = ? ORDER BY slot";
            let read = |row: &Row<'_>| {
                let number: i64 = row.get(0)?;
                Ok(Slot { number: number.unsigned_abs(), hash: row.get(1)?, time: row.get(2)? })
            };
            transaction.prepare(sql)?.query_map(params![epoch.start, epoch.number], read)?.collect()
        };
        self.database.read(work).await
    }

    /// What an earlier run measured of a container in a row.
    ///
    /// # Errors
    /// The disk, or a damaged database.
    pub async fn resume(&self, place: BlockKey, row: u8, container: [u8; 32]) -> Result<Resumed, StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let key = params![place.epoch.start, place.epoch.number, place.block, row, container];
            let mut probes = transaction.prepare_cached(
                "SELECT answered, took_us FROM probe WHERE epoch_start = ? AND epoch = ? AND block = ? AND row = ? AND container = ?",
            )?;
            let read = |row: &Row<'_>| {
                let micros: i64 = row.get(1)?;
                Ok((row.get::<_, bool>(0)?, Duration::from_micros(micros.unsigned_abs())))
            };
            let probes = probes.query_map(key, read)?.collect::<Result<_, _>>()?;
            let mut answers = transaction.prepare_cached(
                "SELECT score, evidence FROM answer WHERE epoch_start = ? AND epoch = ? AND block = ? AND row = ? AND container = ?
                 ORDER BY slot",
            )?;
            let read = |row: &Row<'_>| {
                let (score, evidence): (_, BeaconEvidence) = (decode(row, 0)?, decode(row, 1)?);
                Ok((evidence.slot, evidence.slot_hash, score, evidence.elapsed_us))
            };
            let beacons = answers.query_map(key, read)?.collect::<Result<_, _>>()?;
            Ok(Resumed { probes, beacons })
        };
        self.database.read(work).await
    }

    /// Ends the measuring of a block: the evidence of each row becomes a leaf, and the votes and the root are kept. All or nothing;
    /// on return it is safe, and any number of reports can be made of it. `rows` are in ascending order. Only beacons in `counted`
    /// (slots and hashes) become evidence.
    ///
    /// # Errors
    /// The disk, or a damaged database.
    pub async fn finish(
        &self,
        place: BlockKey,
        rows: Vec<RowFinish>,
        counted: Vec<(u64, Digest)>,
        values: ReportValues,
    ) -> Result<Measured, StoreError> {
        let BlockKey { epoch, block } = place;
        let work = move |transaction: &Transaction<'_>| {
            let mut leaves = Vec::with_capacity(rows.len());
            for RowFinish { row, container, findings } in rows {
                let key = params![epoch.start, epoch.number, block, row, container];
                let liveness = transaction
                    .prepare_cached(
                        "SELECT exchange FROM probe
                         WHERE epoch_start = ? AND epoch = ? AND block = ? AND row = ? AND container = ?
                         ORDER BY asked_at_ms, rowid",
                    )?
                    .query_map(key, |row| decode(row, 0))?
                    .collect::<Result<_, _>>()?;
                let mut beacons: Vec<BeaconEvidence> = transaction
                    .prepare_cached(
                        "SELECT evidence FROM answer
                         WHERE epoch_start = ? AND epoch = ? AND block = ? AND row = ? AND container = ? ORDER BY slot",
                    )?
                    .query_map(key, |row| decode(row, 0))?
                    .collect::<Result<_, _>>()?;
                beacons.retain(|beacon| counted.contains(&(beacon.slot, beacon.slot_hash)));
                let bytes = RowEvidence { row, container, liveness, beacons, findings }.encode();
                let leaf = merkle::leaf(&bytes);
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO evidence VALUES (?, ?, ?, ?, ?, ?)")?
                    .execute(params![epoch.start, epoch.number, block, row, leaf, bytes])?;
                leaves.push(leaf);
            }
            let evidence_root = Tree::of_hashed(leaves).root();
            transaction.execute(
                "INSERT INTO measured VALUES (?, ?, ?, ?, ?)",
                params![epoch.start, epoch.number, block, values.as_bytes(), evidence_root],
            )?;
            for table in ["probe", "answer"] {
                transaction.execute(
                    &format!("DELETE FROM {table} WHERE epoch_start = ? AND epoch = ? AND block = ?"),
                    params![epoch.start, epoch.number, block],
                )?;
            }
            Ok(Measured { values, evidence_root })
        };
        self.database.write(work).await
    }

    /// A block that was measured, `None` when it was not, or not to the end.
    ///
    /// # Errors
    /// The disk.
    pub async fn measured(&self, place: BlockKey) -> Result<Option<Measured>, StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let key = params![place.epoch.start, place.epoch.number, place.block];
            let sql = "SELECT vote, evidence_root FROM measured WHERE epoch_start = ? AND epoch = ? AND block = ?";
            let read =
                |row: &Row<'_>| Ok(Measured { values: ReportValues::from_bytes(row.get(0)?), evidence_root: row.get(1)? });
            transaction.query_row(sql, key, read).optional()
        };
        self.database.read(work).await
    }

    /// Saves a new report; it is safe on return, and only then may it be committed to.
    ///
    /// # Errors
    /// The disk, or there is one for this seat already.
    pub async fn save(&self, report: SavedReport) -> Result<(), StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let SavedReport { epoch, epoch_start, block, seat, checker, salt, evidence_root, values, commitment, stage } =
                &report;
            let (stage, reason) = stage.number();
            let values =
                params![epoch_start, epoch, block, seat, checker, salt, evidence_root, values, commitment, stage, reason];
            transaction.execute("INSERT INTO report VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values).map(drop)
        };
        self.database.write(work).await
    }

    /// Writes a report's new stage.
    ///
    /// # Errors
    /// The disk.
    pub async fn advance(&self, report: SavedReport) -> Result<(), StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let (stage, reason) = report.stage.number();
            let values = params![stage, reason, report.epoch_start, report.epoch, report.block, report.seat];
            let sql =
                "UPDATE report SET stage = ?, reason = ? WHERE epoch_start = ? AND epoch = ? AND block = ? AND seat = ?";
            transaction.execute(sql, values).map(drop)
        };
        self.database.write(work).await
    }

    /// The reports that are not yet revealed or lost, by epoch, block and seat.
    ///
    /// # Errors
    /// The disk.
    pub async fn open_reports(&self) -> Result<Vec<SavedReport>, StoreError> {
        self.reports_below(2).await
    }

    /// All reports, by epoch, block and seat.
    ///
    /// # Errors
    /// The disk.
    pub async fn reports(&self) -> Result<Vec<SavedReport>, StoreError> {
        self.reports_below(i64::MAX).await
    }

    /// The reports of one epoch.
    ///
    /// # Errors
    /// The disk.
    pub async fn reports_in(&self, epoch: EpochKey) -> Result<Vec<SavedReport>, StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let sql = "SELECT * FROM report WHERE epoch_start = ? AND epoch = ? ORDER BY block, seat";
            transaction.prepare(sql)?.query_map(params![epoch.start, epoch.number], SavedReport::read)?.collect()
        };
        self.database.read(work).await
    }

    async fn reports_below(&self, stage: i64) -> Result<Vec<SavedReport>, StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let sql = "SELECT * FROM report WHERE stage < ? ORDER BY epoch_start, epoch, block, seat";
            transaction.prepare(sql)?.query_map([stage], SavedReport::read)?.collect()
        };
        self.database.read(work).await
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

    /// Removes what is older than [`KEEP_SECONDS`] before `now` (the chain's clock), then the oldest epochs' evidence until the
    /// database has at most `most` bytes in use; never what belongs to a report that is still to be revealed, nor evidence of an
    /// epoch that began less than `spare` seconds ago. Freed pages are used again, the file does not shrink.
    ///
    /// # Errors
    /// The disk.
    pub async fn prune(&self, now: i64, most: u64, spare: i64) -> Result<Pruned, StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let mut pruned = Pruned::default();
            let old = now.saturating_sub(KEEP_SECONDS);
            const OPEN: &str = "SELECT epoch_start FROM report WHERE stage < 2";
            for table in ["evidence", "measured", "probe", "answer", "beacon"] {
                let sql = format!("DELETE FROM {table} WHERE epoch_start < ? AND epoch_start NOT IN ({OPEN})");
                transaction.execute(&sql, [old])?;
            }
            pruned.expired = transaction.execute("DELETE FROM report WHERE epoch_start < ? AND stage >= 2", [old])? as u64;
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

fn encode(value: &impl borsh::BorshSerialize) -> Vec<u8> {
    borsh::to_vec(value).expect("borsh to memory")
}

fn decode<T: BorshDeserialize>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let bytes = row.get_ref(column)?.as_blob()?;
    borsh::from_slice(bytes).map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, error.into()))
}

/// Slots fit 63 bits for the next billions of years.
fn slot_number(slot: u64) -> i64 {
    i64::try_from(slot).unwrap_or(i64::MAX)
}
