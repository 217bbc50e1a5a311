//! Containers.

use datagalax::{
    accounts, instruction,
    instructions::{RegisterContainerArgs, UpdateContainerArgs},
};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use super::build;
use crate::{
    Provider, World,
    addresses::{self, EVENT_AUTHORITY, SYSTEM_PROGRAM},
};

/// `register_container` into a block, in the epoch last advanced to.
pub fn register_container(
    world: &World,
    provider: &Provider,
    class: u16,
    block: u32,
    args: RegisterContainerArgs,
) -> Instruction {
    build(
        accounts::RegisterContainer {
            owner: provider.owner.pubkey(),
            network: addresses::network(),
            provider: addresses::provider(provider.id),
            class: addresses::class(class),
            block: addresses::block(block),
            creator: world.creator_of(block),
            container: addresses::container(provider.id, &args.fingerprint),
            epoch: addresses::epoch(world.network().current_epoch),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::RegisterContainer { args },
    )
}

fn operate(provider: &Provider, fingerprint: &[u8; 32]) -> accounts::OperateContainer {
    accounts::OperateContainer {
        operator: provider.operator.pubkey(),
        provider: addresses::provider(provider.id),
        container: addresses::container(provider.id, fingerprint),
        event_authority: EVENT_AUTHORITY,
        program: datagalax::ID,
    }
}

/// `update_container` by the provider's operator.
pub fn update_container(provider: &Provider, fingerprint: &[u8; 32], args: UpdateContainerArgs) -> Instruction {
    build(operate(provider, fingerprint), instruction::UpdateContainer { args })
}

/// `announce_maintenance` by the provider's operator.
pub fn announce_maintenance(provider: &Provider, fingerprint: &[u8; 32], start: i64, end: i64) -> Instruction {
    build(operate(provider, fingerprint), instruction::AnnounceMaintenance { start, end })
}

/// `rotate_container_operator` by the provider's owner.
pub fn rotate_container_operator(provider: &Provider, fingerprint: &[u8; 32], operator: &Pubkey) -> Instruction {
    build(
        accounts::RotateContainerOperator {
            owner: provider.owner.pubkey(),
            provider: addresses::provider(provider.id),
            container: addresses::container(provider.id, fingerprint),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::RotateContainerOperator { operator: *operator },
    )
}

/// `deregister_container` by the provider's owner.
pub fn deregister_container(world: &World, provider: &Provider, fingerprint: &[u8; 32]) -> Instruction {
    build(
        accounts::DeregisterContainer {
            owner: provider.owner.pubkey(),
            network: addresses::network(),
            provider: addresses::provider(provider.id),
            container: addresses::container(provider.id, fingerprint),
            block: addresses::block(world.container(provider.id, fingerprint).block),
            epoch: addresses::epoch(world.network().current_epoch),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::DeregisterContainer {},
    )
}

/// `vacate_row` of a container that left.
pub fn vacate_row(world: &World, provider: u32, fingerprint: &[u8; 32]) -> Instruction {
    let container = world.container(provider, fingerprint);
    build(
        accounts::VacateRow {
            network: addresses::network(),
            provider: addresses::provider(provider),
            container: addresses::container(provider, fingerprint),
            block: addresses::block(container.block),
            epoch: addresses::epoch(world.network().current_epoch),
            recipient: container.rent_payer,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::VacateRow {},
    )
}
