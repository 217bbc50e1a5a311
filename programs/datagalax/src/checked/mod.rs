//! What an account must be before an instruction touches it, one type a kind of account.
//!
//! Anchor's own wrappers compile their checks into every instruction that names an account; with some sixty instructions that
//! alone would exceed the bar on the program's size. These call one function each, so an account costs an instruction a
//! dozen machine instructions. They check the same: owner, discriminator, exact length, and the writable flag where it is
//! asked for. Anchor's derive goes on to refuse an account that is passed as mutable twice.

mod account;
mod checker_set;
mod event_authority;
mod mint;
mod party;
mod token_account;
mod token_program;

pub use account::*;
pub use checker_set::*;
pub use event_authority::*;
pub use mint::*;
pub use party::*;
pub use token_account::*;
pub use token_program::*;

/// What every wrapper needs besides its checks: its view, its address, and nothing for the interface description.
macro_rules! view_of {
    ($name:ident) => {
        impl $name {
            /// The account's address.
            #[inline(always)]
            pub fn address(&self) -> &anchor_lang::prelude::Address {
                self.view.address()
            }
        }

        impl core::ops::Deref for $name {
            type Target = anchor_lang::prelude::AccountView;

            #[inline(always)]
            fn deref(&self) -> &Self::Target {
                &self.view
            }
        }

        impl anchor_lang::IdlAccountType for $name {}
    };
}
pub(crate) use view_of;
