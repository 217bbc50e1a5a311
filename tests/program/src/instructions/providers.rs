//! Providers and their stake.

use datagalax::{accounts, instruction};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use super::{build, vault};
use crate::{
    Provider, World,
    addresses::{self, EVENT_AUTHORITY, SYSTEM_PROGRAM, Vault},
};

/// `register_provider` under an id.
pub fn register_provider(owner: &Pubkey, id: u32, operator: &Pubkey, payout: &Pubkey) -> Instruction {
    build(
        accounts::RegisterProvider {
            owner: *owner,
            network: addresses::network(),
            provider: addresses::provider(id),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::RegisterProvider { operator: *operator, payout: *payout },
    )
}

/// `stake` for a provider.
pub fn stake(world: &World, provider: &Provider, amount: u64) -> Instruction {
    build(
        accounts::Stake {
            owner: provider.owner.pubkey(),
            network: addresses::network(),
            provider: addresses::provider(provider.id),
            from: provider.from,
            vault: vault(world, Vault::Stake),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::Stake { amount },
    )
}

/// `request_unstake` by the owner.
pub fn request_unstake(provider: &Provider, amount: u64) -> Instruction {
    build(
        accounts::RequestUnstake {
            owner: provider.owner.pubkey(),
            network: addresses::network(),
            provider: addresses::provider(provider.id),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::RequestUnstake { amount },
    )
}

/// `restore_stake` of a halted container by the owner.
pub fn restore_stake(world: &World, provider: &Provider, fingerprint: &[u8; 32]) -> Instruction {
    build(
        accounts::RestoreStake {
            owner: provider.owner.pubkey(),
            provider: addresses::provider(provider.id),
            container: addresses::container(provider.id, fingerprint),
            block: addresses::block(world.container(provider.id, fingerprint).block),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::RestoreStake {},
    )
}
