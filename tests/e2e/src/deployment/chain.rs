//! What the authority, the provider and the checkers do on chain before anything can be measured.

use std::sync::Arc;

use anyhow::{Context, Result};
use datagalax::{
    constants::BPS,
    instructions::{CreateClassArgs, InitializeNetworkArgs, RegisterContainerArgs},
    math::Rate,
    state::{ClassTerms, Parameters, VestingTerms},
};
use datagalax_client::{
    Address, Pipeline, Reader, addresses, instructions,
    pipeline::{self, MemoryStore},
    rpc::{HttpRpc, Rpc},
    token,
};
use futures_util::future::try_join_all;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;

use super::{ATH, keys::Keys};
use crate::hardware::Hardware;

/// What the rewards vault is funded with.
const FUND: u64 = 1_000_000 * ATH;
/// Emission of an epoch.
const EMISSION: u64 = 1_000 * ATH;
/// What the keeper gets for an advance, a draw and a block.
const KEEPER_FEE: u64 = ATH / 100;
/// Price of a checker's ticket.
const TICKET_PRICE: u64 = 1_000 * ATH;
/// Stake base of the demo's class.
const STAKE_BASE: u64 = 500 * ATH;
/// Weight of the demo's class. Public networks give the class `cpu` weight 0.
const UNIT_WEIGHT: u16 = 100;
/// Seconds from initialising to the start of epoch 0. What is registered in an epoch counts from the next, so that the rest of the
/// steps take place in epoch 0 itself.
const LEAD: i64 = 2;
/// The class's id.
pub const CLASS: u16 = 1;
/// What each of the run's users has.
pub const USER_FUNDS: u64 = 100 * ATH;
/// Wallets that one transaction gives $ATH to.
const WALLETS_A_TRANSACTION: usize = 5;

/// The class's reference: an eighth of what one idle thread does, because on this one machine the checkers, the chain and
/// the host share the processor with whatever else runs. A real class is calibrated on hosts that do nothing else.
pub const fn reference(throughput: u64) -> u64 {
    throughput / 8
}

/// Parameters for epochs of seconds: the windows keep the proportions that [`Parameters::validate`] demands.
fn parameters(epoch: u32) -> Parameters {
    Parameters {
        ticket_price: TICKET_PRICE,
        max_rate: Rate { hi: u64::MAX >> 8, lo: 0 },
        max_seat_pay: EMISSION,
        keeper_fee: KEEPER_FEE,
        indexer_stake: 0,
        breaker_limits: [FUND; 3],
        draw_delay: 2,
        commit_lead: epoch / 6,
        reveal_window: epoch / 3,
        case_window: 8 * epoch,
        unbonding: 12 * epoch,
        start_timeout: 60,
        time_lock: 60,
        beacon_modulus: 16,
        stake_coefficient_bps: BPS as u32,
        container_share_bps: 7_500,
        checker_share_bps: 2_000,
        treasury_share_bps: 500,
        lease_fee_bps: 2_000,
        indexer_share_bps: 1_000,
        availability_threshold: 80,
        capacity_threshold: 50,
        breach_threshold: 50,
        tolerance: 5,
        tokens_required: 1,
        reserved: [0; 37],
    }
}

/// The on-chain steps.
pub struct Chain<'a> {
    pub rpc: Arc<HttpRpc>,
    pub reader: &'a Reader,
    pub keys: &'a Keys,
}

