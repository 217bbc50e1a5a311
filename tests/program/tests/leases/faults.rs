//! Nobody's money is stuck, whoever dies or disappears.

use datagalax::state::{Lease, Row};
use datagalax_program_tests::{
    Report,
    actors::PURSE,
    addresses::{self, Vault},
    epochs::SeatAt,
    instructions,
    settings::ATH,
    stage::perfect,
};
use solana_signer::Signer;

use crate::scene::{Scene, paid_of, terms, units};

/// The host dies in the middle of a lease: nobody sees it any more. What it no longer delivers goes back by itself, with
/// nobody's signature, and the user gets away by its own.
#[test]
fn the_host_dies() {
    let mut scene = Scene::new();
    let user = scene.user.key.clone();
    let lease = scene.started(0, 3_600);
    let (started, escrowed) = (scene.lease(&lease).started, scene.lease(&lease).escrowed);
    let alive = |epoch: u32| if epoch < 6 { 98 } else { 0 };
    for epoch in 3..=12 {
        scene.pass_to(epoch, alive);
        scene.settle(&lease);
    }
    // It is checked again and takes nobody new.
    assert_eq!(scene.row().status, Row::CHECKING);
    let delivered = 30 * 100 + 3 * 60 * 98;
    let account = scene.lease(&lease);
    assert_eq!(account.delivered, delivered);
    assert_eq!(paid_of(&account), terms(2 * ATH).paid(delivered));
    // While it still runs, the user takes back what was not delivered.
    let (back, fee_back, _) = terms(2 * ATH).paid((12 * 60 - 150) * 100 - delivered);
    assert_eq!(account.refunded, back + fee_back);
    assert_eq!(scene.withdraw_user(&lease, Vault::Escrow), back + fee_back);

    // It closes on its own; the container's operator is not needed.
    let now = scene.stage.world.now();
    scene.close(&user, &lease);
    let ended = (now - started).max(600);
    scene.pass_to(15, alive);
    scene.settle_to_the_end(&lease);
    let account = scene.lease(&lease);
    assert_eq!(account.ended - started, ended);
    // Only the partial epoch in which it was closed is paid in full.
    let due = units(&scene.stage.world, started, account.ended, |e| Some(alive(e)));
    assert_eq!(due, delivered + ((started + ended - scene.stage.world.start_of(12)) * 100) as u64);
    assert_eq!(paid_of(&account), terms(2 * ATH).paid(due));
    scene.withdraw_user(&lease, Vault::Escrow);
    assert_eq!(scene.stage.world.balance(&scene.user.from), PURSE / 8 - account.paid - account.fee);
    assert_eq!(account.refunded, escrowed - account.paid - account.fee);
}

/// The user disappears: anybody ends the lease when it is used up, everybody gets what is his, and the refund waits at the
/// user's.
#[test]
fn the_user_disappears() {
    let mut scene = Scene::new();
    let stranger = scene.world().actor("stranger");
    let lease = scene.started(0, 601);
    scene.pass_to(14, |_| 90);
    scene.close(&stranger, &lease);
    scene.settle_to_the_end(&lease);
    let account = scene.lease(&lease);
    assert_eq!((account.reason, account.status), (Lease::REASON_EXHAUSTED, Lease::SETTLED));
    assert!(account.refunded > 0);
    // The account stays while the refund is there.
    let (user, to) = (scene.user.key.pubkey(), scene.user.from);
    let close = instructions::close_account(&stranger.pubkey(), &lease, &user);
    let (owner, by_user) = (scene.user.key.clone(), instructions::close_account(&user, &lease, &user));
    scene.world().refused(by_user, &[&owner], "NotDone");
    let withdraw = instructions::withdraw(scene.world(), &lease, Vault::Escrow, &to);
    scene.world().must(&[withdraw], &[&stranger]);
    assert_eq!(scene.stage.world.balance(&to), PURSE / 8 - account.paid - account.fee);
    // Nobody hurries: a breach may still be reported. Its rent is the user's in the end.
    let rest = account.ended + 30 * 86_400;
    scene.world().set_time(rest - 1);
    scene.world().refused(close.clone(), &[&stranger], "Unauthorized");
    scene.world().set_time(rest);
    let wrong = instructions::close_account(&stranger.pubkey(), &lease, &stranger.pubkey());
    scene.world().refused(wrong, &[&stranger], "WrongAccount");
    let rent = scene.stage.world.account(&lease).lamports;
    let before = scene.stage.world.account(&user).lamports;
    scene.world().must(&[close], &[&stranger]);
    assert_eq!(scene.stage.world.account(&user).lamports, before + rent, "the user's rent");
    scene.open(1, 600);
    scene.stage.world.check_books();
}

