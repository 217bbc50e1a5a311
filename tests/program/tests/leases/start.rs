//! `start_lease`, `reject_lease`, `cancel_lease`: a lease between its opening and its start.

use datagalax::state::{Lease, Row};
use datagalax_program_tests::{
    User, World,
    actors::{PURSE, fingerprint},
    addresses::{self, Vault},
    instructions,
    refusals::Call,
    stage::perfect,
};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::scene::Scene;

/// The last second at which the host may start a lease.
const TIMEOUT: i64 = 60;

fn cancel(scene: &Scene, lease: &Pubkey) -> solana_instruction::Instruction {
    instructions::cancel_lease(&scene.stage.world, lease)
}

/// Opens a lease and lets the host miss it.
fn miss(scene: &mut Scene, nonce: u64) -> Pubkey {
    let lease = scene.open(nonce, 600);
    let late = scene.stage.world.now() + TIMEOUT + 1;
    scene.world().set_time(late);
    let cancel = cancel(scene, &lease);
    scene.world().run(cancel);
    scene.stage.world.check_books();
    lease
}

#[test]
fn a_lease_starts_by_the_last_second_and_not_a_second_later() {
    let mut scene = Scene::new();
    let operator = scene.operator.clone();
    let lease = scene.open(0, 600);
    let opened = scene.stage.world.now();
    let mut late = scene.clone();
    late.world().set_time(opened + TIMEOUT + 1);
    let start = instructions::start_lease(late.world(), &operator.pubkey(), &lease);
    late.world().refused(start, &[&operator], "StartTimedOut");

    scene.world().set_time(opened + TIMEOUT);
    scene.start(&lease);
    let account = scene.lease(&lease);
    assert_eq!((account.status, account.started, account.settled_until), (Lease::STARTED, opened + 60, opened + 60));
    assert_eq!((account.ended, account.paid, account.refunded), (0, 0, 0));
    assert_eq!((account.end(), scene.container().lease), (opened + 660, lease));
    // Twice; and what runs is neither rejected nor cancelled.
    let start = instructions::start_lease(scene.world(), &operator.pubkey(), &lease);
    scene.world().refused(start, &[&operator], "WrongLeaseState");
    let reject = instructions::reject_lease(scene.world(), &operator.pubkey(), &lease, 0);
    scene.world().refused(reject, &[&operator], "WrongLeaseState");
    scene.world().set_time(opened + 600);
    let cancel = cancel(&scene, &lease);
    scene.world().refused(cancel, &[], "WrongLeaseState");
    scene.stage.world.check_books();
}

#[test]
fn start_and_reject_are_the_containers_operators_alone() {
    let mut scene = Scene::of(Default::default(), 2);
    let lease = scene.open(0, 600);
    let (user, provider, operator) = (scene.user.clone(), scene.provider().clone(), scene.operator.clone());
    let another = scene.world().container_operator(&fingerprint(1));
    for key in [&user.key, &provider.owner, &provider.operator, &another] {
        let start = instructions::start_lease(scene.world(), &key.pubkey(), &lease);
        scene.world().refused(start, &[key], "Unauthorized");
        let reject = instructions::reject_lease(scene.world(), &key.pubkey(), &lease, 0);
        scene.world().refused(reject, &[key], "Unauthorized");
    }
    // By the operator of another container, in its name.
    let second = addresses::container(provider.id, &fingerprint(1));
    let mut start = instructions::start_lease(scene.world(), &another.pubkey(), &lease);
    start.accounts[2].pubkey = second;
    scene.world().refused(start, &[&another], "WrongAccount");
    let mut reject = instructions::reject_lease(scene.world(), &another.pubkey(), &lease, 0);
    reject.accounts[1].pubkey = second;
    scene.world().refused(reject, &[&another], "WrongAccount");
    let other_block = scene.world().grown_block_regardless();
    let mut start = instructions::start_lease(scene.world(), &operator.pubkey(), &lease);
    start.accounts[3].pubkey = addresses::block(other_block);
    scene.world().refused(start, &[&operator], "WrongAccount");

    let start = instructions::start_lease(scene.world(), &operator.pubkey(), &lease);
    let reject = instructions::reject_lease(scene.world(), &operator.pubkey(), &lease, 7);
    Call::new(scene.stage.world.clone(), start, &[&operator]).check();
    Call::new(scene.stage.world, reject, &[&operator]).check();
}

