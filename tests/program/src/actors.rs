//! Providers, checkers, classes, blocks and containers.

use datagalax::{
    constants::{MAX_AMOUNT, ROWS},
    instructions::{CreateClassArgs, RegisterContainerArgs},
    state::{ClassTerms, Network},
};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::{
    World, addresses, instructions,
    settings::ATH,
    world::{Key, named_key},
};

/// Base units that every actor's token account starts with.
pub const PURSE: u64 = MAX_AMOUNT;

/// A registered provider.
#[derive(Clone)]
pub struct Provider {
    /// Id.
    pub id: u32,
    /// Cold key.
    pub owner: Key,
    /// Hot key.
    pub operator: Key,
    /// Payout wallet.
    pub payout: Pubkey,
    /// The owner's token account.
    pub from: Pubkey,
    /// The payout wallet's token account.
    pub to: Pubkey,
}

/// A registered checker.
#[derive(Clone)]
pub struct Checker {
    /// Id.
    pub id: u32,
    /// Cold key.
    pub owner: Key,
    /// Hot key.
    pub operator: Key,
    /// Payout wallet.
    pub payout: Pubkey,
    /// Operator's commission, bps.
    pub commission_bps: u16,
    /// The owner's token account.
    pub from: Pubkey,
    /// The payout wallet's token account.
    pub to: Pubkey,
    /// The operator's token account.
    pub operator_account: Pubkey,
}

/// A registered indexer.
#[derive(Clone)]
pub struct Indexer {
    /// Id.
    pub id: u32,
    /// Cold key.
    pub owner: Key,
    /// Hot key: signs matches.
    pub operator: Key,
    /// Payout wallet.
    pub payout: Pubkey,
    /// The owner's token account.
    pub from: Pubkey,
    /// The payout wallet's token account.
    pub to: Pubkey,
}

/// A user.
#[derive(Clone)]
pub struct User {
    /// The wallet.
    pub key: Key,
    /// Its token account: pays and is paid.
    pub from: Pubkey,
}

/// A class's arguments: 10 ATH a unit.
pub fn class_args(id: u16, unit_weight: u16) -> CreateClassArgs {
    let mut name = [0; 32];
    name[..4].copy_from_slice(b"test");
    let terms = ClassTerms {
        stake_base: 10 * ATH,
        minimum_vram: 1 << 30,
        reference_throughput: u64::from(unit_weight).max(1) * 1_000,
        unit_weight,
        active: 1,
        reserved: [0; 5],
    };
    CreateClassArgs { id, name, terms }
}

/// A container's arguments.
pub fn container_args(fingerprint: [u8; 32], gpus: u8) -> RegisterContainerArgs {
    RegisterContainerArgs {
        fingerprint,
        operator: container_operator(&fingerprint).pubkey(),
        spec_hash: [7; 32],
        gpus,
        latitude: 5_236,
        longitude: 491,
        region: *b"eu-west\0\0\0\0\0\0\0\0\0",
        price_per_hour: 2 * ATH,
        minimum_lease: 600,
        endpoint: "http://127.0.0.1:9000".into(),
    }
}

/// The key that starts leases of the container with this fingerprint.
pub fn container_operator(fingerprint: &[u8; 32]) -> Key {
    let name: String = fingerprint.iter().map(|b| format!("{b:02x}")).collect();
    named_key(&format!("container operator {name}"))
}

/// A fingerprint from a number.
pub fn fingerprint(n: u32) -> [u8; 32] {
    let mut bytes = [0xfe; 32];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    bytes
}

impl World {
    /// Creates a class.
    pub fn class_of(&mut self, id: u16, unit_weight: u16) {
        let instruction = instructions::create_class(self, class_args(id, unit_weight));
        let authority = self.authority.clone();
        self.must(&[instruction], &[&authority]);
    }

    /// The keys and token accounts of a provider that is not registered yet.
    pub fn provider_to_be(&mut self) -> Provider {
        let (owner, operator) = (self.actor("provider"), self.actor("provider operator"));
        let payout = self.actor("provider payout").pubkey();
        let mint = self.mint;
        Provider {
            id: self.network().providers,
            from: self.put_token_account(&mint, &owner.pubkey(), PURSE, "purse"),
            to: self.put_token_account(&mint, &payout, 0, ""),
            owner,
            operator,
            payout,
        }
    }

    /// Registers a provider and stakes for it.
    pub fn provider_with(&mut self, stake: u64) -> Provider {
        let provider = self.provider_to_be();
        let register = instructions::register_provider(
            &provider.owner.pubkey(),
            provider.id,
            &provider.operator.pubkey(),
            &provider.payout,
        );
        let mut all = vec![register];
        if stake > 0 {
            all.push(instructions::stake(self, &provider, stake));
        }
        self.must(&all, &[&provider.owner]);
        provider
    }

