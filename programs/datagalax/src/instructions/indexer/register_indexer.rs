use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, New, TokenAccount},
    clock::now,
    constants::{NONE, seed},
    error::DatagalaxError,
    events::IndexerChanged,
    instructions::{container::write_endpoint, vault::*},
    state::{Indexer, Network, VERSION, VaultLedger},
};

#[derive(Accounts)]
pub struct RegisterIndexer {
    #[account(mut)]
    pub owner: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    #[account(mut)]
    pub indexer: New<Indexer>,
    #[account(mut)]
    pub from: TokenAccount,
    pub vault: Nested<Vault>,
    pub system_program: Program<System>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The network is not paused; the operator is somebody; the endpoint is in range.
/// 2. Stake what an indexer stakes.
/// 3. The indexer takes the next id.
#[inline(never)]
pub fn register_indexer(
    ctx: &mut Context<RegisterIndexer>,
    operator: &Address,
    payout: &Address,
    endpoint: &str,
) -> Result<()> {
    let accounts = &mut ctx.accounts;
    // 1. An operator of zeros is a key whose signatures anybody can make up.
    accounts.network.require_running(now()?)?;
    require!(*operator != Address::default(), DatagalaxError::ParameterOutOfBounds);
    accounts.vault.require(&accounts.network, VaultLedger::STAKE)?;

    // 2. Where nothing is asked nothing moves.
    let stake = accounts.network.parameters.indexer_stake;
    if stake > 0 {
        accounts.vault.deposit(&accounts.from, accounts.owner.account(), stake, true)?;
    }

    // 3.
    let network = &mut *accounts.network;
    let id = network.indexers;
    let seeds: [&[u8]; 2] = [seed::INDEXER, &id.to_le_bytes()];
    let (mut indexer, bump) = accounts.indexer.create(accounts.owner.account(), &seeds)?;
    indexer.version = VERSION;
    indexer.bump = bump;
    indexer.status = Indexer::ACTIVE;
    indexer.id = id;
    indexer.owner = *accounts.owner.address();
    indexer.operator = *operator;
    indexer.payout = *payout;
    indexer.rent_payer = indexer.owner;
    indexer.staked = stake;
    indexer.endpoint_len = write_endpoint(&mut indexer.endpoint, endpoint)?;
    network.indexers = id.checked_add(1).filter(|n| *n != NONE).ok_or(DatagalaxError::Overflow)?;
    accounts.event_authority.emit(&IndexerChanged {
        indexer: indexer.id,
        status: indexer.status,
        staked: stake,
        unlocks_at: 0,
        operator: *operator,
        reserved: [0; 3],
    });
    indexer.invariant()?;
    accounts.network.invariant()
}
