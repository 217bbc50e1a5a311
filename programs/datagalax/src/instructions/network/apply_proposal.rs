use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, TokenAccount},
    clock::now,
    constants::{DAY, NONE},
    error::DatagalaxError,
    events::ProposalApplied,
    state::Network,
};

#[derive(Accounts)]
pub struct ApplyProposal {
    #[account(mut)]
    pub network: Account<Network>,
    /// The treasury that was proposed.
    pub treasury: TokenAccount,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. Anybody may call, once the time lock of what is pending has run out.
/// 2. It is still within bounds; the treasury is a token account of the mint, and not the network's own.
/// 3. Lengths change at the next boundary, vesting terms the next day, the rest now; what is fixed already (rates and thresholds
///    of the current epoch, prices of tickets and leases, unlock times) keeps what it was fixed to.
#[inline(never)]
pub fn apply_proposal(ctx: &mut Context<ApplyProposal>) -> Result<()> {
    let now = now()?;
    let own = *ctx.accounts.network.address();
    let network = &mut *ctx.accounts.network;
    // 1.
    require!(network.pending_at != 0, DatagalaxError::NothingPending);
    require!(now >= network.pending_at, DatagalaxError::TimeLocked);

    // 2. Attack: a treasury whose token account was closed, or is of another mint, would hold up the payment for ever.
    let proposal = network.pending;
    proposal.validate()?;
    let treasury = &ctx.accounts.treasury;
    require!(*treasury.address() == proposal.treasury && treasury.mint() == network.mint, DatagalaxError::WrongAccount);
    // A vault as the treasury would swallow what is paid to it: its ledger books no such transfer.
    require!(treasury.owner() != own, DatagalaxError::WrongAccount);

    // 3.
    let parameters = &proposal.parameters;
    network.change_grid(now, proposal.epoch_length, parameters.reveal_window, parameters.commit_lead)?;
    if !proposal.vesting.is_unchanged() {
        network.add_terms(&proposal.vesting, (now / DAY) as u32)?;
    }
    let before = network.parameters;
    network.parameters = *parameters;
    network.emission = proposal.emission;
    if network.current_epoch != NONE {
        // A decay that is named for the past would be caught up with many times over.
        network.emission.next_decay = network.emission.next_decay.max(network.current_epoch.saturating_add(1));
    }
    network.treasury = proposal.treasury;
    network.guardian = proposal.guardian;
    network.pending_at = 0;
    ctx.accounts.event_authority.emit(&ProposalApplied { before, after: network.parameters });
    ctx.accounts.network.invariant()
}
