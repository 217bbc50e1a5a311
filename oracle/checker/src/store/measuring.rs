//! What is measured, from the first probe to the evidence of a block; and how long its containers took at the beacons of its
//! last epochs.

use std::{collections::BTreeMap, time::Duration};

use borsh::{BorshDeserialize, BorshSerialize};
use datagalax_gpu::{beacon::Slot, uniqueness::Mark};
use datagalax_protocol::{
    Digest, ReportValues, RowEvidence,
    evidence::{BeaconEvidence, Exchange, Outcome},
    merkle::{self, Tree},
};
use datagalax_service::store::rusqlite::{self, OptionalExtension, Row, Transaction, params, types::Type};

use super::{BlockKey, EpochKey, Store, StoreError, sightings};
use crate::score::{BeaconResult, BeaconScore};

/// Epochs of a block whose times are kept: those in which this checker measured it last.
pub const TIMED_EPOCHS: usize = 8;
/// Most beacons of an epoch whose times are kept: the last. There are about four.
const TIMED_BEACONS: usize = 16;

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
    /// The inspection.
    Inspection(Box<Exchange>),
    /// A beacon.
    Beacon(BeaconScore, BeaconEvidence),
}

/// What an earlier run measured of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Liveness probes: whether answered, and the time each took.
    pub probes: Vec<(bool, Duration)>,
    /// Whether the inspection was answered, if there was one.
    pub inspected: Option<bool>,
    /// Beacons by slot.
    pub beacons: BTreeMap<u64, BeaconResult>,
}

/// How long each container took to the root at beacons that were final, in microseconds by slot.
pub type Times = BTreeMap<[u8; 32], BTreeMap<u64, u64>>;

/// The last words on one row, when its block is done.
#[derive(Clone, Debug)]
pub struct RowFinish {
    /// Row.
    pub row: u8,
    /// The container's account.
    pub container: [u8; 32],
    /// See [`RowEvidence::findings`].
    pub findings: Vec<String>,
    /// Microseconds to the root at the epoch's beacons that are final, by slot; only of answers that could be timed.
    pub times_us: BTreeMap<u64, u64>,
    /// What it was seen with.
    pub marks: Vec<Mark>,
}

impl Store {
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
                    What::Inspection(exchange) => {
                        let answered = matches!(exchange.outcome, Outcome::Answered(_));
                        transaction
                            .prepare_cached("INSERT OR REPLACE INTO inspection VALUES (?, ?, ?, ?, ?, ?, ?)")?
                            .execute(params![
                                epoch.start,
                                epoch.number,
                                block,
                                row,
                                container,
                                answered,
                                encode(exchange.as_ref())
                            ])?;
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
                Ok((evidence.slot, BeaconResult::of(score, &evidence)))
            };
            let beacons = answers.query_map(key, read)?.collect::<Result<_, _>>()?;
            let inspected = transaction
                .prepare_cached(
                    "SELECT answered FROM inspection
                     WHERE epoch_start = ? AND epoch = ? AND block = ? AND row = ? AND container = ?",
                )?
                .query_row(key, |row| row.get(0))
                .optional()?;
            Ok(Resumed { probes, inspected, beacons })
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
            let mut times: Vec<RowTimes> = Vec::with_capacity(rows.len());
            for RowFinish { row, container, findings, times_us, marks } in rows {
                sightings::note(transaction, place, &container, &marks)?;
                let latest = times_us.into_iter().rev().take(TIMED_BEACONS).collect();
                times.push((container, latest));
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
                let inspection = transaction
                    .prepare_cached(
                        "SELECT exchange FROM inspection
                         WHERE epoch_start = ? AND epoch = ? AND block = ? AND row = ? AND container = ?",
                    )?
                    .query_row(key, |row| decode(row, 0))
                    .optional()?;
                let bytes = RowEvidence { row, container, liveness, inspection, beacons, findings }.encode();
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
            transaction.execute(
                "INSERT OR REPLACE INTO timing VALUES (?, ?, ?, ?)",
                params![epoch.start, epoch.number, block, encode(&times)],
            )?;
            transaction.execute(
                "DELETE FROM timing WHERE block = ?1 AND epoch_start < (
                     SELECT min(epoch_start) FROM (
                         SELECT epoch_start FROM timing WHERE block = ?1 ORDER BY epoch_start DESC LIMIT ?2))",
                params![block, TIMED_EPOCHS as i64],
            )?;
            for table in ["probe", "inspection", "answer"] {
                transaction.execute(
                    &format!("DELETE FROM {table} WHERE epoch_start = ? AND epoch = ? AND block = ?"),
                    params![epoch.start, epoch.number, block],
                )?;
            }
            Ok(Measured { values, evidence_root })
        };
        self.database.write(work).await
    }

    /// The inspections of a block that is being measured, by row and container.
    ///
    /// # Errors
    /// The disk, or a damaged database.
    pub async fn inspections(&self, place: BlockKey) -> Result<BTreeMap<(u8, [u8; 32]), Exchange>, StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let sql = "SELECT row, container, exchange FROM inspection WHERE epoch_start = ? AND epoch = ? AND block = ?";
            let read = |row: &Row<'_>| Ok(((row.get(0)?, row.get(1)?), decode(row, 2)?));
            let key = params![place.epoch.start, place.epoch.number, place.block];
            transaction.prepare_cached(sql)?.query_map(key, read)?.collect()
        };
        self.database.read(work).await
    }

    /// How long the containers of a block took at the beacons of earlier epochs of the network, the last [`TIMED_EPOCHS`] less one
    /// in which it was measured to the end.
    ///
    /// # Errors
    /// The disk, or a damaged database.
    pub async fn earlier_times(&self, place: BlockKey) -> Result<Times, StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            // A network that was created anew begins again with epoch 0.
            let sql = "SELECT times FROM timing WHERE block = ? AND epoch_start < ? AND epoch < ?
                       ORDER BY epoch_start DESC LIMIT ?";
            let key = params![place.block, place.epoch.start, place.epoch.number, TIMED_EPOCHS as i64 - 1];
            let epochs: Vec<Vec<RowTimes>> =
                transaction.prepare_cached(sql)?.query_map(key, |row| decode(row, 0))?.collect::<Result<_, _>>()?;
            let mut all = Times::new();
            for (container, times_us) in epochs.into_iter().flatten() {
                all.entry(container).or_default().extend(times_us);
            }
            Ok(all)
        };
        self.database.read(work).await
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
}

/// A container's times of one epoch, as they are kept.
type RowTimes = ([u8; 32], Vec<(u64, u64)>);

fn encode(value: &impl BorshSerialize) -> Vec<u8> {
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
