//! What providers, checkers and indexers have in common: keys, withdrawals, the end of an account.

mod close_account;
mod rotate_keys;
mod withdraw;
mod withdraw_treasury;

pub use close_account::*;
pub use rotate_keys::*;
pub use withdraw::*;
pub use withdraw_treasury::*;
