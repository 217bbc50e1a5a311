//! Leases and indexers in LiteSVM: a module for each instruction or pair of them, the money of whole leases, and what goes
//! wrong.

mod cap;
mod close;
mod faults;
mod indexers;
mod matches;
mod open;
mod scene;
mod settle;
mod start;
mod top_up;
mod usage;
