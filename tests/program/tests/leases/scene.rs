//! A live container, a user, and what a lease must come to, computed here once more from the protocol's words.

use datagalax::{
    instructions::{OpenLeaseArgs, UpdateContainerArgs},
    state::{Container, Lease, Row},
};
use datagalax_program_tests::{
    Indexer, Outcome, Report, Settings, User, World,
    actors::{Provider, fingerprint},
    addresses::{self, Vault},
    epochs::SeatAt,
    instructions,
    stage::{Stage, perfect},
    world::Key,
};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

/// One live container of one GPU in epoch 2, 30 s into it, and a user.
#[derive(Clone)]
pub struct Scene {
    pub stage: Stage,
    pub user: User,
    /// The container's.
    pub operator: Key,
    pub container: Pubkey,
}

/// The epoch a [`Scene`] begins in: everybody has committed to a perfect report on it.
const BEGINS: u32 = 2;

/// Everybody votes this availability for every row, in the epochs after the one a [`Scene`] begins in.
pub fn available(percent: impl Fn(u32) -> u8) -> impl Fn(SeatAt) -> Option<Report> {
    move |at| {
        let percent = if at.epoch == BEGINS { 100 } else { percent(at.epoch) };
        Some(Report::flat(percent, 100, 9).salted(at.epoch, at.block, at.seat))
    }
}

impl Scene {
    pub fn new() -> Self {
        Self::of(Settings::default(), 1)
    }

    /// The same with other settings, and so many containers of one provider; the first is for rent.
    pub fn of(settings: Settings, rows: u32) -> Self {
        let mut stage = Stage::of(settings, 3, rows).pass_to(BEGINS, &perfect());
        assert_eq!(stage.world.block(0).rows[0].status, Row::LIVE);
        let user = stage.world.user();
        let operator = stage.world.container_operator(&fingerprint(0));
        let container = addresses::container(stage.provider.id, &fingerprint(0));
        Self { stage, user, operator, container }
    }

    pub fn world(&mut self) -> &mut World {
        &mut self.stage.world
    }

    pub fn provider(&self) -> &Provider {
        &self.stage.provider
    }

    pub fn container(&self) -> Container {
        self.stage.world.read(&self.container)
    }

    pub fn row(&self) -> Row {
        self.stage.world.block(0).rows[0]
    }

    pub fn lease(&self, lease: &Pubkey) -> Lease {
        self.stage.world.read(lease)
    }

    /// Asks for so many seconds at any price.
    pub fn args(nonce: u64, seconds: u32) -> OpenLeaseArgs {
        OpenLeaseArgs { nonce, seconds, max_price_per_hour: u64::MAX, workload_hash: [3; 32], match_expires: 0 }
    }

    pub fn open_by(&self, user: &User, nonce: u64, seconds: u32) -> solana_instruction::Instruction {
        instructions::open_lease(&self.stage.world, user, &self.container, None, Self::args(nonce, seconds))
    }

    /// Changes price, least length and whether it accepts.
    #[track_caller]
    pub fn offer(&mut self, price_per_hour: u64, minimum_lease: u32, accepting: u8) {
        let endpoint = "http://127.0.0.1:9000".into();
        let args = UpdateContainerArgs { spec_hash: [7; 32], price_per_hour, minimum_lease, accepting, endpoint };
        let provider = self.provider().clone();
        let update = instructions::update_container(&provider, &fingerprint(0), args);
        self.world().must(&[update], &[&provider.operator]);
    }

    #[track_caller]
    pub fn open(&mut self, nonce: u64, seconds: u32) -> Pubkey {
        let user = self.user.clone();
        let open = self.open_by(&user, nonce, seconds);
        self.world().must(&[open], &[&user.key]);
        addresses::lease(&user.key.pubkey(), nonce)
    }

    #[track_caller]
    pub fn start(&mut self, lease: &Pubkey) {
        let operator = self.operator.clone();
        let start = instructions::start_lease(self.world(), &operator.pubkey(), lease);
        self.world().must(&[start], &[&operator]);
    }

    /// Opened and started now.
    #[track_caller]
    pub fn started(&mut self, nonce: u64, seconds: u32) -> Pubkey {
        let lease = self.open(nonce, seconds);
        self.start(&lease);
        lease
    }

    #[track_caller]
    pub fn settle(&mut self, lease: &Pubkey) -> Outcome {
        let settle = instructions::settle_lease(self.world(), lease);
        let outcome = self.world().run(settle);
        self.world().check_books();
        outcome
    }

