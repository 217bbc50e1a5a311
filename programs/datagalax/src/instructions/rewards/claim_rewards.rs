use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority},
    clock::now,
    constants::{DAY, ROWS},
    error::DatagalaxError,
    events::RewardsClaimed,
    state::{Block, Network, Provider, Row},
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
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The network is not paused; the provider's operator (or owner) signs.
/// 2. Every named row (bit r of byte r / 8) belongs to the provider; take what each accrued, but leave what a case has frozen.
/// 3. Grant the sum under today's terms; `withdraw` pays it as it vests.
#[inline(never)]
pub fn claim_rewards(ctx: &mut Context<ClaimRewards>, rows: &[u8; ROWS / 8]) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    // 1.
    accounts.network.require_running(now)?;
    require!(rows.iter().any(|b| *b != 0), DatagalaxError::NoRows);

    // 2. Attack: claim a neighbour's row of the same block. Accrued is zeroed as it is summed: twice pays nothing.
    let provider = &mut *accounts.provider;
    let mut amount = 0u64;
    for (r, row) in accounts.block.rows.iter_mut().enumerate() {
        if rows[r / 8] >> (r % 8) & 1 == 1 {
            require!(row.status != Row::FREE && row.provider == provider.id, DatagalaxError::NotYourRow);
            if !row.is_accused() {
                amount = amount.checked_add(row.accrued).ok_or(DatagalaxError::Overflow)?;
                row.accrued = 0;
            }
        }
    }
    require!(amount > 0, DatagalaxError::NothingToPay);

    // 3. It stays promised by the rewards vault, now to the provider instead of the rows.
    let day = (now / DAY) as u32;
    provider.grant(amount, day, accounts.network.terms_on(day)?)?;
    accounts.event_authority.emit(&RewardsClaimed {
        provider: provider.id,
        block: accounts.block.index,
        amount,
        day,
        reserved: [0; 4],
    });
    accounts.provider.invariant()
}
