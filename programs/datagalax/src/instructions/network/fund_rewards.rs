use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, TokenAccount},
    events::RewardsFunded,
    instructions::vault::*,
    state::{Network, VaultLedger},
};

#[derive(Accounts)]
pub struct FundRewards {
    pub funder: Signer,
    pub network: Account<Network>,
    #[account(mut)]
    pub from: TokenAccount,
    pub vault: Nested<Vault>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The vault is that of rewards.
/// 2. Move the tokens and book them: emission reserves only what was booked, so a plain donation changes nothing.
#[inline(never)]
pub fn fund_rewards(ctx: &mut Context<FundRewards>, amount: u64) -> Result<()> {
    let accounts = &mut ctx.accounts;
    // 1.
    accounts.vault.require(&accounts.network, VaultLedger::REWARDS)?;

    // 2.
    accounts.vault.deposit(&accounts.from, accounts.funder.account(), amount, false)?;
    accounts.event_authority.emit(&RewardsFunded { amount, balance: accounts.vault.ledger.balance });
    Ok(())
}
