use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, New},
    clock::now,
    constants::{NONE, seed},
    error::DatagalaxError,
    events::ProviderRegistered,
    state::{Network, Provider, VERSION},
};

#[derive(Accounts)]
pub struct RegisterProvider {
    #[account(mut)]
    pub owner: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    #[account(mut)]
    pub provider: New<Provider>,
    pub system_program: Program<System>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The network is not paused.
/// 2. The provider takes the next id and names its hot key and its payout wallet.
#[inline(never)]
pub fn register_provider(ctx: &mut Context<RegisterProvider>, operator: &Address, payout: &Address) -> Result<()> {
    let network = &mut *ctx.accounts.network;
    // 1.
    network.require_running(now()?)?;

    // 2. An id is never reused: it is the seed of the account, so that the owner key can change.
    let id = network.providers;
    let seeds: [&[u8]; 2] = [seed::PROVIDER, &id.to_le_bytes()];
    let (mut provider, bump) = ctx.accounts.provider.create(ctx.accounts.owner.account(), &seeds)?;
    provider.version = VERSION;
    provider.bump = bump;
    provider.id = id;
    provider.owner = *ctx.accounts.owner.address();
    provider.operator = *operator;
    provider.payout = *payout;
    provider.rent_payer = provider.owner;
    network.providers = id.checked_add(1).filter(|n| *n != NONE).ok_or(DatagalaxError::Overflow)?;
    ctx.accounts.event_authority.emit(&ProviderRegistered {
        provider: provider.id,
        owner: provider.owner,
        operator: *operator,
        payout: *payout,
    });
    ctx.accounts.network.invariant()?;
    provider.invariant()
}
