//! What providers, checkers, indexers, users and keepers have in common: keys, withdrawals, the end of an account.

use datagalax::{accounts, instruction};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;

use super::{build, vault};
use crate::{
    World,
    addresses::{self, EVENT_AUTHORITY, Vault},
};

fn own(owner: &Pubkey, party: &Pubkey) -> accounts::OwnParty {
    accounts::OwnParty { owner: *owner, party: *party, event_authority: EVENT_AUTHORITY, program: datagalax::ID }
}

/// `rotate_keys` of a provider, checker or indexer by its owner.
pub fn rotate_keys(owner: &Pubkey, party: &Pubkey, operator: &Pubkey, payout: &Pubkey) -> Instruction {
    build(own(owner, party), instruction::RotateKeys { operator: *operator, payout: *payout })
}

/// `propose_owner` of a provider, checker or indexer by its owner.
pub fn propose_owner(owner: &Pubkey, party: &Pubkey, next: &Pubkey) -> Instruction {
    build(own(owner, party), instruction::ProposeOwner { next: *next })
}

/// `accept_owner` by the key that was named.
pub fn accept_owner(next: &Pubkey, party: &Pubkey) -> Instruction {
    build(
        accounts::AcceptOwner { owner: *next, party: *party, event_authority: EVENT_AUTHORITY, program: datagalax::ID },
        instruction::AcceptOwner {},
    )
}

/// `withdraw` of what a vault owes an account (provider, indexer, lease, keeper) to a token account.
pub fn withdraw(world: &World, source: &Pubkey, name: Vault, to: &Pubkey) -> Instruction {
    build(
        accounts::Withdraw {
            network: addresses::network(),
            source: *source,
            vault: vault(world, name),
            to: *to,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::Withdraw {},
    )
}

/// `withdraw_treasury` to the treasury that the network names.
pub fn withdraw_treasury(world: &World) -> Instruction {
    build(
        accounts::WithdrawTreasury {
            network: addresses::network(),
            vault: vault(world, Vault::Rewards),
            to: world.network().treasury,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::WithdrawTreasury {},
    )
}

/// `close_account` of any account that is done with, its rent to `recipient`.
pub fn close_account(signer: &Pubkey, account: &Pubkey, recipient: &Pubkey) -> Instruction {
    build(
        accounts::CloseAccount {
            signer: *signer,
            network: addresses::network(),
            account: *account,
            recipient: *recipient,
            event_authority: EVENT_AUTHORITY,
            program: datagalax::ID,
        },
        instruction::CloseAccount {},
    )
}
