use anchor_lang::prelude::*;

use super::slots;
use crate::{
    checked::{Account, CheckerSet, EventAuthority},
    clock::{after, now},
    constants::NONE,
    error::DatagalaxError,
    events::TicketsChanged,
    state::{Checker, Network, Queue, Ticket},
};

#[derive(Accounts)]
pub struct LeaveTickets {
    pub owner: Signer,
    pub network: Account<Network>,
    #[account(constraint = checker.owner == *owner.address() @ DatagalaxError::Unauthorized)]
    pub checker: Account<Checker>,
    #[account(mut)]
    pub checkers: CheckerSet,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The checker's owner signs; every named slot holds a ticket of it that sits in the order or waits to enter.
/// 2. A seated one is queued to leave; one that waits is dropped when its turn to enter comes. Both happen at a boundary, in
///    `churn`: whoever can already tell the seed of the current epoch changes nothing about its order.
/// 3. The price unlocks after the time that is in force now.
#[inline(never)]
pub fn leave_tickets(ctx: &mut Context<LeaveTickets>, named: &[u8]) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    let (checker, set) = (&accounts.checker, &mut accounts.checkers);
    let current = accounts.network.current_epoch;
    // Before 2106 a time in seconds fits 32 bits.
    let unlocks_at =
        u32::try_from(after(now, accounts.network.parameters.unbonding)).map_err(|_| DatagalaxError::Overflow)?;
    let named = slots(named)?;
    for slot in named {
        let slot = u32::from_le_bytes(*slot);
        // 1.
        let ticket = set.ticket_mut(slot)?;
        require!(ticket.checker == checker.id, DatagalaxError::NotYourTicket);
        require!(ticket.unlocks_at == 0, DatagalaxError::AlreadyLeaving);
        let (live, waiting) = (ticket.status == Ticket::LIVE, ticket.status == Ticket::WAITING);
        require!(live || waiting, DatagalaxError::TicketNotInOrder);

        // 2. 3.
        ticket.unlocks_at = unlocks_at;
        if live {
            ticket.status = Ticket::LEAVING;
            set.enqueue(Queue::Leaving, slot)?;
        } else {
            ticket.removed = if current == NONE { 0 } else { current };
        }
    }
    accounts.event_authority.emit(&TicketsChanged {
        checker: checker.id,
        tickets: checker.tickets,
        staked: checker.staked,
        bought: 0,
        asked_to_leave: named.len() as u32,
        withdrawn: 0,
        reserved: [0; 4],
    });
    accounts.checkers.invariant()
}
