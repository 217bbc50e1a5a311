//! Waiting for something that a network does by itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep};

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// How long something of a few epochs may take.
const PATIENCE: Duration = Duration::from_secs(150);

/// Waits until something holds, and says how long that took.
///
/// # Errors
/// It cannot be looked at, or did not hold within two minutes and a half.
pub async fn until<F: Future<Output = Result<bool>>>(what: &str, holds: impl FnMut() -> F) -> Result<()> {
    until_within(PATIENCE, what, holds).await
}

/// As [`until`], for what takes longer.
///
/// # Errors
/// It cannot be looked at, or did not hold in this time.
pub async fn until_within<F: Future<Output = Result<bool>>>(
    patience: Duration,
    what: &str,
    mut holds: impl FnMut() -> F,
) -> Result<()> {
    let start = Instant::now();
    while !holds().await? {
        ensure!(start.elapsed() < patience, "waited {} s for {what}", patience.as_secs());
        sleep(LOOK).await;
    }
    println!("{what}: after {} s", start.elapsed().as_secs());
    Ok(())
}
