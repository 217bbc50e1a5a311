//! Checkers, their tickets and their reports.

use datagalax::{accounts, instruction, report::REPORT_LEN};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use super::{build, vault};
use crate::{
    Checker, World,
    addresses::{self, EVENT_AUTHORITY, SYSTEM_PROGRAM, Vault},
};

/// Slots as instructions name them.
pub(super) fn slot_bytes(slots: &[u32]) -> Vec<u8> {
    slots.iter().flat_map(|s| s.to_le_bytes()).collect()
}

/// `register_checker` under an id.
pub fn register_checker(owner: &Pubkey, id: u32, operator: &Pubkey, payout: &Pubkey, commission_bps: u16) -> Instruction {
    build(
        accounts::RegisterChecker {
            owner: *owner,
            network: addresses::network(),
            checker: addresses::checker(id),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::RegisterChecker { operator: *operator, payout: *payout, commission_bps },
    )
}

/// `register_tickets` for a checker.
pub fn register_tickets(world: &World, checker: &Checker, count: u16) -> Instruction {
    build(
        accounts::RegisterTickets {
            owner: checker.owner.pubkey(),
            network: addresses::network(),
            checker: addresses::checker(checker.id),
            checkers: addresses::checker_set(),
            from: checker.from,
            vault: vault(world, Vault::Stake),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::RegisterTickets { count },
    )
}

/// `commit_report`; the first commit of a seat names its checker.
pub fn commit_report(
    operator: &Pubkey,
    block: u32,
    checker: Option<u32>,
    epoch: u32,
    seat: u8,
    commitment: [u8; 32],
) -> Instruction {
    build(
        accounts::CommitReport {
            operator: *operator,
            network: addresses::network(),
            block: addresses::block(block),
            checker: checker.map(addresses::checker),
        },
        instruction::CommitReport { epoch, seat, commitment },
    )
}

/// `reveal_report`.
pub fn reveal_report(
    operator: &Pubkey,
    block: u32,
    epoch: u32,
    seat: u8,
    salt: &[u8; 32],
    evidence_root: &[u8; 32],
    values: &[u8; REPORT_LEN],
) -> Instruction {
    build(
        accounts::RevealReport { operator: *operator, network: addresses::network(), block: addresses::block(block) },
        instruction::RevealReport { epoch, seat, salt, evidence_root, values },
    )
}

/// `leave_tickets` by the owner.
pub fn leave_tickets(checker: &Checker, slots: &[u32]) -> Instruction {
    build(
        accounts::LeaveTickets {
            owner: checker.owner.pubkey(),
            network: addresses::network(),
            checker: addresses::checker(checker.id),
            checkers: addresses::checker_set(),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::LeaveTickets { slots: &slot_bytes(slots) },
    )
}

/// `withdraw_tickets` to the payout wallet.
pub fn withdraw_tickets(world: &World, checker: &Checker, slots: &[u32]) -> Instruction {
    build(
        accounts::WithdrawTickets {
            network: addresses::network(),
            checker: addresses::checker(checker.id),
            checkers: addresses::checker_set(),
            vault: vault(world, Vault::Stake),
            to: checker.to,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::WithdrawTickets { slots: &slot_bytes(slots) },
    )
}
