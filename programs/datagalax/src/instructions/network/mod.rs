//! The network: its birth, its government, its money.

mod apply_proposal;
mod authority;
mod fund_rewards;
mod initialize_network;
mod pause;
mod propose;
mod sweep_vault;

pub use apply_proposal::*;
pub use authority::*;
pub use fund_rewards::*;
pub use initialize_network::*;
pub use pause::*;
pub use propose::*;
pub use sweep_vault::*;
