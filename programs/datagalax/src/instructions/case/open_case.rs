use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, New},
    clock::now,
    constants::{DISHONEST, NONE, seed},
    error::DatagalaxError,
    events::CaseOpened,
    report::Vote,
    state::{Block, Case, Container, VERSION},
};

#[derive(Accounts)]
pub struct OpenCase {
    #[account(mut)]
    pub payer: Signer,
    pub container: Account<Container>,
    #[account(constraint = block.index == container.block @ DatagalaxError::WrongAccount)]
    pub block: Account<Block>,
    #[account(mut)]
    pub case: New<Case>,
    pub system_program: Program<System>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may open it, any time while the row is frozen; the epoch is the first that was condemned.
/// 2. Copy the votes and evidence roots while the lane still has them, so that accusers can be held to account.
#[inline(never)]
pub fn open_case(ctx: &mut Context<OpenCase>, epoch: u32) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    let row_index = usize::from(accounts.container.row);
    let row = &accounts.block.rows[row_index];
    // 1.
    require!(row.is_accused() && row.first_condemned == epoch, DatagalaxError::NotAccused);

    // 2.
    let address = *accounts.case.address();
    let seeds: [&[u8]; 4] = [seed::CASE, accounts.container.address().as_ref(), &epoch.to_le_bytes(), &[Case::DISHONEST]];
    let (mut case, bump) = accounts.case.create(accounts.payer.account(), &seeds)?;
    case.version = VERSION;
    case.bump = bump;
    case.kind = Case::DISHONEST;
    case.status = Case::OPEN;
    case.epoch = epoch;
    case.until = row.case_until;
    case.block = accounts.block.index;
    case.row = accounts.container.row;
    case.container = *accounts.container.address();
    case.rent_payer = *accounts.payer.address();
    case.opened = now;
    let lane = accounts.block.lane(epoch).ok();
    for (i, seat) in case.seats.iter_mut().enumerate() {
        seat.slot = NONE;
        let Some(from) = lane.map(|lane| &lane.committee[i]).filter(|s| s.is_filled() && s.revealed == 1) else { continue };
        let vote = Vote::read(from.availability[row_index], from.capacity[row_index], 0);
        seat.slot = from.slot;
        seat.checker = from.checker;
        seat.accused = u8::from(vote.is_some() && from.availability[row_index] & DISHONEST != 0);
        seat.evidence_root = from.commitment;
    }
    accounts.event_authority.emit(&CaseOpened {
        case: address,
        container: case.container,
        kind: case.kind,
        epoch,
        until: case.until,
        reserved: [0; 3],
    });
    case.invariant()
}
