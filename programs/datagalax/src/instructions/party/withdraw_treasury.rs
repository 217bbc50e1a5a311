use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, TokenAccount},
    error::DatagalaxError,
    events::Withdrawn,
    instructions::vault::*,
    state::{Network, VaultLedger},
};

#[derive(Accounts)]
pub struct WithdrawTreasury {
    #[account(mut)]
    pub network: Account<Network>,
    pub vault: Nested<Vault>,
    #[account(mut, constraint = *to.address() == network.treasury @ DatagalaxError::WrongAccount)]
    pub to: TokenAccount,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may call: tokens go to the treasury's account, nowhere else.
/// 2. Pay what released epochs left of its share after the keepers' fees, as much as fits into the breaker's room.
#[inline(never)]
pub fn withdraw_treasury(ctx: &mut Context<WithdrawTreasury>) -> Result<()> {
    let accounts = &mut ctx.accounts;
    // 1.
    accounts.vault.require(&accounts.network, VaultLedger::REWARDS)?;

    // 2.
    let owed = accounts.network.treasury_due;
    let amount = accounts.vault.pay_out(&accounts.network, &accounts.to, owed)?;
    accounts.network.treasury_due = owed - amount;
    accounts.event_authority.emit(&Withdrawn {
        source: *accounts.network.address(),
        kind: VaultLedger::REWARDS,
        amount,
        left: owed - amount,
        to: *accounts.to.address(),
        reserved: [0; 7],
    });
    accounts.network.invariant()
}