    /// The keys and token accounts of a checker that is not registered yet.
    pub fn checker_to_be(&mut self, commission_bps: u16) -> Checker {
        let (owner, operator) = (self.actor("checker"), self.actor("checker operator"));
        let payout = self.actor("checker payout").pubkey();
        let mint = self.mint;
        Checker {
            id: self.network().checkers,
            commission_bps,
            from: self.put_token_account(&mint, &owner.pubkey(), PURSE, "purse"),
            to: self.put_token_account(&mint, &payout, 0, ""),
            operator_account: self.put_token_account(&mint, &operator.pubkey(), 0, ""),
            owner,
            operator,
            payout,
        }
    }

    /// Registers a checker with tickets.
    pub fn checker_with(&mut self, tickets: u16, commission_bps: u16) -> Checker {
        let checker = self.checker_to_be(commission_bps);
        let register = instructions::register_checker(
            &checker.owner.pubkey(),
            checker.id,
            &checker.operator.pubkey(),
            &checker.payout,
            commission_bps,
        );
        let mut all = vec![register];
        if tickets > 0 {
            all.push(instructions::register_tickets(self, &checker, tickets));
        }
        self.must(&all, &[&checker.owner]);
        checker
    }

    /// The keys and token accounts of an indexer that is not registered yet.
    pub fn indexer_to_be(&mut self) -> Indexer {
        let (owner, operator) = (self.actor("indexer"), self.actor("indexer operator"));
        let payout = self.actor("indexer payout").pubkey();
        let mint = self.mint;
        Indexer {
            id: self.network().indexers,
            from: self.put_token_account(&mint, &owner.pubkey(), PURSE, "purse"),
            to: self.put_token_account(&mint, &payout, 0, ""),
            owner,
            operator,
            payout,
        }
    }

    /// Registers an indexer.
    pub fn indexer(&mut self) -> Indexer {
        let indexer = self.indexer_to_be();
        let register = instructions::register_indexer(self, &indexer, "https://indexer.example");
        self.must(&[register], &[&indexer.owner]);
        indexer
    }

    /// A user with a full purse.
    pub fn user(&mut self) -> User {
        let key = self.actor("user");
        let mint = self.mint;
        let from = self.put_token_account(&mint, &key.pubkey(), PURSE / 8, "");
        User { key, from }
    }

    /// The key that starts a container's leases, for containers registered with [`container_args`].
    pub fn container_operator(&mut self, fingerprint: &[u8; 32]) -> Key {
        let key = container_operator(fingerprint);
        self.give_lamports(&key.pubkey());
        key
    }

    /// Creates the next block in full, paid by the world's payer.
    pub fn grown_block(&mut self) -> u32 {
        let (index, payer) = (self.network().blocks, self.payer.pubkey());
        let mut all = vec![instructions::create_block(&payer, index)];
        all.extend((0..4).map(|_| instructions::grow_block(&payer, index)));
        self.must(&all, &[]);
        assert!(self.is_full(index));
        index
    }

    /// [`Self::grown_block`] while there are free rows: the rule that forbids it is set aside and the count put right again.
    pub fn grown_block_regardless(&mut self) -> u32 {
        let free = self.network().free_rows;
        self.patch_as::<Network>(&addresses::network(), |n| n.free_rows = 0);
        let index = self.grown_block();
        self.patch_as::<Network>(&addresses::network(), |n| n.free_rows += free);
        index
    }

    /// Who paid a block's rent.
    pub fn creator_of(&self, block: u32) -> Pubkey {
        let data = self.account(&addresses::block(block)).data;
        let offset = 8 + std::mem::offset_of!(datagalax::state::Block, creator);
        Pubkey::new_from_array(data[offset..offset + 32].try_into().expect("32 bytes"))
    }

    /// Registers containers `first..first + count` of a provider into a block; their fingerprints are their numbers.
    pub fn containers(&mut self, provider: &Provider, class: u16, block: u32, first: u32, count: u32) {
        let numbers: Vec<u32> = (first..first + count).collect();
        for batch in numbers.chunks(2) {
            let all: Vec<_> = batch
                .iter()
                .map(|n| instructions::register_container(self, provider, class, block, container_args(fingerprint(*n), 1)))
                .collect();
            self.must(&all, &[&provider.owner]);
        }
    }

    /// Free rows of a block.
    pub fn free_rows(&self, block: u32) -> usize {
        ROWS - usize::from(self.block(block).occupied)
    }
}
