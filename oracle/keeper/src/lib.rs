//! The keeper: does what anybody may do to move epochs on (advance, churn, draw, seat, tally), and what else falls due: cases
//! opened and closed, rows released and vacated, leases cancelled, closed and settled, rent taken back.
//!
//! [`due`] decides, from a [`ChainView`] and a time alone, and [`pick`] in which order it goes out: earliest deadline first.
//! [`Keeper`] reads, waits for its turn among the other keepers ([`turns`]), looks again, sends what was decided in batches and
//! begins again. The chain is the only state: a keeper can stop at any instant, and any number of them run side by side, since the
//! program refuses whatever was done already and a refusal of that kind is no error here. What it cost and earned is in [`books`].

pub mod books;
mod chain;
mod cluster;
mod decide;
pub mod heads;
mod keeper;
pub mod ledger;
pub mod monitor;
mod plan;
pub mod report;
pub mod turns;

pub use chain::{Chain, Done, Failure, Outcome};
pub use cluster::{ClusterChain, Own};
pub use decide::{Action, ChainView, Chores, Kind, Rented, Watched, due, next_actions, next_moment, rows_of_interest};
pub use keeper::{Conduct, Keeper, Seen, StartError};
pub use plan::{Due, Pace, batches, in_order, pick};
