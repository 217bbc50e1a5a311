//! Addresses of the program's accounts, derived here once more from the protocol's seeds, so that a wrong seed in the program
//! shows.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
};

use solana_pubkey::Pubkey;

/// The loader that owns upgradeable programs.
pub const UPGRADEABLE_LOADER: Pubkey = Pubkey::from_str_const("BPFLoaderUpgradeab1e11111111111111111111111");
/// The legacy token program.
pub const TOKEN_PROGRAM: Pubkey = Pubkey::from_str_const("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
/// The program of associated token accounts.
pub const ASSOCIATED_TOKEN_PROGRAM: Pubkey = Pubkey::from_str_const("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL");
/// The system program.
pub const SYSTEM_PROGRAM: Pubkey = Pubkey::from_str_const("11111111111111111111111111111111");
/// The compute-budget program.
pub const COMPUTE_BUDGET: Pubkey = Pubkey::from_str_const("ComputeBudget111111111111111111111111111111");
/// Sysvar: the clock.
pub const CLOCK: Pubkey = Pubkey::from_str_const("SysvarC1ock11111111111111111111111111111111");
/// Sysvar: hashes of recent slots.
pub const SLOT_HASHES: Pubkey = Pubkey::from_str_const("SysvarS1otHashes111111111111111111111111111");

/// Token-2022.
pub const TOKEN_2022: Pubkey = Pubkey::from_str_const("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");
/// Sysvar: the transaction's instructions.
pub const INSTRUCTIONS: Pubkey = Pubkey::from_str_const("Sysvar1nstructions1111111111111111111111111");
/// Signs the program's calls of itself that record events; the program's own test holds it to its seeds.
pub const EVENT_AUTHORITY: Pubkey = datagalax::checked::EVENT_AUTHORITY;

/// A vault by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vault {
    /// What owners staked.
    Stake,
    /// What rewards come from.
    Rewards,
    /// What users escrowed.
    Escrow,
}

impl Vault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stake, Self::Rewards, Self::Escrow];

    const fn seed(self) -> &'static [u8] {
        match self {
            Self::Stake => b"stake",
            Self::Rewards => b"rewards",
            Self::Escrow => b"escrow",
        }
    }
}

/// Derived addresses by seeds: each takes curve arithmetic, which is most of what an unoptimised test does.
static DERIVED: LazyLock<Mutex<HashMap<Vec<Vec<u8>>, Pubkey>>> = LazyLock::new(Default::default);

fn derive(seeds: &[&[u8]]) -> Pubkey {
    let key = seeds.iter().map(|s| s.to_vec()).collect();
    let mut derived = DERIVED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *derived.entry(key).or_insert_with(|| Pubkey::find_program_address(seeds, &datagalax::ID).0)
}

/// The program's data account.
pub fn program_data() -> Pubkey {
    Pubkey::find_program_address(&[datagalax::ID.as_ref()], &UPGRADEABLE_LOADER).0
}

/// The network.
pub fn network() -> Pubkey {
    derive(&[b"network"])
}

/// The ticket set.
pub fn checker_set() -> Pubkey {
    derive(&[b"checkers"])
}

/// A vault's token account.
pub fn vault(name: Vault) -> Pubkey {
    derive(&[b"vault", name.seed()])
}

/// A vault's ledger.
pub fn ledger(name: Vault) -> Pubkey {
    derive(&[b"ledger", name.seed()])
}

/// A class.
pub fn class(id: u16) -> Pubkey {
    derive(&[b"class", &id.to_le_bytes()])
}

/// A provider.
pub fn provider(id: u32) -> Pubkey {
    derive(&[b"provider", &id.to_le_bytes()])
}

/// A container of a provider.
pub fn container(provider: u32, fingerprint: &[u8; 32]) -> Pubkey {
    derive(&[b"container", &provider.to_le_bytes(), fingerprint])
}

/// A block.
pub fn block(index: u32) -> Pubkey {
    derive(&[b"block", &index.to_le_bytes()])
}

/// A checker.
pub fn checker(id: u32) -> Pubkey {
    derive(&[b"checker", &id.to_le_bytes()])
}

/// An epoch.
pub fn epoch(number: u32) -> Pubkey {
    derive(&[b"epoch", &number.to_le_bytes()])
}

/// A lease of a user.
pub fn lease(user: &Pubkey, nonce: u64) -> Pubkey {
    derive(&[b"lease", user.as_ref(), &nonce.to_le_bytes()])
}

/// A case against a container.
pub fn case(container: &Pubkey, epoch: u32, kind: u8) -> Pubkey {
    derive(&[b"case", container.as_ref(), &epoch.to_le_bytes(), &[kind]])
}

/// An indexer.
pub fn indexer(id: u32) -> Pubkey {
    derive(&[b"indexer", &id.to_le_bytes()])
}

/// A keeper's account.
pub fn keeper(wallet: &Pubkey) -> Pubkey {
    derive(&[b"keeper", wallet.as_ref()])
}
