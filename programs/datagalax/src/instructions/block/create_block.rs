use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, Kind, create},
    clock::now,
    constants::{GROWTH_STEP, NONE, seed},
    error::DatagalaxError,
    events::BlockCreated,
    state::{Block, Network, VERSION},
};

#[derive(Accounts)]
pub struct CreateBlock {
    #[account(mut)]
    pub payer: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    /// Created here, too short to be a block until it has grown.
    #[account(mut)]
    pub block: UncheckedAccount,
    pub system_program: Program<System>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Bytes at the head of a block that `create_block` writes: discriminator, flags, index, first epoch, last tallied, counts
/// and creator.
const HEAD: usize = 8 + 24 + 32;

/// Specification
/// 1. The network is not paused, no full-length block has a free row (the rent of idle blocks is nobody's), and the newest
///    block is grown.
/// 2. Create the account with the first 10,240 bytes, the most an instruction may, and write its head.
#[inline(never)]
pub fn create_block(ctx: &mut Context<CreateBlock>) -> Result<()> {
    let network = &mut *ctx.accounts.network;
    // 1. Attack: use up indices, which everybody walks, with short accounts that are never grown. Anybody may grow the newest.
    network.require_running(now()?)?;
    require!(network.free_rows == 0, DatagalaxError::FreeRowsLeft);
    require!(network.growing == 0, DatagalaxError::BlockNotFull);

    // 2. The head is written as bytes: the account is shorter than its type, so nothing can load it as one yet.
    let index = network.blocks;
    let payer = *ctx.accounts.payer.address();
    let mut view = *ctx.accounts.block.account();
    let seeds: [&[u8]; 2] = [seed::BLOCK, &index.to_le_bytes()];
    let bump = create(ctx.accounts.payer.account(), &view, &seeds, GROWTH_STEP, Block::TAG)?;
    let mut head = [0u8; HEAD];
    head[..8].copy_from_slice(Block::DISCRIMINATOR);
    head[8] = VERSION;
    head[9] = bump;
    head[12..16].copy_from_slice(&index.to_le_bytes());
    head[16..20].copy_from_slice(&NONE.to_le_bytes());
    head[20..24].copy_from_slice(&NONE.to_le_bytes());
    head[32..].copy_from_slice(payer.as_ref());
    view.try_borrow_mut()?[..HEAD].copy_from_slice(&head);

    network.growing = 1;
    network.blocks = index.checked_add(1).filter(|n| *n != NONE).ok_or(DatagalaxError::Overflow)?;
    ctx.accounts.event_authority.emit(&BlockCreated { block: index, creator: payer });
    ctx.accounts.network.invariant()
}
