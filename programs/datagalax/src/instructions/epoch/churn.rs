use anchor_lang::prelude::*;

use crate::{
    checked::{Account, CheckerSet},
    clock::{after, now},
    constants::{MIN_TICKETS_TO_RETIRE, NONE},
    error::DatagalaxError,
    state::{Epoch, Network, Queue, Ticket},
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
/// 2. Of the tickets that waited when the epoch was advanced to move at most 32 a boundary, first in first out: retirements,
///    then leavers, then entrants.
/// 3. Nobody is retired while the order holds eight tickets or fewer.
/// 4. An entrant that asked to leave before the advance does not enter.
#[inline(never)]
pub fn churn(ctx: &mut Context<Churn>) -> Result<()> {
    let now = now()?;
    let unlocks_at =
        u32::try_from(after(now, ctx.accounts.network.parameters.unbonding)).map_err(|_| DatagalaxError::Overflow)?;
    let epoch = &mut *ctx.accounts.epoch;
    let number = epoch.number;
    // 1. Attack: once the draw slot has passed, its hash and so the seed of every possible n can be told before anyone draws.
    // Whoever could still enter or leave would choose n. Who moves is therefore fixed by the advance, before that slot.
    require!(epoch.status == Epoch::ADVANCED, DatagalaxError::AlreadyDrawn);
    let set = &mut ctx.accounts.checkers;
    let room = epoch.churn_left();
    require!(room > 0, DatagalaxError::NothingToChurn);

    // 2.
    for _ in 0..room {
        let queue = epoch.next_churn();
        let slot = set.dequeue(queue)?;
        let live = set.live;
        let ticket = set.ticket_mut(slot)?;
        let (asked, disgraced) = (ticket.removed, ticket.is_disgraced());
        match queue {
            // 3. Its record stays, and queues it again with the next mark.
            Queue::Retiring if live <= MIN_TICKETS_TO_RETIRE => ticket.status = Ticket::LIVE,
            Queue::Retiring => set.remove(slot, number, true, unlocks_at)?,
            // Attack: leave before the retirement that the record is due.
            Queue::Leaving => set.remove(slot, number, disgraced && live > MIN_TICKETS_TO_RETIRE, unlocks_at)?,
            // 4. `asked` is the epoch in which it asked, or none; in this one it asked too late not to enter.
            Queue::Entering if asked < number => {
                ticket.status = Ticket::REMOVED;
                ticket.removed = number;
            }
            Queue::Entering => {
                ticket.removed = NONE;
                set.admit(slot)?;
                if asked == number {
                    set.ticket_mut(slot)?.status = Ticket::LEAVING;
                    set.enqueue(Queue::Leaving, slot)?;
                }
            }
        }
        epoch.churned += 1;
    }
    ctx.accounts.checkers.invariant()?;
    ctx.accounts.epoch.invariant()
}
