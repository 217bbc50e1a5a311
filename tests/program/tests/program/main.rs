//! The program in LiteSVM: a module for each instruction or pair of them, and flows over many epochs.

mod blocks;
mod checkers;
mod containers;
mod epochs;
mod network;
mod providers;
mod refusals;
mod reports;
mod stage;
mod tally;
