//! Reports on their way to the chain.

use datagalax::report::{REPORT_LEN, Seating, commitment};
use datagalax_protocol::Digest;
use datagalax_service::store::rusqlite::{self, Row, Transaction, params};

use super::{EpochKey, Measured, Store, StoreError};
use crate::chain::{Cluster, Seat, SeatRef};

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

impl Store {
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
}
