//! The two ways $ATH moves: from a signer into a vault, and out of a vault under the network's signature.

use anchor_lang::prelude::*;

use crate::{
    checked::{Account, Mint, TokenAccount, TokenProgram, Transfer},
    clock::now,
    constants::MAX_AMOUNT,
    error::DatagalaxError,
    state::{Network, VaultLedger},
};

/// A vault with its books, the mint and the token program.
#[derive(Accounts)]
pub struct Vault {
    pub mint: Mint,
    #[account(mut)]
    pub ledger: Account<VaultLedger>,
    #[account(mut)]
    pub vault: TokenAccount,
    pub token_program: TokenProgram,
}

/// The addresses of a vault's accounts, for clients.
pub use __client_accounts_vault::Vault as VaultAddresses;

impl Vault {
    /// Refuses accounts that are not those of this kind of vault.
    ///
    /// # Errors
    /// [`DatagalaxError::WrongAccount`].
    #[inline(never)]
    pub fn require(&self, network: &Network, kind: u8) -> Result<()> {
        require!(
            self.ledger.kind == kind
                && *self.vault.address() == self.ledger.vault
                && *self.mint.address() == network.mint
                && *self.token_program.address() == network.token_program,
            DatagalaxError::WrongAccount
        );
        Ok(())
    }

    /// Moves `amount` base units from `from` into the vault, books them, and promises them when they stay their owner's.
    ///
    /// # Errors
    /// [`DatagalaxError::BadAmount`] for zero or more than 2^56; [`DatagalaxError::Overflow`] when the vault would hold more than
    /// 2^56; the token program's own errors.
    #[inline(never)]
    pub fn deposit(&mut self, from: &AccountView, authority: &AccountView, amount: u64, owed: bool) -> Result<()> {
        require!(amount > 0 && amount <= MAX_AMOUNT, DatagalaxError::BadAmount);
        Transfer { program: &self.token_program, from, mint: &self.mint, to: &self.vault, authority }.run(amount, None);
        self.ledger.receive(amount, now()?)?;
        if owed {
            self.ledger.reserve(amount)?;
        }
        self.ledger.invariant(self.vault.amount())
    }

    /// Pays out of the vault what of `owed` fits into the breaker's room, base units, and says how much that was.
    ///
    /// # Errors
    /// [`DatagalaxError::NothingToPay`] for zero; [`DatagalaxError::BreakerOpen`] when nothing fits;
    /// [`DatagalaxError::InvariantViolated`] when the ledger does not owe it.
    #[inline(never)]
    pub fn pay_out(&mut self, network: &Account<Network>, to: &AccountView, owed: u64) -> Result<u64> {
        require!(owed > 0, DatagalaxError::NothingToPay);
        let now = now()?;
        let limit =
            *network.parameters.breaker_limits.get(usize::from(self.ledger.kind)).ok_or(DatagalaxError::WrongAccount)?;
        let amount = owed.min(self.ledger.room(limit, now));
        require!(amount > 0, DatagalaxError::BreakerOpen);
        self.ledger.pay(amount, now)?;
        self.transfer_out(network, to, amount);
        self.ledger.invariant(self.vault.amount())?;
        Ok(amount)
    }

    /// Moves tokens out under the network's signature.
    pub fn transfer_out(&self, network: &Account<Network>, to: &AccountView, amount: u64) {
        Transfer { program: &self.token_program, from: &self.vault, mint: &self.mint, to, authority: network.account() }
            .run(amount, Some(network.bump));
    }
}
