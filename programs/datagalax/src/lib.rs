//! The Datagalax program: registrations, stake, reports, tallies and rewards of a decentralised GPU cloud.
#![cfg_attr(target_os = "solana", no_std)]
#[cfg(target_os = "solana")]
extern crate alloc;
use anchor_lang::prelude::*;

pub mod committee;
pub mod constants;
pub mod error;
pub mod math;
pub mod report;
pub mod state;

declare_id!("4sDyD42qEWjcXGY9ySnwu655GNcBEHchW3VDXdrvEiMt");
