use anchor_lang::prelude::*;

use super::{emit_end, last_touched};
use crate::{
    checked::{Account, EventAuthority},
    clock::{after, now},
    constants::{DAY, NOT_SERVED_WITHIN},
    error::DatagalaxError,
    instructions::container::halt,
    state::{Block, Container, Lease, Network, Provider},
};

#[derive(Accounts)]
pub struct CloseLease {
    pub signer: Signer,
    pub network: Account<Network>,
    #[account(mut, constraint = lease.container == *container.address() @ DatagalaxError::WrongAccount)]
    pub lease: Account<Lease>,
    #[account(mut)]
    pub container: Account<Container>,
    #[account(mut, constraint = provider.id == container.provider @ DatagalaxError::WrongAccount)]
    pub provider: Account<Provider>,
    #[account(mut, constraint = block.index == container.block @ DatagalaxError::WrongAccount)]
    pub block: Account<Block>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The lease runs. Its user or the container's operator signs; anybody, once what was escrowed is used up.
/// 2. A user owes the seconds that passed and at least the minimum; not served: the seconds that passed alone, within 300 s of
///    the start, once a day for a user and a container.
/// 3. A provider that closes early without announced maintenance owes the user the price of one epoch out of the container's
///    stake, and the container is halted until that is restored.
/// 4. The container is free; the lease is settled by `settle_lease`.
#[inline(never)]
pub fn close_lease(ctx: &mut Context<CloseLease>, not_served: bool, detail: u16) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    let (lease, container) = (&mut *accounts.lease, &mut *accounts.container);
    let row = &mut accounts.block.rows[usize::from(container.row)];
    // 1.
    require!(lease.status == Lease::STARTED, DatagalaxError::WrongLeaseState);
    let (signer, end) = (accounts.signer.address(), lease.end());
    if now >= end {
        lease.ended = end;
        lease.reason = Lease::REASON_EXHAUSTED;
    } else if *signer == lease.user {
        // 2. Attack: rent by the minute in the name of "not served".
        if not_served {
            let day = (now / DAY) as u32;
            require!(
                now < after(lease.started, NOT_SERVED_WITHIN) && container.note_not_served(signer, day),
                DatagalaxError::NotServedTooLate
            );
            lease.ended = now;
            lease.reason = Lease::REASON_NOT_SERVED;
        } else {
            let least = after(lease.started, lease.minimum_seconds);
            lease.ended = now.max(least).min(end);
            lease.reason = Lease::REASON_USER;
        }
    } else {
        // 3.
        require!(*signer == container.operator, DatagalaxError::LeaseRunning);
        lease.ended = now;
        lease.reason = Lease::REASON_PROVIDER;
        if !container.is_excused(lease.opened, now, after(now, 1)) {
            let length = accounts.network.grid_of(accounts.network.epoch_at(now)?).length;
            let credit = lease.bill().epoch_price(length)?.min(container.locked_stake);
            lease.compensation = lease.compensation.checked_add(credit).ok_or(DatagalaxError::Overflow)?;
            container.locked_stake -= credit;
            let provider = &mut *accounts.provider;
            provider.locked = provider.locked.checked_sub(credit).ok_or(DatagalaxError::InvariantViolated)?;
            provider.staked = provider.staked.checked_sub(credit).ok_or(DatagalaxError::InvariantViolated)?;
            if credit > 0 {
                halt(container, row, Container::HALT_CLOSED_EARLY, accounts.network.current_epoch);
            }
        }
    }

    // 4. The cap on what the row earns stays for every epoch that the lease touched.
    lease.status = Lease::ENDED;
    lease.closed = now.min(end);
    lease.detail = detail;
    let (until, tail) = last_touched(&accounts.network, lease.started, lease.ended.min(now))?;
    row.end_lease(until, tail);
    container.lease = Address::default();
    container.unsettled = container.unsettled.checked_add(1).ok_or(DatagalaxError::Overflow)?;
    container.leases_served = container.leases_served.saturating_add(1);
    emit_end(&accounts.event_authority, accounts.lease.address(), &accounts.lease);
    accounts.container.invariant()?;
    accounts.provider.invariant()?;
    accounts.lease.invariant()
}
