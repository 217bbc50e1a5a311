//! Instructions in folders by actor: accounts, a `Specification` list, the handler that follows it in that order.
//!
//! Accounts of a type of ours are created only at their canonical address, so owner and discriminator (which
//! [`crate::checked`] checks on every load) already prove that an account is the one and only of its seeds; handlers compare
//! the number inside it.

// The derive binds an `#[instruction(..)]` argument in functions that do not use it.
#![allow(unused_variables)]

pub mod block;
pub mod case;
pub mod checker;
pub mod class;
pub mod container;
pub mod epoch;
pub mod indexer;
pub mod keeper;
pub mod lease;
pub mod network;
pub mod party;
pub mod provider;
pub mod rewards;
pub mod vault;

pub use block::*;
pub use case::*;
pub use checker::*;
pub use class::*;
pub use container::*;
pub use epoch::*;
pub use indexer::*;
pub use keeper::*;
pub use lease::*;
pub use network::*;
pub use party::*;
pub use provider::*;
pub use rewards::*;
pub use vault::*;
