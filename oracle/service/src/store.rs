//! The embedded store: one SQLite file of one process, whose writes are on disk when they return.
//!
//! All work is done by one thread of its own, in order, so that no disk holds up the runtime. A write is one transaction: it
//! happens as a whole or not at all, whenever the process dies.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

pub use rusqlite;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// Most jobs that wait for the store's thread; further callers wait for a place.
const QUEUE: usize = 256;

/// What a daemon keeps: its name, and its tables as steps from nothing to today. A step that was released is never changed; a
/// new one is added behind it.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// The daemon, for messages and against the file of another.
    pub daemon: &'static str,
    /// SQL of each step; step i leads to version i + 1.
    pub steps: &'static [&'static str],
}

impl Schema {
    /// SQLite's application id: FNV-1a of the daemon's name.
    fn application(&self) -> i32 {
        let hash =
            self.daemon.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        hash.cast_signed()
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
    #[error("{path} is in use by another process: give each daemon its own folder", path = .0.display())]
    InUse(PathBuf),
    /// It is another daemon's.
    #[error("{path} is not the store of a {daemon}: name this daemon's own folder", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The daemon that opened it.
        daemon: &'static str,
    },
    /// A newer version wrote it.
    #[error(
        "{path} has schema {found}, and this {daemon} knows {known}: run the newer version that wrote it, or restore the copy \
         from before the upgrade", path = path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The daemon that opened it.
        daemon: &'static str,
        /// The file's schema.
        found: i64,
        /// The newest schema that the daemon knows.
        known: usize,
    },
    /// The disk is full.
    #[error("no space is left for {path}: free some; nothing was lost, and what could not be written is tried again", path = .0.display())]
    Full(PathBuf),
    /// The file is not what was written.
    #[error(
        "{path} is damaged ({reason}): stop the daemon, move the file and its -wal away, and restore a copy or start anew; \
         docs/operations.md says what that loses", path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// A step of the schema failed; nothing of it was done.
    #[error("{path}: step {step} of the schema failed: {error}", path = path.display())]
    Step {
        /// The file.
        path: PathBuf,
        /// The version it leads to.
        step: usize,
        /// What SQLite says.
        error: rusqlite::Error,
    },
    /// Anything else that SQLite refuses.
    #[error("{path}: {error}", path = path.display())]
    Sql {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        error: rusqlite::Error,
    },
    /// The job panicked, or the store's thread is gone.
    #[error("a job of the store ended without an answer: the log says where it panicked")]
    Unanswered,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A daemon's store. Clones share it; the file is closed and unlocked when the last is dropped.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    path: PathBuf,
    /// `None` only while dropping.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens `<folder>/<name>.sqlite`, or creates it with the folder (0700, file 0600), and takes it through the steps it
    /// lacks. Blocks; for the start.
    ///
    /// # Errors
    /// Each by name: disk, another process, another daemon's file, a newer schema, damage.
    pub fn open(folder: &Path, name: &str, schema: Schema) -> Result<Self, StoreError> {
        let disk = |path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::Io { path, error }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(disk(folder))?;
        let path = folder.join(format!("{name}.sqlite"));
        // SQLite's own locks are per transaction; this one is for the process's life and tells who is in the way at once.
        let locked = folder.join(format!("{name}.lock"));
        let lock = private(&locked).map_err(disk(&locked))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::InUse(path)),
            Err(fs::TryLockError::Error(error)) => return Err(StoreError::Io { path: locked, error }),
        }
        // Created by us for its mode; SQLite gives -wal and -shm the same.
        private(&path).and_then(|file| file.sync_all()).map_err(disk(&path))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk(folder))?;
        let mut connection = prepare(&path, schema)?;
        let (jobs, mut waiting) = mpsc::channel::<Job>(QUEUE);
        let thread = thread::Builder::new().name("store".into()).spawn(move || {
            while let Some(job) = waiting.blocking_recv() {
                // A panic rolls its transaction back and is told to the one who waits; the store goes on.
                if catch_unwind(AssertUnwindSafe(|| job(&mut connection))).is_err() {
                    tracing::error!("a job of the store panicked");
                }
            }
            if let Err((_, error)) = connection.close() {
                tracing::warn!(%error, "the store did not close cleanly; nothing is lost");
            }
            drop(lock);
        });
        let thread = thread.map_err(disk(&path))?;
        Ok(Self(Arc::new(Shared { path, jobs: Some(jobs), thread: Some(thread) })))
    }

    /// Runs `job` in one transaction. When this returns well, its writes survive whatever happens next; when the job fails,
    /// nothing of it happened. A job that was handed over runs even when the caller's future is dropped.
    ///
    /// # Errors
    /// Disk, damage or what the job returns.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = job(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }

    /// Runs `job` on one state of the store; what it writes is undone.
    ///
    /// # Errors
    /// Disk, damage or what the job returns.
    pub async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(move |connection| job(&connection.transaction()?)).await
    }

    /// Reads the whole file and checks its structure; for a doctor, as it takes as long as the file is large.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], or the disk.
    pub async fn check(&self) -> Result<(), StoreError> {
        let verdict =
            self.read(|transaction| transaction.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)));
        match verdict.await? {
            verdict if verdict == "ok" => Ok(()),
            reason => Err(StoreError::Damaged { path: self.0.path.clone(), reason }),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody waits any more: the job is done all the same.
            answer.send(job(connection)).ok();
        });
        let jobs = self.0.jobs.as_ref().ok_or(StoreError::Unanswered)?;
        jobs.send(job).await.map_err(|_| StoreError::Unanswered)?;
        let outcome = answered.await.map_err(|_| StoreError::Unanswered)?;
        outcome.map_err(|error| name(&self.0.path, error))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.jobs = None;
        // Waits for what was handed over, so that the file is unlocked afterwards. A job may hold the last clone.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id()) {
            thread.join().ok();
        }
    }
}

