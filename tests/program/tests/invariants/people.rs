//! Who there is: wallets with keys and a purse each. Any of them may hold any role.

use std::collections::HashMap;

use datagalax_program_tests::{World, world::Key, world::address_of, world::named_key};
use solana_account::Account;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

/// What every purse starts with, base units.
pub const PURSE: u64 = 1 << 50;

/// Everybody.
#[derive(Clone)]
pub struct People {
    pub all: Vec<Key>,
    purses: HashMap<Pubkey, Pubkey>,
    places: HashMap<Pubkey, usize>,
    /// Tokens in the world, base units: in purses and vaults.
    pub tokens: u128,
}

impl People {
    /// `count` people with lamports and tokens, and the authority among them.
    pub fn settle(world: &mut World, count: usize) -> Self {
        let mut all: Vec<Key> = (0..count).map(|i| named_key(&format!("person {i}"))).collect();
        all.push(world.authority.clone());
        let mut people = Self { all, purses: HashMap::new(), places: HashMap::new(), tokens: 0 };
        let mint = world.mint;
        for (place, key) in people.all.iter().enumerate() {
            let wallet = key.pubkey();
            // An airdrop would be a transaction with a signature each.
            let owner = Pubkey::default();
            world.put_account(
                wallet,
                Account { lamports: 1 << 50, data: vec![], owner, executable: false, rent_epoch: u64::MAX },
            );
            people.purses.insert(wallet, world.put_token_account(&mint, &wallet, PURSE, ""));
            people.places.insert(wallet, place);
        }
        world.put_token_account(&mint, &Self::keeper_of_the_other_treasury(), 0, "treasury");
        people
    }

    fn keeper_of_the_other_treasury() -> Pubkey {
        named_key("other treasury").pubkey()
    }

    /// A second token account that may be the treasury.
    pub fn other_treasury(mint: &Pubkey) -> Pubkey {
        address_of(&[b"token account", mint.as_ref(), Self::keeper_of_the_other_treasury().as_ref(), b"treasury"])
    }

    /// Somebody.
    pub fn pick(&self, n: u8) -> Pubkey {
        self.all[usize::from(n) % self.all.len()].pubkey()
    }

    /// A wallet's token account.
    pub fn purse(&self, wallet: &Pubkey) -> Pubkey {
        self.purses.get(wallet).copied().unwrap_or(*wallet)
    }

    /// A wallet's key.
    pub fn key(&self, wallet: &Pubkey) -> Option<Key> {
        self.places.get(wallet).map(|place| self.all[*place].clone())
    }
}
