//! Checkers: registration, tickets, reports, seat pay.

use datagalax::{
    accounts, instruction,
    report::REPORT_LEN,
    state::{Checker, Network},
};
use solana_instruction::Instruction;

use super::{EVENT_AUTHORITY, build, slot_bytes, vault};
use crate::{
    Address,
    addresses::{self, PROGRAM, Vault},
    token::{SYSTEM_PROGRAM, home},
};

/// Registers a checker under the id `id`, which must be the network's next ([`Network::checkers`]). The owner signs and pays;
/// `commission_bps` of the pay goes to the operator's wallet, the rest to `payout`.
pub fn register_checker(owner: &Address, id: u32, operator: &Address, payout: &Address, commission_bps: u16) -> Instruction {
    build(
        accounts::RegisterChecker {
            owner: *owner,
            network: addresses::network(),
            checker: addresses::checker(id),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::RegisterChecker { operator: *operator, payout: *payout, commission_bps },
    )
}

/// Stakes for `count` tickets (1 to 150) from the owner's associated account and queues them. The owner signs and pays.
pub fn register_tickets(owner: &Address, network: &Network, checker: u32, count: u16) -> Instruction {
    build(
        accounts::RegisterTickets {
            owner: *owner,
            network: addresses::network(),
            checker: addresses::checker(checker),
            checkers: addresses::checker_set(),
            from: home(owner, network),
            vault: vault(network, Vault::Stake),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::RegisterTickets { count },
    )
}

/// Asks the tickets in these slots (at most 150) out of the order. The owner signs.
pub fn leave_tickets(owner: &Address, checker: u32, slots: &[u32]) -> Instruction {
    build(
        accounts::LeaveTickets {
            owner: *owner,
            network: addresses::network(),
            checker: addresses::checker(checker),
            checkers: addresses::checker_set(),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::LeaveTickets { slots: &slot_bytes(slots) },
    )
}

/// Pays the price of the removed tickets in these slots (at most 150) back to the payout wallet's associated account, which must
/// exist, and frees the slots. Anybody.
pub fn withdraw_tickets(network: &Network, checker: &Checker, slots: &[u32]) -> Instruction {
    build(
        accounts::WithdrawTickets {
            network: addresses::network(),
            checker: addresses::checker(checker.id),
            checkers: addresses::checker_set(),
            vault: vault(network, Vault::Stake),
            to: home(&checker.payout, network),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::WithdrawTickets { slots: &slot_bytes(slots) },
    )
}

/// Which seat a commitment or a report is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatRef {
    /// Index of the block.
    pub block: u32,
    /// Number of the epoch.
    pub epoch: u32,
    /// Seat in the committee, 0 to 4.
    pub seat: u8,
}

/// Commits a seat to its report. The operator signs; the seat's first commit must name its checker.
pub fn commit_report(operator: &Address, at: SeatRef, checker: Option<u32>, commitment: [u8; 32]) -> Instruction {
    build(
        accounts::CommitReport {
            operator: *operator,
            network: addresses::network(),
            block: addresses::block(at.block),
            checker: checker.map(addresses::checker),
        },
        instruction::CommitReport { epoch: at.epoch, seat: at.seat, commitment },
    )
}

/// Reveals the report a seat committed to: 256 availabilities, 256 capacities, 256 tokens. The operator signs.
pub fn reveal_report(
    operator: &Address,
    at: SeatRef,
    salt: &[u8; 32],
    evidence_root: &[u8; 32],
    values: &[u8; REPORT_LEN],
) -> Instruction {
    build(
        accounts::RevealReport { operator: *operator, network: addresses::network(), block: addresses::block(at.block) },
        instruction::RevealReport { epoch: at.epoch, seat: at.seat, salt, evidence_root, values },
    )
}

/// Pays what the tickets in these slots (at most 150) accrued to the payout wallet's and, while there is a commission, the
/// operator's associated accounts, which must exist. Nobody but the fee payer signs.
pub fn claim_seat_pay(network: &Network, checker: &Checker, slots: &[u32]) -> Instruction {
    // One wallet in both roles is paid once, as the payout wallet.
    let commission = checker.commission_bps > 0 && checker.operator != checker.payout;
    let operator_account = commission.then(|| home(&checker.operator, network));
    build(
        accounts::ClaimSeatPay {
            network: addresses::network(),
            checker: addresses::checker(checker.id),
            checkers: addresses::checker_set(),
            vault: vault(network, Vault::Rewards),
            to: home(&checker.payout, network),
            operator_account,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::ClaimSeatPay { slots: &slot_bytes(slots) },
    )
}
