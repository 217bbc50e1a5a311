use anchor_lang::prelude::*;

use super::slots;
use crate::{
    checked::{Account, CheckerSet, EventAuthority, TokenAccount},
    clock::now,
    constants::{BPS, NONE, RETIREMENT_PENALTY_BPS, SLOT_REST},
    error::DatagalaxError,
    events::TicketsChanged,
    instructions::vault::*,
    math::mul_ratio,
    state::{Checker, Network, Ticket, VaultLedger},
};

#[derive(Accounts)]
pub struct WithdrawTickets {
    pub network: Account<Network>,
    #[account(mut)]
    pub checker: Account<Checker>,
    #[account(mut)]
    pub checkers: CheckerSet,
    pub vault: Nested<Vault>,
    #[account(mut)]
    pub to: TokenAccount,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may call: tokens go to the payout wallet's associated token account, nowhere else.
/// 2. Every named slot holds a removed ticket of the checker, whose last epochs are over, whose price has unlocked and whose pay
///    is claimed.
/// 3. A retired one loses a tenth of its price (rounded down) to the rewards vault (`sweep_vault` moves it).
/// 4. Free the slots and pay the rest at once; when it does not fit into the breaker's room, name fewer.
#[inline(never)]
pub fn withdraw_tickets(ctx: &mut Context<WithdrawTickets>, named: &[u8]) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    // 1.
    accounts.vault.require(&accounts.network, VaultLedger::STAKE)?;
    accounts.to.require_home_of(&accounts.checker.payout, accounts.vault.mint.address())?;
    let current = accounts.network.epoch_at(now)?;
    let (checker, set) = (&mut *accounts.checker, &mut accounts.checkers);
    let (mut sum, mut penalty, mut retired) = (0u64, 0u64, 0u32);
    let named = slots(named)?;
    for slot in named {
        let slot = u32::from_le_bytes(*slot);
        let free = set.free_head;
        let ticket = set.ticket_mut(slot)?;
        // 2. Attack: free a slot that a lane still names, so that a stranger's ticket takes its pay or its marks.
        require!(ticket.checker == checker.id, DatagalaxError::NotYourTicket);
        require!(ticket.is_out(), DatagalaxError::TicketNotInOrder);
        require!(
            u64::from(current) >= u64::from(ticket.removed) + u64::from(SLOT_REST)
                && now >= i64::from(ticket.unlocks_at)
                && ticket.accrued == 0,
            DatagalaxError::TicketResting
        );

        // 3.
        sum = sum.checked_add(ticket.price).ok_or(DatagalaxError::Overflow)?;
        if ticket.status == Ticket::RETIRED {
            retired += 1;
            penalty += mul_ratio(ticket.price, RETIREMENT_PENALTY_BPS, BPS).ok_or(DatagalaxError::InvariantViolated)?;
        }

        // 4. Freed at once: a slot named twice is refused the second time.
        *ticket = Ticket { order: ticket.order, next: free, ..Ticket::waiting(NONE, 0) };
        ticket.status = Ticket::FREE;
        set.free_head = slot;
        set.free = set.free.wrapping_add(1);
    }
    let count = named.len() as u32;
    checker.staked = checker.staked.checked_sub(sum).ok_or(DatagalaxError::InvariantViolated)?;
    checker.tickets = checker.tickets.checked_sub(count).ok_or(DatagalaxError::InvariantViolated)?;
    checker.retired = checker.retired.saturating_add(retired);
    accounts.vault.ledger.release(penalty)?;
    let paid = accounts.vault.pay_out(&accounts.network, &accounts.to, sum - penalty)?;
    require!(paid == sum - penalty, DatagalaxError::BreakerOpen);
    accounts.event_authority.emit(&TicketsChanged {
        checker: checker.id,
        tickets: checker.tickets,
        staked: checker.staked,
        bought: 0,
        asked_to_leave: 0,
        withdrawn: count,
        reserved: [0; 4],
    });
    accounts.checker.invariant()?;
    accounts.checkers.invariant()
}
