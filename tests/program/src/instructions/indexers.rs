//! Indexers, and the signature with which they match.

use datagalax::{
    accounts, instruction,
    instructions::{ED25519_ID, Match},
};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use super::{build, vault};
use crate::{
    Indexer, World,
    addresses::{self, EVENT_AUTHORITY, SYSTEM_PROGRAM, Vault},
    settings::GENESIS_HASH,
};

/// `register_indexer` under its id.
pub fn register_indexer(world: &World, indexer: &Indexer, endpoint: &str) -> Instruction {
    build(
        accounts::RegisterIndexer {
            owner: indexer.owner.pubkey(),
            network: addresses::network(),
            indexer: addresses::indexer(indexer.id),
            from: indexer.from,
            vault: vault(world, Vault::Stake),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::RegisterIndexer {
            operator: indexer.operator.pubkey(),
            payout: indexer.payout,
            endpoint: endpoint.into(),
        },
    )
}

/// `update_indexer` by its operator.
pub fn update_indexer(indexer: &Indexer, endpoint: &str) -> Instruction {
    build(
        accounts::UpdateIndexer {
            operator: indexer.operator.pubkey(),
            indexer: addresses::indexer(indexer.id),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::UpdateIndexer { endpoint: endpoint.into() },
    )
}

/// `leave_indexer` by its owner.
pub fn leave_indexer(indexer: &Indexer) -> Instruction {
    build(
        accounts::LeaveIndexer {
            owner: indexer.owner.pubkey(),
            network: addresses::network(),
            indexer: addresses::indexer(indexer.id),
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::LeaveIndexer {},
    )
}

/// The Ed25519 instruction with the indexer's signature on a match.
pub fn sign_match(
    operator: &Keypair,
    indexer: u32,
    user: &Pubkey,
    container: &Pubkey,
    nonce: u64,
    expires: i64,
) -> Instruction {
    let message = Match { genesis_hash: &GENESIS_HASH, indexer, user, container, nonce, expires }.message();
    ed25519(&operator.pubkey().to_bytes(), operator.sign_message(&message).as_ref(), &message)
}

/// An Ed25519 instruction with one signature, everything inside it: head, key, signature, message.
pub fn ed25519(key: &[u8], signature: &[u8], message: &[u8]) -> Instruction {
    let here = u16::MAX;
    let fields = [48, here, 16, here, 112, message.len() as u16, here];
    let mut data = vec![1, 0];
    data.extend(fields.iter().flat_map(|f| f.to_le_bytes()));
    data.extend([key, signature, message].concat());
    Instruction { program_id: ED25519_ID, accounts: vec![], data }
}
