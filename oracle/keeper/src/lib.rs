//! The keeper: does what anybody may do to move epochs on (advance, churn, draw, seat, tally), and what else falls due: cases
//! opened and closed, rows released and vacated, leases cancelled, closed and settled.
//!
//! [`next_actions`] decides, from a [`ChainView`] and a time alone; [`Keeper`] reads, sends what was decided and begins again.
//! The chain is the only state: a keeper can stop at any instant, and any number of them run side by side, since the program
//! refuses whatever was done already and a refusal of that kind is no error here.

mod chain;
mod decide;
mod keeper;

pub use chain::{Chain, ClusterChain, Done, Failure};
pub use decide::{Action, ChainView, Chores, Watched, next_actions, next_moment, rows_of_interest};
pub use keeper::{Keeper, StartError};
