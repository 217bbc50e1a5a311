use anchor_lang::prelude::*;

use crate::{
    checked::{Account, CheckerSet},
    clock::now,
    committee::{positions, seats_for},
    constants::NONE,
    error::DatagalaxError,
    state::{Block, Epoch, Network},
    tally::open_lane,
};

#[derive(Accounts)]
pub struct SeatBlock {
    pub network: Account<Network>,
    pub epoch: Account<Epoch>,
    pub checkers: CheckerSet,
    #[account(mut)]
    pub block: Account<Block>,
}

/// Specification
/// 1. The epoch is drawn and the clock is in it.
/// 2. The block has a row, its first epoch has come, and it has no committee for the epoch yet.
/// 3. Empty the lane (the reports of number - 2 are long judged) and write slot and checker of each seat.
#[inline(never)]
pub fn seat_block(ctx: &mut Context<SeatBlock>) -> Result<()> {
    let now = now()?;
    let epoch = &ctx.accounts.epoch;
    // 1.
    require!(epoch.status == Epoch::DRAWN, DatagalaxError::NotDrawn);
    require!(ctx.accounts.network.epoch_at(now)? == epoch.number, DatagalaxError::WrongEpoch);

    // 2. Attack: seat again in mid-epoch and wipe the commitments.
    let block = &mut *ctx.accounts.block;
    require!(block.occupied > 0 && block.seated_from <= epoch.number, DatagalaxError::BlockEmpty);
    let lane = &mut block.lanes[(epoch.number & 1) as usize];
    require!(lane.epoch == NONE || lane.epoch < epoch.number, DatagalaxError::AlreadySeated);

    // 3. Written down, so that a seat that stays empty or silent is known.
    open_lane(lane, epoch.number, seats_for(epoch.tickets));
    let tickets = ctx.accounts.checkers.tickets();
    let at = |position: u32| tickets.get(position as usize).ok_or(DatagalaxError::InvariantViolated);
    for (seat, position) in lane.committee.iter_mut().zip(positions(&epoch.seed, block.index, epoch.tickets)) {
        if position != NONE {
            let slot = at(position)?.order;
            seat.slot = slot;
            seat.checker = at(slot)?.checker;
        }
    }
    block.invariant()
}
