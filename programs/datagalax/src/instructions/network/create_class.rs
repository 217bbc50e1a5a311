use anchor_lang::prelude::*;

use crate::{
    constants::{MAX_AMOUNT, seed},
    error::DatagalaxError,
    state::{GpuClass, Network, VERSION},
};

/// What a class is.
#[derive(Clone, Copy, AnchorSerialize, AnchorDeserialize, IdlType)]
pub struct CreateClassArgs {
    /// Id, free to choose.
    pub id: u16,
    /// Name, UTF-8, zero-padded.
    pub name: [u8; 32],
    /// Stake base K, base units a unit.
    pub stake_base: u64,
    /// Weight of a unit.
    pub unit_weight: u16,
    /// Least memory of a unit, bytes.
    pub minimum_vram: u64,
    /// Operations a second that are 100 percent capacity.
    pub reference_throughput: u64,
}

#[derive(Accounts)]
#[instruction(args: CreateClassArgs)]
pub struct CreateClass {
    #[account(mut, address = network.authority @ DatagalaxError::Unauthorized)]
    pub authority: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    #[account(init, payer = authority, seeds = [seed::CLASS, args.id.to_le_bytes()], bump)]
    pub class: Account<GpuClass>,
    pub system_program: Program<System>,
}

/// Specification
/// 1. The network's authority signs.
/// 2. Throughput is above zero and the stake base in range.
/// 3. The weight does not exceed the class's share of throughput relative to the largest class.
/// 4. Write the class; a class of more throughput becomes the largest.
#[inline(never)]
pub fn create_class(ctx: &mut Context<CreateClass>, args: &CreateClassArgs) -> Result<()> {
    // 2.
    require!(
        args.reference_throughput > 0 && args.stake_base <= MAX_AMOUNT && core::str::from_utf8(&args.name).is_ok(),
        DatagalaxError::ParameterOutOfBounds
    );

    // 3. Attack: a light card in a class that is paid like a heavy one would drain the pool. Weights are compared as
    // weight / throughput by cross-multiplication; a new largest class may not push the old one above its own share.
    let network = &mut *ctx.accounts.network;
    let (weight, throughput) = (u128::from(args.unit_weight), u128::from(args.reference_throughput));
    let (largest_weight, largest_throughput) =
        (u128::from(network.largest_class_weight), u128::from(network.largest_class_throughput));
    if network.classes > 0 {
        let (small, large) = (weight * largest_throughput, largest_weight * throughput);
        let becomes_largest = throughput > largest_throughput;
        require!(if becomes_largest { small >= large } else { small <= large }, DatagalaxError::ClassTooHeavy);
    }

    // 4.
    if network.classes == 0 || throughput > largest_throughput {
        network.largest_class_weight = u64::from(args.unit_weight);
        network.largest_class_throughput = args.reference_throughput;
    }
    network.classes = network.classes.checked_add(1).ok_or(DatagalaxError::Overflow)?;
    network.invariant()?;
    let class = &mut *ctx.accounts.class;
    class.version = VERSION;
    class.bump = ctx.bumps.class;
    class.id = args.id;
    class.unit_weight = args.unit_weight;
    class.active = 1;
    class.stake_base = args.stake_base;
    class.minimum_vram = args.minimum_vram;
    class.reference_throughput = args.reference_throughput;
    class.name = args.name;
    class.invariant()
}
