use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, New},
    clock::now,
    constants::{BPS, NONE, seed},
    error::DatagalaxError,
    events::CheckerRegistered,
    state::{Checker, Network, VERSION},
};

#[derive(Accounts)]
pub struct RegisterChecker {
    #[account(mut)]
    pub owner: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    #[account(mut)]
    pub checker: New<Checker>,
    pub system_program: Program<System>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The network is not paused; the commission is at most all of the pay.
/// 2. The checker takes the next id; it holds no ticket yet.
#[inline(never)]
pub fn register_checker(
    ctx: &mut Context<RegisterChecker>,
    operator: &Address,
    payout: &Address,
    commission_bps: u16,
) -> Result<()> {
    let network = &mut *ctx.accounts.network;
    // 1. An operator of zeros would read as "nobody committed" in a seat.
    network.require_running(now()?)?;
    require!(u64::from(commission_bps) <= BPS && *operator != Address::default(), DatagalaxError::ParameterOutOfBounds);

    // 2.
    let id = network.checkers;
    let seeds: [&[u8]; 2] = [seed::CHECKER, &id.to_le_bytes()];
    let (mut checker, bump) = ctx.accounts.checker.create(ctx.accounts.owner.account(), &seeds)?;
    checker.version = VERSION;
    checker.bump = bump;
    checker.id = id;
    checker.owner = *ctx.accounts.owner.address();
    checker.operator = *operator;
    checker.payout = *payout;
    checker.rent_payer = checker.owner;
    checker.commission_bps = commission_bps;
    network.checkers = id.checked_add(1).filter(|n| *n != NONE).ok_or(DatagalaxError::Overflow)?;
    ctx.accounts.event_authority.emit(&CheckerRegistered {
        checker: checker.id,
        owner: checker.owner,
        operator: *operator,
        payout: *payout,
        commission_bps,
        reserved: [0; 2],
    });
    ctx.accounts.network.invariant()?;
    checker.invariant()
}
