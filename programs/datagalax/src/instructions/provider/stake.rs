use anchor_lang::prelude::*;
use anchor_spl::{mint::Mint, token, token::TokenAccount};

use crate::{
    error::DatagalaxError,
    instructions::token_transfer::deposit,
    state::{Network, Provider, VaultLedger},
};

#[derive(Accounts)]
pub struct Stake {
    pub owner: Signer,
    pub network: Account<Network>,
    #[account(mut, constraint = provider.owner == *owner.address() @ DatagalaxError::Unauthorized)]
    pub provider: Account<Provider>,
    #[account(address = network.mint @ DatagalaxError::WrongAccount)]
    pub mint: Account<Mint>,
    #[account(mut, token::mint = mint, token::authority = owner)]
    pub from: Account<TokenAccount>,
    #[account(mut)]
    pub ledger: Account<VaultLedger>,
    #[account(mut, address = ledger.vault @ DatagalaxError::WrongAccount)]
    pub vault: Account<TokenAccount>,
    pub token_program: Program<Token>,
}

/// Specification
/// 1. The network is not paused; the ledger is the stake vault's; the provider's owner signs.
/// 2. Move the tokens, book them as owed to the provider.
#[inline(never)]
pub fn stake(ctx: &mut Context<Stake>, amount: u64) -> Result<()> {
    let accounts = &mut ctx.accounts;
    // 1.
    require!(accounts.network.paused == 0, DatagalaxError::Paused);
    require!(accounts.ledger.kind == VaultLedger::STAKE, DatagalaxError::WrongAccount);

    // 2.
    deposit(
        &accounts.token_program,
        &accounts.mint,
        &mut accounts.from,
        &mut accounts.vault,
        &accounts.owner,
        &mut accounts.ledger,
        amount,
    )?;
    accounts.ledger.reserve(amount)?;
    accounts.provider.staked = accounts.provider.staked.checked_add(amount).ok_or(DatagalaxError::Overflow)?;
    accounts.provider.invariant()?;
    accounts.ledger.invariant(accounts.vault.amount())
}
