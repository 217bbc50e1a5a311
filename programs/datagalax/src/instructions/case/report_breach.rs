use anchor_lang::prelude::*;

use super::slash;
use crate::{
    checked::{Account, CheckerSet, EventAuthority, New},
    clock::{after, now},
    constants::{BREACHED, DAY, HISTORY, MIN_TICKETS_TO_SLASH, NONE, VOID, seed},
    error::DatagalaxError,
    events::CaseClosed,
    state::{Block, Case, Container, Lease, Network, Provider, VERSION, VaultLedger},
};

#[derive(Accounts)]
pub struct ReportBreach {
    #[account(mut)]
    pub payer: Signer,
    pub network: Account<Network>,
    #[account(mut, constraint = lease.container == *container.address() @ DatagalaxError::WrongAccount)]
    pub lease: Account<Lease>,
    #[account(mut)]
    pub container: Account<Container>,
    #[account(mut, constraint = provider.id == container.provider @ DatagalaxError::WrongAccount)]
    pub provider: Account<Provider>,
    #[account(mut, constraint = block.index == container.block @ DatagalaxError::WrongAccount)]
    pub block: Account<Block>,
    pub checkers: CheckerSet,
    #[account(mut)]
    pub case: New<Case>,
    /// Books of the stake vault.
    #[account(mut)]
    pub stake_ledger: Account<VaultLedger>,
    /// Books of the rewards vault.
    #[account(mut)]
    pub rewards_ledger: Account<VaultLedger>,
    pub system_program: Program<System>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may call; 15 tickets or more are in the order.
/// 2. The lease covers the epoch and the next in full, before it was closed; both have a verdict with at least Q votes under the
///    breach threshold; no maintenance was announced for them before the lease was opened.
/// 3. At most one a day and a container, and no two that share an epoch.
/// 4. Take a third of the original stake (rounded down). Of the stake taken the user gets at most the price of one epoch, beyond
///    the refunds; nothing while a case of dishonesty is pending.
#[inline(never)]
pub fn report_breach(ctx: &mut Context<ReportBreach>, epoch: u32) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    let container_address = *accounts.container.address();
    let (lease, container) = (&mut *accounts.lease, &mut *accounts.container);
    // 1.
    require!(accounts.checkers.live >= MIN_TICKETS_TO_SLASH, DatagalaxError::TooFewTickets);
    require!(
        accounts.stake_ledger.kind == VaultLedger::STAKE && accounts.rewards_ledger.kind == VaultLedger::REWARDS,
        DatagalaxError::WrongAccount
    );

    // 2. The rows of a tallied epoch are recorded facts.
    let next = epoch.checked_add(1).ok_or(DatagalaxError::Overflow)?;
    let (start, _) = accounts.network.bounds(epoch);
    let (_, end) = accounts.network.bounds(next);
    let (tallied, last) = (accounts.block.is_tallied(next), accounts.block.newest_of(container.row));
    let row = &mut accounts.block.rows[usize::from(container.row)];
    let low = |e: u32| {
        let byte = row.history[(e % HISTORY) as usize];
        byte != VOID && byte & BREACHED != 0
    };
    // Attack: close a lease with a long minimum, and call it a breach that the host is gone or serves another.
    let served = if lease.closed == 0 { lease.end() } else { lease.closed };
    let covered = lease.started != 0 && lease.started <= start && end <= served;
    let recorded = tallied && last - epoch < HISTORY && low(epoch) && low(next);
    require!(covered && recorded && !container.is_excused(lease.opened, start, end), DatagalaxError::NoBreach);

    // 3.
    require!(
        (container.breached_epoch == NONE || epoch > container.breached_epoch)
            && now >= after(container.breached_at, DAY as u32),
        DatagalaxError::BreachedToday
    );
    container.breached_epoch = next;
    container.breached_at = now;
    container.breaches = container.breaches.saturating_add(1);

    // 4.
    let accused = row.is_accused();
    let third = container.original_locked_stake / 3;
    let ledgers = (&mut *accounts.stake_ledger, &mut *accounts.rewards_ledger);
    let reason = Container::HALT_BREACH;
    let taken = slash(&accounts.network, container, &mut accounts.provider, row, third, false, reason, now, ledgers)?;
    let price = lease.bill().epoch_price(accounts.network.grid_of(epoch).length)?;
    let compensation = if accused { 0 } else { price.min(taken.stake) };
    lease.compensation = lease.compensation.checked_add(compensation).ok_or(DatagalaxError::Overflow)?;
    accounts.stake_ledger.reserve(compensation)?;

    let address = *accounts.case.address();
    let seeds: [&[u8]; 4] = [seed::CASE, container_address.as_ref(), &epoch.to_le_bytes(), &[Case::BREACH]];
    let (mut case, bump) = accounts.case.create(accounts.payer.account(), &seeds)?;
    case.version = VERSION;
    case.bump = bump;
    case.kind = Case::BREACH;
    case.status = Case::UPHELD;
    case.epoch = epoch;
    case.until = next;
    case.condemned = 2;
    case.block = accounts.block.index;
    case.row = container.row;
    case.container = container_address;
    case.rent_payer = *accounts.payer.address();
    case.opened = now;
    case.closed = now;
    case.stake_taken = taken.stake;
    case.grants_taken = taken.grants;
    case.accrual_taken = taken.accrual;
    case.compensation = compensation;
    for seat in &mut case.seats {
        seat.slot = NONE;
    }
    accounts.event_authority.emit(&CaseClosed {
        case: address,
        container: case.container,
        status: case.status,
        condemned: 2,
        stake_taken: taken.stake,
        grants_taken: taken.grants,
        accrual_taken: taken.accrual,
        reserved: [0; 3],
    });
    case.invariant()?;
    accounts.lease.invariant()?;
    accounts.container.invariant()?;
    accounts.provider.invariant()?;
    accounts.stake_ledger.books()?;
    accounts.rewards_ledger.books()
}
