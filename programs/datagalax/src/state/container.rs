use anchor_lang::prelude::*;

use super::{VERSION, assert_size};
use crate::{constants::MAX_ENDPOINT, error::DatagalaxError};

/// A GPU host, seeds `["container", provider id u32, hardware fingerprint]`. Cold data; everything hot lies in its row.
#[account]
pub struct Container {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// GPUs (units of its class).
    pub gpus: u8,
    /// Row in its block.
    pub row: u8,
    /// 0 registered, 1 halted by a slash.
    pub status: u8,
    /// 1 when it takes new leases.
    pub accepting: u8,
    /// Leases missed in a row (start time-outs).
    pub misses: u8,
    /// Bytes of `endpoint` in use.
    pub endpoint_len: u8,
    /// Id of its provider.
    pub provider: u32,
    /// Index of its block.
    pub block: u32,
    /// Id of its class.
    pub class: u16,
    /// Latitude in 1/100 degree, -9,000 to 9,000.
    pub latitude: i16,
    /// Longitude in 1/100 degree, -18,000 to 18,000.
    pub longitude: i16,
    /// Why it is halted; 0 when it is not.
    pub halt_reason: u16,
    /// Stable hash of its hardware.
    pub fingerprint: [u8; 32],
    /// Key that starts and rejects leases and signs metrics.
    pub operator: Address,
    /// Hash of the published specification.
    pub spec_hash: [u8; 32],
    /// Running lease, default when none.
    pub lease: Address,
    /// Where it is reached (it may be a relay's), UTF-8.
    pub endpoint: [u8; MAX_ENDPOINT],
    /// Region, ASCII, zero-padded.
    pub region: [u8; 16],
    /// Price per hour, base units.
    pub price_per_hour: u64,
    /// Stake locked when it registered (less what was slashed).
    pub locked_stake: u64,
    /// Stake locked when it registered.
    pub original_locked_stake: u64,
    /// When it registered, seconds.
    pub registered_at: i64,
    /// Announced maintenance, seconds.
    pub maintenance_start: i64,
    /// End of it, seconds.
    pub maintenance_end: i64,
    /// Least length of a lease, seconds.
    pub minimum_lease: u32,
    /// Maintenance used in `maintenance_month`, seconds.
    pub maintenance_used: u32,
    /// The month that counts for (unix day / 30).
    pub maintenance_month: u32,
    /// Epochs live, lifetime.
    pub epochs_live: u32,
    /// Sum of availability over those epochs, percent.
    pub availability_sum: u64,
    /// Leases served, lifetime.
    pub leases_served: u32,
    /// Breaches, lifetime.
    pub breaches: u32,
    /// Rejected leases, lifetime.
    pub rejections: u32,
    /// Reserved, zero.
    pub reserved_counter: u32,
    /// Reserved, zero.
    pub reserved: [u8; 96],
}

assert_size!(Container, 24 + 4 * 32 + 128 + 16 + 6 * 8 + 4 * 4 + 8 + 4 * 4 + 96);

impl Container {
    /// The endpoint as text; empty when it is not UTF-8 (registration refuses that).
    pub fn endpoint(&self) -> &str {
        let len = usize::from(self.endpoint_len).min(MAX_ENDPOINT);
        core::str::from_utf8(&self.endpoint[..len]).unwrap_or_default()
    }

    /// What must hold of the account after every instruction.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`].
    pub fn invariant(&self) -> Result<()> {
        require!(
            self.version == VERSION
                && usize::from(self.endpoint_len) <= MAX_ENDPOINT
                && self.accepting <= 1
                && self.gpus > 0
                && self.locked_stake <= self.original_locked_stake,
            DatagalaxError::InvariantViolated
        );
        Ok(())
    }
}