/// A file of mode 0600, created when it is not there.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn prepare(path: &Path, schema: Schema) -> Result<Connection, StoreError> {
    let named = |error| name(path, error);
    let mut connection = Connection::open(path).map_err(named)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(named)?;
    if mode != "wal" {
        let error = io::Error::other(format!("no write-ahead log on this file system ({mode}): use a local disk"));
        return Err(StoreError::Io { path: path.to_owned(), error });
    }
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;")
        .map_err(named)?;
    let number = |name: &str, connection: &Connection| {
        connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0))
    };
    let application = number("application_id", &connection).map_err(named)?;
    let version = number("user_version", &connection).map_err(named)?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(named)?;
    let fresh = application == 0 && version == 0 && tables == 0;
    if !fresh && application != i64::from(schema.application()) {
        return Err(StoreError::Foreign { path: path.to_owned(), daemon: schema.daemon });
    }
    let known = schema.steps.len();
    let done = usize::try_from(version).ok().filter(|done| *done <= known);
    let done =
        done.ok_or_else(|| StoreError::Newer { path: path.to_owned(), daemon: schema.daemon, found: version, known })?;
    for (sql, step) in schema.steps.iter().zip(1..).skip(done) {
        let taken = (|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "application_id", schema.application())?;
            transaction.pragma_update(None, "user_version", step as i64)?;
            transaction.commit()
        })();
        taken.map_err(|error| match name(path, error) {
            StoreError::Sql { path, error } => StoreError::Step { path, step, error },
            named => named,
        })?;
        tracing::info!(path = %path.display(), step, "store taken to the schema's step");
    }
    Ok(connection)
}

