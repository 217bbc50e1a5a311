//! Reading and patching the program's accounts.

use anchor_lang::Discriminator;
use bytemuck::Pod;
use datagalax::{
    constants::ROWS,
    state::{Block, Checker, CheckerSetHeader, Container, Epoch, GpuClass, Network, Provider, Ticket, VaultLedger},
};
use solana_account::Account;
use solana_pubkey::Pubkey;

use crate::{World, addresses, addresses::Vault};

/// Where the tickets begin: behind the discriminator and the head.
pub const TICKETS_OFFSET: usize = 8 + size_of::<CheckerSetHeader>();

/// Bytes of a full-length block.
pub const BLOCK_SPACE: usize = 8 + size_of::<Block>();

impl World {
    /// An account that must exist.
    pub fn account(&self, address: &Pubkey) -> Account {
        self.try_account(address).unwrap_or_else(|| panic!("no account {address}"))
    }

    /// An account, if there is one.
    pub fn try_account(&self, address: &Pubkey) -> Option<Account> {
        self.svm.get_account(address).filter(|a| a.lamports > 0)
    }

    /// An account as a transaction sees it: without lamports and data where there is none.
    pub fn account_or_empty(&self, address: &Pubkey) -> Account {
        self.svm.get_account(address).unwrap_or_default()
    }

    /// Writes an account as it is.
    pub fn put_account(&mut self, address: Pubkey, account: Account) {
        self.svm.set_account(address, account).expect("LiteSVM takes any account");
    }

    /// Changes an account's bytes behind the program's back.
    pub fn patch(&mut self, address: &Pubkey, change: impl FnOnce(&mut [u8])) {
        let mut account = self.account(address);
        change(&mut account.data);
        self.put_account(*address, account);
    }

    /// Changes a typed account behind the program's back.
    pub fn patch_as<T: Pod>(&mut self, address: &Pubkey, change: impl FnOnce(&mut T)) {
        self.patch(address, |data| {
            let mut value: T = bytemuck::pod_read_unaligned(&data[8..8 + size_of::<T>()]);
            change(&mut value);
            data[8..8 + size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&value));
        });
    }

    /// Reads a typed account of the program.
    pub fn read<T: Pod + Discriminator>(&self, address: &Pubkey) -> T {
        let account = self.account(address);
        assert_eq!(account.owner, datagalax::ID, "{address} belongs to the program");
        assert_eq!(&account.data[..8], T::DISCRIMINATOR, "{address} is a {}", std::any::type_name::<T>());
        bytemuck::pod_read_unaligned(&account.data[8..8 + size_of::<T>()])
    }

    /// The network.
    pub fn network(&self) -> Network {
        self.read(&addresses::network())
    }

    /// A vault's ledger.
    pub fn ledger(&self, name: Vault) -> VaultLedger {
        self.read(&addresses::ledger(name))
    }

    /// A class.
    pub fn class(&self, id: u16) -> GpuClass {
        self.read(&addresses::class(id))
    }

    /// A provider's account.
    pub fn provider(&self, id: u32) -> Provider {
        self.read(&addresses::provider(id))
    }

    /// A checker's account.
    pub fn checker(&self, id: u32) -> Checker {
        self.read(&addresses::checker(id))
    }

    /// A container's account.
    pub fn container(&self, provider: u32, fingerprint: &[u8; 32]) -> Container {
        self.read(&addresses::container(provider, fingerprint))
    }

    /// An epoch.
    pub fn epoch(&self, number: u32) -> Epoch {
        self.read(&addresses::epoch(number))
    }

    /// Whether an epoch was advanced to.
    pub fn has_epoch(&self, number: u32) -> bool {
        self.try_account(&addresses::epoch(number)).is_some_and(|a| a.owner == datagalax::ID)
    }

    /// A full-length block.
    pub fn block(&self, index: u32) -> Box<Block> {
        let account = self.account(&addresses::block(index));
        assert_eq!(account.data.len(), BLOCK_SPACE, "block {index} has its full length");
        Box::new(self.read(&addresses::block(index)))
    }

    /// Whether the block is there in full.
    pub fn is_full(&self, index: u32) -> bool {
        self.account(&addresses::block(index)).data.len() == BLOCK_SPACE
    }

    /// Head of the ticket set.
    pub fn set(&self) -> CheckerSetHeader {
        self.read(&addresses::checker_set())
    }

    /// All tickets by slot.
    pub fn tickets(&self) -> Vec<Ticket> {
        let data = self.account(&addresses::checker_set()).data;
        let count = self.set().slots as usize;
        let size = size_of::<Ticket>();
        (0..count)
            .map(|i| bytemuck::pod_read_unaligned(&data[TICKETS_OFFSET + i * size..TICKETS_OFFSET + (i + 1) * size]))
            .collect()
    }

    /// Pauses or unpauses the network behind the program's back, so that a test of something else need not pass time.
    pub fn set_paused(&mut self, paused: bool) {
        self.patch_as::<Network>(&addresses::network(), |n| n.paused_until = if paused { i64::MAX } else { 0 });
    }

    /// Base units accrued by all rows of a block.
    pub fn accrued(&self, block: u32) -> u64 {
        self.block(block).rows.iter().map(|r| r.accrued).sum()
    }
}

/// A mask that names rows.
pub fn rows(named: impl IntoIterator<Item = usize>) -> [u8; ROWS / 8] {
    let mut mask = [0; ROWS / 8];
    for row in named {
        mask[row / 8] |= 1 << (row % 8);
    }
    mask
}
