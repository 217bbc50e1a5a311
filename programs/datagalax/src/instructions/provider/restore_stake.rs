use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority},
    error::DatagalaxError,
    events::ContainerHalted,
    state::{Block, Container, Provider, Row},
};

#[derive(Accounts)]
pub struct RestoreStake {
    pub owner: Signer,
    #[account(mut, constraint = provider.owner == *owner.address() @ DatagalaxError::Unauthorized)]
    pub provider: Account<Provider>,
    #[account(mut, constraint = container.provider == provider.id @ DatagalaxError::WrongAccount)]
    pub container: Account<Container>,
    #[account(mut, constraint = block.index == container.block @ DatagalaxError::WrongAccount)]
    pub block: Account<Block>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The provider's owner signs; the container is halted.
/// 2. Lock what its stake lacks out of the provider's free stake.
/// 3. It is halted no more: it earns and takes leases again as its row allows.
#[inline(never)]
pub fn restore_stake(ctx: &mut Context<RestoreStake>) -> Result<()> {
    let address = *ctx.accounts.container.address();
    let (provider, container) = (&mut *ctx.accounts.provider, &mut *ctx.accounts.container);
    // 1.
    require!(container.status == 1, DatagalaxError::NotHalted);

    // 2.
    let lacking =
        container.original_locked_stake.checked_sub(container.locked_stake).ok_or(DatagalaxError::InvariantViolated)?;
    require!(lacking <= provider.free_stake(), DatagalaxError::StakeTooLow);
    provider.locked += lacking;
    container.locked_stake = container.original_locked_stake;

    // 3.
    container.status = 0;
    container.halt_reason = 0;
    ctx.accounts.block.rows[usize::from(container.row)].flags &= !Row::HALTED;
    ctx.accounts.event_authority.emit(&ContainerHalted {
        container: address,
        reason: 0,
        locked_stake: container.locked_stake,
        reserved: [0; 6],
    });
    ctx.accounts.container.invariant()?;
    ctx.accounts.provider.invariant()
}
