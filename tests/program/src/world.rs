//! The world itself: a fresh LiteSVM with the program, a mint and an initialised network.

use std::{
    env,
    fs::{self, DirEntry},
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex},
    time::SystemTime,
};

use litesvm::LiteSVM;
use sha2::{Digest, Sha256};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::{
    Settings, addresses,
    instructions::{self, Initialize},
    time::BEGIN,
    tokens::MintData,
};

/// A chain with the program on it, and the keys to act there.
#[derive(Clone)]
pub struct World {
    /// The chain.
    pub svm: LiteSVM,
    /// What the network started with.
    pub settings: Settings,
    /// The program's upgrade authority and the network's authority.
    pub authority: Key,
    /// Pays fees, and rent where nobody else must.
    pub payer: Key,
    /// The mint of $ATH.
    pub mint: Pubkey,
    /// The token program that owns it.
    pub token_program: Pubkey,
    /// The wallet whose keeper's account is named where a keeper may be.
    pub keeper: Option<Pubkey>,
    /// Set once accounts were closed: sums over all of history are not to be had any more.
    pub forgetful: bool,
    /// Start of epoch 0, seconds.
    pub start: i64,
    pub(crate) now: i64,
    pub(crate) extra_slots: u64,
    pub(crate) slots_kept: u64,
    pub(crate) named: u64,
}

/// A keypair that clones, as worlds do.
pub struct Key(pub Keypair);

impl Clone for Key {
    fn clone(&self) -> Self {
        Self(self.0.insecure_clone())
    }
}

impl std::ops::Deref for Key {
    type Target = Keypair;

    fn deref(&self) -> &Keypair {
        &self.0
    }
}

/// An address that follows from what it is for, so that runs repeat to the compute unit.
pub fn address_of(parts: &[&[u8]]) -> Pubkey {
    Pubkey::new_from_array(digest(parts))
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// A keypair that follows from its name.
pub fn named_key(name: &str) -> Key {
    Key(Keypair::new_from_array(digest(&[b"key", name.as_bytes()])))
}

/// Where the built program lies: `DATAGALAX_PROGRAM_SO`, else the workspace's target/deploy/datagalax.so.
pub fn program_path() -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/deploy/datagalax.so");
    env::var_os("DATAGALAX_PROGRAM_SO").map_or_else(built, PathBuf::from)
}

/// When the newest file in a folder was changed.
fn newest(folder: &Path) -> SystemTime {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{} cannot be listed: {e}", folder.display()));
    let changed = |entry: DirEntry| {
        let path = entry.path();
        if path.is_dir() { newest(&path) } else { modified(&path) }
    };
    entries.map(|entry| changed(entry.expect("a folder's entry"))).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|m| m.modified()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The built program's bytes. One that is older than its sources is refused: what it does is not what the host's half of the
/// same crate does, and the tests would fail for that alone.
pub fn program_bytes() -> Vec<u8> {
    let path = program_path();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../programs/datagalax/src");
    let chosen = env::var_os("DATAGALAX_PROGRAM_SO").is_some();
    if !chosen && path.is_file() && modified(&path) < newest(&sources) {
        panic!("{} is older than its sources: run `cargo xtask build-program`", path.display());
    }
    fs::read(&path).unwrap_or_else(|e| {
        panic!("{} cannot be read ({e}): run `cargo xtask build-program`, or set DATAGALAX_PROGRAM_SO", path.display())
    })
}

/// Loading the program takes most of a world's birth, so it is done once a process.
static LOADED: LazyLock<Mutex<LiteSVM>> = LazyLock::new(|| {
    let mut svm = LiteSVM::new().with_sigverify(false).with_blockhash_check(false).with_transaction_history(0);
    svm.add_program(datagalax::ID, &program_bytes()).unwrap_or_else(|e| {
        panic!("{} does not load ({e:?}): run `cargo xtask build-program` again", program_path().display())
    });
    Mutex::new(svm)
});

impl World {
    /// A network with the default settings, funded.
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    /// A network with these settings, funded.
    pub fn with(settings: Settings) -> Self {
        let mut world = Self::bare(settings);
        let instruction = Initialize::of(&mut world).instruction();
        let authority = world.authority.clone();
        world.must(&[instruction], &[&authority]);
        if settings.funding > 0 {
            world.fund(settings.funding);
        }
        world
    }

    /// A chain with the program and a mint, but no network.
    pub fn bare(settings: Settings) -> Self {
        let svm = LOADED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let mut world = Self {
            svm,
            settings,
            authority: named_key("authority"),
            payer: named_key("payer"),
            mint: address_of(&[b"mint"]),
            token_program: addresses::TOKEN_PROGRAM,
            keeper: None,
            forgetful: false,
            start: BEGIN + settings.start_in,
            now: BEGIN,
            extra_slots: 0,
            slots_kept: 512,
            named: 0,
        };
        world.write_time();
        let (authority, payer) = (world.authority.pubkey(), world.payer.pubkey());
        world.give_lamports(&authority);
        world.give_lamports(&payer);
        world.put_mint(world.mint, MintData::default());
        world.set_upgrade_authority(Some(authority));
        world
    }

    /// Writes the program's upgrade authority, as a deployment would: LiteSVM itself sets none.
    pub fn set_upgrade_authority(&mut self, authority: Option<Pubkey>) {
        self.patch(&addresses::program_data(), |data| {
            data[12] = u8::from(authority.is_some());
            data[13..45].copy_from_slice(authority.unwrap_or_default().as_ref());
        });
    }

    /// Makes an address rich in lamports.
    pub fn give_lamports(&mut self, address: &Pubkey) {
        self.svm.airdrop(address, 1_000_000_000_000).expect("an airdrop");
    }

    /// A fresh key with lamports; runs of the same test give the same keys.
    pub fn actor(&mut self, what: &str) -> Key {
        self.named += 1;
        let key = named_key(&format!("{what} {}", self.named));
        self.give_lamports(&key.pubkey());
        key
    }

    /// Puts $ATH into the rewards vault.
    pub fn fund(&mut self, amount: u64) {
        let funder = self.actor("funder");
        let from = self.put_token_account(&self.mint.clone(), &funder.pubkey(), amount, "");
        let instruction = instructions::fund_rewards(self, &funder.pubkey(), &from, amount);
        self.must(&[instruction], &[&funder]);
    }

    /// All accounts of the program and of its vaults in one hash: equal before and after means nothing changed.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut accounts: Vec<_> = self
            .svm
            .accounts_db()
            .inner
            .iter()
            .filter(|(_, a)| *solana_account::ReadableAccount::owner(*a) == datagalax::ID)
            .collect();
        accounts.sort_by_key(|(address, _)| **address);
        let mut hasher = Sha256::new();
        for (address, account) in accounts {
            hasher.update(address.as_ref());
            hasher.update(solana_account::ReadableAccount::lamports(account).to_le_bytes());
            hasher.update(solana_account::ReadableAccount::data(account));
        }
        for vault in addresses::Vault::ALL {
            if let Some(account) = self.try_account(&addresses::vault(vault)) {
                hasher.update(&account.data);
            }
        }
        hasher.finalize().into()
    }

    /// Sends one instruction as the world's payer, which must succeed.
    #[track_caller]
    pub fn run(&mut self, instruction: Instruction) -> crate::Outcome {
        self.must(&[instruction], &[])
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
