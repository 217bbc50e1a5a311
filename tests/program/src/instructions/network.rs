//! The network, its classes and its money.

use datagalax::{
    accounts, instruction,
    instructions::{CreateClassArgs, InitializeNetworkArgs},
    state::{ClassTerms, Proposal},
};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use super::{build, vault};
use crate::{
    World,
    addresses::{self, EVENT_AUTHORITY, SYSTEM_PROGRAM, Vault},
};

/// `initialize_network`, whose parts tests change.
pub struct Initialize {
    /// Signs and pays.
    pub authority: Pubkey,
    /// The program's data account.
    pub program_data: Pubkey,
    /// The mint.
    pub mint: Pubkey,
    /// The treasury's token account.
    pub treasury: Pubkey,
    /// The token program.
    pub token_program: Pubkey,
    /// The arguments.
    pub args: InitializeNetworkArgs,
}

impl Initialize {
    /// The one that should succeed in a bare world.
    pub fn of(world: &mut World) -> Self {
        let (mint, authority) = (world.mint, world.authority.pubkey());
        let treasury = world.put_token_account(&mint, &authority, 0, "treasury");
        let guardian = crate::world::address_of(&[b"guardian"]);
        Self {
            authority,
            program_data: addresses::program_data(),
            mint: world.mint,
            token_program: world.token_program,
            treasury,
            args: world.settings.arguments(guardian, world.now()),
        }
    }

    /// As an instruction.
    pub fn instruction(&self) -> Instruction {
        build(
            accounts::InitializeNetwork {
                authority: self.authority,
                program_data: self.program_data,
                network: addresses::network(),
                mint: self.mint,
                treasury: self.treasury,
                checkers: addresses::checker_set(),
                stake_ledger: addresses::ledger(Vault::Stake),
                rewards_ledger: addresses::ledger(Vault::Rewards),
                escrow_ledger: addresses::ledger(Vault::Escrow),
                stake_vault: addresses::vault(Vault::Stake),
                rewards_vault: addresses::vault(Vault::Rewards),
                escrow_vault: addresses::vault(Vault::Escrow),
                token_program: self.token_program,
                system_program: SYSTEM_PROGRAM,
                event_authority: EVENT_AUTHORITY,
                program: datagalax::ID,
            },
            instruction::InitializeNetwork { args: self.args },
        )
    }
}

/// `create_class` by the authority.
pub fn create_class(world: &World, args: CreateClassArgs) -> Instruction {
    build(
        accounts::CreateClass {
            authority: world.authority.pubkey(),
            network: addresses::network(),
            class: addresses::class(args.id),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::CreateClass { args },
    )
}

/// `fund_rewards` from a token account.
pub fn fund_rewards(world: &World, funder: &Pubkey, from: &Pubkey, amount: u64) -> Instruction {
    build(
        accounts::FundRewards {
            funder: *funder,
            network: addresses::network(),
            from: *from,
            vault: vault(world, Vault::Rewards),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::FundRewards { amount },
    )
}

fn govern(world: &World) -> accounts::Govern {
    accounts::Govern {
        authority: world.authority.pubkey(),
        network: addresses::network(),
        event_authority: EVENT_AUTHORITY,
        program: datagalax::ID,
    }
}

/// `propose` by the authority.
pub fn propose(world: &World, proposal: Proposal) -> Instruction {
    build(govern(world), instruction::Propose { proposal })
}

/// `cancel_proposal` by the authority.
pub fn cancel_proposal(world: &World) -> Instruction {
    build(govern(world), instruction::CancelProposal {})
}

/// `propose_authority` by the authority.
pub fn propose_authority(world: &World, next: &Pubkey) -> Instruction {
    build(govern(world), instruction::ProposeAuthority { next: *next })
}

/// `unpause` by the authority.
pub fn unpause(world: &World) -> Instruction {
    build(govern(world), instruction::Unpause {})
}

/// `apply_proposal`, with the treasury that was proposed.
pub fn apply_proposal(treasury: &Pubkey) -> Instruction {
    build(
        accounts::ApplyProposal {
            network: addresses::network(),
            treasury: *treasury,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::ApplyProposal {},
    )
}

/// `accept_authority` by the key that was named.
pub fn accept_authority(next: &Pubkey) -> Instruction {
    build(
        accounts::AcceptAuthority {
            authority: *next,
            network: addresses::network(),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::AcceptAuthority {},
    )
}

/// `pause` by a key.
pub fn pause(signer: &Pubkey) -> Instruction {
    build(
        accounts::Pause {
            signer: *signer,
            network: addresses::network(),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::Pause {},
    )
}

/// `update_class` by the authority.
pub fn update_class(world: &World, id: u16, terms: ClassTerms) -> Instruction {
    build(
        accounts::UpdateClass {
            authority: world.authority.pubkey(),
            network: addresses::network(),
            class: addresses::class(id),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::UpdateClass { terms },
    )
}

/// `apply_class`.
pub fn apply_class(id: u16) -> Instruction {
    build(
        accounts::ApplyClass {
            network: addresses::network(),
            class: addresses::class(id),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::ApplyClass {},
    )
}

/// `sweep_vault` of the stake or escrow vault.
pub fn sweep_vault(world: &World, name: Vault) -> Instruction {
    build(
        accounts::SweepVault {
            network: addresses::network(),
            vault: vault(world, name),
            rewards_ledger: addresses::ledger(Vault::Rewards),
            rewards_vault: addresses::vault(Vault::Rewards),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::SweepVault {},
    )
}
