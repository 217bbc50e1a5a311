use anchor_lang::prelude::*;

use super::Govern;
use crate::{
    checked::{Account, EventAuthority},
    clock::{after, now},
    error::DatagalaxError,
    events::PauseChanged,
    state::{Network, PAUSE, PAUSE_INTERVAL},
};

#[derive(Accounts)]
pub struct Pause {
    pub signer: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The authority signs, any time (to extend a pause as well); or the guardian, not twice within 7 days.
/// 2. The network is paused for 72 hours from now. What a pause never stops is in the protocol's section 10.
#[inline(never)]
pub fn pause(ctx: &mut Context<Pause>) -> Result<()> {
    let now = now()?;
    let network = &mut *ctx.accounts.network;
    // 1. Attack: a stolen guardian key that keeps the network paused for ever.
    let signer = ctx.accounts.signer.address();
    if *signer != network.authority {
        require!(*signer == network.guardian, DatagalaxError::Unauthorized);
        require!(
            network.guardian_paused_at == 0 || now >= after(network.guardian_paused_at, PAUSE_INTERVAL),
            DatagalaxError::GuardianRests
        );
        network.guardian_paused_at = now;
    }

    // 2.
    network.paused_until = after(now, PAUSE);
    ctx.accounts.event_authority.emit(&PauseChanged { until: network.paused_until });
    ctx.accounts.network.invariant()
}

/// Specification
/// 1. The authority signs; the network is paused.
/// 2. It is not any more.
#[inline(never)]
pub fn unpause(ctx: &mut Context<Govern>) -> Result<()> {
    let now = now()?;
    let network = &mut *ctx.accounts.network;
    // 1.
    require!(network.is_paused(now), DatagalaxError::NotPaused);

    // 2.
    network.paused_until = now;
    ctx.accounts.event_authority.emit(&PauseChanged { until: now });
    ctx.accounts.network.invariant()
}
