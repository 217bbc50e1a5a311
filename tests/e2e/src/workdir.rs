//! The folder of a run: keys, the daemons' stores and their logs.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use datagalax_client::keys;
use solana_keypair::Keypair;

/// A folder that is removed at the end, unless it is kept because something went wrong in it.
pub struct Workdir {
    folder: Option<tempfile::TempDir>,
    path: PathBuf,
    workloads: tempfile::TempDir,
}

impl Workdir {
    /// A new folder below the system's temporary folder, readable by its owner only.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn create() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("datagalax-demo-").tempdir().context("cannot create a working folder")?;
        // Workloads run as users of their own, who must be able to pass through to theirs, and to nothing of the run's.
        let workloads = tempfile::Builder::new().prefix("datagalax-demo-workloads-").tempdir()?;
        fs::set_permissions(workloads.path(), Permissions::from_mode(0o711))?;
        Ok(Self { path: folder.path().to_owned(), folder: Some(folder), workloads })
    }

    /// Folder for what leases run; it goes with the run in any case.
    pub fn workloads(&self) -> &Path {
        self.workloads.path()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates a key and writes it as a Solana keypair file, mode 0600.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new_key(&self, name: &str) -> Result<(PathBuf, Keypair)> {
        let path = self.path.join(format!("{name}.json"));
        let key = Keypair::new();
        keys::write(&path, &key)?;
        Ok((path, key))
    }

    /// Leaves the folder where it is.
    pub fn keep(&mut self) -> &Path {
        if let Some(folder) = self.folder.take() {
            // From here on nobody removes it.
            let _ = folder.keep();
        }
        &self.path
    }
}
