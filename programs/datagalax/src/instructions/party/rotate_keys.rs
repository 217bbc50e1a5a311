use anchor_lang::prelude::*;

use crate::{
    checked::{EventAuthority, PartyAccount},
    error::DatagalaxError,
    events::KeysRotated,
};

/// What the owner of a provider, checker or indexer does to its keys.
#[derive(Accounts)]
pub struct OwnParty {
    pub owner: Signer,
    /// A provider, a checker or an indexer.
    #[account(mut, constraint = party.owner == *owner.address() @ DatagalaxError::Unauthorized)]
    pub party: PartyAccount,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The owner signs; the operator is somebody. An operator of zeros would read as "nobody committed" in a seat.
/// 2. Replace the hot key and the wallet that withdrawals go to. Seats already committed in keep the key that committed.
#[inline(never)]
pub fn rotate_keys(ctx: &mut Context<OwnParty>, operator: &Address, payout: &Address) -> Result<()> {
    let party = &mut *ctx.accounts.party;
    // 1.
    require!(*operator != Address::default(), DatagalaxError::ParameterOutOfBounds);

    // 2.
    party.operator = *operator;
    party.payout = *payout;
    ctx.accounts.emit();
    Ok(())
}

/// Specification
/// 1. The owner signs and names the next one (the default address: nobody).
#[inline(never)]
pub fn propose_owner(ctx: &mut Context<OwnParty>, next: &Address) -> Result<()> {
    ctx.accounts.party.pending_owner = *next;
    ctx.accounts.emit();
    Ok(())
}

impl OwnParty {
    fn emit(&self) {
        emit(&self.event_authority, &self.party);
    }
}

#[inline(never)]
fn emit(authority: &EventAuthority, party: &PartyAccount) {
    authority.emit(&KeysRotated {
        account: *party.address(),
        owner: party.owner,
        pending_owner: party.pending_owner,
        operator: party.operator,
        payout: party.payout,
    });
}

#[derive(Accounts)]
pub struct AcceptOwner {
    pub owner: Signer,
    /// A provider, a checker or an indexer.
    #[account(mut, constraint = party.pending_owner == *owner.address() @ DatagalaxError::NotNamed)]
    pub party: PartyAccount,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The named key signs, which proves that it exists. Attack of oneself: handing over to an address nobody holds.
/// 2. It is the owner from now on.
#[inline(never)]
pub fn accept_owner(ctx: &mut Context<AcceptOwner>) -> Result<()> {
    let party = &mut *ctx.accounts.party;
    party.owner = *ctx.accounts.owner.address();
    party.pending_owner = Address::default();
    emit(&ctx.accounts.event_authority, &ctx.accounts.party);
    Ok(())
}
