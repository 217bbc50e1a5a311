use anchor_lang::prelude::*;

use super::last_touched;
use crate::{
    checked::{Account, EventAuthority, TokenAccount},
    clock::now,
    constants::LONGEST_LEASE,
    error::DatagalaxError,
    events::LeaseToppedUp,
    instructions::vault::*,
    state::{Block, Lease, Network, VaultLedger},
};

#[derive(Accounts)]
pub struct TopUpLease {
    #[account(constraint = *user.address() == lease.user @ DatagalaxError::Unauthorized)]
    pub user: Signer,
    pub network: Account<Network>,
    #[account(mut, constraint = block.index == lease.block @ DatagalaxError::WrongAccount)]
    pub block: Account<Block>,
    #[account(mut)]
    pub lease: Account<Lease>,
    #[account(mut)]
    pub from: TokenAccount,
    pub vault: Nested<Vault>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The network is not paused; the lease's user signs; it runs, and what was escrowed is not used up.
/// 2. It lasts at most 366 days in all.
/// 3. Escrow what the longer time costs more, at the lease's own prices.
/// 4. The epochs it now touches are capped like the others.
#[inline(never)]
pub fn top_up_lease(ctx: &mut Context<TopUpLease>, seconds: u32) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    let lease = &mut *accounts.lease;
    // 1.
    accounts.network.require_running(now)?;
    require!(lease.status == Lease::STARTED && now < lease.end(), DatagalaxError::WrongLeaseState);

    // 2.
    let total = lease.max_seconds.checked_add(seconds).filter(|t| seconds > 0 && *t <= LONGEST_LEASE);
    let total = total.ok_or(DatagalaxError::BadDuration)?;

    // 3. Computed of the whole, so that many small top-ups cost what one does.
    let escrow = lease.bill().escrow(total)?;
    let more = escrow.checked_sub(lease.escrowed).ok_or(DatagalaxError::InvariantViolated)?;
    accounts.vault.require(&accounts.network, VaultLedger::ESCROW)?;
    if more > 0 {
        accounts.vault.deposit(&accounts.from, accounts.user.account(), more, true)?;
    }
    lease.escrowed = escrow;
    lease.max_seconds = total;

    // 4.
    let (until, tail) = last_touched(&accounts.network, lease.started, lease.end())?;
    accounts.block.rows[usize::from(lease.row)].end_lease(until, tail);
    accounts.event_authority.emit(&LeaseToppedUp {
        lease: *accounts.lease.address(),
        seconds: total,
        escrowed: escrow,
        reserved: [0; 4],
    });
    accounts.lease.invariant()
}
