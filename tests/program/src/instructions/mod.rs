//! One builder an instruction, with the accounts it should have. Refusals are tested by changing what these return.

mod blocks;
mod cases;
mod checkers;
mod containers;
mod epochs;
mod indexers;
mod leases;
mod network;
mod parties;
mod providers;
mod rewards;

pub use blocks::*;
pub use cases::*;
pub use checkers::*;
pub use containers::*;
pub use epochs::*;
pub use indexers::*;
pub use leases::*;
pub use network::*;
pub use parties::*;
pub use providers::*;
pub use rewards::*;

use anchor_lang::{InstructionData, ToAccountMetas};
use datagalax::instructions::VaultAddresses;
use solana_instruction::Instruction;

use crate::{World, addresses, addresses::Vault};

fn build(accounts: impl ToAccountMetas, data: impl InstructionData) -> Instruction {
    Instruction { program_id: datagalax::ID, accounts: accounts.to_account_metas(None), data: data.data() }
}

/// The accounts of a vault.
fn vault(world: &World, name: Vault) -> VaultAddresses {
    VaultAddresses {
        mint: world.mint,
        ledger: addresses::ledger(name),
        vault: addresses::vault(name),
        token_program: world.token_program,
    }
}