/// SQLite's error by what is to be done about it.
fn name(path: &Path, error: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Damaged { path, reason: error.to_string() }
        }
        Some(ErrorCode::DiskFull) => StoreError::Full(path),
        _ => StoreError::Sql { path, error },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SCHEMA: Schema = Schema {
        daemon: "datagalax-sample",
        steps: &[
            "CREATE TABLE epochs (number INTEGER PRIMARY KEY)",
            "CREATE TABLE reports (epoch INTEGER NOT NULL REFERENCES epochs, salt BLOB NOT NULL)",
        ],
    };

    const BROKEN: &[&str] = &[SCHEMA.steps[0], SCHEMA.steps[1], "CREATE TABLE cases (a); NONSENSE"];

    fn open(folder: &Path) -> Result<Store, StoreError> {
        Store::open(folder, "sample", SCHEMA)
    }

    async fn epochs(store: &Store) -> i64 {
        store.read(|t| t.query_row("SELECT count(*) FROM epochs", [], |row| row.get(0))).await.unwrap()
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_a_restart_private_and_for_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("state");
        let store = open(&inner).unwrap();
        store.write(|t| t.execute("INSERT INTO epochs VALUES (7)", [])).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&inner), 0o700);
        for name in ["sample.sqlite", "sample.sqlite-wal", "sample.sqlite-shm", "sample.lock"] {
            assert_eq!(mode(&inner.join(name)), 0o600, "{name}");
        }
        let error = open(&inner).err().unwrap();
        assert!(matches!(error, StoreError::InUse(_)), "{error}");
        drop(store);
        assert_eq!(epochs(&open(&inner).unwrap()).await, 1);
    }

    #[tokio::test]
    async fn a_job_that_fails_or_panics_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        let failed = store.write(|t| {
            t.execute("INSERT INTO epochs VALUES (1)", [])?;
            t.execute("INSERT INTO reports VALUES (2, x'00')", [])
        });
        let error = failed.await.unwrap_err();
        assert!(error.to_string().contains("FOREIGN KEY"), "{error}");
        let panicked = store.write::<()>(|t| {
            t.execute("INSERT INTO epochs VALUES (1)", [])?;
            panic!("of the test");
        });
        assert!(matches!(panicked.await, Err(StoreError::Unanswered)));
        let read = store.read(|t| t.execute("INSERT INTO epochs VALUES (1)", []));
        assert_eq!(read.await.unwrap(), 1);
        assert_eq!(epochs(&store).await, 0);
    }

    #[tokio::test]
    async fn older_schemas_are_taken_along_and_newer_ones_refused() {
        let folder = tempfile::tempdir().unwrap();
        let old = Schema { steps: &SCHEMA.steps[..1], ..SCHEMA };
        let store = Store::open(folder.path(), "sample", old).unwrap();
        store.write(|t| t.execute("INSERT INTO epochs VALUES (7)", [])).await.unwrap();
        drop(store);
        let store = open(folder.path()).unwrap();
        store.write(|t| t.execute("INSERT INTO reports VALUES (7, x'00')", [])).await.unwrap();
        drop(store);
        let error = Store::open(folder.path(), "sample", old).err().unwrap();
        assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error}");
        let other = Schema { daemon: "datagalax-other", ..SCHEMA };
        let error = Store::open(folder.path(), "sample", other).err().unwrap();
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
        // A step that fails leaves the file as it was.
        let broken = Schema { steps: BROKEN, ..SCHEMA };
        let error = Store::open(folder.path(), "sample", broken).err().unwrap();
        assert!(matches!(error, StoreError::Step { step: 3, .. }), "{error}");
        assert_eq!(epochs(&open(folder.path()).unwrap()).await, 1);
    }

    #[tokio::test]
    async fn damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sample.sqlite");
        fs::write(&path, vec![b'x'; 8_192]).unwrap();
        let error = open(folder.path()).err().unwrap();
        assert!(matches!(error, StoreError::Damaged { .. }) && error.to_string().contains("move the file"), "{error}");
        fs::remove_file(&path).unwrap();
        let store = open(folder.path()).unwrap();
        let many =
            |t: &Transaction<'_>| (1..=2_000).try_for_each(|n| t.execute("INSERT INTO epochs VALUES (?1)", [n]).map(drop));
        store.write(many).await.unwrap();
        store.check().await.unwrap();
        drop(store);
        let mut bytes = fs::read(&path).unwrap();
        let pages = bytes.len();
        bytes[pages - 4_096..].fill(0x55);
        fs::write(&path, bytes).unwrap();
        let store = open(folder.path()).unwrap();
        let error = store.check().await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
}
