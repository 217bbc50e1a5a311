//! Who governs the network and what it pays out: proposals behind the time lock, the pause, classes, keys, withdrawals, the circuit
//! breaker, the end of accounts, and a world on a Token-2022 mint.

mod authority;
mod breaker;
mod classes;
mod close_account;
mod grid;
mod keepers;
mod keys;
mod pause;
mod proposals;
mod retroactive;
mod sweep;
mod token_2022;
mod treasury;
mod unstake;
mod vesting;
mod withdraw;
