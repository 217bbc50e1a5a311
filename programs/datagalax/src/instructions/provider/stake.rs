use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, TokenAccount},
    clock::now,
    error::DatagalaxError,
    events::StakeChanged,
    instructions::vault::*,
    state::{Network, Provider, VaultLedger},
};

#[derive(Accounts)]
pub struct Stake {
    pub owner: Signer,
    pub network: Account<Network>,
    #[account(mut, constraint = provider.owner == *owner.address() @ DatagalaxError::Unauthorized)]
    pub provider: Account<Provider>,
    #[account(mut)]
    pub from: TokenAccount,
    pub vault: Nested<Vault>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The network is not paused; the vault is that of stake; the provider's owner signs.
/// 2. Move the tokens, book them as owed to the provider.
#[inline(never)]
pub fn stake(ctx: &mut Context<Stake>, amount: u64) -> Result<()> {
    let accounts = &mut ctx.accounts;
    // 1.
    accounts.network.require_running(now()?)?;
    accounts.vault.require(&accounts.network, VaultLedger::STAKE)?;

    // 2.
    accounts.vault.deposit(&accounts.from, accounts.owner.account(), amount, true)?;
    let provider = &mut *accounts.provider;
    provider.staked = provider.staked.checked_add(amount).ok_or(DatagalaxError::Overflow)?;
    accounts.event_authority.emit(&StakeChanged::of(provider));
    accounts.provider.invariant()
}
