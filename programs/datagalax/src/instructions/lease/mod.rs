//! Leases: paying for compute.

mod cancel_lease;
mod close_lease;
mod indexer_match;
mod open_lease;
mod record_usage;
mod reject_lease;
mod settle_lease;
mod start_lease;
mod top_up_lease;

pub use cancel_lease::*;
pub use close_lease::*;
pub use indexer_match::*;
pub use open_lease::*;
pub use record_usage::*;
pub use reject_lease::*;
pub use settle_lease::*;
pub use start_lease::*;
pub use top_up_lease::*;

use anchor_lang::prelude::{Address, Result};

use crate::{
    checked::{Account, EventAuthority},
    constants::{BPS, NONE},
    error::DatagalaxError,
    events::LeaseEnded,
    state::{Indexer, Lease, Network},
};

/// The indexer that matched a lease, which must be passed when there is one.
///
/// # Errors
/// [`DatagalaxError::WrongAccount`] when it is missing or another one.
#[inline(never)]
pub(super) fn indexer_of<'a>(lease: &Lease, indexer: &'a mut Option<Account<Indexer>>) -> Result<Option<&'a mut Indexer>> {
    if lease.indexer == NONE {
        return Ok(None);
    }
    match indexer {
        Some(indexer) if indexer.id == lease.indexer => Ok(Some(indexer)),
        _ => Err(DatagalaxError::WrongAccount.into()),
    }
}

/// Notes that a lease is settled to its end.
///
/// # Errors
/// [`DatagalaxError::WrongAccount`] as [`indexer_of`]; [`DatagalaxError::InvariantViolated`].
pub(super) fn note_settled(lease: &Lease, indexer: &mut Option<Account<Indexer>>) -> Result<()> {
    if let Some(indexer) = indexer_of(lease, indexer)? {
        indexer.open_leases = indexer.open_leases.checked_sub(1).ok_or(DatagalaxError::InvariantViolated)?;
    }
    Ok(())
}

/// The last epoch that a lease from `started` to `end` touches, and how much of it, bps rounded down. What ends with an epoch does
/// not touch the next.
///
/// # Errors
/// [`DatagalaxError::NotStarted`] before the first epoch.
#[inline(never)]
pub(super) fn last_touched(network: &Network, started: i64, end: i64) -> Result<(u32, u16)> {
    let epoch = network.epoch_at(started.max(end.saturating_sub(1)))?;
    let (start, close) = network.bounds(epoch);
    let covered = end.min(close).saturating_sub(started.max(start)).max(0) as u64;
    // Not more than the whole epoch, and unsigned, since SBF has no signed division.
    Ok((epoch, (covered * BPS / (close.saturating_sub(start) as u64).max(1)) as u16))
}

/// Records how a lease ended.
#[inline(never)]
pub(super) fn emit_end(authority: &EventAuthority, address: &Address, lease: &Lease) {
    authority.emit(&LeaseEnded {
        lease: *address,
        container: lease.container,
        reason: lease.reason,
        detail: lease.detail,
        ended: lease.ended,
        refunded: lease.refunded,
        compensation: lease.compensation,
        reserved: [0; 5],
    });
}
