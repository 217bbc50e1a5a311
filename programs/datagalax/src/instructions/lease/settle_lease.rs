use anchor_lang::prelude::*;

use super::{indexer_of, note_settled};
use crate::{
    checked::{Account, EventAuthority},
    clock::now,
    constants::MAX_SETTLED_EPOCHS,
    error::DatagalaxError,
    events::LeaseSettled,
    settlement,
    state::{Block, Container, Indexer, Lease, Network, Provider, VaultLedger},
};

#[derive(Accounts)]
pub struct SettleLease {
    pub network: Account<Network>,
    #[account(mut)]
    pub lease: Account<Lease>,
    #[account(mut, constraint = *container.address() == lease.container @ DatagalaxError::WrongAccount)]
    pub container: Account<Container>,
    #[account(mut, constraint = provider.id == lease.provider @ DatagalaxError::WrongAccount)]
    pub provider: Account<Provider>,
    #[account(constraint = block.index == lease.block @ DatagalaxError::WrongAccount)]
    pub block: Account<Block>,
    /// The indexer that matched it, if one did.
    #[account(mut)]
    pub indexer: Option<Account<Indexer>>,
    /// Books of the escrow vault.
    #[account(mut)]
    pub ledger: Account<VaultLedger>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may call; the lease runs or has ended and is not settled to its end.
/// 2. Settle, in order, the epochs that are over and tallied, or too old to be: a whole one at its availability, the partial ones
///    at start and end in full; at most 64 a call.
/// 3. The provider and the indexer are owed what that adds, the user gets back what was not delivered, the rest of the fee is
///    owed to nobody: it goes to the rewards vault (`sweep_vault`).
/// 4. A lease settled to its end keeps nothing back.
#[inline(never)]
pub fn settle_lease(ctx: &mut Context<SettleLease>) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    let address = *accounts.lease.address();
    let lease = &mut *accounts.lease;
    // 1.
    require!(lease.status == Lease::STARTED || lease.status == Lease::ENDED, DatagalaxError::WrongLeaseState);
    require!(accounts.ledger.kind == VaultLedger::ESCROW, DatagalaxError::WrongAccount);

    // 2. Twice settles nothing: what is settled is a time on the lease.
    let before = *lease;
    let done = settlement::settle(lease, &accounts.network, &accounts.block, now, MAX_SETTLED_EPOCHS)?;

    // 3. Nothing ever shrinks: each figure is of all that was delivered so far.
    let grown = |after: u64, before: u64| after.checked_sub(before).ok_or(DatagalaxError::InvariantViolated);
    let paid = grown(lease.paid, before.paid)?;
    let fee = grown(lease.fee, before.fee)?;
    let share = grown(lease.indexer_fee, before.indexer_fee)?;
    grown(lease.refunded, before.refunded)?;
    let provider = &mut *accounts.provider;
    provider.lease_due = provider.lease_due.checked_add(paid).ok_or(DatagalaxError::Overflow)?;
    if let Some(indexer) = indexer_of(lease, &mut accounts.indexer)? {
        indexer.due = indexer.due.checked_add(share).ok_or(DatagalaxError::Overflow)?;
        indexer.earned = indexer.earned.checked_add(share).ok_or(DatagalaxError::Overflow)?;
        indexer.invariant()?;
    }
    accounts.ledger.release(grown(fee, share)?)?;

    // 4.
    if done {
        note_settled(lease, &mut accounts.indexer)?;
        let container = &mut *accounts.container;
        container.unsettled = container.unsettled.checked_sub(1).ok_or(DatagalaxError::InvariantViolated)?;
    }
    accounts.event_authority.emit(&LeaseSettled {
        lease: address,
        until: lease.settled_until,
        paid: lease.paid,
        fee: lease.fee,
        indexer_fee: lease.indexer_fee,
        refunded: lease.refunded,
        done: u8::from(done),
        reserved: [0; 7],
    });
    accounts.provider.invariant()?;
    accounts.ledger.books()?;
    accounts.lease.invariant()
}
