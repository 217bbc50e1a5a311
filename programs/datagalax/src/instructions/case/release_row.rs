use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority},
    clock::now,
    constants::seed,
    error::DatagalaxError,
    events::RowReleased,
    state::{Block, Case, Container, Network},
};

#[derive(Accounts)]
pub struct ReleaseRow {
    pub network: Account<Network>,
    pub container: Account<Container>,
    #[account(mut, constraint = block.index == container.block @ DatagalaxError::WrongAccount)]
    pub block: Account<Block>,
    /// Where the case would be, had anybody opened it.
    pub case: UncheckedAccount,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may call; the row is frozen since this epoch, and the window and the tally of its last epoch are over.
/// 2. Nobody opened the case. Attack: release a row whose case is open.
/// 3. The accrual is released.
#[inline(never)]
pub fn release_row(ctx: &mut Context<ReleaseRow>, epoch: u32) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    let current = accounts.network.epoch_at(now)?;
    let row = &mut accounts.block.rows[usize::from(accounts.container.row)];
    // 1.
    require!(row.is_accused() && row.first_condemned == epoch, DatagalaxError::NotAccused);
    require!(u64::from(current) >= u64::from(row.case_until) + 2, DatagalaxError::CaseOpen);

    // 2.
    let seeds: [&[u8]; 4] = [seed::CASE, accounts.container.address().as_ref(), &epoch.to_le_bytes(), &[Case::DISHONEST]];
    let (address, _) = find_program_address(&seeds, &crate::ID);
    require!(*accounts.case.address() == address, DatagalaxError::WrongAccount);
    require!(!accounts.case.owned_by(&crate::ID), DatagalaxError::CaseExists);

    // 3.
    row.release();
    accounts.event_authority.emit(&RowReleased { container: *accounts.container.address(), epoch });
    accounts.block.invariant()
}
