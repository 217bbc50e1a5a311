use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, close},
    clock::now,
    constants::{DAY, NONE},
    error::DatagalaxError,
    events::RowVacated,
    state::{Block, Container, Epoch, Network, Provider, Row},
};

#[derive(Accounts)]
pub struct VacateRow {
    #[account(mut)]
    pub network: Account<Network>,
    #[account(mut)]
    pub provider: Account<Provider>,
    #[account(mut, constraint = container.provider == provider.id @ DatagalaxError::WrongAccount)]
    pub container: Account<Container>,
    #[account(mut, constraint = block.index == container.block @ DatagalaxError::WrongAccount)]
    pub block: Account<Block>,
    #[account(mut, constraint = epoch.number == network.current_epoch @ DatagalaxError::CurrentEpochRequired)]
    pub epoch: Account<Epoch>,
    /// Who paid the container's rent. Only its lamports change.
    #[account(mut, unsafe(dup), constraint = *recipient.address() == container.rent_payer @ DatagalaxError::WrongAccount)]
    pub recipient: UncheckedAccount,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may call. The container is leaving and the tally of its last epoch is over; no lease is open or unsettled and no case
///    is pending.
/// 2. What the row accrued goes into the provider's vesting, the locked stake is free again.
/// 3. The row is free; the block without rows is not seated from the next epoch on.
/// 4. The container's account is closed, its rent goes to who paid it.
#[inline(never)]
pub fn vacate_row(ctx: &mut Context<VacateRow>) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    let index = accounts.container.row;
    // 1. Attack: leave before the committees of the last epochs have spoken.
    let row = accounts.block.rows[usize::from(index)];
    let current = accounts.network.epoch_at(now)?;
    require!(row.status == Row::LEAVING && current > row.until, DatagalaxError::NotLeaving);
    require!(
        accounts.container.lease == Address::default() && accounts.container.unsettled == 0,
        DatagalaxError::ContainerLeased
    );
    require!(!row.is_accused(), DatagalaxError::ContainerAccused);

    // 2.
    let day = (now / DAY) as u32;
    let terms = accounts.network.terms_on(day)?;
    let provider = &mut *accounts.provider;
    if row.accrued > 0 {
        provider.grant(row.accrued, day, terms)?;
    }
    provider.locked =
        provider.locked.checked_sub(accounts.container.locked_stake).ok_or(DatagalaxError::InvariantViolated)?;
    provider.containers = provider.containers.checked_sub(1).ok_or(DatagalaxError::InvariantViolated)?;

    // 3.
    let block = &mut *accounts.block;
    block.vacate(index);
    let network = &mut *accounts.network;
    network.free_rows = network.free_rows.checked_add(1).ok_or(DatagalaxError::Overflow)?;
    if block.occupied == 0 {
        block.seated_from = NONE;
        accounts.epoch.blocks_removed = accounts.epoch.blocks_removed.saturating_add(1);
    }

    // 4.
    accounts.event_authority.emit(&RowVacated {
        container: *accounts.container.address(),
        provider: accounts.provider.id,
        accrued: row.accrued,
        unlocked: accounts.container.locked_stake,
        reserved: [0; 4],
    });
    accounts.provider.invariant()?;
    accounts.block.invariant()?;
    accounts.epoch.invariant()?;
    accounts.network.invariant()?;
    close(accounts.container.account(), accounts.recipient.account())
}
