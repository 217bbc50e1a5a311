//! Instructions in folders by actor: accounts, a `Specification` list, the handler that follows it in that order.
//!
//! Accounts of a type of ours are created only at their canonical address, so owner and discriminator (which Anchor checks
//! on every load) already prove that an account is the one and only of its seeds; handlers compare the number inside it.

// The derive binds an `#[instruction(..)]` argument in functions that do not use it.
#![allow(unused_variables)]

pub mod block;
pub mod checker;
pub mod container;
pub mod epoch;
pub mod network;
pub mod provider;
pub mod rewards;
mod token_transfer;

pub use block::*;
pub use checker::*;
pub use container::*;
pub use epoch::*;
pub use network::*;
pub use provider::*;
pub use rewards::*;
