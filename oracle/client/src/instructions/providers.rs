//! Providers: registration, stake, claims.

use datagalax::{
    accounts,
    constants::ROWS,
    instruction,
    state::{Network, Provider},
};
use solana_instruction::Instruction;

use super::build;
use crate::{
    Address,
    addresses::{self, Vault},
    token::{SYSTEM_PROGRAM, TOKEN_PROGRAM, associated_account},
};

/// Registers a provider under the id `id`, which must be the network's next ([`Network::providers`]). The owner signs and pays;
/// `payout` is the wallet whose associated token account receives rewards.
pub fn register_provider(owner: &Address, id: u32, operator: &Address, payout: &Address) -> Instruction {
    build(
        accounts::RegisterProvider {
            owner: *owner,
            network: addresses::network(),
            provider: addresses::provider(id),
            system_program: SYSTEM_PROGRAM,
        },
        instruction::RegisterProvider { operator: *operator, payout: *payout },
    )
}

/// Stakes base units from the owner's associated account. The owner signs.
pub fn stake(owner: &Address, provider: u32, mint: &Address, amount: u64) -> Instruction {
    build(
        accounts::Stake {
            owner: *owner,
            network: addresses::network(),
            provider: addresses::provider(provider),
            mint: *mint,
            from: associated_account(owner, mint),
            ledger: addresses::ledger(Vault::Stake),
            vault: addresses::vault(Vault::Stake),
            token_program: TOKEN_PROGRAM,
        },
        instruction::Stake { amount },
    )
}

/// Pays what rows of a block accrued to the payout wallet's associated account, which must exist. The provider's operator (or
/// owner) signs.
pub fn claim_rewards(operator: &Address, network: &Network, provider: &Provider, block: u32, rows: &[u8]) -> Instruction {
    build(
        accounts::ClaimRewards {
            operator: *operator,
            network: addresses::network(),
            provider: addresses::provider(provider.id),
            block: addresses::block(block),
            mint: network.mint,
            ledger: addresses::ledger(Vault::Rewards),
            vault: addresses::vault(Vault::Rewards),
            to: associated_account(&provider.payout, &network.mint),
            token_program: TOKEN_PROGRAM,
        },
        instruction::ClaimRewards { rows: &row_set(rows) },
    )
}

/// The rows as the program takes them: bit r of byte r / 8.
fn row_set(rows: &[u8]) -> [u8; ROWS / 8] {
    let mut set = [0; ROWS / 8];
    for row in rows {
        set[usize::from(*row) / 8] |= 1 << (row % 8);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_bits() {
        let set = row_set(&[0, 9, 9, 255]);
        assert_eq!((set[0], set[1], set[31]), (1, 2, 0x80));
        assert_eq!(set.iter().map(|b| b.count_ones()).sum::<u32>(), 3);
    }
}
