use anchor_lang::prelude::*;

use super::slash;
use crate::{
    checked::{Account, CheckerSet, EventAuthority},
    clock::now,
    constants::{MIN_TICKETS_TO_SLASH, NONE},
    error::DatagalaxError,
    events::CaseClosed,
    instructions::keeper::pay_keeper,
    state::{Block, Case, Container, Epoch, Keeper, Network, Provider, VaultLedger},
};

#[derive(Accounts)]
pub struct CloseCase {
    pub network: Account<Network>,
    #[account(mut, constraint = case.container == *container.address() @ DatagalaxError::WrongAccount)]
    pub case: Account<Case>,
    #[account(mut)]
    pub container: Account<Container>,
    #[account(mut, constraint = provider.id == container.provider @ DatagalaxError::WrongAccount)]
    pub provider: Account<Provider>,
    #[account(mut, constraint = block.index == container.block @ DatagalaxError::WrongAccount)]
    pub block: Account<Block>,
    #[account(mut)]
    pub checkers: CheckerSet,
    #[account(mut, constraint = epoch.number == network.current_epoch @ DatagalaxError::CurrentEpochRequired)]
    pub epoch: Account<Epoch>,
    /// Books of the stake vault.
    #[account(mut)]
    pub stake_ledger: Account<VaultLedger>,
    /// Books of the rewards vault.
    #[account(mut)]
    pub rewards_ledger: Account<VaultLedger>,
    /// Gets the fee for it.
    #[account(mut)]
    pub keeper: Option<Account<Keeper>>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may call; the case is of dishonesty, open, its window and the tally of its last epoch are over.
/// 2. Condemned in at least two epochs and a sixth of the window's, with 15 tickets or more in the order: the container's stake and
///    the frozen accrual are taken; what earlier slashes left of its stake too little for comes out of unvested grants.
/// 3. Otherwise the accrual is released; when no second committee condemned, each ticket that accused takes one mark.
/// 4. Who closes it, may name a keeper.
#[inline(never)]
pub fn close_case(ctx: &mut Context<CloseCase>) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    let address = *accounts.case.address();
    let (case, container) = (&mut *accounts.case, &mut *accounts.container);
    // 1. Attack: close it while committees are still to speak; or close a case of breach as one of dishonesty.
    require!(case.kind == Case::DISHONEST && case.status == Case::OPEN, DatagalaxError::CaseClosed);
    require!(u64::from(accounts.network.epoch_at(now)?) >= u64::from(case.until) + 2, DatagalaxError::CaseOpen);
    require!(
        accounts.stake_ledger.kind == VaultLedger::STAKE && accounts.rewards_ledger.kind == VaultLedger::REWARDS,
        DatagalaxError::WrongAccount
    );
    let index = container.row;
    let row = &mut accounts.block.rows[usize::from(index)];
    require!(row.is_accused() && row.first_condemned == case.epoch, DatagalaxError::NotAccused);

    // 2.
    case.condemned = u32::from(row.condemned);
    case.closed = now;
    case.status = Case::REJECTED;
    let condemned = case.condemned >= row.condemning_epochs();
    if condemned && accounts.checkers.live >= MIN_TICKETS_TO_SLASH {
        let original = container.original_locked_stake;
        let ledgers = (&mut *accounts.stake_ledger, &mut *accounts.rewards_ledger);
        let taken = slash(
            &accounts.network,
            container,
            &mut accounts.provider,
            row,
            original,
            true,
            Container::HALT_DISHONEST,
            now,
            ledgers,
        )?;
        case.status = Case::UPHELD;
        case.stake_taken = taken.stake;
        case.grants_taken = taken.grants;
        case.accrual_taken = taken.accrual;
        row.release();
        let removed = accounts.block.cease(index);
        let epoch = &mut *accounts.epoch;
        epoch.nominal_removed = epoch.nominal_removed.checked_add(removed).ok_or(DatagalaxError::Overflow)?;
    } else {
        // 3. A slot that was freed and given away since belongs to somebody else: the checker must still be the accuser.
        row.release();
        if case.condemned < 2 {
            for seat in case.seats.iter().filter(|s| s.accused == 1 && s.slot != NONE) {
                accounts.checkers.mark_refuted(seat.slot, seat.checker, case.epoch)?;
            }
        }
    }

    // 4.
    pay_keeper(&mut accounts.epoch, &mut accounts.keeper)?;
    accounts.event_authority.emit(&CaseClosed {
        case: address,
        container: case.container,
        status: case.status,
        condemned: case.condemned,
        stake_taken: case.stake_taken,
        grants_taken: case.grants_taken,
        accrual_taken: case.accrual_taken,
        reserved: [0; 3],
    });
    accounts.case.invariant()?;
    accounts.container.invariant()?;
    accounts.provider.invariant()?;
    accounts.block.invariant()?;
    accounts.epoch.invariant()?;
    accounts.checkers.invariant()?;
    accounts.stake_ledger.books()?;
    accounts.rewards_ledger.books()
}
