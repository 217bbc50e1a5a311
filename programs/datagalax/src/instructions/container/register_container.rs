use anchor_lang::{
    pinocchio::{
        cpi::{CpiAccount, invoke_signed_unchecked},
        instruction::{InstructionAccount, InstructionView},
    },
    prelude::*,
};

use super::write_endpoint;
use crate::{
    checked::{Account, EventAuthority, New},
    clock::now,
    constants::{BPS, MAX_AMOUNT, NONE, ROWS, SHORTEST_LEASE, seed},
    error::DatagalaxError,
    events::ContainerRegistered,
    math::mul_div,
    state::{Block, Container, Epoch, GpuClass, Network, Provider, Row, VERSION},
};

/// What a provider says of its host.
#[derive(Clone, AnchorSerialize, AnchorDeserialize, IdlType)]
pub struct RegisterContainerArgs {
    /// Stable hash of the hardware.
    pub fingerprint: [u8; 32],
    /// Key that starts leases and signs metrics.
    pub operator: Address,
    /// Hash of the published specification.
    pub spec_hash: [u8; 32],
    /// Units of the class, 1 to 255.
    pub gpus: u8,
    /// Latitude, 1/100 degree.
    pub latitude: i16,
    /// Longitude, 1/100 degree.
    pub longitude: i16,
    /// Region, ASCII, zero-padded.
    pub region: [u8; 16],
    /// Price per hour, base units.
    pub price_per_hour: u64,
    /// Least length of a lease, seconds, 600 or more.
    pub minimum_lease: u32,
    /// Where it is reached, 1 to 128 bytes.
    pub endpoint: alloc::string::String,
}

