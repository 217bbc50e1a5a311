use anchor_lang::prelude::*;

use super::require_match;
use crate::{
    checked::{Account, EventAuthority, New, TokenAccount},
    clock::{after, now},
    constants::{CLEAN_FOR_LEASES, LONGEST_LEASE, NONE, SHORTEST_LEASE, seed},
    error::DatagalaxError,
    events::LeaseOpened,
    instructions::vault::*,
    state::{Block, Container, Indexer, Lease, Network, VERSION, VaultLedger},
};

/// What a user asks for.
#[derive(Clone, Copy, AnchorSerialize, AnchorDeserialize, IdlType)]
pub struct OpenLeaseArgs {
    /// Tells the user's leases apart.
    pub nonce: u64,
    /// Seconds, 600 or more and at least the container's minimum.
    pub seconds: u32,
    /// Most the container may ask per hour, base units.
    pub max_price_per_hour: u64,
    /// Hash of the workload that will be handed to the host.
    pub workload_hash: [u8; 32],
    /// Until when the indexer's signature on the match is good, seconds; 0 without an indexer.
    pub match_expires: i64,
}

#[derive(Accounts)]
pub struct OpenLease {
    #[account(mut)]
    pub user: Signer,
    pub network: Account<Network>,
    #[account(mut)]
    pub container: Account<Container>,
    #[account(constraint = block.index == container.block @ DatagalaxError::WrongAccount)]
    pub block: Account<Block>,
    #[account(mut)]
    pub lease: New<Lease>,
    /// Whoever matched, with the signature in the instruction before.
    #[account(mut)]
    pub indexer: Option<Account<Indexer>>,
    /// The sysvar of instructions, with an indexer.
    pub instructions: Option<UncheckedAccount>,
    #[account(mut)]
    pub from: TokenAccount,
    pub vault: Nested<Vault>,
    pub system_program: Program<System>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The network is not paused; the container is live, not halted, accepts, has no lease, and no case, or two clean tallies since.
/// 2. It asks no more than the user allows; the time is in range and at least the container's minimum.
/// 3. An indexer is named only with its signature on exactly this match.
/// 4. Escrow the price of the whole time (rounded up) and the fee on it.
/// 5. Write the lease with the prices of this moment; the container is taken until it is started, rejected or timed out.
#[inline(never)]
pub fn open_lease(ctx: &mut Context<OpenLease>, args: &OpenLeaseArgs) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    let network = &accounts.network;
    let (address, lease_address) = (*accounts.container.address(), *accounts.lease.address());
    let (container, user) = (&mut *accounts.container, accounts.user.address());
    // 1.
    network.require_running(now)?;
    let row = &accounts.block.rows[usize::from(container.row)];
    require!(row.is_live(), DatagalaxError::NotLive);
    require!(container.status == 0, DatagalaxError::ContainerHalted);
    require!(container.accepting == 1, DatagalaxError::NotAccepting);
    require!(container.lease == Address::default(), DatagalaxError::ContainerLeased);
    require!(!row.is_accused() || row.clean >= CLEAN_FOR_LEASES, DatagalaxError::ContainerAccused);

    // 2. Attack: raise the price between the user's look and the user's transaction.
    require!(container.price_per_hour <= args.max_price_per_hour, DatagalaxError::TooDear);
    let least = container.minimum_lease.max(SHORTEST_LEASE);
    require!((least..=LONGEST_LEASE).contains(&args.seconds), DatagalaxError::BadDuration);

    // 3.
    let mut indexer_id = NONE;
    if let Some(indexer) = accounts.indexer.as_mut() {
        let sysvar = accounts.instructions.as_ref().map(|i| i.account());
        require_match(sysvar, network, indexer, user, &address, args.nonce, args.match_expires)?;
        indexer.open_leases = indexer.open_leases.checked_add(1).ok_or(DatagalaxError::Overflow)?;
        indexer.matched = indexer.matched.saturating_add(1);
        indexer_id = indexer.id;
    }

    // 4.
    let parameters = &network.parameters;
    let seeds: [&[u8]; 3] = [seed::LEASE, user.as_ref(), &args.nonce.to_le_bytes()];
    let (mut lease, bump) = accounts.lease.create(accounts.user.account(), &seeds)?;
    lease.version = VERSION;
    lease.bump = bump;
    lease.status = Lease::OPEN;
    lease.row = container.row;
    lease.last_availability = 100;
    lease.nonce = args.nonce;
    lease.user = *user;
    lease.container = address;
    lease.workload_hash = args.workload_hash;
    lease.provider = container.provider;
    lease.block = container.block;
    lease.indexer = indexer_id;
    lease.max_seconds = args.seconds;
    lease.minimum_seconds = least;
    lease.fee_bps = parameters.lease_fee_bps;
    lease.indexer_share_bps = if indexer_id == NONE { 0 } else { parameters.indexer_share_bps };
    lease.price_per_hour = container.price_per_hour;
    lease.escrowed = lease.bill().escrow(args.seconds)?;
    lease.opened = now;
    lease.start_by = after(now, parameters.start_timeout);
    accounts.vault.require(network, VaultLedger::ESCROW)?;
    if lease.escrowed > 0 {
        accounts.vault.deposit(&accounts.from, accounts.user.account(), lease.escrowed, true)?;
    }

    // 5.
    container.lease = lease_address;
    accounts.event_authority.emit(&LeaseOpened {
        lease: container.lease,
        user: lease.user,
        container: lease.container,
        provider: lease.provider,
        indexer: indexer_id,
        price_per_hour: lease.price_per_hour,
        seconds: args.seconds,
        escrowed: lease.escrowed,
        reserved: [0; 4],
    });
    accounts.container.invariant()?;
    lease.invariant()
}
