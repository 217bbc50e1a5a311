use alloc::vec::Vec;

use anchor_lang::{
    event::{EVENT_IX_TAG_LE, sol_log_data},
    pinocchio::{
        cpi::{CpiAccount, Seed, Signer as CpiSigner, invoke_signed_unchecked},
        instruction::{InstructionAccount, InstructionView},
    },
    prelude::*,
};

use super::{
    account::{FINE, Finding, code, settle},
    view_of,
};
use crate::{
    error::DatagalaxError,
    events::{Recorded, TAG_LEN},
};

/// The address under which the program calls itself to record an event: seeds `["__event_authority"]`, as Anchor's clients
/// expect.
pub const EVENT_AUTHORITY: Address = Address::from_str_const("9Z4ZYGdvpC1Eeu817Lrp2PCtVDBczLHBAtDqzc3oZ9SC");
/// Its bump.
const BUMP: u8 = 255;
const SEED: &[u8] = b"__event_authority";

/// Signs the program's call of itself that records an event where it outlives the logs.
pub struct EventAuthority {
    view: AccountView,
}

view_of!(EventAuthority);

#[inline(never)]
fn check(view: &AccountView) -> Finding {
    if *view.address() == EVENT_AUTHORITY { FINE } else { code(DatagalaxError::WrongAccount) }
}

impl AnchorAccount for EventAuthority {
    type Data = AccountView;

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

impl EventAuthority {
    /// Records an event. Logs are cut off when a transaction writes many; the data of a call is kept by every archive.
    #[inline(always)]
    pub fn emit<E: Recorded>(&self, event: &E) {
        record(&self.view, E::TAG, event.bytes());
    }
}

/// Writes an event to the transaction's log, where the volume is high.
#[inline(always)]
pub fn log<E: Recorded>(event: &E) {
    sol_log_data(&[&E::TAG.to_le_bytes(), event.bytes()]);
}

#[inline(never)]
fn record(authority: &AccountView, tag: u64, event: &[u8]) {
    let mut data = Vec::with_capacity(EVENT_IX_TAG_LE.len() + TAG_LEN + event.len());
    data.extend_from_slice(EVENT_IX_TAG_LE);
    data.extend_from_slice(&tag.to_le_bytes());
    data.extend_from_slice(event);
    let accounts = [InstructionAccount::readonly_signer(authority.address())];
    let bump = [BUMP];
    let seeds = [Seed::from(SEED), Seed::from(&bump)];
    let instruction = InstructionView { program_id: &crate::ID, accounts: &accounts, data: &data };
    // SAFETY: the only account passed on is the authority, which holds no data that anything could have borrowed.
    unsafe { invoke_signed_unchecked(&instruction, &[CpiAccount::from(authority)], &[CpiSigner::from(&seeds)]) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_are_the_canonical_address() {
        let (address, bump) = Address::find_program_address(&[SEED], &crate::ID);
        assert_eq!((address, bump), (EVENT_AUTHORITY, BUMP), "{address} {bump}");
    }
}
