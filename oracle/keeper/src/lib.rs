//! The keeper: does what anybody may do to move epochs on (advance, churn, draw, seat, tally).
//!
//! [`next_actions`] decides, from a [`ChainView`] and a time alone; [`Keeper`] reads, sends what was decided and begins again.
//! The chain is the only state: a keeper can stop at any instant, and any number of them run side by side, since the program
//! refuses whatever was done already and a refusal of that kind is no error here.

mod chain;
mod decide;
mod keeper;

pub use chain::{Chain, ClusterChain, Done, Failure};
pub use decide::{Action, ChainView, next_actions, next_moment};
pub use keeper::{Keeper, StartError};
