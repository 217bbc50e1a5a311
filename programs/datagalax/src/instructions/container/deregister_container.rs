use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority},
    constants::NONE,
    error::DatagalaxError,
    events::ContainerLeaving,
    state::{Block, Container, Epoch, Network, Provider, Row},
};

#[derive(Accounts)]
pub struct DeregisterContainer {
    pub owner: Signer,
    pub network: Account<Network>,
    #[account(constraint = provider.owner == *owner.address() @ DatagalaxError::Unauthorized)]
    pub provider: Account<Provider>,
    #[account(mut, constraint = container.provider == provider.id @ DatagalaxError::WrongAccount)]
    pub container: Account<Container>,
    #[account(mut, constraint = block.index == container.block @ DatagalaxError::WrongAccount)]
    pub block: Account<Block>,
    #[account(mut, constraint = epoch.number == network.current_epoch @ DatagalaxError::CurrentEpochRequired)]
    pub epoch: Account<Epoch>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The provider's owner signs; the container has no open or running lease and is not leaving already.
/// 2. It leaves with the end of the epoch last advanced to, for which it is still reported, judged and paid.
/// 3. What nominal loses counts from the next epoch.
#[inline(never)]
pub fn deregister_container(ctx: &mut Context<DeregisterContainer>) -> Result<()> {
    let accounts = &mut ctx.accounts;
    // 1. Attack: take the money of a lease and vanish from the committees' eyes.
    require!(accounts.container.lease == Address::default(), DatagalaxError::ContainerLeased);
    let row = accounts.container.row;
    require!(accounts.block.rows[usize::from(row)].status != Row::LEAVING, DatagalaxError::AlreadyLeaving);

    // 2. Attack: leave while nobody has advanced to the epoch the clock is in, and be paid for it although 3. takes the weight out
    // of its nominal. More would be credited than its pool, and no tally of the block would go through.
    let until = accounts.network.current_epoch.checked_add(1).ok_or(DatagalaxError::Overflow)?;
    let block = &mut *accounts.block;
    // One that is falling back leaves no later than it falls: its weight is out of nominal already.
    let before = block.rows[usize::from(row)];
    let live = before.status == Row::LIVE;
    let removed = block.cease(row);
    let left = &mut block.rows[usize::from(row)];
    left.status = Row::LEAVING;
    left.until = until.min(before.until);
    if !live {
        // What was never live earns nothing on its way out.
        left.live_from = NONE;
    }
    accounts.container.accepting = 0;

    // 3.
    let epoch = &mut *accounts.epoch;
    epoch.nominal_removed = epoch.nominal_removed.checked_add(removed).ok_or(DatagalaxError::Overflow)?;
    accounts.event_authority.emit(&ContainerLeaving { container: *accounts.container.address(), until });
    accounts.container.invariant()?;
    accounts.block.invariant()?;
    accounts.epoch.invariant()
}
