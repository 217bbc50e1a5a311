use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, New},
    clock::{after, now},
    constants::{NONE, seed},
    error::DatagalaxError,
    events::ClassProposed,
    instructions::class::apply_class::settle_terms,
    state::{ClassTerms, GpuClass, Network, VERSION},
};

/// What a class is.
#[derive(Clone, Copy, AnchorSerialize, AnchorDeserialize, IdlType)]
pub struct CreateClassArgs {
    /// Id, free to choose.
    pub id: u16,
    /// Name, UTF-8, zero-padded.
    pub name: [u8; 32],
    /// What it asks and earns.
    pub terms: ClassTerms,
}

#[derive(Accounts)]
pub struct CreateClass {
    #[account(mut, constraint = *authority.address() == network.authority @ DatagalaxError::Unauthorized)]
    pub authority: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    #[account(mut)]
    pub class: New<GpuClass>,
    pub system_program: Program<System>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The network's authority signs; terms and name are in range.
/// 2. Before the first epoch, or without a time lock, the terms hold at once; else they are pending and nobody registers yet.
#[inline(never)]
pub fn create_class(ctx: &mut Context<CreateClass>, args: &CreateClassArgs) -> Result<()> {
    // 1.
    args.terms.validate()?;
    require!(core::str::from_utf8(&args.name).is_ok(), DatagalaxError::ParameterOutOfBounds);

    // 2.
    let now = now()?;
    let network = &mut *ctx.accounts.network;
    let seeds: [&[u8]; 2] = [seed::CLASS, &args.id.to_le_bytes()];
    let (mut class, bump) = ctx.accounts.class.create(ctx.accounts.authority.account(), &seeds)?;
    class.version = VERSION;
    class.bump = bump;
    class.id = args.id;
    class.name = args.name;
    class.pending = args.terms;
    class.pending_at = after(now, network.parameters.time_lock).max(1);
    if network.current_epoch == NONE || network.parameters.time_lock == 0 {
        settle_terms(network, &mut class)?;
    }
    network.classes = network.classes.checked_add(1).ok_or(DatagalaxError::Overflow)?;
    ctx.accounts.event_authority.emit(&ClassProposed {
        class: args.id,
        applies_at: class.pending_at,
        before: ClassTerms::default(),
        after: args.terms,
        reserved: [0; 6],
    });
    ctx.accounts.network.invariant()?;
    class.invariant()
}
