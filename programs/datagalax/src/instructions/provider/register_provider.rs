use anchor_lang::prelude::*;

use crate::{
    constants::{NONE, seed},
    error::DatagalaxError,
    state::{Network, Provider, VERSION},
};

#[derive(Accounts)]
pub struct RegisterProvider {
    #[account(mut)]
    pub owner: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    #[account(init, payer = owner, seeds = [seed::PROVIDER, network.providers.to_le_bytes()], bump)]
    pub provider: Account<Provider>,
    pub system_program: Program<System>,
}

/// Specification
/// 1. The network is not paused.
/// 2. The provider takes the next id and names its hot key and its payout wallet.
#[inline(never)]
pub fn register_provider(ctx: &mut Context<RegisterProvider>, operator: Address, payout: Address) -> Result<()> {
    let network = &mut *ctx.accounts.network;
    // 1.
    require!(network.paused == 0, DatagalaxError::Paused);

    // 2. An id is never reused: it is the seed of the account, so that the owner key can change.
    let provider = &mut *ctx.accounts.provider;
    provider.version = VERSION;
    provider.bump = ctx.bumps.provider;
    provider.id = network.providers;
    provider.owner = *ctx.accounts.owner.address();
    provider.operator = operator;
    provider.payout = payout;
    network.providers = network.providers.checked_add(1).filter(|n| *n != NONE).ok_or(DatagalaxError::Overflow)?;
    network.invariant()?;
    provider.invariant()
}
