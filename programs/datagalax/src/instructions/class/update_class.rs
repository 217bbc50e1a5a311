use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority},
    clock::{after, now},
    error::DatagalaxError,
    events::ClassProposed,
    state::{ClassTerms, GpuClass, Network},
};

#[derive(Accounts)]
pub struct UpdateClass {
    #[account(constraint = *authority.address() == network.authority @ DatagalaxError::Unauthorized)]
    pub authority: Signer,
    pub network: Account<Network>,
    #[account(mut)]
    pub class: Account<GpuClass>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The network's authority signs; the terms are in range.
/// 2. Keep them until the time lock has run out; they replace what was pending. Proposing the terms in force cancels.
#[inline(never)]
pub fn update_class(ctx: &mut Context<UpdateClass>, terms: &ClassTerms) -> Result<()> {
    // 1.
    terms.validate()?;

    // 2.
    let now = now()?;
    let class = &mut *ctx.accounts.class;
    class.pending = *terms;
    class.pending_at = after(now, ctx.accounts.network.parameters.time_lock).max(1);
    if *terms == class.terms {
        class.pending_at = 0;
    }
    ctx.accounts.event_authority.emit(&ClassProposed {
        class: class.id,
        applies_at: class.pending_at,
        before: class.terms,
        after: *terms,
        reserved: [0; 6],
    });
    ctx.accounts.class.invariant()
}
