use anchor_lang::prelude::*;

use crate::{
    constants::{BPS, NONE, seed},
    error::DatagalaxError,
    state::{Checker, Network, VERSION},
};

#[derive(Accounts)]
pub struct RegisterChecker {
    #[account(mut)]
    pub owner: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    #[account(init, payer = owner, seeds = [seed::CHECKER, network.checkers.to_le_bytes()], bump)]
    pub checker: Account<Checker>,
    pub system_program: Program<System>,
}

/// Specification
/// 1. The network is not paused; the commission is at most all of the pay.
/// 2. The checker takes the next id; it holds no ticket yet.
#[inline(never)]
pub fn register_checker(
    ctx: &mut Context<RegisterChecker>,
    operator: Address,
    payout: Address,
    commission_bps: u16,
) -> Result<()> {
    let network = &mut *ctx.accounts.network;
    // 1. An operator of zeros would read as "nobody committed" in a seat.
    require!(network.paused == 0, DatagalaxError::Paused);
    require!(u64::from(commission_bps) <= BPS && operator != Address::default(), DatagalaxError::ParameterOutOfBounds);

    // 2.
    let checker = &mut *ctx.accounts.checker;
    checker.version = VERSION;
    checker.bump = ctx.bumps.checker;
    checker.id = network.checkers;
    checker.owner = *ctx.accounts.owner.address();
    checker.operator = operator;
    checker.payout = payout;
    checker.commission_bps = commission_bps;
    network.checkers = network.checkers.checked_add(1).filter(|n| *n != NONE).ok_or(DatagalaxError::Overflow)?;
    network.invariant()?;
    checker.invariant()
}
