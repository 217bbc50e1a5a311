//! Block production: one block each slot time, stamped with the wall clock.
//!
//! Surfpool's own ticker is not used. It adds exactly one slot time to the chain's clock per block, sleeps a little longer
//! than that between blocks, and makes an extra block every 75 slots: the chain's clock drifts from the wall's (measured:
//! half a second ahead in a minute of an idle machine), and by how much depends on the load. Epochs go by the chain's
//! clock, and the daemons compare it with theirs, so here it follows the wall clock as that of a real cluster does.
//!
//! Surfpool keeps no block without transactions and makes up its time when asked, otherwise with every block that is made
//! since; and the time it keeps of a block with transactions is the next one's. Here every block is kept with the time that
//! its Clock showed, so that `getBlockTime` is one answer for ever, as it is of a real cluster's nodes.

use std::{
    convert::Infallible,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow};
use surfpool_core::surfnet::{BlockHeader, locker::SurfnetSvmLocker, svm::SurfnetSvm};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Makes blocks until it fails. A block that could not be made in time is left out rather than made up for in a burst.
///
/// # Errors
/// When Surfpool cannot close a block, or the machine's clock is before 1970.
pub async fn produce(locker: SurfnetSvmLocker, slot_time: Duration) -> Result<Infallible> {
    let mut clock = ChainClock::new(locker.0.read().await.updated_at);
    let mut ticks = interval_at(Instant::now() + slot_time, slot_time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let mut svm = locker.0.write().await;
        let opened = svm.updated_at;
        let now = clock.next(opened, wall_ms()?);
        stamp(&mut svm, now);
        let slot = svm.get_latest_absolute_slot();
        svm.confirm_current_block().map_err(|e| anyhow!("Surfpool could not close a block: {e}"))?;
        keep(&mut svm, slot, opened).map_err(|e| anyhow!("Surfpool could not keep a block: {e}"))?;
        svm.materialize_overrides(&None).await.map_err(|e| anyhow!("Surfpool could not open a block: {e}"))?;
    }
}

/// Sets Surfpool's time so that the next block carries `now_ms`; closing a block adds one slot time to it.
fn stamp(svm: &mut SurfnetSvm, now_ms: u64) {
    svm.updated_at = now_ms.saturating_sub(svm.slot_time);
    // `getBlockTime` of a slot without transactions counts slot times from this origin.
    let slots = svm.get_latest_absolute_slot().saturating_add(1).saturating_sub(svm.genesis_slot);
    svm.genesis_updated_at = now_ms.saturating_sub(slots.saturating_mul(svm.slot_time));
}

/// Keeps the block of the slot that was just closed with the time it was opened at, which its Clock showed.
fn keep(svm: &mut SurfnetSvm, slot: u64, opened_ms: u64) -> surfpool_core::error::SurfpoolResult<()> {
    let mut block = match svm.blocks.get(&slot)? {
        Some(block) => block,
        // With the hash that the chain has, not one made up: `getLatestBlockhash` reads it here.
        None => BlockHeader {
            hash: svm.chain_tip.hash.clone(),
            block_height: svm.chain_tip.index,
            ..svm.reconstruct_empty_block(slot)
        },
    };
    block.block_time = i64::try_from(opened_ms / 1_000).unwrap_or(i64::MAX);
    svm.blocks.store(slot, block)?;
    Ok(())
}

/// The chain's time, in milliseconds since 1970: the wall clock, never backwards, shifted by what time travel
/// (`surfnet_timeTravel`) added.
#[derive(Debug)]
struct ChainClock {
    /// What the last block carried.
    last_ms: u64,
    /// Chain time less wall time.
    shift_ms: i128,
}

impl ChainClock {
    fn new(chain_ms: u64) -> Self {
        Self { last_ms: chain_ms, shift_ms: 0 }
    }

    /// The time of the next block. `chain_ms` is what the chain shows now: another value than the last block's means that
    /// someone travelled.
    fn next(&mut self, chain_ms: u64, wall_ms: u64) -> u64 {
        self.shift_ms += i128::from(chain_ms) - i128::from(self.last_ms);
        let shifted = i128::from(wall_ms) + self.shift_ms;
        self.last_ms = u64::try_from(shifted.max(0)).unwrap_or(u64::MAX).max(chain_ms);
        self.last_ms
    }
}

fn wall_ms() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("this machine's clock is set before 1970; set it")?;
    u64::try_from(since.as_millis()).context("this machine's clock is set too far ahead; set it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_follows_the_wall() {
        let mut clock = ChainClock::new(1_000);
        assert_eq!(clock.next(1_000, 1_400), 1_400);
        assert_eq!(clock.next(1_400, 9_999), 9_999);
    }

    #[test]
    fn a_wall_clock_set_back_stops_the_chain_until_it_is_reached_again() {
        let mut clock = ChainClock::new(5_000);
        assert_eq!(clock.next(5_000, 3_000), 5_000);
        assert_eq!(clock.next(5_000, 4_999), 5_000);
        assert_eq!(clock.next(5_000, 5_400), 5_400);
    }

    #[test]
    fn time_travel_stays() {
        let mut clock = ChainClock::new(1_000);
        assert_eq!(clock.next(1_000, 1_400), 1_400);
        assert_eq!(clock.next(61_400, 1_800), 61_800);
        assert_eq!(clock.next(61_800, 2_200), 62_200);
    }
}
