use anchor_lang::prelude::*;

use super::{emit_end, note_settled};
use crate::{
    checked::{Account, EventAuthority},
    clock::now,
    constants::MISSES,
    error::DatagalaxError,
    state::{Block, Container, Epoch, Indexer, Lease, Network},
};

#[derive(Accounts)]
pub struct CancelLease {
    pub network: Account<Network>,
    #[account(mut)]
    pub container: Account<Container>,
    #[account(mut, constraint = block.index == container.block @ DatagalaxError::WrongAccount)]
    pub block: Account<Block>,
    #[account(mut, constraint = lease.container == *container.address() @ DatagalaxError::WrongAccount)]
    pub lease: Account<Lease>,
    /// The indexer that matched it, if one did.
    #[account(mut)]
    pub indexer: Option<Account<Indexer>>,
    #[account(mut, constraint = epoch.number == network.current_epoch @ DatagalaxError::CurrentEpochRequired)]
    pub epoch: Account<Epoch>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may call; the lease is open and its time to start is over.
/// 2. Everything goes back to the user; the container is free, with a miss.
/// 3. After three misses in a row the container earns up to this epoch, takes no lease, and is then checked again.
#[inline(never)]
pub fn cancel_lease(ctx: &mut Context<CancelLease>) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    // 1.
    require!(accounts.lease.status == Lease::OPEN, DatagalaxError::WrongLeaseState);
    require!(now > accounts.lease.start_by, DatagalaxError::StartNotTimedOut);

    // 2.
    accounts.lease.refund_all(Lease::REASON_TIMED_OUT, now)?;
    let container = &mut *accounts.container;
    container.lease = Address::default();
    container.misses = container.misses.saturating_add(1);
    note_settled(&accounts.lease, &mut accounts.indexer)?;

    // 3.
    if container.misses >= MISSES {
        container.misses = 0;
        let epoch = &mut *accounts.epoch;
        let removed = accounts.block.cease_after(container.row, epoch.number);
        epoch.nominal_removed = epoch.nominal_removed.checked_add(removed).ok_or(DatagalaxError::Overflow)?;
    }
    emit_end(&accounts.event_authority, accounts.lease.address(), &accounts.lease);
    accounts.block.invariant()?;
    accounts.lease.invariant()
}
