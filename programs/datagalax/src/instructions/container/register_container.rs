use anchor_lang::prelude::*;

use crate::{
    constants::{BPS, MAX_AMOUNT, MAX_ENDPOINT, NONE, ROWS, seed},
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
#[instruction(args: RegisterContainerArgs)]
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
    #[account(mut, unsafe(dup), address = block.creator @ DatagalaxError::WrongAccount)]
    pub creator: UncheckedAccount,
    #[account(init, payer = owner, seeds = [seed::CONTAINER, provider.id.to_le_bytes(), args.fingerprint.as_ref()], bump)]
    pub container: Account<Container>,
    #[account(mut, constraint = epoch.number == network.current_epoch @ DatagalaxError::CurrentEpochRequired)]
    pub epoch: Account<Epoch>,
    pub system_program: Program<System>,
}

/// Least length of a lease anywhere, seconds (protocol section 8).
const SHORTEST_LEASE: u32 = 600;

/// Specification
/// 1. The network is not paused and has advanced to an epoch; the class takes containers; fields are in range.
/// 2. Lock `stake base x gpus x coefficient` of the provider's free stake (rounded down).
/// 3. Take the lowest free row of the named block, checking from the first epoch it is present for in full.
/// 4. The block's first row makes it seatable from the next epoch.
/// 5. Repay 1/256 of the block's rent to its creator.
/// 6. Write the container.
#[inline(never)]
pub fn register_container(ctx: &mut Context<RegisterContainer>, args: &RegisterContainerArgs) -> Result<()> {
    let now = Clock::get()?.unix_timestamp;
    let accounts = &mut ctx.accounts;
    // 1.
    let network = &mut *accounts.network;
    require!(network.paused == 0, DatagalaxError::Paused);
    require!(accounts.class.active == 1, DatagalaxError::ClassInactive);
    require!((1..=MAX_ENDPOINT).contains(&args.endpoint.len()), DatagalaxError::BadEndpoint);
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
    let base = accounts.class.stake_base.checked_mul(u64::from(args.gpus)).ok_or(DatagalaxError::Overflow)?;
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
    block.rows[usize::from(row)] =
        Row::checking(provider.id, accounts.class.id, accounts.class.unit_weight, args.gpus, next_epoch);
    block.occupy(row);
    network.free_rows = network.free_rows.checked_sub(1).ok_or(DatagalaxError::InvariantViolated)?;

    // 4. The count is added to the current epoch and applies from the next: rates already fixed do not change.
    if block.seated_from == NONE {
        block.seated_from = next_epoch;
        accounts.epoch.blocks_added += 1;
    }

    // 5.
    let share = accounts.block.account().lamports() / ROWS as u64;
    if accounts.owner.address() != accounts.creator.address() {
        system_program::transfer(
            CpiContext::new(
                accounts.system_program.address(),
                system_program::Transfer { from: accounts.owner.cpi_handle_mut(), to: accounts.creator.cpi_handle_mut() },
            ),
            share,
        )?;
    }

    // 6.
    let container = &mut *accounts.container;
    container.version = VERSION;
    container.bump = ctx.bumps.container;
    container.gpus = args.gpus;
    container.row = row;
    container.accepting = 1;
    container.endpoint_len = args.endpoint.len() as u8;
    container.provider = accounts.provider.id;
    container.block = accounts.block.index;
    container.class = accounts.class.id;
    container.latitude = args.latitude;
    container.longitude = args.longitude;
    container.fingerprint = args.fingerprint;
    container.operator = args.operator;
    container.spec_hash = args.spec_hash;
    container.endpoint[..args.endpoint.len()].copy_from_slice(args.endpoint.as_bytes());
    container.region = args.region;
    container.price_per_hour = args.price_per_hour;
    container.locked_stake = stake;
    container.original_locked_stake = stake;
    container.registered_at = now;
    container.minimum_lease = args.minimum_lease;

    emit!(ContainerRegistered {
        container: *accounts.container.address(),
        provider: accounts.provider.id,
        block: accounts.block.index,
        row,
        class: accounts.class.id,
        gpus: args.gpus,
        locked_stake: stake,
        first_epoch: next_epoch,
    });
    accounts.container.invariant()?;
    accounts.provider.invariant()?;
    accounts.block.invariant()?;
    accounts.epoch.invariant()?;
    accounts.network.invariant()
}
