//! One builder for each instruction of the program. A builder derives the addresses; the caller gives what it decides.
//!
//! Builders that depend on the chain's state take the account itself ([`datagalax::state::Network`], ...), so that what must be
//! read first is seen in the signature. The doc of each says who signs.

mod cases;
mod checkers;
mod containers;
mod epochs;
mod indexers;
mod leases;
mod network;
mod parties;
mod providers;

use anchor_lang::{InstructionData, ToAccountMetas};
use datagalax::{checked::EVENT_AUTHORITY, instructions::VaultAddresses, state::Network};
use solana_instruction::Instruction;

use crate::addresses::{self, PROGRAM, Vault};

pub use cases::*;
pub use checkers::*;
pub use containers::*;
pub use epochs::*;
pub use indexers::*;
pub use leases::*;
pub use network::*;
pub use parties::*;
pub use providers::*;

fn build(accounts: impl ToAccountMetas, data: impl InstructionData) -> Instruction {
    Instruction { program_id: PROGRAM, accounts: accounts.to_account_metas(None), data: data.data() }
}

/// A vault with its books, the mint and the token program.
fn vault(network: &Network, vault: Vault) -> VaultAddresses {
    VaultAddresses {
        mint: network.mint,
        ledger: addresses::ledger(vault),
        vault: addresses::vault(vault),
        token_program: network.token_program,
    }
}

/// Slots as instructions name them.
fn slot_bytes(slots: &[u32]) -> Vec<u8> {
    slots.iter().flat_map(|slot| slot.to_le_bytes()).collect()
}
