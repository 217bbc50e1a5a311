use anchor_lang::prelude::*;

use super::{VERSION, assert_size};
use crate::{clock::after, error::DatagalaxError, settlement::Bill};

/// A user's lease of a container, seeds `["lease", user, nonce u64]`.
///
/// Settling moves numbers here; each party withdraws its own by its own instruction.
#[account]
pub struct Lease {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// [`Lease::OPEN`] to [`Lease::SETTLED`].
    pub status: u8,
    /// Why it ended, one of the `REASON_` codes; 0 while it has not.
    pub reason: u8,
    /// The host's or user's own code beside it, free to choose.
    pub detail: u16,
    /// Row of the container.
    pub row: u8,
    /// Percent at which an epoch without a verdict settles: that of the last one with a verdict, 100 before the first.
    pub last_availability: u8,
    /// Chosen by the user.
    pub nonce: u64,
    /// Who pays, and gets back what was not delivered.
    pub user: Address,
    /// The container.
    pub container: Address,
    /// Hash of the workload that the user will hand to the host.
    pub workload_hash: [u8; 32],
    /// Id of the container's provider.
    pub provider: u32,
    /// Index of the container's block.
    pub block: u32,
    /// Id of the indexer that matched, [`crate::constants::NONE`] when none.
    pub indexer: u32,
    /// Seconds asked for.
    pub max_seconds: u32,
    /// Least seconds that are due once it started.
    pub minimum_seconds: u32,
    /// Protocol fee on what is paid, bps, fixed when opened.
    pub fee_bps: u16,
    /// Indexer's share of the fee, bps, fixed when opened.
    pub indexer_share_bps: u16,
    /// Price per hour, base units, fixed when opened.
    pub price_per_hour: u64,
    /// What the user put in, base units.
    pub escrowed: u64,
    /// Delivered and paid to the provider, base units.
    pub paid: u64,
    /// Fee on that, base units, the indexer's share included.
    pub fee: u64,
    /// The indexer's share of the fee, base units.
    pub indexer_fee: u64,
    /// Given back to the user, base units.
    pub refunded: u64,
    /// Of that, withdrawn.
    pub withdrawn: u64,
    /// Credited to the user from the container's stake, base units of the stake vault.
    pub compensation: u64,
    /// Of that, withdrawn.
    pub compensation_withdrawn: u64,
    /// When it was opened, seconds.
    pub opened: i64,
    /// Until when the host may start it, seconds.
    pub start_by: i64,
    /// When it started, seconds; 0 before.
    pub started: i64,
    /// When what is due ends, seconds; 0 while it runs.
    pub ended: i64,
    /// Until when it is settled, seconds.
    pub settled_until: i64,
    /// Seconds settled, each times its availability in percent.
    pub delivered: u64,
    /// The host's own word: GPU-seconds used.
    pub usage_gpu_seconds: u64,
    /// The host's own word: joules used.
    pub usage_energy: u64,
    /// The host's own word: bytes sent and received.
    pub usage_bytes: u64,
    /// When it was closed and the host let go, seconds; 0 before. What is due may end later.
    pub closed: i64,
    /// Reserved, zero.
    pub reserved: [u8; 88],
}

assert_size!(Lease, 16 + 3 * 32 + 5 * 4 + 4 + 9 * 8 + 5 * 8 + 5 * 8 + 88);

impl Lease {
    /// Escrowed, not started.
    pub const OPEN: u8 = 1;
    /// Running.
    pub const STARTED: u8 = 2;
    /// Ended, not settled to the end.
    pub const ENDED: u8 = 3;
    /// Everything is paid, taken as fee or given back.
    pub const SETTLED: u8 = 4;

    /// The user closed it.
    pub const REASON_USER: u8 = 1;
    /// The user closed it as not served within the first 300 s.
    pub const REASON_NOT_SERVED: u8 = 2;
    /// The provider closed it.
    pub const REASON_PROVIDER: u8 = 3;
    /// What was escrowed is used up.
    pub const REASON_EXHAUSTED: u8 = 4;
    /// The host rejected it.
    pub const REASON_REJECTED: u8 = 5;
    /// The host did not start it in time.
    pub const REASON_TIMED_OUT: u8 = 6;

    /// What is neither paid, taken as fee nor given back, base units.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when more was handed out than put in.
    pub fn held(&self) -> Result<u64> {
        self.escrowed
            .checked_sub(self.paid)
            .and_then(|h| h.checked_sub(self.fee))
            .and_then(|h| h.checked_sub(self.refunded))
            .ok_or_else(|| DatagalaxError::InvariantViolated.into())
    }

    /// When what was escrowed is used up, or what is due ends, seconds.
    pub fn end(&self) -> i64 {
        if self.ended != 0 { self.ended } else { after(self.started, self.max_seconds) }
    }

    /// The prices that it is billed by.
    pub fn bill(&self) -> Bill {
        Bill { price_per_hour: self.price_per_hour, fee_bps: self.fee_bps, indexer_share_bps: self.indexer_share_bps }
    }

    /// Ends it without anything delivered: all that was escrowed goes back.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] as [`Self::held`].
    pub fn refund_all(&mut self, reason: u8, now: i64) -> Result<()> {
        self.refunded += self.held()?;
        self.status = Self::SETTLED;
        self.reason = reason;
        self.ended = now;
        Ok(())
    }

    /// Conservation law 3: escrowed = paid + fee + refunded + held, always.
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
        let Ok(held) = self.held() else { return false };
        self.version == VERSION
            && (1..=Self::SETTLED).contains(&self.status)
            && (self.status != Self::SETTLED || held == 0)
            && self.indexer_fee <= self.fee
            && self.withdrawn <= self.refunded
            && self.compensation_withdrawn <= self.compensation
    }
}