#[test]
fn a_rejected_lease_goes_back_in_full_without_a_miss() {
    let mut scene = Scene::new();
    let operator = scene.operator.clone();
    miss(&mut scene, 0);
    let lease = scene.open(1, 600);
    let escrowed = scene.lease(&lease).escrowed;
    // Even when the network is paused.
    scene.world().set_paused(true);
    let reject = instructions::reject_lease(scene.world(), &operator.pubkey(), &lease, 404);
    scene.world().must(std::slice::from_ref(&reject), &[&operator]);
    let (now, account, container) = (scene.stage.world.now(), scene.lease(&lease), scene.container());
    assert_eq!((account.status, account.reason, account.detail), (Lease::SETTLED, Lease::REASON_REJECTED, 404));
    assert_eq!((account.refunded, account.paid, account.fee, account.ended), (escrowed, 0, 0, now));
    assert_eq!((container.lease, container.misses, container.rejections), (Pubkey::default(), 1, 1));
    scene.world().refused(reject, &[&operator], "WrongLeaseState");
    let start = instructions::start_lease(scene.world(), &operator.pubkey(), &lease);
    scene.world().refused(start, &[&operator], "WrongLeaseState");
    let settle = instructions::settle_lease(scene.world(), &lease);
    scene.world().refused(settle, &[], "WrongLeaseState");
    assert_eq!(scene.withdraw_user(&lease, Vault::Escrow), escrowed);
    let withdraw = instructions::withdraw(&scene.stage.world, &lease, Vault::Escrow, &scene.user.from);
    scene.world().refused(withdraw, &[], "NothingToPay");
    scene.world().set_paused(false);
    scene.open(2, 600);
}

#[test]
fn what_was_not_started_in_time_anybody_cancels_and_everything_goes_back() {
    let mut scene = Scene::new();
    let lease = scene.open(0, 600);
    let (opened, escrowed) = (scene.stage.world.now(), scene.lease(&lease).escrowed);
    scene.world().set_paused(true);
    for early in [0, TIMEOUT] {
        scene.world().set_time(opened + early);
        let cancel = cancel(&scene, &lease);
        scene.world().refused(cancel, &[], "StartNotTimedOut");
    }
    scene.world().set_time(opened + TIMEOUT + 1);
    let instruction = cancel(&scene, &lease);
    Call::new(
        {
            let mut running = scene.stage.world.clone();
            running.set_paused(false);
            running
        },
        instruction.clone(),
        &[],
    )
    .check();
    scene.world().run(instruction.clone());
    let account = scene.lease(&lease);
    assert_eq!((account.status, account.reason), (Lease::SETTLED, Lease::REASON_TIMED_OUT));
    assert_eq!((account.refunded, account.paid, account.fee), (escrowed, 0, 0));
    assert_eq!((scene.container().lease, scene.container().misses), (Pubkey::default(), 1));
    scene.world().refused(instruction, &[], "WrongLeaseState");
    assert_eq!(scene.withdraw_user(&lease, Vault::Escrow), escrowed);
    assert_eq!(scene.stage.world.balance(&scene.user.from), PURSE / 8);
    let ledger = scene.stage.world.ledger(Vault::Escrow);
    assert_eq!((ledger.balance, ledger.liabilities), (0, 0));
}

