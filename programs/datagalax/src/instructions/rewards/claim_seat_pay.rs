use anchor_lang::prelude::*;

use crate::{
    checked::{Account, CheckerSet, EventAuthority, TokenAccount},
    clock::now,
    constants::BPS,
    error::DatagalaxError,
    events::SeatPayClaimed,
    instructions::{checker::slots, vault::*},
    math::mul_ratio,
    state::{Checker, Network, VaultLedger},
};

#[derive(Accounts)]
pub struct ClaimSeatPay {
    pub network: Account<Network>,
    #[account(mut)]
    pub checker: Account<Checker>,
    #[account(mut)]
    pub checkers: CheckerSet,
    pub vault: Nested<Vault>,
    #[account(mut)]
    pub to: TokenAccount,
    /// Receives the commission; needed while there is one and the operator is not the payout wallet.
    #[account(mut)]
    pub operator_account: Option<TokenAccount>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may call: tokens go to the payout wallet's and the operator's associated token accounts, nowhere else.
/// 2. Every named slot holds a ticket of the checker; take what each accrued.
/// 3. The operator gets its commission (rounded down), the payout wallet the rest; all of it when they are one wallet. What does
///    not fit into the breaker's room stays with the first named ticket.
#[inline(never)]
pub fn claim_seat_pay(ctx: &mut Context<ClaimSeatPay>, named: &[u8]) -> Result<()> {
    let accounts = &mut ctx.accounts;
    // 1.
    accounts.vault.require(&accounts.network, VaultLedger::REWARDS)?;
    let mint = *accounts.vault.mint.address();
    let checker = &mut *accounts.checker;
    accounts.to.require_home_of(&checker.payout, &mint)?;

    // 2.
    let named = slots(named)?;
    let mut amount = 0u64;
    for slot in named {
        let ticket = accounts.checkers.ticket_mut(u32::from_le_bytes(*slot))?;
        require!(ticket.checker == checker.id, DatagalaxError::NotYourTicket);
        amount = amount.checked_add(ticket.accrued).ok_or(DatagalaxError::Overflow)?;
        ticket.accrued = 0;
    }

    // 3. One wallet in both roles is paid once: its token account cannot be passed twice.
    let now = now()?;
    let limit = accounts.network.parameters.breaker_limits[usize::from(VaultLedger::REWARDS)];
    let paid = amount.min(accounts.vault.ledger.room(limit, now));
    require!(amount > 0, DatagalaxError::NothingToPay);
    require!(paid > 0, DatagalaxError::BreakerOpen);
    let first = named.first().map(|slot| u32::from_le_bytes(*slot)).ok_or(DatagalaxError::BadTicketCount)?;
    accounts.checkers.ticket_mut(first)?.accrued = amount - paid;
    let both = checker.operator == checker.payout;
    let commission_bps = if both { 0 } else { u64::from(checker.commission_bps) };
    let commission = mul_ratio(paid, commission_bps, BPS).ok_or(DatagalaxError::InvariantViolated)?;
    if commission > 0 {
        let to = accounts.operator_account.as_ref().ok_or(DatagalaxError::WrongAccount)?;
        to.require_home_of(&checker.operator, &mint)?;
        accounts.vault.pay_out(&accounts.network, to, commission)?;
    }
    if paid > commission {
        accounts.vault.pay_out(&accounts.network, &accounts.to, paid - commission)?;
    }
    checker.claimed = checker.claimed.checked_add(paid).ok_or(DatagalaxError::Overflow)?;
    accounts.event_authority.emit(&SeatPayClaimed {
        checker: checker.id,
        amount: paid - commission,
        commission,
        reserved: [0; 4],
    });
    accounts.checker.invariant()
}
