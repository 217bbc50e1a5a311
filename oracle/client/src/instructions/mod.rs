//! One builder for each instruction of the program. A builder derives the addresses; the caller gives what it decides.
//!
//! Builders that depend on the chain's state take the account itself ([`datagalax::state::Network`], ...), so that what must be
//! read first is seen in the signature. The doc of each says who signs.

mod checkers;
mod containers;
mod epochs;
mod network;
mod providers;

use anchor_lang::{InstructionData, ToAccountMetas};
use solana_instruction::Instruction;

use crate::addresses::PROGRAM;

pub use checkers::*;
pub use containers::*;
pub use epochs::*;
pub use network::*;
pub use providers::*;

fn build(accounts: impl ToAccountMetas, data: impl InstructionData) -> Instruction {
    Instruction { program_id: PROGRAM, accounts: accounts.to_account_metas(None), data: data.data() }
}
