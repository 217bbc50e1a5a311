//! What anybody may do to move epochs on. Only the fee payer signs; a keeper's account, when named, gets the fee.

use datagalax::{accounts, constants::NONE, instruction, instructions::SLOT_HASHES_ID, state::Network};
use solana_instruction::Instruction;

use super::{EVENT_AUTHORITY, build};
use crate::{
    Address,
    addresses::{self, PROGRAM, Vault},
    token::SYSTEM_PROGRAM,
};

fn epoch_if_any(number: u32) -> Option<Address> {
    (number != NONE).then(|| addresses::epoch(number))
}

/// Moves to the epoch `number`, in which the clock must be, from the epochs that the network names now. The payer signs and pays.
pub fn advance_epoch(payer: &Address, network: &Network, number: u32, keeper: Option<Address>) -> Instruction {
    build(
        accounts::AdvanceEpoch {
            payer: *payer,
            network: addresses::network(),
            rewards_ledger: addresses::ledger(Vault::Rewards),
            epoch: addresses::epoch(number),
            current: epoch_if_any(network.current_epoch),
            previous: epoch_if_any(network.previous_epoch),
            checkers: addresses::checker_set(),
            keeper,
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::AdvanceEpoch { number },
    )
}

/// Retires tickets, lets them leave and enter, between advance and draw of the current epoch.
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

/// Fixes the seed of the current epoch.
pub fn draw(epoch: u32, keeper: Option<Address>) -> Instruction {
    build(
        accounts::Draw {
            network: addresses::network(),
            epoch: addresses::epoch(epoch),
            checkers: addresses::checker_set(),
            slot_hashes: SLOT_HASHES_ID,
            keeper,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::Draw {},
    )
}

/// Writes a block's committee for a drawn epoch.
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

/// Judges and pays at most `max_rows` (1 to 256) rows of a block for an epoch, while the network has advanced to
/// `network.current_epoch`.
pub fn tally_block(network: &Network, epoch: u32, block: u32, max_rows: u16, keeper: Option<Address>) -> Instruction {
    let current = if network.current_epoch == epoch { None } else { epoch_if_any(network.current_epoch) };
    build(
        accounts::TallyBlock {
            network: addresses::network(),
            epoch: addresses::epoch(epoch),
            current,
            checkers: addresses::checker_set(),
            block: addresses::block(block),
            keeper,
        },
        instruction::TallyBlock { max_rows },
    )
}

/// Opens the account in which a keeper's fees are kept, for a wallet. The payer signs and pays the rent.
pub fn register_keeper(payer: &Address, wallet: &Address) -> Instruction {
    build(
        accounts::RegisterKeeper {
            payer: *payer,
            keeper: addresses::keeper(wallet),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::RegisterKeeper { wallet: *wallet },
    )
}