#[test]
fn three_misses_in_a_row_put_the_container_back_to_checking() {
    let mut scene = Scene::new();
    let nominal = |world: &World| {
        let epoch = world.epoch(world.network().current_epoch);
        (epoch.nominal_removed, epoch.next_nominal())
    };
    for nonce in 0..2 {
        miss(&mut scene, nonce);
    }
    // A start ends the row of misses; so does nothing else.
    let lease = scene.open(2, 600);
    scene.start(&lease);
    assert_eq!(scene.container().misses, 0);
    let user = scene.user.key.clone();
    scene.close(&user, &lease);
    for nonce in 3..5 {
        miss(&mut scene, nonce);
    }
    assert_eq!((scene.row().status, scene.container().misses), (Row::LIVE, 2));
    assert_eq!(nominal(&scene.stage.world), (0, Ok(1_000_000)));
    miss(&mut scene, 5);
    // It earns up to the epoch in which it missed, whoever tallies that when.
    let current = scene.stage.world.network().current_epoch;
    assert_eq!((scene.row().status, scene.row().until, scene.container().misses), (Row::LIVE, current + 1, 0));
    assert!(!scene.row().is_live());
    assert_eq!(nominal(&scene.stage.world), (1_000_000, Ok(0)), "nominal loses its weight once");
    scene.stage.world.check_books();
    let open = scene.open_by(&scene.user, 6, 600);
    scene.world().refused(open, &[&user], "NotLive");

    // The first epoch that is tallied from here on sends it back to checking, unpaid; it leaves only after four good epochs in a
    // row after that.
    let accrued = scene.row().accrued;
    let now = scene.stage.world.now();
    let next = scene.stage.world.network().epoch_at(now).expect("begun") + 1;
    for epoch in next..next + 6 {
        let status = if epoch < next + 2 { Row::LIVE } else { Row::CHECKING };
        assert_eq!((scene.row().status, scene.row().accrued), (status, accrued), "epoch {epoch}");
        scene.world().advance(epoch);
        scene.world().churn(epoch);
        scene.world().draw(epoch);
        scene.world().seat(epoch, 0);
        if epoch > next {
            scene.stage.world.tally_all(epoch - 1);
        }
        let checkers = scene.stage.checkers.clone();
        scene.world().commit_all(&checkers, epoch, &perfect());
        scene.world().reveal_all(&checkers, epoch, &perfect());
    }
    assert_eq!(scene.row().status, Row::LIVE);
    scene.open(6, 600);
}

#[test]
fn cancel_counts_nominal_in_the_current_epoch_only() {
    let mut scene = Scene::new();
    let lease = scene.open(0, 600);
    scene.stage.pass(3, &perfect());
    scene.stage.pass(4, &perfect());
    let mut old = cancel(&scene, &lease);
    for account in &mut old.accounts {
        if account.pubkey == addresses::epoch(4) {
            account.pubkey = addresses::epoch(3);
        }
    }
    scene.world().refused(old, &[], "CurrentEpochRequired");
    let instruction = cancel(&scene, &lease);
    scene.world().run(instruction);
}

/// A refund goes to the user's own account and nowhere else, whoever asks.
#[test]
fn a_refund_goes_home() {
    let mut scene = Scene::new();
    let lease = miss(&mut scene, 0);
    let thief: User = scene.world().user();
    let withdraw = instructions::withdraw(scene.world(), &lease, Vault::Escrow, &thief.from);
    scene.world().refused(withdraw, &[&thief.key], "WrongAccount");
    scene.withdraw_user(&lease, Vault::Escrow);
    // Its account is closed by the user, and the nonce is free again.
    let user = scene.user.key.clone();
    let close = instructions::close_account(&user.pubkey(), &lease, &user.pubkey());
    scene.world().must(&[close], &[&user]);
    assert!(scene.stage.world.try_account(&lease).is_none());
    assert_eq!(scene.open(0, 600), lease);
    scene.stage.world.check_books();
}
