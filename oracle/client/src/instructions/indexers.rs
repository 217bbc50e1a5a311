//! Indexers, and the signature with which they match.

pub use datagalax::instructions::Match;
use datagalax::{accounts, instruction, instructions::ED25519_ID, state::Network};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;

use super::{EVENT_AUTHORITY, build, vault};
use crate::{
    Address,
    addresses::{self, PROGRAM, Vault},
    token::{SYSTEM_PROGRAM, home},
};

/// Registers an indexer under the network's next id ([`Network::indexers`]) and stakes for it from the owner's associated
/// account. The owner signs and pays.
pub fn register_indexer(
    owner: &Address,
    network: &Network,
    operator: &Address,
    payout: &Address,
    endpoint: &str,
) -> Instruction {
    build(
        accounts::RegisterIndexer {
            owner: *owner,
            network: addresses::network(),
            indexer: addresses::indexer(network.indexers),
            from: home(owner, network),
            vault: vault(network, Vault::Stake),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::RegisterIndexer { operator: *operator, payout: *payout, endpoint: endpoint.to_owned() },
    )
}

/// Replaces an indexer's endpoint. Its operator (or owner) signs.
pub fn update_indexer(operator: &Address, indexer: u32, endpoint: &str) -> Instruction {
    build(
        accounts::UpdateIndexer {
            operator: *operator,
            indexer: addresses::indexer(indexer),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::UpdateIndexer { endpoint: endpoint.to_owned() },
    )
}

/// Asks an indexer's stake back. Its owner signs.
pub fn leave_indexer(owner: &Address, indexer: u32) -> Instruction {
    build(
        accounts::LeaveIndexer {
            owner: *owner,
            network: addresses::network(),
            indexer: addresses::indexer(indexer),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::LeaveIndexer {},
    )
}

/// Where key, signature and message lie in the instruction of [`sign_match`].
const KEY: u16 = 16;
const SIGNATURE: u16 = KEY + 32;
const MESSAGE: u16 = SIGNATURE + 64;

/// The Ed25519 instruction with the indexer's signature on a match; it must stand right before `open_lease`.
pub fn sign_match(operator: &Keypair, matched: &Match<'_>) -> Instruction {
    let message = matched.message();
    let here = u16::MAX;
    // The message is of fixed length, below 2^16.
    let fields = [SIGNATURE, here, KEY, here, MESSAGE, message.len() as u16, here];
    let mut data = vec![1, 0];
    data.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
    data.extend(operator.pubkey().to_bytes());
    data.extend(operator.sign_message(&message).as_ref());
    data.extend(message);
    Instruction { program_id: ED25519_ID, accounts: vec![], data }
}
