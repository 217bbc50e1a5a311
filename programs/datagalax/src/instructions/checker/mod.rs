//! Checkers: registration, tickets, commit and reveal.

mod commit_report;
mod register_checker;
mod register_tickets;
mod reveal_report;

pub use commit_report::*;
pub use register_checker::*;
pub use register_tickets::*;
pub use reveal_report::*;
