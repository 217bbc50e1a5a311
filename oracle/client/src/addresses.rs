//! Where every account of the program lives: the seeds are the program's own ([`datagalax::constants::seed`]).

use datagalax::constants::seed;

use crate::Address;

/// The program's address.
pub const PROGRAM: Address = datagalax::ID;

fn derive(seeds: &[&[u8]]) -> Address {
    Address::find_program_address(seeds, &PROGRAM).0
}

/// One of the program's three token accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vault {
    /// What owners staked.
    Stake,
    /// What emission and seat pay come from.
    Rewards,
    /// What users escrowed for leases.
    Escrow,
}

impl Vault {
    /// All of them, in the order of the ledgers' kinds.
    pub const ALL: [Self; 3] = [Self::Stake, Self::Rewards, Self::Escrow];

    /// Its name: the second seed of the token account and of the ledger.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stake => "stake",
            Self::Rewards => "rewards",
            Self::Escrow => "escrow",
        }
    }

    const fn seed(self) -> &'static [u8] {
        match self {
            Self::Stake => seed::STAKE,
            Self::Rewards => seed::REWARDS,
            Self::Escrow => seed::ESCROW,
        }
    }
}

/// The one [`datagalax::state::Network`].
pub fn network() -> Address {
    derive(&[seed::NETWORK])
}

/// A vault's token account.
pub fn vault(vault: Vault) -> Address {
    derive(&[seed::VAULT, vault.seed()])
}

/// A vault's books, [`datagalax::state::VaultLedger`].
pub fn ledger(vault: Vault) -> Address {
    derive(&[seed::LEDGER, vault.seed()])
}

/// A [`datagalax::state::GpuClass`] by id.
pub fn class(id: u16) -> Address {
    derive(&[seed::CLASS, &id.to_le_bytes()])
}

/// A [`datagalax::state::Provider`] by id.
pub fn provider(id: u32) -> Address {
    derive(&[seed::PROVIDER, &id.to_le_bytes()])
}

/// A [`datagalax::state::Container`] by its provider's id and its hardware fingerprint.
pub fn container(provider: u32, fingerprint: &[u8; 32]) -> Address {
    derive(&[seed::CONTAINER, &provider.to_le_bytes(), fingerprint])
}

/// A [`datagalax::state::Block`] by index.
pub fn block(index: u32) -> Address {
    derive(&[seed::BLOCK, &index.to_le_bytes()])
}

/// A [`datagalax::state::Checker`] by id.
pub fn checker(id: u32) -> Address {
    derive(&[seed::CHECKER, &id.to_le_bytes()])
}

/// The one account of all tickets, [`datagalax::state::CheckerSet`].
pub fn checker_set() -> Address {
    derive(&[seed::CHECKERS])
}

/// An [`datagalax::state::Epoch`] by number.
pub fn epoch(number: u32) -> Address {
    derive(&[seed::EPOCH, &number.to_le_bytes()])
}

/// A [`datagalax::state::Lease`] by its user and nonce.
pub fn lease(user: &Address, nonce: u64) -> Address {
    derive(&[seed::LEASE, user.as_ref(), &nonce.to_le_bytes()])
}

/// A [`datagalax::state::Case`] by its container, its first epoch and its kind.
pub fn case(container: &Address, epoch: u32, kind: u8) -> Address {
    derive(&[seed::CASE, container.as_ref(), &epoch.to_le_bytes(), &[kind]])
}

/// An [`datagalax::state::Indexer`] by id.
pub fn indexer(id: u32) -> Address {
    derive(&[seed::INDEXER, &id.to_le_bytes()])
}

/// A [`datagalax::state::Keeper`] by its wallet.
pub fn keeper(wallet: &Address) -> Address {
    derive(&[seed::KEEPER, wallet.as_ref()])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_accounts_share_an_address() {
        let mut all = vec![network(), checker_set(), keeper(&network()), keeper(&checker_set())];
        all.extend(Vault::ALL.map(vault));
        all.extend(Vault::ALL.map(ledger));
        for n in [0u32, 1, 0x0102_0304] {
            all.extend([
                class(n as u16),
                provider(n),
                block(n),
                checker(n),
                epoch(n),
                container(n, &[0; 32]),
                container(n, &[1; 32]),
                indexer(n),
                lease(&network(), n.into()),
                case(&network(), n, 1),
                case(&network(), n, 2),
            ]);
        }
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn numbers_are_little_endian_seeds() {
        let expected = Address::find_program_address(&[b"block", &[4, 3, 2, 1]], &PROGRAM).0;
        assert_eq!(block(0x0102_0304), expected);
    }
}