/// Everybody but the user and the host stops: no epoch is advanced, drawn or tallied. Leases end by the clock alone.
#[test]
fn the_network_stops() {
    let mut scene = Scene::new();
    let (user, operator) = (scene.user.key.clone(), scene.operator.clone());
    let lease = scene.started(0, 1_000);
    let started = scene.lease(&lease).started;
    scene.world().set_time(started + 1_000);
    scene.world().set_paused(true);
    scene.close(&operator, &lease);
    // The last whole epoch may still be tallied until the end of the next.
    scene.settle(&lease);
    assert_eq!(scene.lease(&lease).status, Lease::ENDED);
    let settled = scene.lease(&lease).settled_until;
    assert_eq!(settled, scene.stage.world.start_of(18));
    let late = scene.stage.world.start_of(20);
    scene.world().set_time(late);
    scene.settle(&lease);
    let account = scene.lease(&lease);
    assert_eq!((account.status, paid_of(&account)), (Lease::SETTLED, terms(2 * ATH).paid(100_000)));
    let to = scene.provider().to;
    let withdraw = instructions::withdraw(scene.world(), &addresses::provider(0), Vault::Escrow, &to);
    scene.world().must(&[withdraw], &[&user]);
    assert_eq!(scene.stage.world.balance(&to), account.paid);
}

/// The checkers stop in the middle: the lease goes on at what they last saw, and no better.
#[test]
fn the_checkers_stop() {
    let mut scene = Scene::new();
    let lease = scene.started(0, 900);
    let votes = |at: SeatAt| match at.epoch {
        2 => perfect()(at),
        3..=5 => Some(Report::flat(85, 100, 9).salted(at.epoch, at.block, at.seat)),
        _ => None,
    };
    for epoch in 3..=20 {
        scene.stage.pass(epoch, &votes);
    }
    scene.settle(&lease);
    let account = scene.lease(&lease);
    assert_eq!(account.settled_until, account.started + 900);
    // 30 s of epoch 2 and none of the last: it ends with epoch 17 at 30 s.
    assert_eq!(account.delivered, 3_000 + 14 * 60 * 85 + 3_000);
    scene.stage.world.check_books();
}

/// The container's operator key is lost: the owner names another, and a lease that was opened before is started by the new
/// one.
#[test]
fn a_key_is_rotated_between_opening_and_start() {
    let mut scene = Scene::new();
    let lease = scene.open(0, 600);
    let (old, next, provider) = (scene.operator.clone(), scene.world().actor("next"), scene.provider().clone());
    let fingerprint = datagalax_program_tests::actors::fingerprint(0);
    let rotate = instructions::rotate_container_operator(&provider, &fingerprint, &next.pubkey());
    scene.world().must(&[rotate], &[&provider.owner]);
    let start = instructions::start_lease(scene.world(), &old.pubkey(), &lease);
    scene.world().refused(start, &[&old], "Unauthorized");
    scene.operator = next;
    scene.start(&lease);
    let close = instructions::close_lease(scene.world(), &old.pubkey(), &lease, false, 0);
    scene.world().refused(close, &[&old], "LeaseRunning");
}
