use core::{
    mem::offset_of,
    ops::{Deref, DerefMut},
};

use anchor_lang::{IdlAccountType, prelude::*};
use bytemuck::{Pod, Zeroable};

use super::{
    DISCRIMINATOR_LEN, Kind,
    account::{Finding, READ_ONLY, check, code, settle, tag_of},
};
use crate::{
    error::DatagalaxError,
    state::{Checker, Indexer, Provider},
};

/// The head that providers, checkers and indexers have in common: who may do what for them.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Party {
    own: [u8; 4],
    /// Id.
    pub id: u32,
    /// Cold key.
    pub owner: Address,
    /// Named next owner until it accepts; default when none.
    pub pending_owner: Address,
    /// Hot key.
    pub operator: Address,
    /// Wallet whose token account receives every withdrawal.
    pub payout: Address,
    /// Who paid the rent and gets it back.
    pub rent_payer: Address,
}

macro_rules! assert_party {
    ($($kind:ty),*) => {
        $(const _: () = {
            assert!(offset_of!($kind, id) == offset_of!(Party, id));
            assert!(offset_of!($kind, owner) == offset_of!(Party, owner));
            assert!(offset_of!($kind, pending_owner) == offset_of!(Party, pending_owner));
            assert!(offset_of!($kind, operator) == offset_of!(Party, operator));
            assert!(offset_of!($kind, payout) == offset_of!(Party, payout));
            assert!(offset_of!($kind, rent_payer) == offset_of!(Party, rent_payer));
        };)*
    };
}
assert_party!(Provider, Checker, Indexer);

/// A provider's, checker's or indexer's account.
pub struct PartyAccount {
    view: AccountView,
}

impl PartyAccount {
    /// The account's address.
    #[inline(always)]
    pub fn address(&self) -> &Address {
        self.view.address()
    }
}

#[inline(never)]
fn check_party(view: &AccountView, writable: bool) -> Finding {
    let tag = tag_of(view);
    for (kind, space) in [(Provider::TAG, Provider::SPACE), (Checker::TAG, Checker::SPACE), (Indexer::TAG, Indexer::SPACE)] {
        if tag == Some(kind) {
            return check(view, kind, space, writable);
        }
    }
    if writable && !view.is_writable() { READ_ONLY } else { code(DatagalaxError::WrongAccountKind) }
}

impl AnchorAccount for PartyAccount {
    type Data = Party;

    const MIN_DATA_LEN: usize = DISCRIMINATOR_LEN + core::mem::size_of::<Party>();

    #[inline(always)]
    fn load(view: AccountView) -> Result<Self> {
        settle(check_party(&view, false))?;
        Ok(Self { view })
    }

    #[inline(always)]
    unsafe fn load_mut(view: AccountView) -> Result<Self> {
        settle(check_party(&view, true))?;
        Ok(Self { view })
    }

    #[inline(always)]
    fn account(&self) -> &AccountView {
        &self.view
    }
}

impl Deref for PartyAccount {
    type Target = Party;

    #[inline(always)]
    fn deref(&self) -> &Party {
        // SAFETY: owner, kind and length were checked when it was loaded, and all three kinds begin with a `Party`.
        unsafe { &*self.view.data_ptr().add(DISCRIMINATOR_LEN).cast() }
    }
}

impl DerefMut for PartyAccount {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Party {
        // SAFETY: as above; the derive refuses a second name of a mutable account.
        unsafe { &mut *self.view.data_mut_ptr().add(DISCRIMINATOR_LEN).cast() }
    }
}

impl IdlAccountType for PartyAccount {}
