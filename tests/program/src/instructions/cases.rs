//! Cases.

use datagalax::{
    accounts, instruction,
    state::{Case, Container},
};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;

use super::build;
use crate::{
    World,
    addresses::{self, EVENT_AUTHORITY, SYSTEM_PROGRAM, Vault},
};

/// `open_case` of dishonesty since an epoch.
pub fn open_case(world: &World, payer: &Pubkey, container: &Pubkey, epoch: u32) -> Instruction {
    build(
        accounts::OpenCase {
            payer: *payer,
            container: *container,
            block: addresses::block(world.read::<Container>(container).block),
            case: addresses::case(container, epoch, Case::DISHONEST),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::OpenCase { epoch },
    )
}

/// `close_case` of dishonesty.
pub fn close_case(world: &World, container: &Pubkey, epoch: u32) -> Instruction {
    let account: Container = world.read(container);
    build(
        accounts::CloseCase {
            network: addresses::network(),
            case: addresses::case(container, epoch, Case::DISHONEST),
            container: *container,
            provider: addresses::provider(account.provider),
            block: addresses::block(account.block),
            checkers: addresses::checker_set(),
            epoch: addresses::epoch(world.network().current_epoch),
            stake_ledger: addresses::ledger(Vault::Stake),
            rewards_ledger: addresses::ledger(Vault::Rewards),
            keeper: world.keeper.as_ref().map(addresses::keeper),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::CloseCase {},
    )
}

/// `report_breach` of a lease in an epoch and the next.
pub fn report_breach(world: &World, payer: &Pubkey, lease: &Pubkey, epoch: u32) -> Instruction {
    let container = world.read::<datagalax::state::Lease>(lease).container;
    let account: Container = world.read(&container);
    build(
        accounts::ReportBreach {
            payer: *payer,
            network: addresses::network(),
            lease: *lease,
            container,
            provider: addresses::provider(account.provider),
            block: addresses::block(account.block),
            checkers: addresses::checker_set(),
            case: addresses::case(&container, epoch, Case::BREACH),
            stake_ledger: addresses::ledger(Vault::Stake),
            rewards_ledger: addresses::ledger(Vault::Rewards),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::ReportBreach { epoch },
    )
}

/// `release_row` of a container whose case nobody opened.
pub fn release_row(world: &World, container: &Pubkey, epoch: u32) -> Instruction {
    build(
        accounts::ReleaseRow {
            network: addresses::network(),
            container: *container,
            block: addresses::block(world.read::<Container>(container).block),
            case: addresses::case(container, epoch, Case::DISHONEST),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::ReleaseRow { epoch },
    )
}
