use anchor_lang::prelude::*;

use super::{
    account::{FINE, Finding, code, settle},
    token_program::is_token_program,
    view_of,
};
use crate::{constants::MINT_DECIMALS, error::DatagalaxError};

/// Bytes of a mint without extensions.
const MINT_LEN: usize = 82;
const DECIMALS: usize = 44;
const INITIALIZED: usize = 45;
const FREEZE_AUTHORITY: usize = 46;
/// Where Token-2022 says what an extended account is, and what it says of a mint.
const EXTENDED_KIND: (usize, u8) = (165, 1);
/// Where extensions begin: type u16, length u16, value.
const EXTENSIONS: usize = 166;

/// Extensions that change nothing about who owns how much: metadata pointer, token metadata, group pointer, token group, group
/// member pointer, token group member. Everything else is refused: transfer fees and hooks, permanent delegates, pausing,
/// confidential transfers, interest, default frozen state.
const ALLOWED_EXTENSIONS: core::ops::RangeInclusive<u16> = 18..=23;
/// Padding.
const UNINITIALIZED_EXTENSION: u16 = 0;

/// The mint of a token, of either token program.
pub struct Mint {
    view: AccountView,
}

view_of!(Mint);

#[inline(never)]
fn check(view: &AccountView) -> Finding {
    if !is_token_program(view.owner()) {
        return code(DatagalaxError::ForeignAccount);
    }
    // SAFETY: the borrow ends with this function, which calls nothing that writes.
    let data = unsafe { view.borrow_unchecked() };
    let (at, kind) = EXTENDED_KIND;
    if data.len() == MINT_LEN || data.get(at) == Some(&kind) { FINE } else { code(DatagalaxError::WrongAccountLength) }
}

impl AnchorAccount for Mint {
    type Data = AccountView;

    const MIN_DATA_LEN: usize = MINT_LEN;

    #[inline(always)]
    fn load(view: AccountView) -> Result<Self> {
        settle(check(&view))?;
        Ok(Self { view })
    }

    #[inline(always)]
    fn account(&self) -> &AccountView {
        &self.view
    }
}

impl Mint {
    /// Refuses a mint that cannot be $ATH (protocol section 10).
    ///
    /// # Errors
    /// [`DatagalaxError::MintRefused`] for other decimals, a mint that does not exist yet, or a freeze authority that was not
    /// allowed; [`DatagalaxError::MintExtensionRefused`], with the extension's number in the log.
    #[inline(never)]
    pub fn require_acceptable(&self, freeze_allowed: bool) -> Result<()> {
        // SAFETY: the borrow ends with this function, which calls nothing that writes.
        let data = unsafe { self.view.borrow_unchecked() };
        // Attack: a mint that can freeze the vaults, or one of another precision.
        require!(
            data[DECIMALS] == MINT_DECIMALS && data[INITIALIZED] == 1 && (freeze_allowed || data[FREEZE_AUTHORITY] == 0),
            DatagalaxError::MintRefused
        );
        require_extensions(data.get(EXTENSIONS..).unwrap_or_default())
    }
}

/// Logs a number. `msg!` with arguments would bring the formatting machinery, five kilobytes, into the program for this one line.
fn log_number(number: u16) {
    let mut text = *b"mint extension 00000";
    let mut rest = number;
    for digit in text[15..].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    msg!(core::str::from_utf8(&text).unwrap_or_default());
}

/// Walks the extensions and refuses the first that is not on the list.
fn require_extensions(mut data: &[u8]) -> Result<()> {
    while let Some((head, rest)) = data.split_first_chunk::<4>() {
        let kind = u16::from_le_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        if kind == UNINITIALIZED_EXTENSION {
            break;
        }
        if !ALLOWED_EXTENSIONS.contains(&kind) {
            log_number(kind);
            return Err(DatagalaxError::MintExtensionRefused.into());
        }
        data = rest.get(length..).ok_or(ProgramError::InvalidAccountData)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(kind: u16, length: u16) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), length.to_le_bytes()].concat();
        bytes.resize(4 + usize::from(length), 7);
        bytes
    }

    #[test]
    fn only_extensions_without_power_pass() {
        for kind in 1..=40u16 {
            let list = [extension(18, 64), extension(kind, 8)].concat();
            let expected = if (18..=23).contains(&kind) { Ok(()) } else { Err(DatagalaxError::MintExtensionRefused.into()) };
            assert_eq!(require_extensions(&list), expected, "extension {kind}");
        }
    }

    #[test]
    fn padding_ends_the_list_and_a_cut_one_is_refused() {
        assert_eq!(require_extensions(&[0; 40]), Ok(()));
        assert_eq!(require_extensions(&[]), Ok(()));
        let mut cut = extension(19, 60);
        cut.truncate(30);
        assert_eq!(require_extensions(&cut), Err(ProgramError::InvalidAccountData));
    }
}
