use anchor_lang::prelude::*;

use crate::{
    checked::Account,
    clock::now,
    error::DatagalaxError,
    state::{Block, Checker, Network},
};

#[derive(Accounts)]
pub struct CommitReport {
    pub operator: Signer,
    pub network: Account<Network>,
    #[account(mut)]
    pub block: Account<Block>,
    /// Needed by a seat's first commit only.
    pub checker: Option<Account<Checker>>,
}

/// Specification
/// 1. The block has a committee for the epoch, and the clock is in that epoch.
/// 2. The seat is filled; the first commit proves its operator with the checker account, later ones with the copy.
/// 3. Write the commitment; it may be replaced until the epoch ends.
#[inline(never)]
pub fn commit_report(ctx: &mut Context<CommitReport>, epoch: u32, seat: u8, commitment: [u8; 32]) -> Result<()> {
    let now = now()?;
    let (start, end) = ctx.accounts.network.bounds(epoch);
    let operator = *ctx.accounts.operator.address();
    // 1. A committee is written after the draw, so its lane being this epoch's is proof of the draw.
    let lane = ctx.accounts.block.lane_mut(epoch)?;
    require!(now >= start && now < end, DatagalaxError::OutsideCommitWindow);

    // 2. Attack: commit for somebody else's seat.
    require!(commitment != [0; 32], DatagalaxError::EmptyCommitment);
    let seat = lane.committee.get_mut(usize::from(seat)).filter(|s| s.is_filled()).ok_or(DatagalaxError::NoSuchSeat)?;
    if seat.operator == Address::default() {
        let checker = ctx.accounts.checker.as_ref().ok_or(DatagalaxError::CheckerRequired)?;
        require!(checker.id == seat.checker, DatagalaxError::WrongAccount);
        require!(checker.operator == operator, DatagalaxError::Unauthorized);
        seat.operator = operator;
    } else {
        require!(seat.operator == operator, DatagalaxError::Unauthorized);
    }

    // 3.
    seat.commitment = commitment;
    Ok(())
}
