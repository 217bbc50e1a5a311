use anchor_lang::prelude::*;

use crate::{
    checked::{Account, Kind},
    constants::{GROWTH_STEP, NONE, ROWS, SEATS},
    error::DatagalaxError,
    state::{Block, Lane, Network, Seat},
};

#[derive(Accounts)]
pub struct GrowBlock {
    #[account(mut)]
    pub payer: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    /// A block that is not at its full length yet.
    #[account(mut)]
    pub block: UncheckedAccount,
    pub system_program: Program<System>,
}

/// Specification
/// 1. The account is a block of this program, below its full length.
/// 2. Grow it by at most 10,240 bytes, rent paid by the payer.
/// 3. At full length its lanes are marked empty and its 256 rows count as free.
#[inline(never)]
pub fn grow_block(ctx: &mut Context<GrowBlock>) -> Result<()> {
    // 1. Attack: another program's account, or another type of ours, grown and rewritten as a block.
    let mut view = *ctx.accounts.block.account();
    require!(view.owned_by(ctx.program_id), DatagalaxError::WrongAccount);
    let length = view.data_len();
    require!(length < Block::SPACE, DatagalaxError::BlockFull);
    require!(view.try_borrow()?.get(..8) == Some(Block::DISCRIMINATOR), DatagalaxError::WrongAccount);

    // 2.
    let grown = (length + GROWTH_STEP).min(Block::SPACE);
    // Growing zeroes by one call of the runtime; to ask for it again would do so byte by byte.
    anchor_lang::realloc_account(&mut view, grown, ctx.accounts.payer.account(), false)?;
    if grown < Block::SPACE {
        return Ok(());
    }

    // 3. Offsets from the type itself; a fresh account is zeros, and zero is a real epoch and a real slot.
    let mut data = view.try_borrow_mut()?;
    let lanes = 8 + core::mem::offset_of!(Block, lanes);
    for lane in 0..2 {
        let start = lanes + lane * core::mem::size_of::<Lane>();
        data[start..start + 4].copy_from_slice(&NONE.to_le_bytes());
        for seat in 0..SEATS {
            let slot = start + core::mem::offset_of!(Lane, committee) + seat * core::mem::size_of::<Seat>();
            data[slot..slot + 4].copy_from_slice(&NONE.to_le_bytes());
        }
    }
    data[8 + core::mem::offset_of!(Block, full)] = 1;
    let network = &mut *ctx.accounts.network;
    network.growing = 0;
    network.free_rows = network.free_rows.checked_add(ROWS as u32).ok_or(DatagalaxError::Overflow)?;
    network.invariant()
}
