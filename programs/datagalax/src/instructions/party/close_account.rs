use anchor_lang::prelude::*;

use crate::{
    checked::{Account, EventAuthority, Kind, close, tag_of},
    clock::now,
    constants::{DAY, EPOCH_REST, NONE},
    error::DatagalaxError,
    events::AccountClosed,
    state::{Case, Checker, Epoch, Indexer, Keeper, Lease, Network, Provider},
};

#[derive(Accounts)]
pub struct CloseAccount {
    pub signer: Signer,
    pub network: Account<Network>,
    /// The account that is done with.
    #[account(mut)]
    pub account: UncheckedAccount,
    /// Who paid its rent. May be the signer; only its lamports change.
    #[account(mut, unsafe(dup))]
    pub recipient: UncheckedAccount,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Seconds after which anybody may close the account of a case or of a lease.
const REST: i64 = 30 * DAY;

/// An account that may be done with.
trait Closable {
    /// Whether nothing is owed to or through it any more.
    fn is_done(&self, network: &Network) -> bool;
    /// Who paid the rent.
    fn rent_payer(&self) -> Address;
    /// Whether this key may close it. Where anybody may, the rent still goes to who paid it.
    fn may_close(&self, signer: &Address, now: i64) -> bool;
}

impl Closable for Provider {
    fn is_done(&self, _: &Network) -> bool {
        self.staked == 0 && self.containers == 0 && self.lease_due == 0 && self.owed_grants() == Ok(0)
    }

    fn rent_payer(&self) -> Address {
        self.rent_payer
    }

    // Attack: close the account of somebody who has just registered.
    fn may_close(&self, signer: &Address, _: i64) -> bool {
        *signer == self.owner
    }
}

impl Closable for Checker {
    fn is_done(&self, _: &Network) -> bool {
        self.tickets == 0
    }

    fn rent_payer(&self) -> Address {
        self.rent_payer
    }

    fn may_close(&self, signer: &Address, _: i64) -> bool {
        *signer == self.owner
    }
}

impl Closable for Indexer {
    fn is_done(&self, _: &Network) -> bool {
        self.staked == 0 && self.due == 0 && self.open_leases == 0
    }

    fn rent_payer(&self) -> Address {
        self.rent_payer
    }

    fn may_close(&self, signer: &Address, _: i64) -> bool {
        *signer == self.owner
    }
}

impl Closable for Keeper {
    fn is_done(&self, _: &Network) -> bool {
        self.due == 0
    }

    fn rent_payer(&self) -> Address {
        self.rent_payer
    }

    fn may_close(&self, signer: &Address, _: i64) -> bool {
        *signer == self.wallet
    }
}

impl Closable for Lease {
    fn is_done(&self, _: &Network) -> bool {
        self.status == Self::SETTLED && self.withdrawn == self.refunded && self.compensation_withdrawn == self.compensation
    }

    fn rent_payer(&self) -> Address {
        self.user
    }

    // Attack: a host that did not serve the last epochs settles, pays out and closes the lease in the transaction that tallies
    // them, so that nobody can report the breach any more.
    fn may_close(&self, signer: &Address, now: i64) -> bool {
        *signer == self.user || now >= self.ended.saturating_add(REST)
    }
}

impl Closable for Case {
    fn is_done(&self, _: &Network) -> bool {
        self.status != Self::OPEN
    }

    fn rent_payer(&self) -> Address {
        self.rent_payer
    }

    fn may_close(&self, signer: &Address, now: i64) -> bool {
        *signer == self.rent_payer || now >= self.closed.saturating_add(REST)
    }
}

impl Closable for Epoch {
    fn is_done(&self, network: &Network) -> bool {
        self.released == 1
            && network.current_epoch != NONE
            && self.number.saturating_add(EPOCH_REST) <= network.current_epoch
    }

    fn rent_payer(&self) -> Address {
        self.rent_payer
    }

    fn may_close(&self, _: &Address, _: i64) -> bool {
        true
    }
}

/// Specification
/// 1. The account is a provider, checker, indexer or keeper whose own key signs; or an epoch, which anybody may close; or a lease or
///    case, which its user or payer may close at once and anybody after 30 days.
/// 2. It is done with: nothing staked, owed or unsettled, nobody depends on it.
/// 3. Its rent goes to who paid it, whoever signs.
#[inline(never)]
pub fn close_account(ctx: &mut Context<CloseAccount>) -> Result<()> {
    let view = *ctx.accounts.account.account();
    macro_rules! close_as {
        ($($kind:ty),*) => {
            $(if tag_of(&view) == Some(<$kind>::TAG) {
                return end(&ctx.accounts, &*Account::<$kind>::open(view)?);
            })*
        };
    }
    close_as!(Provider, Checker, Indexer, Keeper, Lease, Case, Epoch);
    Err(DatagalaxError::WrongAccount.into())
}

#[inline(never)]
fn end(accounts: &CloseAccount, closable: &dyn Closable) -> Result<()> {
    // 1.
    let now = now()?;
    require!(closable.may_close(accounts.signer.address(), now), DatagalaxError::Unauthorized);

    // 2. Attack: close an account that still owes, or whose absence would let something be done twice.
    require!(closable.is_done(&accounts.network), DatagalaxError::NotDone);

    // 3.
    require!(closable.rent_payer() == *accounts.recipient.address(), DatagalaxError::WrongAccount);
    accounts.event_authority.emit(&AccountClosed {
        account: *accounts.account.address(),
        recipient: *accounts.recipient.address(),
        lamports: accounts.account.lamports(),
    });
    close(accounts.account.account(), accounts.recipient.account())
}
