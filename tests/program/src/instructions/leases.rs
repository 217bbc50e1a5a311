//! Leases.

use datagalax::{accounts, constants::NONE, instruction, instructions::OpenLeaseArgs, state::Lease};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use super::{build, vault};
use crate::{
    User, World,
    addresses::{self, EVENT_AUTHORITY, INSTRUCTIONS, SYSTEM_PROGRAM, Vault},
};

/// The accounts that lie behind a lease.
struct Behind {
    container: Pubkey,
    block: Pubkey,
    provider: Pubkey,
    indexer: Option<Pubkey>,
}

fn behind(world: &World, lease: &Pubkey) -> Behind {
    let lease: Lease = world.read(lease);
    Behind {
        container: lease.container,
        block: addresses::block(lease.block),
        provider: addresses::provider(lease.provider),
        indexer: (lease.indexer != NONE).then(|| addresses::indexer(lease.indexer)),
    }
}

/// `open_lease` of a container by a user, matched by an indexer or by nobody.
pub fn open_lease(world: &World, user: &User, container: &Pubkey, indexer: Option<u32>, args: OpenLeaseArgs) -> Instruction {
    let block = world.read::<datagalax::state::Container>(container).block;
    build(
        accounts::OpenLease {
            user: user.key.pubkey(),
            network: addresses::network(),
            container: *container,
            block: addresses::block(block),
            lease: addresses::lease(&user.key.pubkey(), args.nonce),
            indexer: indexer.map(addresses::indexer),
            instructions: indexer.map(|_| INSTRUCTIONS),
            from: user.from,
            vault: vault(world, Vault::Escrow),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::OpenLease { args },
    )
}

/// `start_lease` by the container's operator.
pub fn start_lease(world: &World, operator: &Pubkey, lease: &Pubkey) -> Instruction {
    let behind = behind(world, lease);
    build(
        accounts::StartLease {
            operator: *operator,
            network: addresses::network(),
            container: behind.container,
            block: behind.block,
            lease: *lease,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::StartLease {},
    )
}

/// `reject_lease` by the container's operator.
pub fn reject_lease(world: &World, operator: &Pubkey, lease: &Pubkey, detail: u16) -> Instruction {
    let behind = behind(world, lease);
    build(
        accounts::RejectLease {
            operator: *operator,
            container: behind.container,
            lease: *lease,
            indexer: behind.indexer,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::RejectLease { detail },
    )
}

/// `cancel_lease`.
pub fn cancel_lease(world: &World, lease: &Pubkey) -> Instruction {
    let behind = behind(world, lease);
    build(
        accounts::CancelLease {
            network: addresses::network(),
            container: behind.container,
            block: behind.block,
            lease: *lease,
            indexer: behind.indexer,
            epoch: addresses::epoch(world.network().current_epoch),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::CancelLease {},
    )
}

/// `top_up_lease` by its user.
pub fn top_up_lease(world: &World, user: &User, lease: &Pubkey, seconds: u32) -> Instruction {
    build(
        accounts::TopUpLease {
            user: user.key.pubkey(),
            network: addresses::network(),
            block: behind(world, lease).block,
            lease: *lease,
            from: user.from,
            vault: vault(world, Vault::Escrow),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::TopUpLease { seconds },
    )
}

/// `record_usage` by the container's operator.
pub fn record_usage(
    world: &World,
    operator: &Pubkey,
    lease: &Pubkey,
    gpu_seconds: u64,
    energy: u64,
    bytes: u64,
) -> Instruction {
    build(
        accounts::RecordUsage { operator: *operator, container: behind(world, lease).container, lease: *lease },
        instruction::RecordUsage { gpu_seconds, energy, bytes },
    )
}

/// `settle_lease`.
pub fn settle_lease(world: &World, lease: &Pubkey) -> Instruction {
    let behind = behind(world, lease);
    build(
        accounts::SettleLease {
            network: addresses::network(),
            lease: *lease,
            container: behind.container,
            provider: behind.provider,
            block: behind.block,
            indexer: behind.indexer,
            ledger: addresses::ledger(Vault::Escrow),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::SettleLease {},
    )
}

/// `close_lease` by a key.
pub fn close_lease(world: &World, signer: &Pubkey, lease: &Pubkey, not_served: bool, detail: u16) -> Instruction {
    let behind = behind(world, lease);
    build(
        accounts::CloseLease {
            signer: *signer,
            network: addresses::network(),
            lease: *lease,
            container: behind.container,
            provider: behind.provider,
            block: behind.block,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::CloseLease { not_served, detail },
    )
}
