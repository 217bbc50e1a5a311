//! A populated network at the moments of its life at which instructions are allowed.

use datagalax::{
    instructions::OpenLeaseArgs,
    state::{Lease, Parameters, Proposal, VestingTerms},
};
use datagalax_program_tests::{
    Checker, Indexer, Provider, Report, Settings, User, World,
    actors::{class_args, fingerprint},
    addresses::{self, Vault},
    epochs::SeatAt,
    instructions::{self, Initialize},
    settings::{ATH, parameters},
    stage::Stage,
    world::Key,
};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

/// A moment: the chain as it was, and who there is.
#[derive(Clone)]
pub struct Moment {
    pub name: &'static str,
    pub world: World,
    pub cast: Cast,
}

/// Who there is.
#[derive(Clone)]
pub struct Cast {
    pub provider: Provider,
    pub idle: Provider,
    pub checkers: Vec<Checker>,
    pub user: User,
    pub indexer: Indexer,
    pub keeper: Pubkey,
}

/// The container whose committees condemn it and whose case is opened.
pub const ACCUSED: u32 = 5;
/// The one that is condemned and that nobody opens a case against.
pub const FORGOTTEN: u32 = 6;
/// The one that leaves.
pub const LEAVER: u32 = 4;
/// The one whose lease is breached.
pub const BREACHED: u32 = 3;

/// What every seat reports.
pub fn votes(at: SeatAt) -> Option<Report> {
    let mut report = Report::perfect();
    if (4..=6).contains(&at.epoch) {
        report = report.dishonest(ACCUSED as usize);
        report = report.row(BREACHED as usize, 10, 100, 9);
    }
    if at.epoch == 4 {
        report = report.dishonest(FORGOTTEN as usize);
    }
    Some(report.salted(at.epoch, at.block, at.seat))
}

pub fn lease_args(nonce: u64, seconds: u32, match_expires: i64) -> OpenLeaseArgs {
    OpenLeaseArgs { nonce, seconds, max_price_per_hour: 100 * ATH, workload_hash: [3; 32], match_expires }
}

pub fn proposal(world: &World) -> Proposal {
    let network = world.network();
    Proposal {
        parameters: Parameters { ticket_price: 120 * ATH, ..network.parameters },
        emission: network.emission,
        vesting: VestingTerms {
            immediate_bps: 5_000,
            short_bps: 2_500,
            short_days: 30,
            long_bps: 2_500,
            long_days: 60,
            ..Default::default()
        },
        treasury: network.treasury,
        guardian: network.guardian,
        epoch_length: 60,
        reserved: 0,
    }
}

impl Moment {
    /// Opens a lease of a container.
    fn open(&mut self, container: u32, nonce: u64, seconds: u32, matched: bool) -> Pubkey {
        let (world, cast) = (&mut self.world, &self.cast);
        let container = addresses::container(cast.provider.id, &fingerprint(container));
        let (user, expires) = (cast.user.key.pubkey(), world.now() + 600);
        let id = matched.then_some(cast.indexer.id);
        let open = instructions::open_lease(world, &cast.user, &container, id, lease_args(nonce, seconds, expires));
        let mut all = vec![open];
        if matched {
            let operator = &cast.indexer.operator;
            all.insert(0, instructions::sign_match(operator, cast.indexer.id, &user, &container, nonce, expires));
        }
        world.must(&all, &[&cast.user.key]);
        addresses::lease(&user, nonce)
    }

    fn start(&mut self, lease: &Pubkey, container: u32) {
        let operator = self.world.container_operator(&fingerprint(container));
        let start = instructions::start_lease(&self.world, &operator.pubkey(), lease);
        self.world.must(&[start], &[&operator]);
    }

    fn authority(&self) -> Key {
        self.world.authority.clone()
    }
}

