//! The network, its classes and its funding.

mod create_class;
mod fund_rewards;
mod initialize_network;

pub use create_class::*;
pub use fund_rewards::*;
pub use initialize_network::*;
