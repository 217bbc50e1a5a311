//! Checkers: registration, tickets, commit and reveal.

mod commit_report;
mod leave_tickets;
mod register_checker;
mod register_tickets;
mod reveal_report;
mod withdraw_tickets;

pub use commit_report::*;
pub use leave_tickets::*;
pub use register_checker::*;
pub use register_tickets::*;
pub use reveal_report::*;
pub use withdraw_tickets::*;

use anchor_lang::prelude::Result;

use crate::{constants::MAX_TICKETS_PER_CALL, error::DatagalaxError};

/// Reads slots as instructions name them, u32 little-endian each.
///
/// # Errors
/// [`DatagalaxError::BadTicketCount`] for none, more than 150, or a length that is no multiple of 4.
#[inline(never)]
pub(super) fn slots(bytes: &[u8]) -> Result<&[[u8; 4]]> {
    let (slots, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() || slots.is_empty() || slots.len() > usize::from(MAX_TICKETS_PER_CALL) {
        return Err(DatagalaxError::BadTicketCount.into());
    }
    Ok(slots)
}
