use anchor_lang::prelude::*;

use super::{
    account::{FINE, Finding, READ_ONLY, code, settle},
    token_program::{ASSOCIATED_TOKEN, is_token_program},
    view_of,
};
use crate::error::DatagalaxError;

/// Bytes of a token account; Token-2022 adds a kind byte and extensions behind them.
pub const TOKEN_ACCOUNT_LEN: usize = 165;
/// Bytes of a multisig: Token-2022 pads an account that would be as long.
const MULTISIG_LEN: usize = 355;
const MINT: usize = 0;
const OWNER: usize = 32;
const AMOUNT: usize = 64;
const STATE: usize = 108;
/// Where Token-2022 says what an extended account is, and what it says of a token account.
const EXTENDED_KIND: (usize, u8) = (165, 2);

/// A token account of either token program.
pub struct TokenAccount {
    view: AccountView,
}

view_of!(TokenAccount);

#[inline(never)]
fn check(view: &AccountView, writable: bool) -> Finding {
    if writable && !view.is_writable() {
        return READ_ONLY;
    }
    if !is_token_program(view.owner()) {
        return code(DatagalaxError::ForeignAccount);
    }
    // SAFETY: the borrow ends with this function, which calls nothing that writes.
    let data = unsafe { view.borrow_unchecked() };
    let (at, kind) = EXTENDED_KIND;
    // Attack: a mint or a multisig of the token program, whose bytes read as something else. A multisig's members may be chosen so
    // that the kind's byte fits; but no extended account has the length of a multisig.
    let shaped = data.len() == TOKEN_ACCOUNT_LEN || (data.get(at) == Some(&kind) && data.len() != MULTISIG_LEN);
    if !shaped {
        code(DatagalaxError::WrongAccountLength)
    } else if data[STATE] == 0 {
        code(DatagalaxError::WrongAccountKind)
    } else {
        FINE
    }
}

impl AnchorAccount for TokenAccount {
    type Data = AccountView;

    const MIN_DATA_LEN: usize = TOKEN_ACCOUNT_LEN;

    #[inline(always)]
    fn load(view: AccountView) -> Result<Self> {
        settle(check(&view, false))?;
        Ok(Self { view })
    }

    #[inline(always)]
    unsafe fn load_mut(view: AccountView) -> Result<Self> {
        settle(check(&view, true))?;
        Ok(Self { view })
    }

    #[inline(always)]
    fn account(&self) -> &AccountView {
        &self.view
    }
}

impl TokenAccount {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        // SAFETY: copied out at once, so no borrow outlives this; the length was checked when it was loaded.
        let data = unsafe { self.view.borrow_unchecked() };
        data.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    /// The mint.
    #[inline(never)]
    pub fn mint(&self) -> Address {
        Address::new_from_array(self.bytes(MINT))
    }

    /// Who may move what is in it.
    #[inline(never)]
    pub fn owner(&self) -> Address {
        Address::new_from_array(self.bytes(OWNER))
    }

    /// What is in it, base units, at this moment.
    #[inline(never)]
    pub fn amount(&self) -> u64 {
        u64::from_le_bytes(self.bytes(AMOUNT))
    }

    /// Refuses an account that is not the wallet's associated one.
    ///
    /// Attack: anybody may call a payment, so anybody could scatter it over odd accounts that the wallet happens to own; and an
    /// associated account can have been signed over to another owner.
    ///
    /// # Errors
    /// [`DatagalaxError::WrongAccount`].
    #[inline(never)]
    pub fn require_home_of(&self, wallet: &Address, mint: &Address) -> Result<()> {
        let seeds = [wallet.as_ref(), self.view.owner().as_ref(), mint.as_ref()];
        let (home, _) = find_program_address(&seeds, &ASSOCIATED_TOKEN);
        require!(*self.address() == home && self.owner() == *wallet, DatagalaxError::WrongAccount);
        Ok(())
    }
}
