//! The program in LiteSVM: a module for each instruction or pair of them, and flows over many epochs.

mod blocks;
mod checkers;
mod claims;
mod containers;
mod costs;
mod epochs;
mod errors;
mod flows;
mod model;
mod network;
mod providers;
mod reports;
mod tally;
