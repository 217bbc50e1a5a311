//! Who uses more of the disk than it may. The engine sets no bound on volumes, so it is asked what they take.

use std::{fs, path::PathBuf, time::Duration};

use bollard::query_parameters::KillContainerOptionsBuilder;
use tokio::time::{self, Instant};

use super::{
    engine::Engine,
    lease::{BEGAN, END, SPEC, note_end},
};
use crate::{End, Id, Workload, record};

/// How often it is looked; longer where that takes long.
const LOOK: Duration = Duration::from_secs(1);

/// Looks again and again, and ends who uses more than it may.
pub(super) async fn watch(engine: Engine, root: PathBuf) {
    loop {
        let begun = Instant::now();
        let running = running(&root);
        // The engine answers one such question at a time; refused, it is asked again soon.
        let sizes = if running.is_empty() { None } else { engine.volume_sizes().await.ok() };
        for (id, most) in sizes.iter().flat_map(|_| &running) {
            let own = format!("{}-", engine.name(id));
            let volumes = sizes.iter().flatten().filter(|(volume, _)| volume.starts_with(&own));
            let used = volumes.map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
            if used > *most {
                let end = End::OverLimit(format!("{used} bytes on disk, it may use {most}"));
                // Noted first: it was not killed by anybody else.
                if note_end(&root.join(id.as_str()), &end).is_ok() {
                    let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
                    // It may just have ended; where the engine fails, the end of the lease ends it.
                    engine.docker.kill_container(&engine.name(id), Some(options)).await.ok();
                }
            }
        }
        time::sleep(LOOK.max(begun.elapsed() * 10)).await;
    }
}

/// Leases that began and of which no end is known, with the bytes that each may use.
fn running(root: &PathBuf) -> Vec<(Id, u64)> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let running = entries.filter_map(|entry| {
        let folder = entry.path();
        let id: Id = entry.file_name().to_str()?.parse().ok()?;
        let spec: Workload = record::read(&folder, SPEC).ok().flatten()?;
        (folder.join(BEGAN).exists() && !folder.join(END).exists()).then_some((id, spec.limits.disk))
    });
    running.collect()
}
