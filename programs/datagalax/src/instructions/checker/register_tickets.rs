use anchor_lang::prelude::*;
use anchor_spl::{mint::Mint, token, token::TokenAccount};

use crate::{
    constants::{MAX_TICKETS, MAX_TICKETS_PER_CALL, NONE},
    error::DatagalaxError,
    instructions::token_transfer::deposit,
    state::{Checker, CheckerSet, Network, Ticket, VaultLedger},
};

#[derive(Accounts)]
pub struct RegisterTickets {
    #[account(mut)]
    pub owner: Signer,
    pub network: Account<Network>,
    #[account(mut, constraint = checker.owner == *owner.address() @ DatagalaxError::Unauthorized)]
    pub checker: Account<Checker>,
    #[account(mut)]
    pub checkers: CheckerSet,
    #[account(address = network.mint @ DatagalaxError::WrongAccount)]
    pub mint: Account<Mint>,
    #[account(mut, token::mint = mint, token::authority = owner)]
    pub from: Account<TokenAccount>,
    #[account(mut)]
    pub ledger: Account<VaultLedger>,
    #[account(mut, address = ledger.vault @ DatagalaxError::WrongAccount)]
    pub vault: Account<TokenAccount>,
    pub token_program: Program<Token>,
    pub system_program: Program<System>,
}

/// Specification
/// 1. The network is not paused; 1 to 200 tickets, and the set holds at most 150,000.
/// 2. Stake the tickets' price.
/// 3. Append the tickets and queue them: `churn` lets them into the order, first in first out.
#[inline(never)]
pub fn register_tickets(ctx: &mut Context<RegisterTickets>, count: u16) -> Result<()> {
    let accounts = &mut ctx.accounts;
    // 1.
    require!(accounts.network.paused == 0, DatagalaxError::Paused);
    require!(accounts.ledger.kind == VaultLedger::STAKE, DatagalaxError::WrongAccount);
    let slots = accounts.checkers.len() as u32;
    require!(
        (1..=MAX_TICKETS_PER_CALL).contains(&count) && slots + u32::from(count) <= MAX_TICKETS,
        DatagalaxError::BadTicketCount
    );

    // 2.
    let price = accounts.network.parameters.ticket_price.checked_mul(u64::from(count)).ok_or(DatagalaxError::Overflow)?;
    deposit(
        &accounts.token_program,
        &accounts.mint,
        &mut accounts.from,
        &mut accounts.vault,
        &accounts.owner,
        &mut accounts.ledger,
        price,
    )?;
    accounts.ledger.reserve(price)?;
    let checker = &mut *accounts.checker;
    checker.staked = checker.staked.checked_add(price).ok_or(DatagalaxError::Overflow)?;
    checker.tickets = checker.tickets.checked_add(u32::from(count)).ok_or(DatagalaxError::Overflow)?;

    // 3.
    let set = &mut accounts.checkers;
    set.resize_to_capacity(slots + u32::from(count))?;
    set.top_up(accounts.owner.account())?;
    for slot in slots..slots + u32::from(count) {
        set.try_push(Ticket::waiting(checker.id))?;
        let tail = set.pending_tail;
        if tail == NONE {
            set.pending_head = slot;
        } else {
            set.as_mut_slice().get_mut(tail as usize).ok_or(DatagalaxError::InvariantViolated)?.next = slot;
        }
        set.pending_tail = slot;
        set.pending += 1;
    }
    checker.invariant()?;
    accounts.ledger.invariant(accounts.vault.amount())?;
    let slots = set.len();
    set.invariant(slots)
}
