use anchor_lang::prelude::*;
use anchor_spl::{mint::Mint, token, token::TokenAccount};

use crate::{
    error::DatagalaxError,
    instructions::token_transfer::deposit,
    state::{Network, VaultLedger},
};

#[derive(Accounts)]
pub struct FundRewards {
    pub funder: Signer,
    pub network: Account<Network>,
    #[account(address = network.mint @ DatagalaxError::WrongAccount)]
    pub mint: Account<Mint>,
    #[account(mut, token::mint = mint, token::authority = funder)]
    pub from: Account<TokenAccount>,
    #[account(mut)]
    pub ledger: Account<VaultLedger>,
    #[account(mut, address = ledger.vault @ DatagalaxError::WrongAccount)]
    pub vault: Account<TokenAccount>,
    pub token_program: Program<Token>,
}

/// Specification
/// 1. The ledger is the rewards vault's.
/// 2. Move the tokens and book them: emission reserves only what was booked, so a plain donation changes nothing.
#[inline(never)]
pub fn fund_rewards(ctx: &mut Context<FundRewards>, amount: u64) -> Result<()> {
    let accounts = &mut ctx.accounts;
    // 1.
    require!(accounts.ledger.kind == VaultLedger::REWARDS, DatagalaxError::WrongAccount);

    // 2.
    deposit(
        &accounts.token_program,
        &accounts.mint,
        &mut accounts.from,
        &mut accounts.vault,
        &accounts.funder,
        &mut accounts.ledger,
        amount,
    )?;
    accounts.ledger.invariant(accounts.vault.amount())
}
