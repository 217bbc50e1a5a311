//! Blocks and the containers in their rows.

pub use datagalax::instructions::RegisterContainerArgs;
use datagalax::{
    accounts,
    constants::GROWTH_STEP,
    instruction,
    state::{Block, Network},
};
use solana_instruction::Instruction;

use super::build;
use crate::{Address, addresses, token::SYSTEM_PROGRAM};

/// Creates the account of a block, which must be the network's next ([`Network::blocks`]). The payer signs and pays the rent.
pub fn create_block(payer: &Address, index: u32) -> Instruction {
    build(
        accounts::CreateBlock {
            payer: *payer,
            network: addresses::network(),
            block: addresses::block(index),
            system_program: SYSTEM_PROGRAM,
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

/// A whole block in one transaction: created, then grown to its full length. The payer signs and pays the rent (about 0.23 SOL).
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
        },
        instruction::RegisterContainer { args },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_fits_one_transaction_and_reaches_its_length() {
        let steps = create_whole_block(&Address::new_from_array([1; 32]), 0);
        assert_eq!(steps.len(), 4);
        assert!(GROWTH_STEP * steps.len() >= Block::SPACE && GROWTH_STEP * (steps.len() - 1) < Block::SPACE);
        assert_eq!(growth_steps(Block::SPACE), 0);
    }
}
