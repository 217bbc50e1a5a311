//! What providers, checkers, indexers, users and keepers have in common: keys, withdrawals, the end of an account.

use datagalax::{accounts, instruction, state::Network};
use solana_instruction::Instruction;

use super::{EVENT_AUTHORITY, build, vault};
use crate::{
    Address,
    addresses::{self, PROGRAM, Vault},
    token::home,
};

fn own(owner: &Address, party: &Address) -> accounts::OwnParty {
    accounts::OwnParty { owner: *owner, party: *party, event_authority: EVENT_AUTHORITY, program: PROGRAM }
}

/// Replaces hot key and payout wallet of a provider's, checker's or indexer's account. Its owner signs.
pub fn rotate_keys(owner: &Address, party: &Address, operator: &Address, payout: &Address) -> Instruction {
    build(own(owner, party), instruction::RotateKeys { operator: *operator, payout: *payout })
}

/// Names the next owner of a provider's, checker's or indexer's account (the default address: nobody). Its owner signs.
pub fn propose_owner(owner: &Address, party: &Address, next: &Address) -> Instruction {
    build(own(owner, party), instruction::ProposeOwner { next: *next })
}

/// Becomes the owner of a provider's, checker's or indexer's account. The key that was named signs.
pub fn accept_owner(owner: &Address, party: &Address) -> Instruction {
    build(
        accounts::AcceptOwner { owner: *owner, party: *party, event_authority: EVENT_AUTHORITY, program: PROGRAM },
        instruction::AcceptOwner {},
    )
}

/// Pays what a vault owes an account (provider, indexer, lease, keeper) to the associated account of its wallet, which must
/// exist: a provider's or indexer's payout, a lease's user, a keeper. Anybody.
pub fn withdraw(network: &Network, source: &Address, from: Vault, wallet: &Address) -> Instruction {
    build(
        accounts::Withdraw {
            network: addresses::network(),
            source: *source,
            vault: vault(network, from),
            to: home(wallet, network),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::Withdraw {},
    )
}

/// Closes an account that is done with; `recipient` is who paid its rent. A provider's, checker's, indexer's or keeper's own key
/// signs; a lease's user and a case's payer, and 30 days later anybody; epochs may be closed by anybody.
pub fn close_account(signer: &Address, account: &Address, recipient: &Address) -> Instruction {
    build(
        accounts::CloseAccount {
            signer: *signer,
            network: addresses::network(),
            account: *account,
            recipient: *recipient,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::CloseAccount {},
    )
}
