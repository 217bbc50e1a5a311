use anchor_lang::prelude::*;

use crate::{
    checked::{Account, log},
    clock::now,
    constants::ROWS,
    error::DatagalaxError,
    events::ReportRevealed,
    report::{self, REPORT_LEN, Seating},
    state::{Block, Network},
};

#[derive(Accounts)]
pub struct RevealReport {
    pub operator: Signer,
    pub network: Account<Network>,
    #[account(mut)]
    pub block: Account<Block>,
}

/// Specification
/// 1. The clock is in the reveal window of the epoch, whether or not anybody advanced.
/// 2. The signer committed in this seat and has not revealed.
/// 3. The report is exactly the one that was committed to.
/// 4. Copy it, keep the evidence root in place of the commitment, and add the salt's hash to the lane's entropy.
#[inline(never)]
pub fn reveal_report(
    ctx: &mut Context<RevealReport>,
    epoch: u32,
    seat_index: u8,
    salt: &[u8; 32],
    evidence_root: &[u8; 32],
    values: &[u8; REPORT_LEN],
) -> Result<()> {
    let now = now()?;
    let network = &ctx.accounts.network;
    // 1.
    let (opens, closes, _) = network.report_windows(epoch);
    require!(now >= opens && now < closes, DatagalaxError::OutsideRevealWindow);

    // 2.
    let block = &mut *ctx.accounts.block;
    let index = block.index;
    let lane = block.lane_mut(epoch)?;
    let seat =
        lane.committee.get_mut(usize::from(seat_index)).filter(|s| s.is_filled()).ok_or(DatagalaxError::NoSuchSeat)?;
    require!(seat.has_committed(), DatagalaxError::NotCommitted);
    require!(seat.operator == *ctx.accounts.operator.address(), DatagalaxError::Unauthorized);
    require!(seat.revealed == 0, DatagalaxError::AlreadyRevealed);

    // 3. Attack: wait for the others' reports, then reveal a copy. The checker's id is in the hash, so copying another's
    // commitment does not help either.
    let seating = Seating {
        program: ctx.program_id,
        genesis_hash: &network.genesis_hash,
        block: index,
        epoch,
        seat: seat_index,
        checker: seat.checker,
    };
    require!(
        report::commitment(&seating, salt, evidence_root, values) == seat.commitment,
        DatagalaxError::CommitmentMismatch
    );

    // 4.
    seat.availability.copy_from_slice(&values[..ROWS]);
    seat.capacity.copy_from_slice(&values[ROWS..2 * ROWS]);
    seat.token.copy_from_slice(&values[2 * ROWS..]);
    seat.commitment = *evidence_root;
    seat.revealed = 1;
    let checker = seat.checker;
    for (kept, added) in lane.entropy.iter_mut().zip(report::entropy(salt)) {
        *kept ^= added;
    }
    log(&ReportRevealed { epoch, block: index, seat: seat_index, checker, evidence_root: *evidence_root, reserved: [0; 3] });
    Ok(())
}
