//! The network, its government, its classes and its money.

use datagalax::{accounts, instruction, state::Network};
pub use datagalax::{
    instructions::{CreateClassArgs, InitializeNetworkArgs},
    state::{ClassTerms, Proposal},
};
use solana_instruction::Instruction;

use super::{EVENT_AUTHORITY, build, vault};
use crate::{
    Address,
    addresses::{self, PROGRAM, Vault},
    token::{SYSTEM_PROGRAM, home},
};

/// The loader that owns upgradeable programs.
const UPGRADEABLE_LOADER: Address = Address::from_str_const("BPFLoaderUpgradeab1e11111111111111111111111");

/// Where the loader keeps the program's bytes and its upgrade authority.
pub fn program_data() -> Address {
    Address::find_program_address(&[PROGRAM.as_ref()], &UPGRADEABLE_LOADER).0
}

/// Creates the network, its vaults and its books. `authority`, the program's upgrade authority, signs and pays; `treasury` is a
/// token account of the mint, `token_program` the owner of both.
pub fn initialize_network(
    authority: &Address,
    mint: &Address,
    treasury: &Address,
    token_program: &Address,
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
            token_program: *token_program,
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::InitializeNetwork { args },
    )
}

fn govern(authority: &Address) -> accounts::Govern {
    accounts::Govern {
        authority: *authority,
        network: addresses::network(),
        event_authority: EVENT_AUTHORITY,
        program: PROGRAM,
    }
}

/// Proposes parameters, emission, vesting terms, treasury, guardian and epoch length. The network's authority signs.
pub fn propose(authority: &Address, proposal: Proposal) -> Instruction {
    build(govern(authority), instruction::Propose { proposal })
}

/// Drops what was proposed. The network's authority signs.
pub fn cancel_proposal(authority: &Address) -> Instruction {
    build(govern(authority), instruction::CancelProposal {})
}

/// Puts what was proposed into force, once its time lock has run out; `treasury` is the one proposed. Anybody.
pub fn apply_proposal(treasury: &Address) -> Instruction {
    build(
        accounts::ApplyProposal {
            network: addresses::network(),
            treasury: *treasury,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::ApplyProposal {},
    )
}

/// Names the next authority (the default address: nobody). The network's authority signs.
pub fn propose_authority(authority: &Address, next: &Address) -> Instruction {
    build(govern(authority), instruction::ProposeAuthority { next: *next })
}

/// Becomes the authority. The key that was named signs.
pub fn accept_authority(authority: &Address) -> Instruction {
    build(
        accounts::AcceptAuthority {
            authority: *authority,
            network: addresses::network(),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::AcceptAuthority {},
    )
}

/// Pauses the network for 72 hours. Its guardian or authority signs.
pub fn pause(signer: &Address) -> Instruction {
    build(
        accounts::Pause {
            signer: *signer,
            network: addresses::network(),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::Pause {},
    )
}

/// Ends a pause. The network's authority signs.
pub fn unpause(authority: &Address) -> Instruction {
    build(govern(authority), instruction::Unpause {})
}

/// Adds a class of hardware. The network's authority signs and pays.
pub fn create_class(authority: &Address, args: CreateClassArgs) -> Instruction {
    build(
        accounts::CreateClass {
            authority: *authority,
            network: addresses::network(),
            class: addresses::class(args.id),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::CreateClass { args },
    )
}

/// Proposes other terms for a class. The network's authority signs.
pub fn update_class(authority: &Address, class: u16, terms: ClassTerms) -> Instruction {
    build(
        accounts::UpdateClass {
            authority: *authority,
            network: addresses::network(),
            class: addresses::class(class),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::UpdateClass { terms },
    )
}

/// Puts proposed terms of a class into force, once their time lock has run out. Anybody.
pub fn apply_class(class: u16) -> Instruction {
    build(
        accounts::ApplyClass {
            network: addresses::network(),
            class: addresses::class(class),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::ApplyClass {},
    )
}

/// Moves base units from the funder's associated account into the rewards vault. The funder signs.
pub fn fund_rewards(funder: &Address, network: &Network, amount: u64) -> Instruction {
    build(
        accounts::FundRewards {
            funder: *funder,
            network: addresses::network(),
            from: home(funder, network),
            vault: vault(network, Vault::Rewards),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::FundRewards { amount },
    )
}

/// Moves what the stake or escrow vault owes nobody to the rewards vault. Anybody.
pub fn sweep_vault(network: &Network, from: Vault) -> Instruction {
    build(
        accounts::SweepVault {
            network: addresses::network(),
            vault: vault(network, from),
            rewards_ledger: addresses::ledger(Vault::Rewards),
            rewards_vault: addresses::vault(Vault::Rewards),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::SweepVault {},
    )
}

/// Pays the treasury its share. Anybody.
pub fn withdraw_treasury(network: &Network) -> Instruction {
    build(
        accounts::WithdrawTreasury {
            network: addresses::network(),
            vault: vault(network, Vault::Rewards),
            to: network.treasury,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::WithdrawTreasury {},
    )
}