impl Chain<'_> {
    async fn pay(&self, payer: &Arc<Keypair>, label: &str, all: &[Instruction]) -> Result<()> {
        self.sign(payer, label, all, &[]).await
    }

    async fn sign(&self, payer: &Arc<Keypair>, label: &str, all: &[Instruction], signers: &[&Keypair]) -> Result<()> {
        let store = Arc::new(MemoryStore::default());
        let pipeline = Pipeline::new(self.rpc.clone(), payer.clone(), store, pipeline::Settings::default());
        pipeline.send(label, all, signers).await?;
        Ok(())
    }

    pub async fn create_mint(&self) -> Result<Address> {
        let mint = Keypair::new();
        let (authority, address) = (self.keys.authority.pubkey(), mint.pubkey());
        let rent = self.rpc.rent(token::MINT_LEN).await?;
        let mut all = token::create_mint(&authority, &address, &authority, rent).to_vec();
        all.push(token::create_associated_account(&authority, &authority, &address));
        all.push(token::mint_to(&address, &token::associated_account(&authority, &address), &authority, 2 * FUND));
        self.sign(&self.keys.authority, "create $ATH", &all, &[&mint]).await?;
        Ok(address)
    }

    /// Gives everybody what they begin with.
    pub async fn hand_out(&self, mint: &Address) -> Result<()> {
        let (keys, authority) = (self.keys, self.keys.authority.pubkey());
        let stake = STAKE_BASE * keys.hosts.len() as u64;
        let mut wallets = vec![(keys.owner.pubkey(), stake + STAKE_BASE), (keys.payout.pubkey(), 0)];
        wallets.extend(keys.checkers.iter().map(|file| (file.key.pubkey(), TICKET_PRICE)));
        wallets.extend(keys.users.iter().map(|file| (file.key.pubkey(), USER_FUNDS)));
        let parts = wallets.chunks(WALLETS_A_TRANSACTION).map(|part| {
            let mut all = Vec::new();
            for (wallet, amount) in part {
                all.push(token::create_associated_account(&authority, wallet, mint));
                if *amount > 0 {
                    all.push(token::mint_to(mint, &token::associated_account(wallet, mint), &authority, *amount));
                }
            }
            async move { self.pay(&keys.authority, "hand out $ATH", &all).await }
        });
        try_join_all(parts).await.map(drop)
    }

    pub async fn initialize_network(&self, mint: &Address, epoch: u32) -> Result<()> {
        let authority = self.keys.authority.pubkey();
        let now = datagalax_client::clock::read_clock(self.rpc.as_ref()).await?.unix_timestamp;
        let args = InitializeNetworkArgs {
            genesis_hash: self.rpc.genesis_hash().await?.to_bytes(),
            guardian: authority,
            first_epoch_start: now.saturating_add(LEAD),
            epoch_length: epoch,
            parameters: parameters(epoch),
            emission: EMISSION,
            decay_bps: 0,
            decay_every: 0,
            vesting: VestingTerms {
                id: 1,
                immediate_bps: 3_000,
                short_bps: 3_000,
                short_days: 90,
                long_bps: 4_000,
                long_days: 180,
                from_day: 0,
            },
            allow_freeze_authority: 0,
        };
        let treasury = token::associated_account(&authority, mint);
        self.pay(
            &self.keys.authority,
            "initialise the network",
            &[instructions::initialize_network(&authority, mint, &treasury, &token::TOKEN_PROGRAM, args)],
        )
        .await
    }

    pub async fn create_class(&self, hardware: &Hardware, reference: u64) -> Result<()> {
        let mut name = [0; 32];
        for (to, from) in name.iter_mut().zip(hardware.class.bytes().filter(u8::is_ascii)) {
            *to = from;
        }
        let args = CreateClassArgs {
            id: CLASS,
            name,
            terms: ClassTerms {
                stake_base: STAKE_BASE,
                minimum_vram: 0,
                reference_throughput: reference,
                unit_weight: UNIT_WEIGHT,
                active: 1,
                reserved: [0; 5],
            },
        };
        self.pay(&self.keys.authority, "create a class", &[instructions::create_class(&self.keys.authority.pubkey(), args)])
            .await
    }

    pub async fn fund_rewards(&self) -> Result<()> {
        let authority = &self.keys.authority;
        let fund = instructions::fund_rewards(&authority.pubkey(), &*self.reader.network().await?, FUND);
        self.pay(authority, "fund the rewards vault", &[fund]).await
    }

    pub async fn create_block(&self) -> Result<()> {
        let authority = &self.keys.authority;
        self.pay(authority, "create block 0", &instructions::create_whole_block(&authority.pubkey(), 0)).await
    }

    pub async fn register_provider(&self) -> Result<()> {
        let owner = self.keys.owner.pubkey();
        let stake = STAKE_BASE * self.keys.hosts.len() as u64;
        let all = [
            instructions::register_provider(&owner, 0, &self.keys.operator.pubkey(), &self.keys.payout.pubkey()),
            instructions::stake(&owner, &*self.reader.network().await?, 0, stake),
        ];
        self.pay(&self.keys.owner, "register the provider and stake", &all).await
    }

    /// One after the other: each takes the next id.
    pub async fn register_checkers(&self) -> Result<()> {
        for (id, file) in (0u32..).zip(&self.keys.checkers) {
            let owner = file.key.pubkey();
            let all = [
                instructions::register_checker(&owner, id, &owner, &owner, 0),
                instructions::register_tickets(&owner, &*self.reader.network().await?, id, 1),
            ];
            self.pay(&file.key, "register a checker with a ticket", &all).await?;
        }
        Ok(())
    }

    /// Registers this machine as a container of this operator's.
    pub async fn register_container(&self, hardware: &Hardware, operator: &Address, endpoint: &str) -> Result<Address> {
        let network = self.reader.network().await?;
        let block = self.reader.block(0).await?;
        let mut region = [0; 16];
        region[..5].copy_from_slice(b"local");
        let args = RegisterContainerArgs {
            fingerprint: hardware.fingerprint,
            operator: *operator,
            spec_hash: [0; 32],
            gpus: u8::try_from(hardware.metrics.gpus.len().max(1)).context("too many GPUs for one container")?,
            latitude: 0,
            longitude: 0,
            region,
            price_per_hour: ATH,
            minimum_lease: 600,
            endpoint: endpoint.to_owned(),
        };
        let owner = self.keys.owner.pubkey();
        let all = [instructions::register_container(&owner, &network, 0, CLASS, &block, args)];
        self.pay(&self.keys.owner, "register the container", &all).await?;
        Ok(addresses::container(0, &hardware.fingerprint))
    }
}
