use core::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use anchor_lang::{Discriminator, IdlAccountType, prelude::*};
use bytemuck::Pod;

use crate::error::{DatagalaxError, FIRST_CODE};

/// Bytes of the discriminator at the head of every account of the program.
pub const DISCRIMINATOR_LEN: usize = 8;

/// A type of account of this program: zero-copy, with a discriminator.
pub trait Kind: Pod + Discriminator {
    /// Its discriminator as a word.
    const TAG: u64 = {
        let bytes = Self::DISCRIMINATOR;
        assert!(bytes.len() == DISCRIMINATOR_LEN);
        u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    };
    /// Bytes of its account.
    const SPACE: usize = DISCRIMINATOR_LEN + core::mem::size_of::<Self>();
}

impl<T: Pod + Discriminator> Kind for T {}

/// An account of this program that holds exactly one `T`.
pub struct Account<T: Kind> {
    view: AccountView,
    kind: PhantomData<T>,
}

/// What a check found: zero, or the code of the refusal.
///
/// A number fits a register; a `Result` comes back through memory, which two hundred checks of accounts would each pay for.
pub(super) type Finding = u32;
/// Nothing to refuse.
pub(super) const FINE: Finding = 0;
/// The account must be writable: Anchor's own code `ConstraintMut`, which clients know. (Its enum counts otherwise.)
pub(super) const READ_ONLY: Finding = 2000;

/// A finding as a result.
#[inline(always)]
pub(super) fn settle(finding: Finding) -> Result<()> {
    if finding == FINE { Ok(()) } else { Err(ProgramError::Custom(finding)) }
}

/// The code of a refusal of ours.
#[inline(always)]
pub(super) const fn code(error: DatagalaxError) -> Finding {
    FIRST_CODE + error as u32
}

/// Looks whether an account is the program's, of this kind, of this length, and writable where it is to change:
/// [`DatagalaxError::ForeignAccount`], [`DatagalaxError::WrongAccountKind`], [`DatagalaxError::WrongAccountLength`], Anchor's
/// `ConstraintMut`.
#[inline(never)]
pub(super) fn check(view: &AccountView, tag: u64, space: usize, writable: bool) -> Finding {
    if writable && !view.is_writable() {
        READ_ONLY
    } else if !view.owned_by(&crate::ID) {
        code(DatagalaxError::ForeignAccount)
    } else if tag_of(view) != Some(tag) {
        code(DatagalaxError::WrongAccountKind)
    } else if view.data_len() != space {
        code(DatagalaxError::WrongAccountLength)
    } else {
        FINE
    }
}

/// The discriminator of an account, whoever owns it; `None` when it is too short to have one.
#[inline(always)]
pub fn tag_of(view: &AccountView) -> Option<u64> {
    // SAFETY: the runtime keeps the data in place for the whole instruction; the bytes are copied out at once.
    let data = unsafe { view.borrow_unchecked() };
    data.first_chunk::<DISCRIMINATOR_LEN>().map(|bytes| u64::from_le_bytes(*bytes))
}

impl<T: Kind> Account<T> {
    /// The account's address.
    #[inline(always)]
    pub fn address(&self) -> &Address {
        self.view.address()
    }

    /// Loads an account whose kind the instruction's accounts leave open.
    ///
    /// # Errors
    /// As [`check`] finds.
    #[inline(always)]
    pub fn open(view: AccountView) -> Result<Self> {
        settle(check(&view, T::TAG, T::SPACE, true))?;
        Ok(Self { view, kind: PhantomData })
    }

    #[inline(always)]
    fn pointer(&self) -> *mut T {
        let mut view = self.view;
        // SAFETY: within the data, whose length was checked. Accounts' data begin at multiples of 8 and so does what follows
        // the discriminator.
        unsafe { view.data_mut_ptr().add(DISCRIMINATOR_LEN).cast() }
    }
}

impl<T: Kind> Deref for Account<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: length and kind were checked when it was loaded, any bytes are a `T`, and Anchor's derive refuses an account
        // that is named mutable and named again.
        unsafe { &*self.pointer() }
    }
}

impl<T: Kind> DerefMut for Account<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above. Writing to an account that was not loaded as mutable is stopped by the runtime, which maps a
        // read-only account's data read-only.
        unsafe { &mut *self.pointer() }
    }
}

impl<T: Kind> AnchorAccount for Account<T> {
    type Data = T;

    const MIN_DATA_LEN: usize = T::SPACE;

    #[inline(always)]
    fn load(view: AccountView) -> Result<Self> {
        settle(check(&view, T::TAG, T::SPACE, false))?;
        Ok(Self { view, kind: PhantomData })
    }

    #[inline(always)]
    unsafe fn load_mut(view: AccountView) -> Result<Self> {
        Self::open(view)
    }

    #[inline(always)]
    fn account(&self) -> &AccountView {
        &self.view
    }
}

/// An account of this program that the instruction is about to create.
pub struct New<T: Kind> {
    view: AccountView,
    kind: PhantomData<T>,
}

impl<T: Kind> New<T> {
    /// The account's address.
    #[inline(always)]
    pub fn address(&self) -> &Address {
        self.view.address()
    }

