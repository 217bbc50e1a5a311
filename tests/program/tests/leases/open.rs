//! `open_lease`.

use datagalax::{
    constants::{LONGEST_LEASE, MAX_AMOUNT, NONE},
    state::{Block, Container, Lease, Row, VERSION},
};
use datagalax_program_tests::{
    Report, World,
    actors::fingerprint,
    addresses::{self, Vault},
    epochs::all,
    instructions,
    refusals::Call,
    settings::ATH,
    stage::Stage,
};
use solana_signer::Signer;

use crate::scene::{Scene, terms};

#[test]
fn the_escrow_is_the_price_rounded_up_and_the_fee_on_it() {
    let scene = Scene::new();
    // Exact, a fraction, one base unit an hour, and for nothing.
    for (price, seconds, expected) in [
        (2 * ATH, 3_600, 2_400_000),
        (2 * ATH, 600, 333_334 + 66_666),
        (1, 600, 1),
        (1, 3_601, 2),
        (7, 86_401, 169 + 33),
        (0, 600, 0),
        (MAX_AMOUNT / 20, 3_600, MAX_AMOUNT / 20 + MAX_AMOUNT / 100),
    ] {
        let mut scene = scene.clone();
        scene.offer(price, 600, 1);
        let (before, opened) = (scene.stage.world.balance(&scene.user.from), scene.stage.world.now());
        let address = scene.open(5, seconds);
        let lease = scene.lease(&address);
        assert_eq!((lease.escrowed, lease.held()), (expected, Ok(expected)), "{price} an hour for {seconds} s");
        assert_eq!(lease.escrowed, terms(price).escrow(u64::from(seconds)));
        assert_eq!(before - scene.stage.world.balance(&scene.user.from), expected);
        let ledger = scene.stage.world.ledger(Vault::Escrow);
        assert_eq!((ledger.balance, ledger.liabilities), (expected, expected));
        assert_eq!((lease.version, lease.status, lease.nonce, lease.reason), (VERSION, Lease::OPEN, 5, 0));
        assert_eq!((lease.user, lease.container), (scene.user.key.pubkey(), scene.container));
        assert_eq!((lease.price_per_hour, lease.fee_bps, lease.indexer_share_bps), (price, 2_000, 0));
        assert_eq!((lease.provider, lease.block, lease.row, lease.indexer), (scene.provider().id, 0, 0, NONE));
        assert_eq!((lease.max_seconds, lease.minimum_seconds, lease.workload_hash), (seconds, 600, [3; 32]));
        assert_eq!((lease.opened, lease.start_by, lease.started, lease.ended), (opened, opened + 60, 0, 0));
        assert_eq!(scene.container().lease, address);
        scene.stage.world.check_books();
    }
}

#[test]
fn the_prices_of_a_lease_are_those_of_the_moment_it_was_opened() {
    let mut scene = Scene::new();
    let lease = scene.open(0, 600);
    scene.offer(9 * ATH, 9_000, 0);
    let network = addresses::network();
    scene.world().patch_as::<datagalax::state::Network>(&network, |n| n.parameters.lease_fee_bps = 9_999);
    scene.start(&lease);
    let lease = scene.lease(&lease);
    assert_eq!((lease.price_per_hour, lease.fee_bps, lease.minimum_seconds), (2 * ATH, 2_000, 600));
}

#[test]
fn the_users_own_limits_hold() {
    let mut scene = Scene::new();
    let user = scene.user.clone();
    // The price is raised between the look and the transaction.
    let args = datagalax::instructions::OpenLeaseArgs { max_price_per_hour: 2 * ATH, ..Scene::args(0, 600) };
    let open = instructions::open_lease(&scene.stage.world, &user, &scene.container, None, args);
    let mut dearer = scene.clone();
    dearer.offer(2 * ATH + 1, 600, 1);
    dearer.world().refused(open.clone(), &[&user.key], "TooDear");
    scene.world().must(&[open], &[&user.key]);
}

#[test]
fn a_lease_lasts_600_seconds_the_containers_minimum_and_at_most_366_days() {
    let mut scene = Scene::new();
    let user = scene.user.clone();
    for seconds in [0, 1, 599, LONGEST_LEASE + 1, u32::MAX] {
        let open = scene.open_by(&user, 0, seconds);
        scene.world().refused(open, &[&user.key], "BadDuration");
    }
    for seconds in [600, LONGEST_LEASE] {
        scene.clone().open(0, seconds);
    }
    scene.offer(ATH, 900, 1);
    let open = scene.open_by(&user, 0, 899);
    scene.world().refused(open, &[&user.key], "BadDuration");
    let lease = scene.open(0, 900);
    assert_eq!(scene.lease(&lease).minimum_seconds, 900);
}

