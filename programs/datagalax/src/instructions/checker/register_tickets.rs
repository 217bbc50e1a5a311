use anchor_lang::prelude::*;

use crate::{
    checked::{Account, CheckerSet, EventAuthority, TokenAccount},
    clock::now,
    constants::{MAX_TICKETS, MAX_TICKETS_PER_CALL},
    error::DatagalaxError,
    events::TicketsChanged,
    instructions::vault::*,
    state::{Checker, Network, Queue, Ticket, VaultLedger},
};

#[derive(Accounts)]
pub struct RegisterTickets {
    #[account(mut)]
    pub owner: Signer,
    pub network: Account<Network>,
    #[account(mut, constraint = checker.owner == *owner.address() @ DatagalaxError::Unauthorized)]
    pub checker: Account<Checker>,
    #[account(mut)]
    pub checkers: CheckerSet,
    #[account(mut)]
    pub from: TokenAccount,
    pub vault: Nested<Vault>,
    pub system_program: Program<System>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The network is not paused; 1 to 150 tickets, and the set holds at most 150,000.
/// 2. Stake the tickets' price.
/// 3. Take free slots, then new ones, and queue the tickets: `churn` lets them into the order, first in first out.
#[inline(never)]
pub fn register_tickets(ctx: &mut Context<RegisterTickets>, count: u16) -> Result<()> {
    let accounts = &mut ctx.accounts;
    let set = &mut accounts.checkers;
    // 1.
    accounts.network.require_running(now()?)?;
    accounts.vault.require(&accounts.network, VaultLedger::STAKE)?;
    require!((1..=MAX_TICKETS_PER_CALL).contains(&count), DatagalaxError::BadTicketCount);
    let count = u32::from(count);
    let fresh = count.saturating_sub(set.free);
    require!(set.slots + fresh <= MAX_TICKETS, DatagalaxError::BadTicketCount);

    // 2.
    let price = accounts.network.parameters.ticket_price;
    let sum = price.checked_mul(u64::from(count)).ok_or(DatagalaxError::Overflow)?;
    accounts.vault.deposit(&accounts.from, accounts.owner.account(), sum, true)?;
    let checker = &mut *accounts.checker;
    checker.staked = checker.staked.checked_add(sum).ok_or(DatagalaxError::Overflow)?;
    checker.tickets = checker.tickets.checked_add(count).ok_or(DatagalaxError::Overflow)?;

    // 3. An entry also carries the order, which is not the ticket's: it stays.
    let mut next = set.slots;
    if fresh > 0 {
        set.append(fresh, accounts.owner.account())?;
    }
    for _ in 0..count {
        let slot = if set.free > 0 {
            let slot = set.free_head;
            let after = set.ticket_mut(slot)?.next;
            set.free_head = after;
            set.free -= 1;
            slot
        } else {
            next += 1;
            next - 1
        };
        let entry = set.ticket_mut(slot)?;
        *entry = Ticket { order: entry.order, ..Ticket::waiting(checker.id, price) };
        set.enqueue(Queue::Entering, slot)?;
    }
    accounts.event_authority.emit(&TicketsChanged {
        checker: checker.id,
        tickets: checker.tickets,
        staked: checker.staked,
        bought: count,
        asked_to_leave: 0,
        withdrawn: 0,
        reserved: [0; 4],
    });
    accounts.checker.invariant()?;
    accounts.checkers.invariant()
}
