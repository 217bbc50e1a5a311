//! Epochs and the keepers that drive them.

use datagalax::{accounts, instruction};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;

use super::build;
use crate::{
    World,
    addresses::{self, EVENT_AUTHORITY, SLOT_HASHES, SYSTEM_PROGRAM, Vault},
};

/// `advance_epoch` from the epochs that the network names.
pub fn advance_epoch(world: &World, payer: &Pubkey, number: u32) -> Instruction {
    let network = world.network();
    let named = |number: u32| (number != u32::MAX).then(|| addresses::epoch(number));
    build(
        accounts::AdvanceEpoch {
            payer: *payer,
            network: addresses::network(),
            rewards_ledger: addresses::ledger(Vault::Rewards),
            epoch: addresses::epoch(number),
            current: named(network.current_epoch),
            previous: named(network.previous_epoch),
            checkers: addresses::checker_set(),
            keeper: world.keeper.as_ref().map(addresses::keeper),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::AdvanceEpoch { number },
    )
}

/// `churn`.
pub fn churn(epoch: u32) -> Instruction {
    build(
        accounts::Churn {
            network: addresses::network(),
            epoch: addresses::epoch(epoch),
            checkers: addresses::checker_set(),
        },
        instruction::Churn {},
    )
}

/// `draw`.
pub fn draw(epoch: u32) -> Instruction {
    build(
        accounts::Draw {
            network: addresses::network(),
            epoch: addresses::epoch(epoch),
            checkers: addresses::checker_set(),
            slot_hashes: SLOT_HASHES,
            keeper: None,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::Draw {},
    )
}

/// `seat_block`.
pub fn seat_block(epoch: u32, block: u32) -> Instruction {
    build(
        accounts::SeatBlock {
            network: addresses::network(),
            epoch: addresses::epoch(epoch),
            checkers: addresses::checker_set(),
            block: addresses::block(block),
        },
        instruction::SeatBlock {},
    )
}

/// `tally_block`, naming the current epoch when it is another one.
pub fn tally_block(world: &World, epoch: u32, block: u32, max_rows: u16) -> Instruction {
    let current = world.network().current_epoch;
    build(
        accounts::TallyBlock {
            network: addresses::network(),
            epoch: addresses::epoch(epoch),
            current: (current != epoch).then(|| addresses::epoch(current)),
            checkers: addresses::checker_set(),
            block: addresses::block(block),
            keeper: world.keeper.as_ref().map(addresses::keeper),
        },
        instruction::TallyBlock { max_rows },
    )
}

/// `register_keeper` for a wallet.
pub fn register_keeper(payer: &Pubkey, wallet: &Pubkey) -> Instruction {
    build(
        accounts::RegisterKeeper {
            payer: *payer,
            keeper: addresses::keeper(wallet),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::RegisterKeeper { wallet: *wallet },
    )
}