    /// Creates the account at the canonical address of `seeds`, zeroed behind its discriminator; says its bump.
    ///
    /// # Errors
    /// As [`create`].
    #[inline(always)]
    pub fn create(&self, payer: &AccountView, seeds: &[&[u8]]) -> Result<(Account<T>, u8)> {
        let bump = create(payer, &self.view, seeds, T::SPACE, T::TAG)?;
        Ok((Account { view: self.view, kind: PhantomData }, bump))
    }
}

impl<T: Kind> Deref for New<T> {
    type Target = AccountView;

    #[inline(always)]
    fn deref(&self) -> &AccountView {
        &self.view
    }
}

impl<T: Kind> AnchorAccount for New<T> {
    type Data = AccountView;

    #[inline(always)]
    fn load(view: AccountView) -> Result<Self> {
        Ok(Self { view, kind: PhantomData })
    }

    #[inline(always)]
    fn account(&self) -> &AccountView {
        &self.view
    }
}

/// Most seeds of an address of the program, the bump included.
const MAX_SEEDS: usize = 6;

/// Creates an account of `space` bytes at the canonical address of `seeds`, owned by `owner`; says the bump.
///
/// # Errors
/// `InvalidSeeds` when this is not that address; [`DatagalaxError::AlreadyExists`] when there is an account already, so that
/// nothing is ever initialised twice; the system program's own.
#[inline(never)]
pub fn create_owned_by(
    owner: &Address,
    payer: &AccountView,
    account: &AccountView,
    seeds: &[&[u8]],
    space: usize,
) -> Result<u8> {
    let (address, bump) = find_program_address(seeds, &crate::ID);
    require!(address == *account.address(), ProgramError::InvalidSeeds);
    require!(account.is_data_empty() && account.owned_by(&System::id()), DatagalaxError::AlreadyExists);
    let bumps = [bump];
    let mut all: [&[u8]; MAX_SEEDS] = [&[]; MAX_SEEDS];
    let whole = all.get_mut(..=seeds.len()).ok_or(ProgramError::MaxSeedLengthExceeded)?;
    whole[..seeds.len()].copy_from_slice(seeds);
    whole[seeds.len()] = &bumps;
    anchor_lang::create_account_with_signers(payer, account, space, owner, Some(whole), None)?;
    Ok(bump)
}

/// [`create_owned_by`] this program, with a discriminator.
///
/// # Errors
/// As [`create_owned_by`].
#[inline(never)]
pub fn create(payer: &AccountView, account: &AccountView, seeds: &[&[u8]], space: usize, tag: u64) -> Result<u8> {
    let bump = create_owned_by(&crate::ID, payer, account, seeds, space)?;
    let mut view = *account;
    // SAFETY: the account was created just now, so nothing else has borrowed its data.
    let data = unsafe { view.borrow_unchecked_mut() };
    let head = data.first_chunk_mut::<DISCRIMINATOR_LEN>().ok_or(ProgramError::AccountDataTooSmall)?;
    *head = tag.to_le_bytes();
    Ok(bump)
}

/// Closes an account of the program: all its lamports go to `to`, its data is emptied and it belongs to nobody.
///
/// # Errors
/// [`DatagalaxError::Overflow`] when the receiver would hold more than 64 bits of lamports.
#[inline(never)]
pub fn close(account: &AccountView, to: &AccountView) -> Result<()> {
    let (mut account, mut to) = (*account, *to);
    let lamports = to.lamports().checked_add(account.lamports()).ok_or(DatagalaxError::Overflow)?;
    to.set_lamports(lamports);
    account.set_lamports(0);
    // SAFETY: instructions close an account as their last step and do not read it afterwards.
    unsafe {
        // Scrubbed before it is emptied: whatever revives the account in the same transaction finds no discriminator.
        account.borrow_unchecked_mut()[..DISCRIMINATOR_LEN].fill(u8::MAX);
        account.close_unchecked();
    }
    Ok(())
}

impl<T: Kind + IdlAccountType> IdlAccountType for Account<T> {
    const __IDL_ACCOUNT_ENTRY: Option<&'static str> = T::__IDL_ACCOUNT_ENTRY;
    const __IDL_TYPE_DEF: Option<&'static str> = T::__IDL_TYPE_DEF;

    fn __idl_account_entry() -> Option<&'static str> {
        T::__idl_account_entry()
    }

    fn __idl_type_def() -> Option<&'static str> {
        T::__idl_type_def()
    }

    fn __register_idl_deps(accounts: &mut alloc::vec::Vec<&'static str>, types: &mut alloc::vec::Vec<&'static str>) {
        T::__register_idl_deps(accounts, types);
    }
}

impl<T: Kind + IdlAccountType> IdlAccountType for New<T> {
    const __IDL_ACCOUNT_ENTRY: Option<&'static str> = T::__IDL_ACCOUNT_ENTRY;
    const __IDL_TYPE_DEF: Option<&'static str> = T::__IDL_TYPE_DEF;

    fn __idl_account_entry() -> Option<&'static str> {
        T::__idl_account_entry()
    }

    fn __idl_type_def() -> Option<&'static str> {
        T::__idl_type_def()
    }

    fn __register_idl_deps(accounts: &mut alloc::vec::Vec<&'static str>, types: &mut alloc::vec::Vec<&'static str>) {
        T::__register_idl_deps(accounts, types);
    }
}
