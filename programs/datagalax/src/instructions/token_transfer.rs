//! The two ways $ATH moves: from a signer into a vault, and out of a vault under the network's signature.

use anchor_lang::prelude::*;
use anchor_spl::{
    mint::Mint,
    token::{self, TokenAccount},
};

use crate::{
    constants::{MAX_AMOUNT, MINT_DECIMALS, seed},
    error::DatagalaxError,
    state::VaultLedger,
};

/// Moves `amount` base units from `from` into the vault and books them.
///
/// # Errors
/// [`DatagalaxError::BadAmount`] for zero or more than 2^56; the token program's own errors.
#[inline(never)]
pub fn deposit(
    token_program: &Program<Token>,
    mint: &Account<Mint>,
    from: &mut Account<TokenAccount>,
    vault: &mut Account<TokenAccount>,
    authority: &Signer,
    ledger: &mut VaultLedger,
    amount: u64,
) -> Result<()> {
    require!(amount > 0 && amount <= MAX_AMOUNT, DatagalaxError::BadAmount);
    let accounts = token::accounts::TransferChecked {
        from: from.cpi_handle_mut(),
        mint: mint.cpi_handle(),
        to: vault.cpi_handle_mut(),
        authority: authority.cpi_handle(),
    };
    token::transfer_checked(CpiContext::new(token_program.address(), accounts), amount, MINT_DECIMALS)?;
    ledger.receive(amount)
}

/// Pays `amount` base units of a liability out of the vault.
///
/// # Errors
/// [`DatagalaxError::NothingToPay`] for zero; [`DatagalaxError::InvariantViolated`] when the ledger does not owe it.
#[inline(never)]
#[allow(clippy::too_many_arguments)]
pub fn pay_out(
    token_program: &Program<Token>,
    mint: &Account<Mint>,
    vault: &mut Account<TokenAccount>,
    to: &mut Account<TokenAccount>,
    network: CpiHandle,
    network_bump: u8,
    ledger: &mut VaultLedger,
    amount: u64,
) -> Result<()> {
    require!(amount > 0, DatagalaxError::NothingToPay);
    ledger.pay(amount)?;
    let bump = [network_bump];
    let seeds: &[&[&[u8]]] = &[&[seed::NETWORK, &bump]];
    let accounts = token::accounts::TransferChecked {
        from: vault.cpi_handle_mut(),
        mint: mint.cpi_handle(),
        to: to.cpi_handle_mut(),
        authority: network,
    };
    token::transfer_checked(CpiContext::new_with_signer(token_program.address(), accounts, seeds), amount, MINT_DECIMALS)
}
