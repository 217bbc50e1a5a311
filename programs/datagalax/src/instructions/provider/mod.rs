//! Providers and their stake.

mod register_provider;
mod request_unstake;
mod restore_stake;
mod stake;

pub use register_provider::*;
pub use request_unstake::*;
pub use restore_stake::*;
pub use stake::*;
