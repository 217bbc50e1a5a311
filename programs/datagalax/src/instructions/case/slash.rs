use anchor_lang::prelude::Result;

use crate::{
    constants::DAY,
    error::DatagalaxError,
    instructions::container::halt,
    state::{Container, Network, Provider, Row, VaultLedger},
};

/// What a slash took, base units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Of the container's stake.
    pub stake: u64,
    /// Of the provider's unvested grants, newest first.
    pub grants: u64,
    /// Of the row's accrual.
    pub accrual: u64,
}

/// Takes `amount`: of the container's stake, then of the provider's unvested grants, newest first, then of the row's accrual;
/// with `all_accrual` all of that in any case. Halts the container.
///
/// What is taken is owed to nobody any more: rewards stay in their vault, stake follows by `sweep_vault`. Attack: whoever judges,
/// accuses or administers and is paid from it would slash for a living; nobody is.
///
/// # Errors
/// [`DatagalaxError::InvariantViolated`] when the books do not hold what the container does.
#[allow(clippy::too_many_arguments)]
#[inline(never)]
pub(super) fn slash(
    network: &Network,
    container: &mut Container,
    provider: &mut Provider,
    row: &mut Row,
    amount: u64,
    all_accrual: bool,
    reason: u16,
    now: i64,
    ledgers: (&mut VaultLedger, &mut VaultLedger),
) -> Result<Taken> {
    let (stake_ledger, rewards_ledger) = ledgers;
    let stake = amount.min(container.locked_stake);
    container.locked_stake -= stake;
    provider.locked = provider.locked.checked_sub(stake).ok_or(DatagalaxError::InvariantViolated)?;
    provider.staked = provider.staked.checked_sub(stake).ok_or(DatagalaxError::InvariantViolated)?;
    stake_ledger.release(stake)?;

    let today = (now / DAY) as u32;
    let grants = provider.slash_grants(amount - stake, today, &network.vesting_terms)?;
    let accrual = if all_accrual { row.accrued } else { row.accrued.min(amount - stake - grants) };
    row.accrued -= accrual;
    rewards_ledger.release(grants)?;
    rewards_ledger.release(accrual)?;
    halt(container, row, reason, network.current_epoch);
    Ok(Taken { stake, grants, accrual })
}
