//! Blocks and the containers in their rows.

pub use datagalax::instructions::{RegisterContainerArgs, UpdateContainerArgs};
use datagalax::{
    accounts,
    checked::Kind as _,
    constants::GROWTH_STEP,
    instruction,
    state::{Block, Container, Network},
};
use solana_instruction::Instruction;

use super::{EVENT_AUTHORITY, build};
use crate::{
    Address,
    addresses::{self, PROGRAM},
    token::SYSTEM_PROGRAM,
};

/// Creates the account of a block, which must be the network's next ([`Network::blocks`]). The payer signs and pays the rent.
pub fn create_block(payer: &Address, index: u32) -> Instruction {
    build(
        accounts::CreateBlock {
            payer: *payer,
            network: addresses::network(),
            block: addresses::block(index),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::CreateBlock {},
    )
}

/// Grows a block by one step. The payer signs and pays the rent.
pub fn grow_block(payer: &Address, index: u32) -> Instruction {
    build(
        accounts::GrowBlock {
            payer: *payer,
            network: addresses::network(),
            block: addresses::block(index),
            system_program: SYSTEM_PROGRAM,
        },
        instruction::GrowBlock {},
    )
}

/// Calls of [`grow_block`] that a block of `length` bytes still needs.
pub const fn growth_steps(length: usize) -> usize {
    Block::SPACE.saturating_sub(length).div_ceil(GROWTH_STEP)
}

/// A whole block in one transaction: created, then grown to its full length. The payer signs and pays the rent (about 0.3 SOL).
pub fn create_whole_block(payer: &Address, index: u32) -> Vec<Instruction> {
    let mut all = vec![create_block(payer, index)];
    all.extend((0..growth_steps(GROWTH_STEP)).map(|_| grow_block(payer, index)));
    all
}

/// Registers a container into the lowest free row of a block, while the network's current epoch is `network.current_epoch`.
/// The provider's owner signs and pays.
pub fn register_container(
    owner: &Address,
    network: &Network,
    provider: u32,
    class: u16,
    block: &Block,
    args: RegisterContainerArgs,
) -> Instruction {
    build(
        accounts::RegisterContainer {
            owner: *owner,
            network: addresses::network(),
            provider: addresses::provider(provider),
            class: addresses::class(class),
            block: addresses::block(block.index),
            creator: block.creator,
            container: addresses::container(provider, &args.fingerprint),
            epoch: addresses::epoch(network.current_epoch),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::RegisterContainer { args },
    )
}

fn operate(operator: &Address, provider: u32, container: &Address) -> accounts::OperateContainer {
    accounts::OperateContainer {
        operator: *operator,
        provider: addresses::provider(provider),
        container: *container,
        event_authority: EVENT_AUTHORITY,
        program: PROGRAM,
    }
}

/// Replaces price, endpoint and what else the hot key may change. The provider's operator (or owner) signs.
pub fn update_container(operator: &Address, provider: u32, address: &Address, args: UpdateContainerArgs) -> Instruction {
    build(operate(operator, provider, address), instruction::UpdateContainer { args })
}

/// Announces maintenance between two times, seconds since 1970. The provider's operator (or owner) signs.
pub fn announce_maintenance(operator: &Address, provider: u32, address: &Address, start: i64, end: i64) -> Instruction {
    build(operate(operator, provider, address), instruction::AnnounceMaintenance { start, end })
}

/// Replaces the key that starts leases and signs metrics. The provider's owner signs.
pub fn rotate_container_operator(owner: &Address, provider: u32, address: &Address, operator: &Address) -> Instruction {
    build(
        accounts::RotateContainerOperator {
            owner: *owner,
            provider: addresses::provider(provider),
            container: *address,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::RotateContainerOperator { operator: *operator },
    )
}

/// Lets a container leave with the end of this epoch, while the network has advanced to `network.current_epoch`. The provider's
/// owner signs.
pub fn deregister_container(owner: &Address, network: &Network, address: &Address, container: &Container) -> Instruction {
    build(
        accounts::DeregisterContainer {
            owner: *owner,
            network: addresses::network(),
            provider: addresses::provider(container.provider),
            container: *address,
            block: addresses::block(container.block),
            epoch: addresses::epoch(network.current_epoch),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::DeregisterContainer {},
    )
}

/// Frees the row of a container that left, while the network has advanced to `network.current_epoch`. Anybody.
pub fn vacate_row(network: &Network, address: &Address, container: &Container) -> Instruction {
    build(
        accounts::VacateRow {
            network: addresses::network(),
            provider: addresses::provider(container.provider),
            container: *address,
            block: addresses::block(container.block),
            epoch: addresses::epoch(network.current_epoch),
            recipient: container.rent_payer,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::VacateRow {},
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_fits_one_transaction_and_reaches_its_length() {
        let steps = create_whole_block(&Address::new_from_array([1; 32]), 0);
        assert_eq!(steps.len(), 5);
        assert!(GROWTH_STEP * steps.len() >= Block::SPACE && GROWTH_STEP * (steps.len() - 1) < Block::SPACE);
        assert_eq!(growth_steps(Block::SPACE), 0);
    }
}
