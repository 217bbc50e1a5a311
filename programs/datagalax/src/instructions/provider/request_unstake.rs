use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority},
    clock::{after, now},
    error::DatagalaxError,
    events::StakeChanged,
    state::{Network, Provider, Unbonding},
};

#[derive(Accounts)]
pub struct RequestUnstake {
    pub owner: Signer,
    pub network: Account<Network>,
    #[account(mut, constraint = provider.owner == *owner.address() @ DatagalaxError::Unauthorized)]
    pub provider: Account<Provider>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The provider's owner signs; the amount is free: neither locked by containers nor asked back already.
/// 2. Note it with the time at which it may be withdrawn, which no later change of parameters moves.
#[inline(never)]
pub fn request_unstake(ctx: &mut Context<RequestUnstake>, amount: u64) -> Result<()> {
    let provider = &mut *ctx.accounts.provider;
    // 1.
    require!(amount > 0, DatagalaxError::BadAmount);
    require!(amount <= provider.free_stake(), DatagalaxError::StakeTooLow);

    // 2.
    let unlocks_at = after(now()?, ctx.accounts.network.parameters.unbonding);
    let entry = provider.unbonding_entries.iter_mut().find(|e| e.amount == 0).ok_or(DatagalaxError::TooManyRequests)?;
    *entry = Unbonding { amount, unlocks_at };
    provider.unbonding += amount;
    ctx.accounts.event_authority.emit(&StakeChanged::of(provider));
    ctx.accounts.provider.invariant()
}
