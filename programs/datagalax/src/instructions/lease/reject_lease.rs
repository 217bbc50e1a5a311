use anchor_lang::prelude::*;

use super::{emit_end, note_settled};
use crate::{
    checked::{Account, EventAuthority},
    clock::now,
    error::DatagalaxError,
    state::{Container, Indexer, Lease},
};

#[derive(Accounts)]
pub struct RejectLease {
    pub operator: Signer,
    #[account(mut, constraint = container.operator == *operator.address() @ DatagalaxError::Unauthorized)]
    pub container: Account<Container>,
    #[account(mut, constraint = lease.container == *container.address() @ DatagalaxError::WrongAccount)]
    pub lease: Account<Lease>,
    /// The indexer that matched it, if one did.
    #[account(mut)]
    pub indexer: Option<Account<Indexer>>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The container's operator signs; the lease is open.
/// 2. Everything goes back to the user; the container is free, without a miss.
#[inline(never)]
pub fn reject_lease(ctx: &mut Context<RejectLease>, detail: u16) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    // 1.
    require!(accounts.lease.status == Lease::OPEN, DatagalaxError::WrongLeaseState);

    // 2.
    accounts.lease.refund_all(Lease::REASON_REJECTED, now)?;
    accounts.lease.detail = detail;
    accounts.container.lease = Address::default();
    accounts.container.rejections = accounts.container.rejections.saturating_add(1);
    note_settled(&accounts.lease, &mut accounts.indexer)?;
    emit_end(&accounts.event_authority, accounts.lease.address(), &accounts.lease);
    accounts.lease.invariant()
}
