use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority},
    clock::{after, now},
    error::DatagalaxError,
    events::ProposalMade,
    state::{Network, Proposal},
};

/// What the authority does to the network itself.
#[derive(Accounts)]
pub struct Govern {
    #[account(constraint = *authority.address() == network.authority @ DatagalaxError::Unauthorized)]
    pub authority: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The network's authority signs; everything proposed is within bounds.
/// 2. Keep it until the time lock in force has run out; it replaces what was pending.
#[inline(never)]
pub fn propose(ctx: &mut Context<Govern>, proposal: &Proposal) -> Result<()> {
    let network = &mut *ctx.accounts.network;
    // 1.
    proposal.validate()?;

    // 2. Attack: shorten the lock and apply at once. The lock in force counts, not the proposed one.
    let now = now()?;
    network.pending = *proposal;
    network.pending_at = after(now, network.parameters.time_lock).max(1);
    ctx.accounts.event_authority.emit(&ProposalMade { applies_at: network.pending_at, proposal: *proposal });
    ctx.accounts.network.invariant()
}

/// Specification
/// 1. The network's authority signs; something is pending.
/// 2. Drop it.
#[inline(never)]
pub fn cancel_proposal(ctx: &mut Context<Govern>) -> Result<()> {
    let network = &mut *ctx.accounts.network;
    // 1.
    require!(network.pending_at != 0, DatagalaxError::NothingPending);

    // 2.
    network.pending_at = 0;
    ctx.accounts.event_authority.emit(&ProposalMade { applies_at: 0, proposal: bytemuck::Zeroable::zeroed() });
    ctx.accounts.network.invariant()
}