    /// Closed by whom, with a detail of 0.
    #[track_caller]
    pub fn close(&mut self, signer: &Key, lease: &Pubkey) {
        let close = instructions::close_lease(self.world(), &signer.pubkey(), lease, false, 0);
        self.world().must(&[close], &[signer]);
        self.world().check_books();
    }

    /// Ends it and settles it to its end.
    #[track_caller]
    pub fn settle_to_the_end(&mut self, lease: &Pubkey) {
        while self.lease(lease).status != Lease::SETTLED {
            self.settle(lease);
        }
    }

    /// Passes the epochs up to and with this one, at the availability of each.
    #[track_caller]
    pub fn pass_to(&mut self, epoch: u32, percent: impl Fn(u32) -> u8) {
        let next = self.stage.world.network().current_epoch + 1;
        let votes = available(percent);
        for number in next..=epoch {
            self.stage.pass(number, &votes);
        }
    }

    /// Opened with an indexer's signature on the match.
    #[track_caller]
    pub fn open_matched(&mut self, indexer: &Indexer, nonce: u64, seconds: u32) -> Pubkey {
        let (user, container, expires) = (self.user.clone(), self.container, self.stage.world.now() + 60);
        let key = user.key.pubkey();
        let sign = instructions::sign_match(&indexer.operator, indexer.id, &key, &container, nonce, expires);
        let args = OpenLeaseArgs { match_expires: expires, ..Self::args(nonce, seconds) };
        let open = instructions::open_lease(self.world(), &user, &container, Some(indexer.id), args);
        self.world().must(&[sign, open], &[&user.key]);
        addresses::lease(&key, nonce)
    }

    /// Moves what a lease owes its user into the user's account, and says how much that was.
    #[track_caller]
    pub fn withdraw_user(&mut self, lease: &Pubkey, vault: Vault) -> u64 {
        let to = self.user.from;
        let before = self.stage.world.balance(&to);
        let withdraw = instructions::withdraw(self.world(), lease, vault, &to);
        self.world().run(withdraw);
        self.world().check_books();
        self.stage.world.balance(&to) - before
    }
}

/// A lease's prices.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub price: u64,
    pub fee_bps: u64,
    pub share_bps: u64,
}

/// The settings' fee, without an indexer.
pub fn terms(price: u64) -> Terms {
    Terms { price, fee_bps: 2_000, share_bps: 0 }
}

/// Paid, fee, the indexer's part of it.
pub type Paid = (u64, u64, u64);

impl Terms {
    /// Price of the time rounded up, and the fee on it.
    pub fn escrow(&self, seconds: u64) -> u64 {
        let price = (self.price as u128 * seconds as u128).div_ceil(3_600) as u64;
        price + part(price, self.fee_bps)
    }

    /// What seconds times percent come to.
    pub fn paid(&self, units: u64) -> Paid {
        let paid = (self.price as u128 * units as u128 / 360_000) as u64;
        let fee = part(paid, self.fee_bps);
        (paid, fee, part(fee, self.share_bps))
    }

    /// What the protocol keeps of the fee of so many seconds.
    pub fn kept(&self, seconds: u64) -> u64 {
        part(self.paid(seconds * 100).1, 10_000 - self.share_bps)
    }
}

pub fn part(amount: u64, bps: u64) -> u64 {
    (amount as u128 * bps as u128 / 10_000) as u64
}

/// Seconds times percent of a lease from `from` to `to`: whole epochs at their availability, those without one at that of
/// the one before (100 before the first), the partial ones in full.
pub fn units(world: &World, from: i64, to: i64, percent: impl Fn(u32) -> Option<u8>) -> u64 {
    let length = i64::from(world.settings.epoch_length);
    let (first, last) = ((from - world.start) / length, (to - 1 - world.start) / length);
    let (mut sum, mut known) = (0, 100);
    for epoch in first..=last {
        let (start, end) = (world.start + epoch * length, world.start + (epoch + 1) * length);
        let seconds = (to.min(end) - from.max(start)).max(0) as u64;
        if from <= start && end <= to {
            known = percent(epoch as u32).unwrap_or(known);
            sum += seconds * u64::from(known);
        } else {
            sum += seconds * 100;
        }
    }
    sum
}

pub fn paid_of(lease: &Lease) -> Paid {
    (lease.paid, lease.fee, lease.indexer_fee)
}
