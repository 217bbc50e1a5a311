//! Claims.

mod claim_rewards;
mod claim_seat_pay;

pub use claim_rewards::*;
pub use claim_seat_pay::*;
