//! Epochs: permissionless, driven by the keeper.

mod advance_epoch;
mod churn;
mod draw;
mod seat_block;
mod tally_block;

pub use advance_epoch::*;
pub use churn::*;
pub use draw::*;
pub use seat_block::*;
pub use tally_block::*;
