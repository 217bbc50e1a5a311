use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority},
    error::DatagalaxError,
    events::ContainerUpdated,
    state::{Container, Provider},
};

#[derive(Accounts)]
pub struct RotateContainerOperator {
    pub owner: Signer,
    #[account(constraint = provider.owner == *owner.address() @ DatagalaxError::Unauthorized)]
    pub provider: Account<Provider>,
    #[account(mut, constraint = container.provider == provider.id @ DatagalaxError::WrongAccount)]
    pub container: Account<Container>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The provider's owner signs: the cold key, since this one may be what was stolen.
/// 2. Replace the key that starts leases and signs metrics.
#[inline(never)]
pub fn rotate_container_operator(ctx: &mut Context<RotateContainerOperator>, operator: &Address) -> Result<()> {
    let address = *ctx.accounts.container.address();
    let container = &mut *ctx.accounts.container;
    container.operator = *operator;
    ctx.accounts.event_authority.emit(&ContainerUpdated {
        container: address,
        price_before: container.price_per_hour,
        price_per_hour: container.price_per_hour,
        minimum_lease: container.minimum_lease,
        accepting: container.accepting,
        operator: *operator,
        reserved: [0; 3],
    });
    ctx.accounts.container.invariant()
}
