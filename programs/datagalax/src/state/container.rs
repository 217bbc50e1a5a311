use anchor_lang::prelude::*;
use bytemuck::{Pod, Zeroable};

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
    /// 0 registered, 1 halted: it lacks stake, earns nothing and takes no lease until `restore_stake`.
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
    /// Why it is halted, one of the `HALT_` codes; 0 when it is not.
    pub halt_reason: u16,
    /// Stable hash of its hardware.
    pub fingerprint: [u8; 32],
    /// Key that starts and rejects leases and signs metrics.
    pub operator: Address,
    /// Hash of the published specification.
    pub spec_hash: [u8; 32],
    /// Open or running lease, default when none.
    pub lease: Address,
    /// Who paid the rent and gets it back.
    pub rent_payer: Address,
    /// Where it is reached (it may be a relay's), UTF-8.
    pub endpoint: [u8; MAX_ENDPOINT],
    /// Region, ASCII, zero-padded.
    pub region: [u8; 16],
    /// Price per hour, base units.
    pub price_per_hour: u64,
    /// Stake locked now.
    pub locked_stake: u64,
    /// Stake locked when it registered: what `restore_stake` brings it back to.
    pub original_locked_stake: u64,
    /// When it registered, seconds.
    pub registered_at: i64,
    /// When maintenance was announced, seconds; it excuses for leases opened later.
    pub maintenance_announced: i64,
    /// Announced maintenance, seconds.
    pub maintenance_start: i64,
    /// End of it, seconds.
    pub maintenance_end: i64,
    /// When stake was last taken for a breach, seconds.
    pub breached_at: i64,
    /// Last epoch of the last breach, [`crate::constants::NONE`] when none.
    pub breached_epoch: u32,
    /// Least length of a lease, seconds.
    pub minimum_lease: u32,
    /// Maintenance used in `maintenance_month`, seconds.
    pub maintenance_used: u32,
    /// The month that counts for (unix day / 30).
    pub maintenance_month: u32,
    /// Leases that ended and are not settled to the end.
    pub unsettled: u32,
    /// Leases served, lifetime.
    pub leases_served: u32,
    /// Breaches, lifetime.
    pub breaches: u32,
    /// Rejected leases, lifetime.
    pub rejections: u32,
    /// Who closed a lease as not served, lately.
    pub not_served: [NotServed; 4],
    /// The maintenance before the one announced last, as far as it took place: when it was announced, seconds; 0 when none.
    pub past_announced: i64,
    /// Its start, seconds.
    pub past_start: i64,
    /// Its end, seconds.
    pub past_end: i64,
    /// Reserved, zero.
    pub reserved: [u8; 72],
}

/// A user's claim that a lease was not served: one a day for a user and a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable, IdlType)]
#[repr(C)]
pub struct NotServed {
    /// First bytes of the user's address.
    pub user: [u8; 12],
    /// Unix day.
    pub day: u32,
}

assert_size!(NotServed, 16);
assert_size!(Container, 24 + 5 * 32 + 128 + 16 + 8 * 8 + 8 * 4 + 4 * 16 + 3 * 8 + 72);

impl Container {
    /// Halted because a case of dishonesty was upheld.
    pub const HALT_DISHONEST: u16 = 1;
    /// Halted because a breach took stake.
    pub const HALT_BREACH: u16 = 2;
    /// Halted because a lease was closed early and stake went to its user.
    pub const HALT_CLOSED_EARLY: u16 = 3;

    /// The endpoint as text; empty when it is not UTF-8 (registration refuses that).
    pub fn endpoint(&self) -> &str {
        let len = usize::from(self.endpoint_len).min(MAX_ENDPOINT);
        core::str::from_utf8(&self.endpoint[..len]).unwrap_or_default()
    }

    /// Notes that a user calls a lease not served; says whether it may: once a day for each user.
    ///
    /// Four are remembered. When four others did the same on the same day the container is the problem, and a fifth is
    /// believed as well.
    pub fn note_not_served(&mut self, user: &Address, day: u32) -> bool {
        let mut mine = NotServed { user: [0; 12], day };
        mine.user.copy_from_slice(&user.as_ref()[..12]);
        if self.not_served.contains(&mine) {
            return false;
        }
        let mut oldest = 0;
        for i in 1..self.not_served.len() {
            if self.not_served[i].day < self.not_served[oldest].day {
                oldest = i;
            }
        }
        if self.not_served[oldest].day < day {
            self.not_served[oldest] = mine;
        }
        true
    }

    /// Whether maintenance that was announced before `opened` covers some of `from..to` (seconds).
    pub const fn is_excused(&self, opened: i64, from: i64, to: i64) -> bool {
        self.maintenance_announced < opened && self.maintenance_start < to && from < self.maintenance_end
            || self.past_announced < opened && self.past_start < to && from < self.past_end
    }

    /// What must hold of the account after every instruction.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`].
    #[inline(always)]
    pub fn invariant(&self) -> Result<()> {
        require!(self.holds(), DatagalaxError::InvariantViolated);
        Ok(())
    }

    #[inline(never)]
    fn holds(&self) -> bool {
        self.version == VERSION
            && usize::from(self.endpoint_len) <= MAX_ENDPOINT
            && self.accepting <= 1
            && self.gpus > 0
            && self.locked_stake <= self.original_locked_stake
            && (self.status == 1) == (self.halt_reason != 0)
    }
}
