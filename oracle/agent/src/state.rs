//! What the agent keeps on disk: small records, each a file that is replaced as a whole.
//!
//! | record | what for |
//! |---|---|
//! | `roots.json` | the roots it signed, so that it never signs another for the same beacon ([`crate::beacon`]) |
//! | `faults.json` | the faults that keep tenants away, and whether it was this agent that closed the container |
//! | `lease-<address>.json` | a lease's workload, secrets included, and what it used so far; gone with the lease ([`crate::workloads`]) |
//! | `pending/` | transactions on their way ([`datagalax_client::pipeline::DirectoryStore`]) |

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};
use sysinfo::Disks;
use thiserror::Error;

/// Largest record that is read, in bytes: a hundred times what the agent ever writes.
const MAX_RECORD: u64 = 4 << 20;

/// Why the state cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The file system refuses.
    #[error("{path} cannot be used ({error}): --state-dir must be a folder that this process may write to", path = .path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another agent works with it.
    #[error("another agent works with {path}: end it, or give this one a --state-dir of its own", path = .0.display())]
    Taken(PathBuf),
    /// A record is damaged, or of another release.
    #[error("{path} is damaged ({reason}): move it away if its content may be forgotten", path = .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The folder. One process at a time works with it.
#[derive(Debug)]
pub struct StateDir {
    folder: PathBuf,
    /// Held while something is replaced: two tasks may write one record at once.
    replacing: Mutex<()>,
    /// Locked as long as this lives; the system unlocks it when the process ends, however it ends.
    _lock: File,
}

impl StateDir {
    /// Opens the folder, and creates it (mode 0700) when it is missing.
    ///
    /// # Errors
    /// It cannot be written to, or another process works with it.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let failed = |error| StateError::Io { path: folder.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let path = folder.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), replacing: Mutex::default(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::Taken(folder.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Free bytes of the file system that it lies on, 0 when that cannot be told. Blocks.
    pub fn free(&self) -> u64 {
        let Ok(folder) = self.folder.canonicalize() else { return 0 };
        let disks = Disks::new_with_refreshed_list();
        let holding = disks.iter().filter(|disk| folder.starts_with(disk.mount_point()));
        let deepest = holding.max_by_key(|disk| disk.mount_point().components().count());
        deepest.map_or(0, sysinfo::Disk::available_space)
    }

    /// Reads a record; the default when it was never written.
    ///
    /// # Errors
    /// It cannot be read or is damaged. It is never replaced by an empty one by itself: what it protects would be lost.
    pub fn read<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, StateError> {
        let path = self.path(name);
        let failed = |error| StateError::Io { path: path.clone(), error };
        let damaged = |reason: String| StateError::Damaged { path: path.clone(), reason };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
            Err(error) => return Err(failed(error)),
            Ok(metadata) if metadata.len() > MAX_RECORD => return Err(damaged(format!("{} bytes", metadata.len()))),
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(failed)?;
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
    }

    /// Replaces a record. On return it is on the disk; a crash before that leaves the old one.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write<T: Serialize>(&self, name: &str, record: &T) -> Result<(), StateError> {
        let path = self.path(name);
        let partial = path.with_extension("partial");
        let _turn = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
            // The new name is safe once the folder is.
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| StateError::Io { path: path.clone(), error })
    }

    /// Names of the records that begin with this, in no order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let failed = |error| StateError::Io { path: self.folder.clone(), error };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let file = entry.map_err(failed)?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".json")).filter(|name| name.starts_with(prefix));
            names.extend(name.map(str::to_owned));
        }
        Ok(names)
    }

    /// Removes a record. One that is not there is no error.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path(name);
        match fs::remove_file(&path).and_then(|()| File::open(&self.folder)?.sync_all()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StateError::Io { path, error }),
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension("json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("new/state");
        let state = StateDir::open(&folder).unwrap();
        assert_eq!(state.read::<Vec<u32>>("roots").unwrap(), Vec::<u32>::new());
        state.write("roots", &vec![1, 2]).unwrap();
        assert_eq!(state.read::<Vec<u32>>("roots").unwrap(), [1, 2]);
        state.write("lease-a", &1).unwrap();
        assert_eq!(state.names("lease-").unwrap(), ["lease-a"]);
        state.remove("lease-a").unwrap();
        state.remove("lease-a").unwrap();
        assert!(state.names("lease-").unwrap().is_empty());
        fs::write(folder.join("roots.json"), b"[1, 2").unwrap();
        let damaged = state.read::<Vec<u32>>("roots").unwrap_err();
        assert!(matches!(damaged, StateError::Damaged { .. }) && damaged.to_string().contains("roots.json"), "{damaged}");
        File::create(folder.join("roots.json")).unwrap().set_len(MAX_RECORD + 1).unwrap();
        assert!(matches!(state.read::<Vec<u32>>("roots"), Err(StateError::Damaged { .. })));
    }

    #[test]
    fn two_tasks_may_write_one_record_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        std::thread::scope(|scope| {
            let write = |n: u32| (0..100).for_each(|_| state.write("faults", &n).unwrap());
            let state = &state;
            let writers = [1, 2].map(|n| scope.spawn(move || write(n)));
            for writer in writers {
                writer.join().unwrap();
            }
            assert!([1, 2].contains(&state.read::<u32>("faults").unwrap()));
        });
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateDir::open(folder.path()).unwrap();
        assert!(matches!(StateDir::open(folder.path()), Err(StateError::Taken(_))));
        drop(first);
        StateDir::open(folder.path()).unwrap();
        let file = folder.path().join("file");
        File::create(&file).unwrap();
        assert!(matches!(StateDir::open(&file), Err(StateError::Io { .. })));
    }
}
