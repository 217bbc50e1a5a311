//! Reports and their evidence on disk.
//!
//! A report is complete on disk, flushed, before its commitment is sent: what was committed to can be revealed whatever
//! happens in between. Until then its salt and values are secret: files are of mode 0600, folders 0700.
//!
//! `<folder>/<genesis hash, 16 digits>-checker-<id>/epoch-<n>/block-<b>-seat-<s>.{report,evidence}`

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use borsh::{BorshDeserialize, BorshSerialize};
use datagalax::report::{REPORT_LEN, Seating, commitment};
use datagalax_protocol::{Digest, ReportValues, RowEvidence, evidence};
use thiserror::Error;

use crate::chain::{Cluster, SeatRef};

/// How long reports and evidence are kept (protocol section 5).
pub const KEEP: Duration = Duration::from_secs(30 * 86_400);
/// First byte of a report's file.
const VERSION: u8 = 1;

/// Where a report is on its way.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
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

/// A report as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SavedReport {
    version: u8,
    /// Epoch.
    pub epoch: u32,
    /// Start of the epoch by the chain's clock; tells apart networks that were created anew with the same genesis hash.
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
    pub fn new(
        cluster: &Cluster,
        at: SeatRef,
        epoch_start: i64,
        checker: u32,
        values: &ReportValues,
        evidence: &[RowEvidence],
    ) -> Self {
        // From the thread's cryptographic generator, seeded by the system.
        let salt: [u8; 32] = rand::random();
        let evidence_root = evidence::root(evidence);
        let values = *values.as_bytes();
        let seating = Seating {
            program: &cluster.program,
            genesis_hash: &cluster.genesis_hash,
            block: at.block,
            epoch: at.epoch,
            seat: at.seat,
            checker,
        };
        Self {
            version: VERSION,
            epoch: at.epoch,
            epoch_start,
            block: at.block,
            seat: at.seat,
            checker,
            commitment: commitment(&seating, &salt, &evidence_root, &values),
            salt,
            evidence_root,
            values,
            stage: Stage::Saved,
        }
    }

    /// The seat it is of.
    pub fn at(&self) -> SeatRef {
        SeatRef { block: self.block, epoch: self.epoch, seat: self.seat }
    }

    /// Whether anything is left to do for it.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Saved | Stage::Committed)
    }
}

/// Why the store cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The disk.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another process uses it.
    #[error("{path} is in use by another checker process: give each its own --state-dir", path = .0.display())]
    InUse(PathBuf),
    /// A file is not what was written.
    #[error("{path} is damaged ({reason}): move it away; what was committed with it cannot be revealed", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The reports of one checker on one cluster.
pub struct Store {
    folder: PathBuf,
    /// Locked as long as the store lives.
    _lock: File,
}

