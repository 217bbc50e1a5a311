use anchor_lang::prelude::*;

use super::last_touched;
use crate::{
    checked::{Account, EventAuthority},
    clock::now,
    error::DatagalaxError,
    events::LeaseStarted,
    state::{Block, Container, Lease, Network},
};

#[derive(Accounts)]
pub struct StartLease {
    pub operator: Signer,
    pub network: Account<Network>,
    #[account(mut, constraint = container.operator == *operator.address() @ DatagalaxError::Unauthorized)]
    pub container: Account<Container>,
    #[account(mut, constraint = block.index == container.block @ DatagalaxError::WrongAccount)]
    pub block: Account<Block>,
    #[account(mut, constraint = lease.container == *container.address() @ DatagalaxError::WrongAccount)]
    pub lease: Account<Lease>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The container's operator signs; the lease is open and its time to start is not over.
/// 2. It runs from now on; the misses in a row end.
/// 3. In the epochs it touches, the row earns at most what the lease pays in fees.
#[inline(never)]
pub fn start_lease(ctx: &mut Context<StartLease>) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    let network = &accounts.network;
    let lease = &mut *accounts.lease;
    // 1.
    require!(lease.status == Lease::OPEN, DatagalaxError::WrongLeaseState);
    require!(now <= lease.start_by, DatagalaxError::StartTimedOut);

    // 2.
    lease.status = Lease::STARTED;
    lease.started = now;
    lease.settled_until = now;
    accounts.container.misses = 0;

    // 3. Attack: lease from oneself, and earn the emission of a container that nobody measures at full load. The fee of an epoch
    // as long as those of this moment is what the row may earn in one; of the first and last, the fee of what the lease covers.
    let from = network.epoch_at(now)?;
    let (_, close) = network.bounds(from);
    // Positive: the epoch holds this second, and no lease is empty.
    let head = close.min(lease.end()).saturating_sub(now) as u32;
    let cap = lease.bill().cap(network.grid_of(from).length)?;
    let head = lease.bill().cap(head)?;
    let (until, tail) = last_touched(network, now, lease.end())?;
    let row = &mut accounts.block.rows[usize::from(lease.row)];
    row.note_lease(from, head, cap);
    row.end_lease(until, tail);
    accounts.event_authority.emit(&LeaseStarted { lease: *accounts.lease.address(), started: now });
    accounts.lease.invariant()
}
