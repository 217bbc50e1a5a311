//! The workloads of one's leases, on this machine's disk: the chain has only their hash, and the host may need one again.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use borsh::BorshDeserialize as _;
use datagalax_client::Address;
use datagalax_protocol::lease::{MAX_WORKLOAD, Workload};

/// A folder of workloads, readable by its owner only: they hold secrets.
pub struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// Workloads in this folder, which is created when one is kept.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The file of a lease's workload.
    pub fn path(&self, lease: &Address) -> PathBuf {
        self.folder.join(format!("{lease}.workload"))
    }

    /// Keeps a lease's workload. It is on the disk when this returns.
    ///
    /// # Errors
    /// The disk.
    pub fn put(&self, lease: &Address, workload: &Workload) -> Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).with_context(|| self.unwritable())?;
        let bytes = borsh::to_vec(workload).context("the workload cannot be encoded")?;
        // Written beside it and renamed: there is never half of one.
        let path = self.path(lease);
        let half = path.with_extension("half");
        let write = || -> io::Result<()> {
            match fs::remove_file(&half) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&half, &path)
        };
        write().with_context(|| self.unwritable())
    }

    fn unwritable(&self) -> String {
        format!("the workload cannot be kept in {}: name another folder with --leases", self.folder.display())
    }

    /// A lease's workload, whose hash the lease holds.
    ///
    /// # Errors
    /// It is not there, or is not the lease's.
    pub fn get(&self, lease: &Address, hash: &[u8; 32]) -> Result<Workload> {
        read(&self.path(lease), hash)
    }

    /// Forgets a lease's workload; it may be gone already.
    ///
    /// # Errors
    /// The disk.
    pub fn remove(&self, lease: &Address) -> Result<()> {
        let path = self.path(lease);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} holds secrets and cannot be removed", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// A workload from a file.
///
/// # Errors
/// It cannot be read, or its hash is not this one.
pub fn read(path: &Path, hash: &[u8; 32]) -> Result<Workload> {
    let name = path.display();
    let length = fs::metadata(path)
        .with_context(|| {
            format!("the workload is not at {name}: rent on the machine where its folder is, or name it with --leases")
        })?
        .len();
    ensure!(length <= MAX_WORKLOAD as u64, "{name} is too long for a workload");
    let bytes = fs::read(path).with_context(|| format!("{name} cannot be read"))?;
    let workload = Workload::try_from_slice(&bytes).with_context(|| format!("{name} is no workload"))?;
    ensure!(workload.hash() == *hash, "{name} is not the workload that the lease was opened for: its hash differs");
    Ok(workload)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_kept_is_private_and_checked() {
        let home = tempfile::tempdir().unwrap();
        let kept = Kept::new(home.path().join("a/leases"));
        let lease = Address::new_from_array([3; 32]);
        let workload = Workload { salt: [1; 32], command: vec!["true".into()], ..Workload::default() };
        let missing = kept.get(&lease, &workload.hash()).unwrap_err();
        assert!(format!("{missing:#}").contains("--leases"));
        // Twice: as after a stop between the two steps.
        fs::create_dir_all(home.path().join("a/leases")).unwrap();
        fs::write(kept.path(&lease).with_extension("half"), "half").unwrap();
        kept.put(&lease, &workload).unwrap();
        kept.put(&lease, &workload).unwrap();
        assert_eq!(kept.get(&lease, &workload.hash()).unwrap(), workload);
        assert_eq!(fs::metadata(kept.path(&lease)).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(kept.get(&lease, &[0; 32]).unwrap_err().to_string().contains("hash differs"));
        fs::write(kept.path(&lease), "nonsense").unwrap();
        assert!(kept.get(&lease, &workload.hash()).unwrap_err().to_string().contains("no workload"));
        kept.remove(&lease).unwrap();
        kept.remove(&lease).unwrap();
        assert!(!kept.path(&lease).exists());
    }
}
