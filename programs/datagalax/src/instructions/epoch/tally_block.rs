use anchor_lang::prelude::*;

use crate::{
    checked::{Account, CheckerSet, log},
    clock::now,
    constants::{ROWS, SEATS},
    error::DatagalaxError,
    events::BlockTallied,
    instructions::keeper::pay_keeper,
    state::{Block, Epoch, Keeper, Network},
    tally::{self, Rules},
};

#[derive(Accounts)]
pub struct TallyBlock {
    pub network: Account<Network>,
    /// The epoch tallied.
    #[account(mut)]
    pub epoch: Account<Epoch>,
    /// The epoch last advanced to, when that is another one: it takes the changes of nominal.
    #[account(mut)]
    pub current: Option<Account<Epoch>>,
    #[account(mut)]
    pub checkers: CheckerSet,
    #[account(mut)]
    pub block: Account<Block>,
    /// Gets the fee for the block, once it is finished.
    #[account(mut)]
    pub keeper: Option<Account<Keeper>>,
}

/// Specification
/// 1. The clock is between the end of reveals and the end of the next epoch, whether or not anybody advanced.
/// 2. The block has a committee for the epoch and is not tallied yet.
/// 3. Judge at most `max_rows` rows from the cursor, credit them at the epoch's rate, count nominal for the next epoch.
/// 4. After the last row, pay and mark the seats, queue bad records to be retired, gather the entropy of the salts, and close the
///    lane. Who finishes a block, may name a keeper.
#[inline(never)]
pub fn tally_block(ctx: &mut Context<TallyBlock>, max_rows: u16) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    let network = &accounts.network;
    let number = accounts.epoch.number;
    // 1.
    let (_, opens, closes) = network.report_windows(number);
    require!(now >= opens && now < closes, DatagalaxError::OutsideTallyWindow);

    // 2. Doing it twice would pay twice.
    let block = &mut *accounts.block;
    let (last_tallied, seated_from) = (block.last_tallied, block.seated_from);
    let lane = block.lane(number)?;
    require!(lane.tallied == 0, DatagalaxError::AlreadyTallied);
    require!(max_rows > 0, DatagalaxError::NoRows);
    let rules = Rules::new(&accounts.epoch, last_tallied, seated_from, lane.seats);

    // 3.
    let outcome = tally::judge_rows(block, &rules, max_rows)?;
    if network.current_epoch == number {
        add_nominal(&mut accounts.epoch, &outcome)?;
    } else {
        let current = accounts.current.as_mut().ok_or(DatagalaxError::CurrentEpochRequired)?;
        require!(current.number == network.current_epoch, DatagalaxError::CurrentEpochRequired);
        add_nominal(current, &outcome)?;
    }
    let epoch = &mut *accounts.epoch;
    epoch.container_credited = epoch.container_credited.checked_add(outcome.credited).ok_or(DatagalaxError::Overflow)?;

    // 4.
    let mut seats_credited = 0u64;
    let lane = block.lane_mut(number)?;
    if usize::from(lane.cursor) == ROWS {
        let set = &mut accounts.checkers;
        for seat in lane.committee.iter().take(SEATS).filter(|s| s.is_filled()) {
            let ticket = set.ticket_mut(seat.slot)?;
            let settlement = tally::settle_seat(seat, epoch.seat_pay, epoch.blocks);
            ticket.accrued = ticket.accrued.checked_add(settlement.pay).ok_or(DatagalaxError::Overflow)?;
            seats_credited = seats_credited.checked_add(settlement.pay).ok_or(DatagalaxError::Overflow)?;
            if let Some(marked) = settlement.marked {
                ticket.count_seat(number, marked);
                if marked {
                    set.retire_if_disgraced(seat.slot)?;
                }
            }
        }
        for (kept, added) in epoch.entropy.iter_mut().zip(lane.entropy) {
            *kept ^= added;
        }
        lane.tallied = 1;
        block.last_tallied = number;
        epoch.blocks_tallied = epoch.blocks_tallied.saturating_add(1);
        epoch.checker_credited = epoch.checker_credited.checked_add(seats_credited).ok_or(DatagalaxError::Overflow)?;
        pay_keeper(epoch, &mut accounts.keeper)?;
    }
    log(&BlockTallied { epoch: number, block: block.index, rows_credited: outcome.credited, seats_credited });
    block.invariant()?;
    epoch.invariant()
}

fn add_nominal(epoch: &mut Epoch, outcome: &tally::Outcome) -> Result<()> {
    epoch.nominal_added = epoch.nominal_added.checked_add(outcome.nominal_added).ok_or(DatagalaxError::Overflow)?;
    epoch.nominal_removed = epoch.nominal_removed.checked_add(outcome.nominal_removed).ok_or(DatagalaxError::Overflow)?;
    Ok(())
}