#[test]
fn only_a_live_container_that_is_free_is_leased() {
    let scene = Scene::new();
    let user = scene.user.clone();
    let refused = |mut scene: Scene, name: &str| {
        let open = scene.open_by(&user, 9, 600);
        scene.world().refused(open, &[&user.key], name);
    };
    // Registered and being checked; tallied for the first time in epoch 2.
    let mut checking = scene.clone();
    checking.stage = Stage::new(3, 1).pass_to(1, &all(Report::perfect()));
    let young = checking.stage.world.user();
    let open = checking.open_by(&young, 9, 600);
    checking.world().refused(open, &[&young.key], "NotLive");

    let mut leaving = scene.clone();
    let provider = leaving.provider().clone();
    let deregister = instructions::deregister_container(leaving.world(), &provider, &fingerprint(0));
    leaving.world().must(&[deregister], &[&provider.owner]);
    refused(leaving, "NotLive");

    let mut closed = scene.clone();
    closed.offer(ATH, 600, 0);
    refused(closed, "NotAccepting");

    let mut halted = scene.clone();
    let container = halted.container;
    halted.world().patch_as::<Container>(&container, |c| (c.status, c.halt_reason) = (1, Container::HALT_BREACH));
    halted.world().patch_as::<Block>(&addresses::block(0), |b| b.rows[0].flags |= Row::HALTED);
    refused(halted, "ContainerHalted");

    // Open, and running.
    let mut leased = scene.clone();
    let lease = leased.open(0, 600);
    refused(leased.clone(), "ContainerLeased");
    leased.start(&lease);
    refused(leased, "ContainerLeased");

    let mut paused = scene.clone();
    paused.world().set_paused(true);
    refused(paused, "Paused");
}

#[test]
fn an_accused_container_is_leased_again_after_two_clean_tallies() {
    let mut scene = Scene::new();
    let user = scene.user.clone();
    let votes = |at: datagalax_program_tests::epochs::SeatAt| {
        let report = Report::perfect().salted(at.epoch, at.block, at.seat);
        Some(if at.epoch == 3 || at.epoch == 5 { report.dishonest(0) } else { report })
    };
    // Epoch e is tallied in e + 1: condemned 3, clean 4, condemned 5, clean 6, clean 7.
    for (epoch, free) in [(3, true), (4, false), (5, false), (6, false), (7, false), (8, true)] {
        scene.stage.pass(epoch, &votes);
        let mut attempt = scene.clone();
        let open = attempt.open_by(&user, 0, 600);
        if free {
            attempt.world().must(&[open], &[&user.key]);
        } else {
            attempt.world().refused(open, &[&user.key], "ContainerAccused");
        }
    }
    let row = scene.row();
    assert_eq!((row.is_accused(), row.condemned, row.clean), (true, 2, 2), "the case itself goes on");
}

#[test]
fn open_lease_refuses() {
    let mut scene = Scene::of(Default::default(), 2);
    let (user, other) = (scene.user.clone(), scene.world().user());

    // The account of another nonce or another user; a nonce that was used, though its lease is over.
    let mut wrong = scene.open_by(&user, 0, 600);
    wrong.accounts[4].pubkey = addresses::lease(&user.key.pubkey(), 1);
    scene.world().refused(wrong, &[&user.key], "InvalidSeeds");
    let mut wrong = scene.open_by(&user, 0, 600);
    wrong.accounts[4].pubkey = addresses::lease(&other.key.pubkey(), 0);
    scene.world().refused(wrong, &[&user.key], "InvalidSeeds");
    let mut used = scene.clone();
    let lease = used.open(0, 600);
    let operator = used.operator.clone();
    let reject = instructions::reject_lease(used.world(), &operator.pubkey(), &lease, 0);
    used.world().must(&[reject], &[&operator]);
    let open = used.open_by(&user, 0, 600);
    used.world().refused(open, &[&user.key], "AlreadyExists");

    // Another block's rows, another vault, another's money, more money than there is.
    let second = scene.world().grown_block_regardless();
    let mut wrong = scene.open_by(&user, 0, 600);
    wrong.accounts[3].pubkey = addresses::block(second);
    scene.world().refused(wrong, &[&user.key], "WrongAccount");
    for vault in [Vault::Stake, Vault::Rewards] {
        let mut wrong = scene.open_by(&user, 0, 600);
        for account in &mut wrong.accounts {
            if account.pubkey == addresses::vault(Vault::Escrow) {
                account.pubkey = addresses::vault(vault);
            } else if account.pubkey == addresses::ledger(Vault::Escrow) {
                account.pubkey = addresses::ledger(vault);
            }
        }
        scene.world().refused(wrong, &[&user.key], "WrongAccount");
    }
    let mut wrong = scene.open_by(&user, 0, 600);
    wrong.accounts[7].pubkey = other.from;
    scene.world().refused(wrong, &[&user.key], "OwnerMismatch");
    for (price, name) in [(MAX_AMOUNT / 2, "InsufficientFunds"), (MAX_AMOUNT, "BadAmount")] {
        let mut dear = scene.clone();
        dear.offer(price, 600, 1);
        let open = dear.open_by(&user, 0, 3_600);
        dear.world().refused(open, &[&user.key], name);
        let open = dear.open_by(&user, 0, LONGEST_LEASE);
        dear.world().refused(open, &[&user.key], "Overflow");
    }

    let valid = scene.open_by(&user, 0, 600);
    Call::new(scene.stage.world, valid, &[&user.key]).check();
}

/// The bar of section 14: at most 20,000 CU with the token transfer.
#[test]
fn opening_a_lease_is_cheap() {
    let mut scene = Scene::new();
    let user = scene.user.clone();
    let open = scene.open_by(&user, 0, 600);
    let world: &mut World = scene.world();
    let outcome = world.must(&[open], &[&user.key]);
    assert!(outcome.compute_units <= 20_000, "{} CU", outcome.compute_units);
}
