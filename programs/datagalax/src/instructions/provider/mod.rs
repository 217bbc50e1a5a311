//! Providers and their stake.

mod register_provider;
mod stake;

pub use register_provider::*;
pub use stake::*;
