use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority},
    clock::{after, now},
    error::DatagalaxError,
    events::IndexerChanged,
    state::{Indexer, Network},
};

#[derive(Accounts)]
pub struct LeaveIndexer {
    pub owner: Signer,
    pub network: Account<Network>,
    #[account(mut, constraint = indexer.owner == *owner.address() @ DatagalaxError::Unauthorized)]
    pub indexer: Account<Indexer>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The indexer's owner signs; it is not leaving yet.
/// 2. It matches nobody any more; its stake unlocks after the time that is in force now. Shares of leases it matched still come in.
#[inline(never)]
pub fn leave_indexer(ctx: &mut Context<LeaveIndexer>) -> Result<()> {
    let indexer = &mut *ctx.accounts.indexer;
    // 1.
    require!(indexer.status == Indexer::ACTIVE, DatagalaxError::AlreadyLeaving);

    // 2.
    indexer.status = Indexer::LEAVING;
    indexer.unlocks_at = after(now()?, ctx.accounts.network.parameters.unbonding);
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
