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
