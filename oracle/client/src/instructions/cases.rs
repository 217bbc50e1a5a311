//! Cases: dishonesty and breach.

use datagalax::{
    accounts, instruction,
    state::{Case, Container, Lease, Network},
};
use solana_instruction::Instruction;

use super::{EVENT_AUTHORITY, build};
use crate::{
    Address,
    addresses::{self, PROGRAM, Vault},
    token::SYSTEM_PROGRAM,
};

/// Opens the case of a container whose row is frozen since `epoch`. Anybody; the payer signs and pays the rent.
pub fn open_case(payer: &Address, address: &Address, container: &Container, epoch: u32) -> Instruction {
    build(
        accounts::OpenCase {
            payer: *payer,
            container: *address,
            block: addresses::block(container.block),
            case: addresses::case(address, epoch, Case::DISHONEST),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::OpenCase { epoch },
    )
}

/// Decides a case of dishonesty whose window is over, while the network has advanced to `network.current_epoch`. Anybody; the
/// keeper's account, when named, gets the fee.
pub fn close_case(
    network: &Network,
    address: &Address,
    container: &Container,
    epoch: u32,
    keeper: Option<Address>,
) -> Instruction {
    build(
        accounts::CloseCase {
            network: addresses::network(),
            case: addresses::case(address, epoch, Case::DISHONEST),
            container: *address,
            provider: addresses::provider(container.provider),
            block: addresses::block(container.block),
            checkers: addresses::checker_set(),
            epoch: addresses::epoch(network.current_epoch),
            stake_ledger: addresses::ledger(Vault::Stake),
            rewards_ledger: addresses::ledger(Vault::Rewards),
            keeper,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::CloseCase {},
    )
}

/// Takes stake for a lease that was not served in `epoch` and the next. Anybody; the payer signs and pays the record's rent.
pub fn report_breach(payer: &Address, address: &Address, lease: &Lease, epoch: u32) -> Instruction {
    build(
        accounts::ReportBreach {
            payer: *payer,
            network: addresses::network(),
            lease: *address,
            container: lease.container,
            provider: addresses::provider(lease.provider),
            block: addresses::block(lease.block),
            checkers: addresses::checker_set(),
            case: addresses::case(&lease.container, epoch, Case::BREACH),
            stake_ledger: addresses::ledger(Vault::Stake),
            rewards_ledger: addresses::ledger(Vault::Rewards),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::ReportBreach { epoch },
    )
}

/// Releases a row that is frozen since `epoch` and whose case nobody opened. Anybody.
pub fn release_row(address: &Address, container: &Container, epoch: u32) -> Instruction {
    build(
        accounts::ReleaseRow {
            network: addresses::network(),
            container: *address,
            block: addresses::block(container.block),
            case: addresses::case(address, epoch, Case::DISHONEST),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::ReleaseRow { epoch },
    )
}
