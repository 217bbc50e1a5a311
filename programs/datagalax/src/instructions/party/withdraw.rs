use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, Kind, TokenAccount, tag_of},
    clock::now,
    constants::DAY,
    error::DatagalaxError,
    events::Withdrawn,
    instructions::vault::*,
    state::{Indexer, Keeper, Lease, Network, Provider, VaultLedger},
};

#[derive(Accounts)]
pub struct Withdraw {
    pub network: Account<Network>,
    /// Whom it is owed: a provider, an indexer, a lease (its user) or a keeper.
    #[account(mut)]
    pub source: UncheckedAccount,
    pub vault: Nested<Vault>,
    #[account(mut)]
    pub to: TokenAccount,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// An account that a vault owes something.
trait Creditor {
    /// What may leave a vault of this kind now, base units, and the wallet it goes to.
    fn owed(&self, kind: u8, network: &Network, now: i64) -> Result<(u64, Address)>;
    /// Notes that `amount` of that left.
    fn note(&mut self, kind: u8, amount: u64, now: i64) -> Result<()>;
}

impl Creditor for Provider {
    fn owed(&self, kind: u8, network: &Network, now: i64) -> Result<(u64, Address)> {
        let amount = match kind {
            VaultLedger::STAKE => {
                self.unbonding_entries.iter().filter(|e| e.unlocks_at <= now).map(|e| e.amount).fold(0, u64::saturating_add)
            }
            VaultLedger::ESCROW => self.lease_due,
            _ => self.vested((now / DAY) as u32, &network.vesting_terms)?,
        };
        Ok((amount, self.payout))
    }

    fn note(&mut self, kind: u8, amount: u64, now: i64) -> Result<()> {
        match kind {
            VaultLedger::STAKE => {
                let mut left = amount;
                for entry in self.unbonding_entries.iter_mut().filter(|e| e.unlocks_at <= now) {
                    let part = entry.amount.min(left);
                    entry.amount -= part;
                    left -= part;
                }
                self.staked = self.staked.checked_sub(amount).ok_or(DatagalaxError::InvariantViolated)?;
                self.unbonding = self.unbonding.checked_sub(amount).ok_or(DatagalaxError::InvariantViolated)?;
            }
            VaultLedger::ESCROW => self.lease_due -= amount,
            _ => self.withdrawn += amount,
        }
        self.invariant()
    }
}

impl Creditor for Indexer {
    fn owed(&self, kind: u8, _: &Network, now: i64) -> Result<(u64, Address)> {
        let amount = match kind {
            VaultLedger::STAKE if self.status == Self::LEAVING && self.unlocks_at <= now => self.staked,
            VaultLedger::ESCROW => self.due,
            _ => 0,
        };
        Ok((amount, self.payout))
    }

    fn note(&mut self, kind: u8, amount: u64, _: i64) -> Result<()> {
        *(if kind == VaultLedger::STAKE { &mut self.staked } else { &mut self.due }) -= amount;
        self.invariant()
    }
}

impl Creditor for Lease {
    fn owed(&self, kind: u8, _: &Network, _: i64) -> Result<(u64, Address)> {
        let amount = match kind {
            VaultLedger::STAKE => self.compensation.saturating_sub(self.compensation_withdrawn),
            VaultLedger::ESCROW => self.refunded.saturating_sub(self.withdrawn),
            _ => 0,
        };
        Ok((amount, self.user))
    }

    fn note(&mut self, kind: u8, amount: u64, _: i64) -> Result<()> {
        *(if kind == VaultLedger::STAKE { &mut self.compensation_withdrawn } else { &mut self.withdrawn }) += amount;
        self.invariant()
    }
}

impl Creditor for Keeper {
    fn owed(&self, kind: u8, _: &Network, _: i64) -> Result<(u64, Address)> {
        Ok((if kind == VaultLedger::REWARDS { self.due } else { 0 }, self.wallet))
    }

    fn note(&mut self, _: u8, amount: u64, _: i64) -> Result<()> {
        self.due -= amount;
        self.invariant()
    }
}

/// Specification
/// 1. Anybody may call: tokens go to the associated token account of the creditor's wallet (a provider's or indexer's payout, a
///    lease's user, a keeper), nowhere else.
/// 2. What the named vault owes it: of stake, what was asked back and has unlocked, or a user's compensation; of rewards, what
///    has vested, or a keeper's fees; of escrow, what leases paid, an indexer's fees, or a user's refund.
/// 3. Pay what fits into the breaker's room; the rest waits. Neither a pause nor a fee stands in the way.
#[inline(never)]
pub fn withdraw(ctx: &mut Context<Withdraw>) -> Result<()> {
    let view = *ctx.accounts.source.account();
    let tag = tag_of(&view);
    if tag == Some(Provider::TAG) {
        pay(&mut ctx.accounts, &mut *Account::<Provider>::open(view)?)
    } else if tag == Some(Indexer::TAG) {
        pay(&mut ctx.accounts, &mut *Account::<Indexer>::open(view)?)
    } else if tag == Some(Lease::TAG) {
        pay(&mut ctx.accounts, &mut *Account::<Lease>::open(view)?)
    } else if tag == Some(Keeper::TAG) {
        pay(&mut ctx.accounts, &mut *Account::<Keeper>::open(view)?)
    } else {
        Err(DatagalaxError::WrongAccount.into())
    }
}

#[inline(never)]
fn pay(accounts: &mut Withdraw, creditor: &mut dyn Creditor) -> Result<()> {
    let now = now()?;
    // 1. 2.
    let kind = accounts.vault.ledger.kind;
    accounts.vault.require(&accounts.network, kind)?;
    let (owed, wallet) = creditor.owed(kind, &accounts.network, now)?;
    accounts.to.require_home_of(&wallet, accounts.vault.mint.address())?;

    // 3. Noted in the same instruction, so twice pays nothing.
    let amount = accounts.vault.pay_out(&accounts.network, &accounts.to, owed)?;
    creditor.note(kind, amount, now)?;
    accounts.event_authority.emit(&Withdrawn {
        source: *accounts.source.address(),
        kind,
        amount,
        left: owed - amount,
        to: *accounts.to.address(),
        reserved: [0; 7],
    });
    Ok(())
}
