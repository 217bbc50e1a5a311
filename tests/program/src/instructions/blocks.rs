//! Blocks.

use datagalax::{accounts, instruction};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;

use super::build;
use crate::addresses::{self, EVENT_AUTHORITY, SYSTEM_PROGRAM};

/// `create_block`.
pub fn create_block(payer: &Pubkey, index: u32) -> Instruction {
    build(
        accounts::CreateBlock {
            payer: *payer,
            network: addresses::network(),
            block: addresses::block(index),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::CreateBlock {},
    )
}

/// `grow_block`.
pub fn grow_block(payer: &Pubkey, index: u32) -> Instruction {
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
