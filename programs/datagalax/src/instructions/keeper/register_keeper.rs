use anchor_lang::prelude::*;

use crate::{
    checked::{EventAuthority, New},
    constants::seed,
    events::KeeperRegistered,
    state::{Keeper, VERSION},
};

#[derive(Accounts)]
pub struct RegisterKeeper {
    #[account(mut)]
    pub payer: Signer,
    #[account(mut)]
    pub keeper: New<Keeper>,
    pub system_program: Program<System>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may open a keeper's account for any wallet, once, and pays its rent.
#[inline(never)]
pub fn register_keeper(ctx: &mut Context<RegisterKeeper>, wallet: &Address) -> Result<()> {
    let seeds: [&[u8]; 2] = [seed::KEEPER, wallet.as_ref()];
    let (mut keeper, bump) = ctx.accounts.keeper.create(ctx.accounts.payer.account(), &seeds)?;
    keeper.version = VERSION;
    keeper.bump = bump;
    keeper.wallet = *wallet;
    keeper.rent_payer = *ctx.accounts.payer.address();
    ctx.accounts.event_authority.emit(&KeeperRegistered { wallet: *wallet });
    keeper.invariant()
}
