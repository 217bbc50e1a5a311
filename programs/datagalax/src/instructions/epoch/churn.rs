use anchor_lang::prelude::*;

use crate::{
    constants::NONE,
    error::DatagalaxError,
    state::{CheckerSet, Epoch, Network, Ticket},
};

#[derive(Accounts)]
pub struct Churn {
    pub network: Account<Network>,
    #[account(mut, constraint = epoch.number == network.current_epoch @ DatagalaxError::CurrentEpochRequired)]
    pub epoch: Account<Epoch>,
    #[account(mut)]
    pub checkers: CheckerSet,
}

/// Specification
/// 1. The epoch is advanced to and not drawn: only between these two does the order change.
/// 2. Let in tickets that waited when the epoch was advanced to, first in first out, at most 32 a boundary.
#[inline(never)]
pub fn churn(ctx: &mut Context<Churn>) -> Result<()> {
    let epoch = &mut *ctx.accounts.epoch;
    // 1. Attack: once the draw slot has passed, its hash and so the seed of every possible n can be told before anyone draws.
    // Whoever could still enter would choose n. Who enters is therefore fixed by the advance, before that slot.
    require!(epoch.status == Epoch::ADVANCED, DatagalaxError::AlreadyDrawn);
    let set = &mut ctx.accounts.checkers;
    let room = epoch.churn_left();
    require!(room > 0, DatagalaxError::NothingToChurn);

    // 2.
    for _ in 0..room {
        let slot = set.pending_head;
        let position = set.live;
        let tickets = set.as_mut_slice();
        let ticket = tickets.get_mut(slot as usize).ok_or(DatagalaxError::InvariantViolated)?;
        ticket.status = Ticket::LIVE;
        ticket.position = position;
        let next = ticket.next;
        ticket.next = NONE;
        tickets.get_mut(position as usize).ok_or(DatagalaxError::InvariantViolated)?.order = slot;
        set.pending_head = next;
        if next == NONE {
            set.pending_tail = NONE;
        }
        set.pending -= 1;
        set.live += 1;
        epoch.churned += 1;
    }
    let slots = set.len();
    set.invariant(slots)?;
    epoch.invariant()
}
