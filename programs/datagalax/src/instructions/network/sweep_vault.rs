use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, TokenAccount},
    error::DatagalaxError,
    events::VaultSwept,
    instructions::vault::*,
    state::{Network, VaultLedger},
};

#[derive(Accounts)]
pub struct SweepVault {
    pub network: Account<Network>,
    /// The stake or escrow vault.
    pub vault: Nested<Vault>,
    #[account(mut)]
    pub rewards_ledger: Account<VaultLedger>,
    #[account(mut)]
    pub rewards_vault: TokenAccount,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may call; the vault is that of stake or of escrow, the other that of rewards.
/// 2. What the first holds and owes nobody (slashes; fees of leases) moves to the rewards vault: fees fund rewards. Nobody
///    outside is paid, so the breaker does not count it.
#[inline(never)]
pub fn sweep_vault(ctx: &mut Context<SweepVault>) -> Result<()> {
    let accounts = &mut ctx.accounts;
    // 1.
    let kind = accounts.vault.ledger.kind;
    require!(kind != VaultLedger::REWARDS, DatagalaxError::WrongAccount);
    accounts.vault.require(&accounts.network, kind)?;
    require!(
        accounts.rewards_ledger.kind == VaultLedger::REWARDS
            && *accounts.rewards_vault.address() == accounts.rewards_ledger.vault,
        DatagalaxError::WrongAccount
    );

    // 2. The ledger's own balance counts: a donation to the token account stays where it is.
    let amount = accounts.vault.ledger.free();
    require!(amount > 0, DatagalaxError::NothingToPay);
    accounts.vault.ledger.give_out(amount)?;
    accounts.rewards_ledger.take_in(amount)?;
    accounts.vault.transfer_out(&accounts.network, &accounts.rewards_vault, amount);
    accounts.event_authority.emit(&VaultSwept { kind, amount, reserved: [0; 7] });
    accounts.vault.ledger.invariant(accounts.vault.vault.amount())?;
    accounts.rewards_ledger.invariant(accounts.rewards_vault.amount())
}
