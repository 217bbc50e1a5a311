//! Providers: registration, stake, claims.

use datagalax::{
    accounts,
    constants::ROWS,
    instruction,
    state::{Container, Network},
};
use solana_instruction::Instruction;

use super::{EVENT_AUTHORITY, build, vault};
use crate::{
    Address,
    addresses::{self, PROGRAM, Vault},
    token::{SYSTEM_PROGRAM, home},
};

/// Registers a provider under the id `id`, which must be the network's next ([`Network::providers`]). The owner signs and pays;
/// `payout` is the wallet whose associated token account receives everything.
pub fn register_provider(owner: &Address, id: u32, operator: &Address, payout: &Address) -> Instruction {
    build(
        accounts::RegisterProvider {
            owner: *owner,
            network: addresses::network(),
            provider: addresses::provider(id),
            system_program: SYSTEM_PROGRAM,
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::RegisterProvider { operator: *operator, payout: *payout },
    )
}

/// Stakes base units from the owner's associated account. The owner signs.
pub fn stake(owner: &Address, network: &Network, provider: u32, amount: u64) -> Instruction {
    build(
        accounts::Stake {
            owner: *owner,
            network: addresses::network(),
            provider: addresses::provider(provider),
            from: home(owner, network),
            vault: vault(network, Vault::Stake),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::Stake { amount },
    )
}

/// Asks base units of free stake back; [`super::withdraw`] pays them once they have unlocked. The owner signs.
pub fn request_unstake(owner: &Address, provider: u32, amount: u64) -> Instruction {
    build(
        accounts::RequestUnstake {
            owner: *owner,
            network: addresses::network(),
            provider: addresses::provider(provider),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::RequestUnstake { amount },
    )
}

/// Locks again what a halted container lacks, out of the provider's free stake. The owner signs.
pub fn restore_stake(owner: &Address, address: &Address, container: &Container) -> Instruction {
    build(
        accounts::RestoreStake {
            owner: *owner,
            provider: addresses::provider(container.provider),
            container: *address,
            block: addresses::block(container.block),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
        },
        instruction::RestoreStake {},
    )
}

/// Grants what rows of a block accrued: a part at once, the rest by and by ([`super::withdraw`] pays it). The provider's operator
/// (or owner) signs.
pub fn claim_rewards(operator: &Address, provider: u32, block: u32, rows: &[u8]) -> Instruction {
    build(
        accounts::ClaimRewards {
            operator: *operator,
            network: addresses::network(),
            provider: addresses::provider(provider),
            block: addresses::block(block),
            event_authority: EVENT_AUTHORITY,
            program: PROGRAM,
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
