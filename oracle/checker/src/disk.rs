//! How much room is left on the disk.

use std::path::Path;

use sysinfo::{DiskRefreshKind, Disks};

/// Below this the checker says that it is not ready: reports of some epochs still fit, evidence of many blocks does not.
const LEAST_FREE: u64 = 512 << 20;

/// A sentence when the disk that holds `path` is nearly full; `None` when it is not, or when the system does not say.
pub fn nearly_full(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage());
    let holding = disks.list().iter().filter(|disk| path.starts_with(disk.mount_point()));
    let disk = holding.max_by_key(|disk| disk.mount_point().as_os_str().len())?;
    let free = disk.available_space();
    (disk.total_space() > 0 && free < LEAST_FREE)
        .then(|| format!("{} has {free} bytes left: free some, or move --state-dir", disk.mount_point().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_is_no_full_disk() {
        assert_eq!(nearly_full(Path::new("/nonexistent/folder")), None);
    }
}
