use anchor_lang::prelude::*;
use anchor_spl::{associated_token::get_associated_token_address, mint::Mint, token::TokenAccount};

use crate::{
    constants::{BPS, MAX_TICKETS_PER_CALL},
    error::DatagalaxError,
    events::SeatPayClaimed,
    instructions::token_transfer::pay_out,
    math::mul_ratio,
    state::{Checker, CheckerSet, Network, VaultLedger},
};

#[derive(Accounts)]
pub struct ClaimSeatPay {
    pub network: Account<Network>,
    #[account(mut)]
    pub checker: Account<Checker>,
    #[account(mut)]
    pub checkers: CheckerSet,
    #[account(address = network.mint @ DatagalaxError::WrongAccount)]
    pub mint: Account<Mint>,
    #[account(mut)]
    pub ledger: Account<VaultLedger>,
    #[account(mut, address = ledger.vault @ DatagalaxError::WrongAccount)]
    pub vault: Account<TokenAccount>,
    #[account(mut, constraint = is_home(&to, &checker.payout, mint.address()) @ DatagalaxError::WrongAccount)]
    pub to: Account<TokenAccount>,
    /// Receives the commission; needed while there is one and the operator is not the payout wallet.
    #[account(mut)]
    pub operator_account: Option<Account<TokenAccount>>,
    pub token_program: Program<Token>,
}

/// Whether this is the wallet's associated token account. Attack: anybody may call, so anybody could scatter the pay over odd
/// accounts that the wallet happens to own; and an associated account can have been signed over to another owner.
fn is_home(account: &Account<TokenAccount>, wallet: &Address, mint: &Address) -> bool {
    account.owner() == wallet && *account.address() == get_associated_token_address(wallet, mint)
}

/// Specification
/// 1. Anybody may call: tokens go to the payout wallet's and the operator's associated token accounts, nowhere else.
/// 2. Every named slot holds a ticket of the checker; take what each accrued.
/// 3. The operator gets its commission (rounded down), the payout wallet the rest; all of it when they are one wallet.
#[inline(never)]
pub fn claim_seat_pay(ctx: &mut Context<ClaimSeatPay>, slots: &[u8]) -> Result<()> {
    let accounts = &mut ctx.accounts;
    // 1.
    require!(accounts.ledger.kind == VaultLedger::REWARDS, DatagalaxError::WrongAccount);
    let (slots, rest) = slots.as_chunks::<4>();
    require!(
        rest.is_empty() && !slots.is_empty() && slots.len() <= usize::from(MAX_TICKETS_PER_CALL),
        DatagalaxError::BadTicketCount
    );

    // 2.
    let checker = accounts.checker.id;
    let tickets = accounts.checkers.as_mut_slice();
    let mut amount = 0u64;
    for slot in slots {
        let ticket = tickets
            .get_mut(u32::from_le_bytes(*slot) as usize)
            .filter(|t| t.checker == checker)
            .ok_or(DatagalaxError::NotYourTicket)?;
        amount = amount.checked_add(ticket.accrued).ok_or(DatagalaxError::Overflow)?;
        ticket.accrued = 0;
    }
    require!(amount > 0, DatagalaxError::NothingToPay);

    // 3. One wallet in both roles is paid once: its token account cannot be passed twice.
    let both = accounts.checker.operator == accounts.checker.payout;
    let commission_bps = if both { 0 } else { u64::from(accounts.checker.commission_bps) };
    let commission = mul_ratio(amount, commission_bps, BPS).ok_or(DatagalaxError::InvariantViolated)?;
    let bump = accounts.network.bump;
    if commission > 0 {
        let to = accounts.operator_account.as_mut().ok_or(DatagalaxError::WrongAccount)?;
        require!(is_home(to, &accounts.checker.operator, accounts.mint.address()), DatagalaxError::WrongAccount);
        pay_out(
            &accounts.token_program,
            &accounts.mint,
            &mut accounts.vault,
            to,
            accounts.network.cpi_handle(),
            bump,
            &mut accounts.ledger,
            commission,
        )?;
    }
    if amount > commission {
        pay_out(
            &accounts.token_program,
            &accounts.mint,
            &mut accounts.vault,
            &mut accounts.to,
            accounts.network.cpi_handle(),
            bump,
            &mut accounts.ledger,
            amount - commission,
        )?;
    }
    accounts.checker.claimed = accounts.checker.claimed.checked_add(amount).ok_or(DatagalaxError::Overflow)?;
    emit!(SeatPayClaimed { checker, amount: amount - commission, commission });
    accounts.checker.invariant()?;
    accounts.ledger.invariant(accounts.vault.amount())
}
