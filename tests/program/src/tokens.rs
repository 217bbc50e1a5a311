//! The mint and token accounts, written as the token program lays them out.

use solana_account::Account;
use solana_pubkey::Pubkey;

use crate::{World, addresses::ASSOCIATED_TOKEN_PROGRAM};

/// Bytes of a mint.
pub const MINT_LEN: usize = 82;
/// Bytes of a token account.
pub const TOKEN_ACCOUNT_LEN: usize = 165;

/// A mint to write.
#[derive(Clone, Copy)]
pub struct MintData {
    /// Decimals.
    pub decimals: u8,
    /// Whether it is initialised.
    pub initialized: bool,
    /// Who may freeze accounts.
    pub freeze_authority: Option<Pubkey>,
}

impl Default for MintData {
    fn default() -> Self {
        Self { decimals: 6, initialized: true, freeze_authority: None }
    }
}

impl MintData {
    /// The account's bytes: authority option, supply, decimals, initialised, freeze option.
    pub fn bytes(&self) -> Vec<u8> {
        let mut data = vec![0; MINT_LEN];
        data[36..44].copy_from_slice(&(1u64 << 56).to_le_bytes());
        data[44] = self.decimals;
        data[45] = u8::from(self.initialized);
        if let Some(authority) = self.freeze_authority {
            data[46] = 1;
            data[50..82].copy_from_slice(authority.as_ref());
        }
        data
    }
}

impl World {
    /// Writes a mint at an address.
    pub fn put_mint(&mut self, address: Pubkey, mint: MintData) {
        self.put(address, self.token_program, mint.bytes());
    }

    /// Writes a token account with a balance: the wallet's associated one, or with a `tag` an odd one.
    pub fn put_token_account(&mut self, mint: &Pubkey, owner: &Pubkey, amount: u64, tag: &str) -> Pubkey {
        let address = if tag.is_empty() {
            Pubkey::find_program_address(
                &[owner.as_ref(), self.token_program.as_ref(), mint.as_ref()],
                &ASSOCIATED_TOKEN_PROGRAM,
            )
            .0
        } else {
            crate::world::address_of(&[b"token account", mint.as_ref(), owner.as_ref(), tag.as_bytes()])
        };
        let mut data = vec![0; TOKEN_ACCOUNT_LEN];
        data[..32].copy_from_slice(mint.as_ref());
        data[32..64].copy_from_slice(owner.as_ref());
        data[64..72].copy_from_slice(&amount.to_le_bytes());
        data[108] = 1;
        self.put(address, self.token_program, data);
        address
    }

    /// Balance of a token account, base units.
    pub fn balance(&self, address: &Pubkey) -> u64 {
        let account = self.account(address);
        assert_eq!(account.owner, self.token_program, "{address} is a token account");
        u64::from_le_bytes(account.data[64..72].try_into().expect("8 bytes"))
    }

    /// Writes a rent-exempt account.
    pub fn put(&mut self, address: Pubkey, owner: Pubkey, data: Vec<u8>) {
        let lamports = self.svm.minimum_balance_for_rent_exemption(data.len());
        self.put_account(address, Account { lamports, data, owner, executable: false, rent_epoch: u64::MAX });
    }
}
