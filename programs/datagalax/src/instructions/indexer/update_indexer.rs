use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority},
    error::DatagalaxError,
    events::IndexerChanged,
    instructions::container::write_endpoint,
    state::Indexer,
};

#[derive(Accounts)]
pub struct UpdateIndexer {
    pub operator: Signer,
    #[account(
        mut,
        constraint = indexer.operator == *operator.address() || indexer.owner == *operator.address()
            @ DatagalaxError::Unauthorized
    )]
    pub indexer: Account<Indexer>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The indexer's operator (or owner) signs; the endpoint is in range.
/// 2. Replace it.
#[inline(never)]
pub fn update_indexer(ctx: &mut Context<UpdateIndexer>, endpoint: &str) -> Result<()> {
    let indexer = &mut *ctx.accounts.indexer;
    indexer.endpoint_len = write_endpoint(&mut indexer.endpoint, endpoint)?;
    ctx.accounts.event_authority.emit(&IndexerChanged {
        indexer: indexer.id,
        status: indexer.status,
        staked: indexer.staked,
        unlocks_at: indexer.unlocks_at,
        operator: indexer.operator,
        reserved: [0; 3],
    });
    ctx.accounts.indexer.invariant()
}
