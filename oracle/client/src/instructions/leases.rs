//! Leases: paying for compute.

pub use datagalax::instructions::OpenLeaseArgs;
use datagalax::{
    accounts,
    constants::NONE,
    instruction,
    instructions::INSTRUCTIONS_ID,
    state::{Container, Lease, Network},
};
use solana_instruction::Instruction;

use super::{EVENT_AUTHORITY, build, vault};
use crate::{
    Address,
    addresses::{self, PROGRAM, Vault},
    token::{SYSTEM_PROGRAM, home},
};

fn indexer_of(lease: &Lease) -> Option<Address> {
    (lease.indexer != NONE).then(|| addresses::indexer(lease.indexer))
}

/// Opens a lease of a container, escrowing from the user's associated account. The user signs and pays; with an indexer its
/// signature ([`super::sign_match`]) stands in the instruction right before.
pub fn open_lease(
    user: &Address,
    network: &Network,
    address: &Address,
    container: &Container,
    indexer: Option<u32>,
    args: OpenLeaseArgs,
) -> Instruction {
    build(
        accounts::OpenLease {
            user: *user,
            network: addresses::network(),
            container: *address,
            block: addresses::block(container.block),
            lease: addresses::lease(user, args.nonce),
            indexer: indexer.map(addresses::indexer),
            instructions: indexer.map(|_| INSTRUCTIONS_ID),
            from: home(user, network),
            vault: vault(network, Vault::Escrow),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::OpenLease { args },
    )
}

/// Starts a lease. The container's operator signs.
pub fn start_lease(operator: &Address, address: &Address, lease: &Lease) -> Instruction {
    build(
        accounts::StartLease {
            operator: *operator,
            network: addresses::network(),
            container: lease.container,
            block: addresses::block(lease.block),
            lease: *address,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::StartLease {},
    )
}

/// Rejects a lease with a code of the host's own. The container's operator signs.
pub fn reject_lease(operator: &Address, address: &Address, lease: &Lease, detail: u16) -> Instruction {
    build(
        accounts::RejectLease {
            operator: *operator,
            container: lease.container,
            lease: *address,
            indexer: indexer_of(lease),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::RejectLease { detail },
    )
}

/// Cancels a lease that was not started in time, while the network has advanced to `network.current_epoch`. Anybody.
pub fn cancel_lease(network: &Network, address: &Address, lease: &Lease) -> Instruction {
    build(
        accounts::CancelLease {
            network: addresses::network(),
            container: lease.container,
            block: addresses::block(lease.block),
            lease: *address,
            indexer: indexer_of(lease),
            epoch: addresses::epoch(network.current_epoch),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::CancelLease {},
    )
}

/// Lengthens a lease, escrowing from its user's associated account. The user signs.
pub fn top_up_lease(network: &Network, address: &Address, lease: &Lease, seconds: u32) -> Instruction {
    build(
        accounts::TopUpLease {
            user: lease.user,
            network: addresses::network(),
            block: addresses::block(lease.block),
            lease: *address,
            from: home(&lease.user, network),
            vault: vault(network, Vault::Escrow),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::TopUpLease { seconds },
    )
}

/// Notes the host's own word on usage, all of it cumulative: GPU-seconds, joules, bytes. The container's operator signs.
pub fn record_usage(
    operator: &Address,
    address: &Address,
    lease: &Lease,
    gpu_seconds: u64,
    energy: u64,
    bytes: u64,
) -> Instruction {
    build(
        accounts::RecordUsage { operator: *operator, container: lease.container, lease: *address },
        instruction::RecordUsage { gpu_seconds, energy, bytes },
    )
}

/// Settles a lease as far as its epochs are judged. Anybody.
pub fn settle_lease(address: &Address, lease: &Lease) -> Instruction {
    build(
        accounts::SettleLease {
            network: addresses::network(),
            lease: *address,
            container: lease.container,
            provider: addresses::provider(lease.provider),
            block: addresses::block(lease.block),
            indexer: indexer_of(lease),
            ledger: addresses::ledger(Vault::Escrow),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::SettleLease {},
    )
}

/// Ends a lease. Its user or the container's operator signs; anybody once what was escrowed is used up.
pub fn close_lease(signer: &Address, address: &Address, lease: &Lease, not_served: bool, detail: u16) -> Instruction {
    build(
        accounts::CloseLease {
            signer: *signer,
            network: addresses::network(),
            lease: *address,
            container: lease.container,
            provider: addresses::provider(lease.provider),
            block: addresses::block(lease.block),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::CloseLease { not_served, detail },
    )
}
