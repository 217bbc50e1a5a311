//! Keepers: whoever drives the epochs for a small set fee.

mod register_keeper;

pub use register_keeper::*;

use anchor_lang::prelude::Result;

use crate::{
    checked::Account,
    error::DatagalaxError,
    state::{Epoch, Keeper},
};

/// Credits a keeper that named itself with the fee of one action, as far as the treasury's share of the epoch lasts.
///
/// # Errors
/// [`DatagalaxError::Overflow`].
#[inline(never)]
pub(super) fn pay_keeper(epoch: &mut Epoch, keeper: &mut Option<Account<Keeper>>) -> Result<()> {
    let Some(keeper) = keeper else { return Ok(()) };
    let fee = epoch.pay_keeper();
    keeper.due = keeper.due.checked_add(fee).ok_or(DatagalaxError::Overflow)?;
    keeper.earned = keeper.earned.checked_add(fee).ok_or(DatagalaxError::Overflow)?;
    keeper.actions = keeper.actions.saturating_add(1);
    keeper.invariant()
}