impl Store {
    /// Opens or creates the store.
    ///
    /// # Errors
    /// The folder cannot be created or written, or another process has it.
    pub fn open(folder: &Path, cluster: &Cluster, checker: u32) -> Result<Self, StoreError> {
        let folder = folder.join(format!("{}-checker-{checker}", hex::encode(&cluster.genesis_hash[..8])));
        create_folder(&folder)?;
        let path = folder.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(|error| StoreError::Io { path: path.clone(), error })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder, _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse(folder)),
            Err(fs::TryLockError::Error(error)) => Err(StoreError::Io { path, error }),
        }
    }

    /// Writes evidence and report, in this order; both are safe on return.
    ///
    /// # Errors
    /// The disk; then nothing may be committed.
    pub fn save(&self, report: &SavedReport, evidence: &[RowEvidence]) -> Result<(), StoreError> {
        let path = self.path(report);
        if let Some(folder) = path.parent() {
            create_folder(folder)?;
        }
        write(&path.with_extension("evidence"), &evidence)?;
        self.update(report)
    }

    /// Writes a report's new stage.
    ///
    /// # Errors
    /// The disk.
    pub fn update(&self, report: &SavedReport) -> Result<(), StoreError> {
        write(&self.path(report), report)
    }

    /// All reports, by epoch, block and seat.
    ///
    /// # Errors
    /// The disk, or a damaged file.
    pub fn load(&self) -> Result<Vec<SavedReport>, StoreError> {
        let mut reports = Vec::new();
        for folder in self.epochs()? {
            for path in list(&folder)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "report")) {
                let damaged = |reason: String| StoreError::Damaged { path: path.clone(), reason };
                let bytes = fs::read(&path).map_err(|error| StoreError::Io { path: path.clone(), error })?;
                let report = SavedReport::try_from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
                if report.version != VERSION {
                    return Err(damaged(format!("version {}", report.version)));
                }
                reports.push(report);
            }
        }
        reports.sort_by_key(|report| (report.epoch, report.block, report.seat));
        Ok(reports)
    }

    /// The evidence behind a report.
    ///
    /// # Errors
    /// The disk, or a damaged file.
    pub fn evidence(&self, report: &SavedReport) -> Result<Vec<RowEvidence>, StoreError> {
        let path = self.path(report).with_extension("evidence");
        let bytes = fs::read(&path).map_err(|error| StoreError::Io { path: path.clone(), error })?;
        borsh::from_slice(&bytes).map_err(|error| StoreError::Damaged { path, reason: error.to_string() })
    }

    /// Removes the epochs that were last written to longer than [`KEEP`] before `now`.
    ///
    /// # Errors
    /// The disk.
    pub fn prune(&self, now: SystemTime) -> Result<(), StoreError> {
        for folder in self.epochs()? {
            let failed = |error| StoreError::Io { path: folder.clone(), error };
            let written = folder.metadata().and_then(|metadata| metadata.modified()).map_err(failed)?;
            if now.duration_since(written).is_ok_and(|age| age > KEEP) {
                fs::remove_dir_all(&folder).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn epochs(&self) -> Result<Vec<PathBuf>, StoreError> {
        Ok(list(&self.folder)?.into_iter().filter(|path| path.is_dir()).collect())
    }

    fn path(&self, report: &SavedReport) -> PathBuf {
        let SavedReport { epoch, block, seat, .. } = report;
        self.folder.join(format!("epoch-{epoch}")).join(format!("block-{block}-seat-{seat}.report"))
    }
}

fn create_folder(path: &Path) -> Result<(), StoreError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(|error| StoreError::Io { path: path.to_owned(), error })
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    entries.map_err(|error| StoreError::Io { path: folder.to_owned(), error })
}

/// Writes all or nothing: under another name, flushed, renamed, and the folder flushed.
fn write(path: &Path, value: &impl BorshSerialize) -> Result<(), StoreError> {
    let partial = path.with_extension("partial");
    let written = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(&borsh::to_vec(value)?)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    written().map_err(|error| StoreError::Io { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use datagalax_protocol::RowVote;
    use solana_pubkey::Pubkey;

    use super::*;

    const CLUSTER: Cluster = Cluster { genesis_hash: [1; 32], program: Pubkey::new_from_array([2; 32]) };

    fn report(block: u32) -> SavedReport {
        let mut values = ReportValues::new();
        values.set(3, RowVote { availability: 100, capacity: 90, token: 0, dishonest: false }).unwrap();
        SavedReport::new(&CLUSTER, SeatRef { block, epoch: 4, seat: 2 }, 1_000, 7, &values, &[])
    }

    #[test]
    fn what_was_saved_is_loaded_after_a_restart_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &CLUSTER, 7).unwrap();
        let (mut a, b) = (report(1), report(2));
        assert_ne!(a.salt, b.salt);
        store.save(&b, &[]).unwrap();
        store.save(&a, &[]).unwrap();
        a.stage = Stage::Committed;
        store.update(&a).unwrap();
        let path = store.path(&a);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        drop(store);
        let store = Store::open(folder.path(), &CLUSTER, 7).unwrap();
        assert_eq!(store.load().unwrap(), [a.clone(), b]);
        assert_eq!(store.evidence(&a).unwrap(), []);
        // Another checker and another cluster see nothing of it.
        assert_eq!(Store::open(folder.path(), &CLUSTER, 8).unwrap().load().unwrap(), []);
        let other = Cluster { genesis_hash: [9; 32], ..CLUSTER };
        assert_eq!(Store::open(folder.path(), &other, 7).unwrap().load().unwrap(), []);
    }

    #[test]
    fn two_processes_do_not_share_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Store::open(folder.path(), &CLUSTER, 7).unwrap();
        assert!(matches!(Store::open(folder.path(), &CLUSTER, 7), Err(StoreError::InUse(_))));
    }

    #[test]
    fn a_torn_write_leaves_nothing_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &CLUSTER, 7).unwrap();
        let report = report(1);
        store.save(&report, &[]).unwrap();
        fs::write(store.path(&report).with_extension("partial"), b"half").unwrap();
        assert_eq!(store.load().unwrap(), std::slice::from_ref(&report));
        for bad in [vec![], vec![9; 40], borsh::to_vec(&report).unwrap()[1..].to_vec()] {
            fs::write(store.path(&report), bad).unwrap();
            assert!(matches!(store.load(), Err(StoreError::Damaged { .. })));
        }
    }

    #[test]
    fn old_epochs_are_pruned_and_young_ones_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &CLUSTER, 7).unwrap();
        store.save(&report(1), &[]).unwrap();
        store.prune(SystemTime::now() + KEEP - Duration::from_secs(60)).unwrap();
        assert_eq!(store.load().unwrap().len(), 1);
        store.prune(SystemTime::now() + KEEP + Duration::from_secs(60)).unwrap();
        assert_eq!(store.load().unwrap().len(), 0);
    }
}
