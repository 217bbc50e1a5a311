use anchor_lang::prelude::*;

use super::write_endpoint;
use crate::{
    checked::{Account, EventAuthority},
    constants::{MAX_AMOUNT, SHORTEST_LEASE},
    error::DatagalaxError,
    events::ContainerUpdated,
    state::{Container, Provider},
};

/// What a provider may change of a container while it is registered; everything is given anew.
#[derive(Clone, AnchorSerialize, AnchorDeserialize, IdlType)]
pub struct UpdateContainerArgs {
    /// Hash of the published specification.
    pub spec_hash: [u8; 32],
    /// Price per hour, base units. Leases keep the price they were opened at.
    pub price_per_hour: u64,
    /// Least length of a lease, seconds, 600 or more.
    pub minimum_lease: u32,
    /// 1 when it takes new leases, else 0.
    pub accepting: u8,
    /// Where it is reached, 1 to 128 bytes.
    pub endpoint: alloc::string::String,
}

/// What a provider's hot key does to a container.
#[derive(Accounts)]
pub struct OperateContainer {
    pub operator: Signer,
    #[account(
        constraint = provider.operator == *operator.address() || provider.owner == *operator.address()
            @ DatagalaxError::Unauthorized
    )]
    pub provider: Account<Provider>,
    #[account(mut, constraint = container.provider == provider.id @ DatagalaxError::WrongAccount)]
    pub container: Account<Container>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The provider's operator (or owner) signs; fields are in range.
/// 2. Replace what the args name.
#[inline(never)]
pub fn update_container(ctx: &mut Context<OperateContainer>, args: &UpdateContainerArgs) -> Result<()> {
    let address = *ctx.accounts.container.address();
    let container = &mut *ctx.accounts.container;
    // 1.
    require!(
        args.price_per_hour <= MAX_AMOUNT && args.minimum_lease >= SHORTEST_LEASE && args.accepting <= 1,
        DatagalaxError::BadContainer
    );

    // 2.
    let before = container.price_per_hour;
    container.endpoint_len = write_endpoint(&mut container.endpoint, &args.endpoint)?;
    container.spec_hash = args.spec_hash;
    container.price_per_hour = args.price_per_hour;
    container.minimum_lease = args.minimum_lease;
    container.accepting = args.accepting;
    ctx.accounts.event_authority.emit(&ContainerUpdated {
        container: address,
        price_before: before,
        price_per_hour: args.price_per_hour,
        minimum_lease: args.minimum_lease,
        accepting: args.accepting,
        operator: container.operator,
        reserved: [0; 3],
    });
    ctx.accounts.container.invariant()
}
