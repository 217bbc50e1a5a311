use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority},
    clock::now,
    error::DatagalaxError,
    events::ClassApplied,
    state::{GpuClass, Network},
};

#[derive(Accounts)]
pub struct ApplyClass {
    #[account(mut)]
    pub network: Account<Network>,
    #[account(mut)]
    pub class: Account<GpuClass>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may call, once the time lock of what is pending has run out.
/// 2. The weight does not exceed the class's share of throughput relative to the largest class.
/// 3. It holds for registrations from now on; rows keep what they registered under.
#[inline(never)]
pub fn apply_class(ctx: &mut Context<ApplyClass>) -> Result<()> {
    let now = now()?;
    let (network, class) = (&mut *ctx.accounts.network, &mut *ctx.accounts.class);
    // 1.
    require!(class.pending_at != 0, DatagalaxError::NothingPending);
    require!(now >= class.pending_at, DatagalaxError::TimeLocked);

    // 2. 3.
    settle_terms(network, class)?;
    ctx.accounts.event_authority.emit(&ClassApplied { class: class.id, terms: class.terms, reserved: [0; 6] });
    ctx.accounts.network.invariant()?;
    ctx.accounts.class.invariant()
}

/// Puts pending terms into force.
///
/// Attack: a light card in a class that is paid like a heavy one would drain the pool. Weights are compared as weight per
/// throughput by cross-multiplication with the class that bounds all others; a new largest one may not push those before it
/// above their share, so its ratio is at least as high.
#[inline(never)]
pub(super) fn settle_terms(network: &mut Network, class: &mut GpuClass) -> Result<()> {
    let terms = class.pending;
    let (weight, throughput) = (u128::from(terms.unit_weight), u128::from(terms.reference_throughput));
    let (largest_weight, largest_throughput) =
        (u128::from(network.largest_class_weight), u128::from(network.largest_class_throughput));
    let (own, bound) = (weight * largest_throughput, largest_weight * throughput);
    let first = network.largest_class_throughput == 0;
    let largest = throughput > largest_throughput;
    require!(first || (if largest { own >= bound } else { own <= bound }), DatagalaxError::ClassTooHeavy);
    if first || largest {
        network.largest_class_weight = u64::from(terms.unit_weight);
        network.largest_class_throughput = terms.reference_throughput;
    }
    class.terms = terms;
    class.pending_at = 0;
    Ok(())
}
