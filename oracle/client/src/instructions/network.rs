//! The network, its classes and its funding.

pub use datagalax::instructions::{CreateClassArgs, InitializeNetworkArgs};
use datagalax::{accounts, instruction};
use solana_instruction::Instruction;

use super::build;
use crate::{
    Address,
    addresses::{self, PROGRAM, Vault},
    token::{SYSTEM_PROGRAM, TOKEN_PROGRAM, associated_account},
};

/// The loader that owns upgradeable programs.
const UPGRADEABLE_LOADER: Address = Address::from_str_const("BPFLoaderUpgradeab1e11111111111111111111111");

/// Where the loader keeps the program's bytes and its upgrade authority.
pub fn program_data() -> Address {
    Address::find_program_address(&[PROGRAM.as_ref()], &UPGRADEABLE_LOADER).0
}

/// Creates the network, its vaults and its books. `authority`, the program's upgrade authority, signs and pays; `treasury` is a
/// token account of the mint.
pub fn initialize_network(
    authority: &Address,
    mint: &Address,
    treasury: &Address,
    args: InitializeNetworkArgs,
) -> Instruction {
    build(
        accounts::InitializeNetwork {
            authority: *authority,
            program_data: program_data(),
            network: addresses::network(),
            mint: *mint,
            treasury: *treasury,
            checkers: addresses::checker_set(),
            stake_ledger: addresses::ledger(Vault::Stake),
            rewards_ledger: addresses::ledger(Vault::Rewards),
            escrow_ledger: addresses::ledger(Vault::Escrow),
            stake_vault: addresses::vault(Vault::Stake),
            rewards_vault: addresses::vault(Vault::Rewards),
            escrow_vault: addresses::vault(Vault::Escrow),
            token_program: TOKEN_PROGRAM,
            system_program: SYSTEM_PROGRAM,
        },
        instruction::InitializeNetwork { args },
    )
}

/// Adds a class of hardware. The network's authority signs and pays.
pub fn create_class(authority: &Address, args: CreateClassArgs) -> Instruction {
    build(
        accounts::CreateClass {
            authority: *authority,
            network: addresses::network(),
            class: addresses::class(args.id),
            system_program: SYSTEM_PROGRAM,
        },
        instruction::CreateClass { args },
    )
}

/// Moves base units from the funder's associated account into the rewards vault. The funder signs.
pub fn fund_rewards(funder: &Address, mint: &Address, amount: u64) -> Instruction {
    build(
        accounts::FundRewards {
            funder: *funder,
            network: addresses::network(),
            mint: *mint,
            from: associated_account(funder, mint),
            ledger: addresses::ledger(Vault::Rewards),
            vault: addresses::vault(Vault::Rewards),
            token_program: TOKEN_PROGRAM,
        },
        instruction::FundRewards { amount },
    )
}
