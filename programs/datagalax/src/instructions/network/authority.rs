use anchor_lang::prelude::*;

use super::Govern;
use crate::{
    checked::{Account, EventAuthority},
    error::DatagalaxError,
    events::AuthorityChanged,
    state::Network,
};

/// Specification
/// 1. The network's authority signs and names the next one (the default address: nobody).
#[inline(never)]
pub fn propose_authority(ctx: &mut Context<Govern>, next: &Address) -> Result<()> {
    ctx.accounts.network.pending_authority = *next;
    ctx.accounts.network.invariant()
}

#[derive(Accounts)]
pub struct AcceptAuthority {
    #[account(constraint = *authority.address() == network.pending_authority @ DatagalaxError::NotNamed)]
    pub authority: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The named key signs, which proves that it exists. Attack of oneself: handing over to an address nobody holds.
/// 2. It is the authority from now on.
#[inline(never)]
pub fn accept_authority(ctx: &mut Context<AcceptAuthority>) -> Result<()> {
    let network = &mut *ctx.accounts.network;
    let before = network.authority;
    network.authority = *ctx.accounts.authority.address();
    network.pending_authority = Address::default();
    ctx.accounts.event_authority.emit(&AuthorityChanged { before, after: network.authority });
    ctx.accounts.network.invariant()
}
