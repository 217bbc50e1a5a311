//! Claims.

use datagalax::{accounts, instruction};
use solana_instruction::Instruction;
use solana_signer::Signer;

use super::{build, checkers::slot_bytes, vault};
use crate::{
    Checker, Provider, World,
    addresses::{self, EVENT_AUTHORITY, Vault},
};

/// `claim_rewards` of named rows by the provider's operator.
pub fn claim_rewards(provider: &Provider, block: u32, rows: &[u8; 32]) -> Instruction {
    build(
        accounts::ClaimRewards {
            operator: provider.operator.pubkey(),
            network: addresses::network(),
            provider: addresses::provider(provider.id),
            block: addresses::block(block),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::ClaimRewards { rows },
    )
}

/// `claim_seat_pay` of tickets in these slots.
pub fn claim_seat_pay(world: &World, checker: &Checker, slots: &[u32]) -> Instruction {
    let slots = slot_bytes(slots);
    build(
        accounts::ClaimSeatPay {
            network: addresses::network(),
            checker: addresses::checker(checker.id),
            checkers: addresses::checker_set(),
            vault: vault(world, Vault::Rewards),
            to: checker.to,
            operator_account: (checker.commission_bps > 0).then_some(checker.operator_account),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::ClaimSeatPay { slots: &slots },
    )
}
