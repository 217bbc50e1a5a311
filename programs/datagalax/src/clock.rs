//! The chain's clock.

use anchor_lang::prelude::*;

/// Seconds of the chain's clock: the stake-weighted median of what validators say, within some seconds of the real time.
///
/// # Errors
/// The runtime's, which has none today.
#[inline(never)]
pub fn now() -> Result<i64> {
    Ok(Clock::get()?.unix_timestamp)
}

/// So many seconds after an instant; the end of time when that is beyond it.
#[inline(never)]
pub const fn after(instant: i64, seconds: u32) -> i64 {
    instant.saturating_add(seconds as i64)
}