#[derive(Accounts)]
pub struct RegisterContainer {
    // May also be the block's creator, whom it then repays nothing; both are written through lamports only.
    #[account(mut, unsafe(dup))]
    pub owner: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    #[account(mut, constraint = provider.owner == *owner.address() @ DatagalaxError::Unauthorized)]
    pub provider: Account<Provider>,
    pub class: Account<GpuClass>,
    #[account(mut)]
    pub block: Account<Block>,
    #[account(mut, unsafe(dup), constraint = *creator.address() == block.creator @ DatagalaxError::WrongAccount)]
    pub creator: UncheckedAccount,
    #[account(mut)]
    pub container: New<Container>,
    #[account(mut, constraint = epoch.number == network.current_epoch @ DatagalaxError::CurrentEpochRequired)]
    pub epoch: Account<Epoch>,
    pub system_program: Program<System>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The network is not paused and has advanced to an epoch; the class takes containers; fields are in range.
/// 2. Lock `stake base x gpus x coefficient` of the provider's free stake (rounded down).
/// 3. Take the lowest free row of the named block, checking from the first epoch it is present for in full.
/// 4. The block's first row makes it seatable from the next epoch.
/// 5. Repay 1/256 of the block's rent to its creator.
/// 6. Write the container.
#[inline(never)]
pub fn register_container(ctx: &mut Context<RegisterContainer>, args: &RegisterContainerArgs) -> Result<()> {
    let now = now()?;
    let accounts = &mut ctx.accounts;
    // 1.
    let network = &mut *accounts.network;
    network.require_running(now)?;
    let terms = accounts.class.terms;
    require!(terms.active == 1, DatagalaxError::ClassInactive);
    require!(
        args.gpus > 0
            && (-9_000..=9_000).contains(&args.latitude)
            && (-18_000..=18_000).contains(&args.longitude)
            && args.region.is_ascii()
            && args.price_per_hour <= MAX_AMOUNT
            && args.minimum_lease >= SHORTEST_LEASE,
        DatagalaxError::BadContainer
    );
    let next_epoch = network.epoch_at(now)?.checked_add(1).ok_or(DatagalaxError::Overflow)?;

    // 2.
    let base = terms.stake_base.checked_mul(u64::from(args.gpus)).ok_or(DatagalaxError::Overflow)?;
    let stake = mul_div(base, u64::from(network.parameters.stake_coefficient_bps), BPS).ok_or(DatagalaxError::Overflow)?;
    let provider = &mut *accounts.provider;
    require!(stake <= provider.free_stake(), DatagalaxError::StakeTooLow);
    provider.locked += stake;
    provider.containers = provider.containers.checked_add(1).ok_or(DatagalaxError::Overflow)?;
    provider.containers_ever = provider.containers_ever.checked_add(1).ok_or(DatagalaxError::Overflow)?;

    // 3. The lowest free row, not one of the caller's choice: nobody picks neighbours or a fragmented block.
    let block = &mut *accounts.block;
    require!(block.full == 1, DatagalaxError::BlockNotFull);
    let row = block.lowest_free_row().ok_or(DatagalaxError::NoFreeRow)?;
    block.rows[usize::from(row)] = Row::checking(provider.id, accounts.class.id, terms.unit_weight, args.gpus, next_epoch);
    block.occupy(row);
    network.free_rows = network.free_rows.checked_sub(1).ok_or(DatagalaxError::InvariantViolated)?;

    // 4. The count is added to the current epoch and applies from the next: rates already fixed do not change.
    if block.seated_from == NONE {
        block.seated_from = next_epoch;
        accounts.epoch.blocks_added = accounts.epoch.blocks_added.saturating_add(1);
    }

    // 5.
    let share = accounts.block.account().lamports() / ROWS as u64;
    if accounts.owner.address() != accounts.creator.address() {
        transfer_lamports(accounts.owner.account(), accounts.creator.account(), share);
    }

    // 6.
    let seeds: [&[u8]; 3] = [seed::CONTAINER, &accounts.provider.id.to_le_bytes(), &args.fingerprint];
    let (mut container, bump) = accounts.container.create(accounts.owner.account(), &seeds)?;
    container.version = VERSION;
    container.bump = bump;
    container.gpus = args.gpus;
    container.row = row;
    container.accepting = 1;
    let container = &mut *container;
    container.endpoint_len = write_endpoint(&mut container.endpoint, &args.endpoint)?;
    container.provider = accounts.provider.id;
    container.block = accounts.block.index;
    container.class = accounts.class.id;
    container.latitude = args.latitude;
    container.longitude = args.longitude;
    container.fingerprint = args.fingerprint;
    container.operator = args.operator;
    container.rent_payer = *accounts.owner.address();
    container.spec_hash = args.spec_hash;
    container.region = args.region;
    container.price_per_hour = args.price_per_hour;
    container.locked_stake = stake;
    container.original_locked_stake = stake;
    container.registered_at = now;
    container.breached_epoch = NONE;
    container.minimum_lease = args.minimum_lease;

    accounts.event_authority.emit(&ContainerRegistered {
        container: *accounts.container.address(),
        provider: accounts.provider.id,
        block: accounts.block.index,
        row,
        class: accounts.class.id,
        gpus: args.gpus,
        locked_stake: stake,
        first_epoch: next_epoch,
    });
    container.invariant()?;
    accounts.provider.invariant()?;
    accounts.block.invariant()?;
    accounts.epoch.invariant()?;
    accounts.network.invariant()
}

/// The system program's transfer: instruction 2 (u32), lamports.
#[inline(never)]
fn transfer_lamports(from: &AccountView, to: &AccountView, lamports: u64) {
    let mut data = [0u8; 12];
    data[0] = 2;
    data[4..].copy_from_slice(&lamports.to_le_bytes());
    let accounts = [InstructionAccount::writable_signer(from.address()), InstructionAccount::writable(to.address())];
    let views = [CpiAccount::from(from), CpiAccount::from(to)];
    let instruction = InstructionView { program_id: &System::id(), accounts: &accounts, data: &data };
    // SAFETY: only lamports change, and neither account's data is borrowed.
    unsafe { invoke_signed_unchecked(&instruction, &views, &[]) };
}