/// A network before it is one, a young one, and moments of one that lives.
pub fn moments() -> Vec<Moment> {
    let settings = Settings { parameters: Parameters { keeper_fee: ATH / 10, ..parameters() }, ..Default::default() };
    let Stage { mut world, checkers, provider, .. } = Stage::of(settings, 16, 8);
    let keeper = world.actor("keeper").pubkey();
    let wallet = instructions::register_keeper(&world.payer.pubkey(), &keeper);
    world.run(wallet);
    world.put_token_account(&world.mint.clone(), &keeper, 0, "");
    world.keeper = Some(keeper);
    let idle = world.provider_with(10 * ATH);
    let (user, indexer) = (world.user(), world.indexer());
    let cast = Cast { provider, idle, checkers, user, indexer, keeper };
    let mut now = Moment { name: "", world, cast };
    let mut all = vec![];
    let mut young = World::bare(settings);
    Initialize::of(&mut young);
    all.push(Moment { name: "before the network", world: young.clone(), cast: now.cast.clone() });
    young = World::with(settings);
    all.push(Moment { name: "no block", world: young.clone(), cast: now.cast.clone() });
    let (payer, authority) = (young.payer.pubkey(), young.authority.clone());
    young.must(&[instructions::create_block(&payer, 0), instructions::pause(&authority.pubkey())], &[&authority]);
    all.push(Moment { name: "a growing block, paused", world: young, cast: now.cast.clone() });
    let keep = |all: &mut Vec<Moment>, now: &Moment, name| all.push(Moment { name, ..now.clone() });

    let checkers = now.cast.checkers.clone();
    for epoch in 1..=3 {
        now.world.pass(&checkers, epoch, &votes);
    }
    // Epoch 3, in which rows are live.
    for (container, nonce, seconds, matched) in
        [(0, 1, 3_600, false), (1, 2, 1_200, true), (2, 3, 600, true), (BREACHED, 4, 7_200, true)]
    {
        now.open(container, nonce, seconds, matched);
    }
    let lease = |nonce| addresses::lease(&user_of(&now), nonce);
    let leases = [1, 2, 3, 4].map(lease);
    for (nonce, container) in [(1, 0), (2, 1), (4, BREACHED)] {
        now.start(&leases[nonce - 1], container);
    }
    let authority = now.authority();
    let propose = instructions::propose(&now.world, proposal(&now.world));
    let terms = class_args(0, 90).terms;
    let class = instructions::update_class(&now.world, 0, terms);
    let heir = instructions::propose_authority(&now.world, &now.cast.user.key.pubkey());
    now.world.must(&[propose, class, heir], &[&authority]);
    let owned = &now.cast.idle;
    let heir = instructions::propose_owner(&owned.owner.pubkey(), &addresses::provider(owned.id), &now.cast.keeper);
    let unstake = instructions::request_unstake(owned, 3 * ATH);
    now.world.must(&[heir, unstake], &[&owned.owner.clone()]);
    let leave = instructions::deregister_container(&now.world, &now.cast.provider, &fingerprint(LEAVER));
    now.world.must(&[leave], &[&now.cast.provider.owner.clone()]);
    let first = &checkers[0];
    let more = instructions::register_tickets(&now.world, first, 1);
    let fewer = instructions::leave_tickets(first, &[0]);
    now.world.must(&[more, fewer], &[&first.owner]);
    keep(&mut all, &now, "3, commits");

    now.world.enter(4, 1);
    keep(&mut all, &now, "4, reveals of 3");
    now.world.reveal_all(&checkers, 3, &votes);
    now.world.advance(4);
    keep(&mut all, &now, "4, advanced");
    now.world.churn(4);
    now.world.enter(4, 6);
    keep(&mut all, &now, "4, to be drawn");
    now.world.draw(4);
    keep(&mut all, &now, "4, drawn");
    now.world.seat(4, 0);
    now.world.enter(4, 16);
    keep(&mut all, &now, "4, tally of 3");
    now.world.tally_all(3);
    now.world.commit_all(&checkers, 4, &votes);
    now.world.check_books();
    for epoch in 5..=7 {
        now.world.pass(&checkers, epoch, &votes);
    }
    // Epoch 7: 4 to 6 are judged, the case may be opened, leases are to be cancelled, settled and breached.
    let again = now.open(7, 5, 600, false);
    keep(&mut all, &now, "7, accused");
    now.start(&again, 7);
    let accused = addresses::container(now.cast.provider.id, &fingerprint(ACCUSED));
    let case = instructions::open_case(&now.world, &now.world.payer.pubkey(), &accused, 4);
    now.world.run(case);
    let user = now.cast.user.key.clone();
    let close = instructions::close_lease(&now.world, &user.pubkey(), &leases[1], false, 7);
    let cancel = instructions::cancel_lease(&now.world, &leases[2]);
    now.world.must(&[close, cancel], &[&user]);
    let breach = instructions::report_breach(&now.world, &now.world.payer.pubkey(), &leases[3], 4);
    now.world.run(breach);
    let claim = instructions::claim_rewards(&now.cast.provider, 0, &datagalax_program_tests::accounts::rows([0, 1]));
    now.world.must(&[claim], &[&now.cast.provider.operator.clone()]);
    let leave = instructions::leave_indexer(&now.cast.indexer);
    now.world.must(&[leave], &[&now.cast.indexer.owner.clone()]);
    now.world.check_books();
    keep(&mut all, &now, "7, judged");
    for epoch in 8..=21 {
        now.world.pass(&checkers, epoch, &votes);
    }
    // Epoch 21: windows and waits are over.
    let next = now.world.grown_block_regardless();
    assert_eq!(next, 1);
    let free = instructions::settle_lease(&now.world, &leases[1]);
    now.world.run(free);
    let refund = instructions::withdraw(&now.world, &leases[2], Vault::Escrow, &now.cast.user.from);
    let pay = instructions::claim_seat_pay(&now.world, &checkers[0], &[0]);
    now.world.must(&[refund, pay], &[]);
    now.world.check_books();
    keep(&mut all, &now, "21, everything is due");
    all
}

fn user_of(now: &Moment) -> Pubkey {
    now.cast.user.key.pubkey()
}

/// Every lease there is.
pub fn leases(world: &World) -> Vec<(Pubkey, Lease)> {
    world.all::<Lease>()
}
