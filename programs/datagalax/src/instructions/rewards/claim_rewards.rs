use anchor_lang::prelude::*;
use anchor_spl::{mint::Mint, token, token::TokenAccount};

use crate::{
    constants::ROWS,
    error::DatagalaxError,
    events::RewardsClaimed,
    instructions::token_transfer::pay_out,
    state::{Block, Network, Provider, Row, VaultLedger},
};

#[derive(Accounts)]
pub struct ClaimRewards {
    pub operator: Signer,
    pub network: Account<Network>,
    #[account(
        mut,
        constraint = provider.operator == *operator.address() || provider.owner == *operator.address()
            @ DatagalaxError::Unauthorized
    )]
    pub provider: Account<Provider>,
    #[account(mut)]
    pub block: Account<Block>,
    #[account(address = network.mint @ DatagalaxError::WrongAccount)]
    pub mint: Account<Mint>,
    #[account(mut)]
    pub ledger: Account<VaultLedger>,
    #[account(mut, address = ledger.vault @ DatagalaxError::WrongAccount)]
    pub vault: Account<TokenAccount>,
    #[account(
        mut,
        token::mint = mint,
        constraint = *to.owner() == provider.payout @ DatagalaxError::WrongAccount
    )]
    pub to: Account<TokenAccount>,
    pub token_program: Program<Token>,
}

/// Specification
/// 1. The provider's operator (or owner) signs; tokens go to the payout wallet's token account, nowhere else.
/// 2. Every named row (bit r of byte r / 8) belongs to the provider; take what each accrued.
/// 3. Pay the sum out of the rewards vault, at once (vesting comes with "The whole on-chain program").
#[inline(never)]
pub fn claim_rewards(ctx: &mut Context<ClaimRewards>, rows: &[u8; ROWS / 8]) -> Result<()> {
    let accounts = &mut ctx.accounts;
    // 1.
    require!(accounts.network.paused == 0, DatagalaxError::Paused);
    require!(accounts.ledger.kind == VaultLedger::REWARDS, DatagalaxError::WrongAccount);
    require!(rows.iter().any(|b| *b != 0), DatagalaxError::NoRows);

    // 2. Attack: claim a neighbour's row of the same block. Accrued is zeroed as it is summed: twice pays nothing.
    let provider = accounts.provider.id;
    let mut amount = 0u64;
    for (r, row) in accounts.block.rows.iter_mut().enumerate() {
        if rows[r / 8] >> (r % 8) & 1 == 1 {
            require!(row.status != Row::FREE && row.provider == provider, DatagalaxError::NotYourRow);
            amount = amount.checked_add(row.accrued).ok_or(DatagalaxError::Overflow)?;
            row.accrued = 0;
        }
    }

    // 3.
    let bump = accounts.network.bump;
    pay_out(
        &accounts.token_program,
        &accounts.mint,
        &mut accounts.vault,
        &mut accounts.to,
        accounts.network.cpi_handle(),
        bump,
        &mut accounts.ledger,
        amount,
    )?;
    accounts.provider.claimed = accounts.provider.claimed.checked_add(amount).ok_or(DatagalaxError::Overflow)?;
    emit!(RewardsClaimed { provider, block: accounts.block.index, amount, to: *accounts.to.address() });
    accounts.provider.invariant()?;
    accounts.ledger.invariant(accounts.vault.amount())
}
