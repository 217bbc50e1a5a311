//! `close_lease`: by the user, the provider, or anybody once the escrow is used up.

use datagalax::{
    constants::DAY,
    state::{Block, Container, Lease, Row},
};
use datagalax_program_tests::{
    actors::{PURSE, fingerprint},
    addresses::{self, Vault},
    instructions,
    refusals::Call,
    settings::ATH,
    world::Key,
};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::scene::{Scene, terms};

fn close(scene: &Scene, key: &Key, lease: &Pubkey, not_served: bool) -> Instruction {
    instructions::close_lease(&scene.stage.world, &key.pubkey(), lease, not_served, 0)
}

/// Goes so many seconds beyond the start of a lease.
fn at(scene: &mut Scene, lease: &Pubkey, seconds: i64) {
    let time = scene.lease(lease).started + seconds;
    scene.world().set_time(time);
}

/// What is owed for so many seconds of a lease whose epochs nobody tallied.
fn check_owed(scene: &mut Scene, lease: &Pubkey, seconds: u64) {
    at(scene, lease, 100_000);
    scene.settle_to_the_end(lease);
    let (account, price) = (scene.lease(lease), scene.lease(lease).price_per_hour);
    let (paid, fee, _) = terms(price).paid(seconds * 100);
    assert_eq!((account.ended - account.started, account.paid, account.fee), (seconds as i64, paid, fee));
    assert_eq!(account.refunded, account.escrowed - paid - fee);
}

#[test]
fn a_user_owes_what_passed_and_at_least_the_minimum() {
    let scene = Scene::new();
    let user = scene.user.key.clone();
    for (minimum, seconds, after, owed) in
        [(600, 3_000, 0, 600), (600, 3_000, 599, 600), (600, 3_000, 601, 601), (900, 3_000, 1, 900), (900, 900, 5, 900)]
    {
        let mut scene = scene.clone();
        scene.offer(2 * ATH, minimum, 1);
        let lease = scene.started(0, seconds);
        at(&mut scene, &lease, after);
        let instruction = instructions::close_lease(scene.world(), &user.pubkey(), &lease, false, 77);
        // Even when the network is paused.
        scene.world().set_paused(true);
        scene.world().must(&[instruction], &[&user]);
        let (account, container) = (scene.lease(&lease), scene.container());
        assert_eq!((account.status, account.reason, account.detail), (Lease::ENDED, Lease::REASON_USER, 77));
        assert_eq!((container.lease, container.unsettled, container.leases_served), (Pubkey::default(), 1, 1));
        assert_eq!((account.compensation, container.status), (0, 0));
        scene.world().set_paused(false);
        // The container is free at once; what is owed may still be to come.
        scene.clone().started(1, 900);
        check_owed(&mut scene, &lease, owed);
        assert_eq!(scene.container().unsettled, 0);
    }
}

#[test]
fn not_served_owes_the_seconds_that_passed_within_300_and_once_a_day() {
    let mut scene = Scene::new();
    let user = scene.user.key.clone();
    let lease = scene.started(0, 900);
    // One second too late it is refused, and an ordinary close owes the minimum.
    let mut late = scene.clone();
    at(&mut late, &lease, 300);
    let instruction = close(&late, &user, &lease, true);
    late.world().refused(instruction, &[&user], "NotServedTooLate");
    let instruction = close(&late, &user, &lease, false);
    late.world().must(&[instruction], &[&user]);

    at(&mut scene, &lease, 299);
    let instruction = close(&scene, &user, &lease, true);
    scene.world().must(&[instruction], &[&user]);
    assert_eq!(scene.lease(&lease).reason, Lease::REASON_NOT_SERVED);
    scene.stage.world.check_books();

    // The same user of the same container a second time that day; another user; the same one the day after.
    let again = scene.started(1, 600);
    let instruction = close(&scene, &user, &again, true);
    scene.world().refused(instruction.clone(), &[&user], "NotServedTooLate");
    let instruction = close(&scene, &user, &again, false);
    scene.world().must(&[instruction], &[&user]);
    let other = scene.world().user();
    let open = scene.open_by(&other, 0, 600);
    scene.world().must(&[open], &[&other.key]);
    let third = addresses::lease(&other.key.pubkey(), 0);
    scene.start(&third);
    let instruction = close(&scene, &other.key, &third, true);
    scene.world().must(&[instruction], &[&other.key]);
    let day = scene.stage.world.now() / DAY + 1;
    scene.world().set_time(day * DAY);
    let tomorrow = scene.started(2, 600);
    let instruction = close(&scene, &user, &tomorrow, true);
    scene.world().must(&[instruction], &[&user]);
    scene.stage.world.check_books();

    check_owed(&mut scene, &lease, 299);
    check_owed(&mut scene, &tomorrow, 0);
    check_owed(&mut scene, &again, 600);
}

/// Four users are remembered for a day; that a fifth said so as well is not held against the fifth.
#[test]
fn a_container_remembers_who_was_not_served() {
    let mut scene = Scene::new();
    let users: Vec<_> = (0..5).map(|_| scene.world().user()).collect();
    let mut refused = vec![];
    for (n, user) in users.iter().chain([&users[0], &users[3], &users[4]]).enumerate() {
        let open = scene.open_by(user, n as u64, 600);
        scene.world().must(&[open], &[&user.key]);
        let lease = addresses::lease(&user.key.pubkey(), n as u64);
        scene.start(&lease);
        let instruction = close(&scene, &user.key, &lease, true);
        match scene.world().send(&[instruction], &[&user.key]) {
            Ok(_) => {}
            Err(failure) => {
                assert_eq!(failure.name, "NotServedTooLate");
                refused.push(n);
                let instruction = close(&scene, &user.key, &lease, false);
                scene.world().must(&[instruction], &[&user.key]);
            }
        }
    }
    assert_eq!(refused, [5, 6]);
}

#[test]
fn only_a_user_says_not_served() {
    let mut scene = Scene::new();
    let operator = scene.operator.clone();
    let lease = scene.started(0, 600);
    at(&mut scene, &lease, 10);
    let instruction = close(&scene, &operator, &lease, true);
    scene.world().must(&[instruction], &[&operator]);
    // It is the provider's own early end, and costs what that costs.
    assert_eq!(scene.lease(&lease).reason, Lease::REASON_PROVIDER);
    assert!(scene.lease(&lease).compensation > 0);
}

#[test]
fn a_provider_that_closes_early_credits_one_epochs_price_and_is_halted() {
    let mut scene = Scene::new();
    scene.offer(7_200_001, 600, 1);
    let (operator, provider) = (scene.operator.clone(), scene.provider().clone());
    let lease = scene.started(0, 900);
    let (staked, locked) = (scene.stage.world.provider(0).staked, scene.container().locked_stake);
    at(&mut scene, &lease, 899);
    let instruction = close(&scene, &operator, &lease, false);
    scene.world().must(&[instruction], &[&operator]);
    scene.stage.world.check_books();
    // 60 s of 7.200001 an hour, rounded down.
    let credit = 120_000;
    let (account, container) = (scene.lease(&lease), scene.container());
    assert_eq!((account.reason, account.compensation), (Lease::REASON_PROVIDER, credit));
    assert_eq!((container.locked_stake, container.original_locked_stake), (locked - credit, locked));
    assert_eq!(
        (scene.stage.world.provider(0).staked, scene.stage.world.provider(0).locked),
        (staked - credit, locked - credit)
    );
    assert_eq!((container.status, container.halt_reason), (1, Container::HALT_CLOSED_EARLY));
    assert!(scene.row().flags & Row::HALTED != 0, "the row earns nothing");
    let user = scene.user.clone();
    let open = scene.open_by(&user, 1, 600);
    scene.world().refused(open, &[&user.key], "ContainerHalted");

    // The user is paid out of the stake vault, exactly and once.
    assert_eq!(scene.withdraw_user(&lease, Vault::Stake), credit);
    let withdraw = instructions::withdraw(scene.world(), &lease, Vault::Stake, &user.from);
    scene.world().refused(withdraw, &[], "NothingToPay");
    check_owed(&mut scene, &lease, 899);
    let (account, refund) = (scene.lease(&lease), scene.withdraw_user(&lease, Vault::Escrow));
    assert_eq!(scene.stage.world.balance(&user.from), PURSE / 8 - account.paid - account.fee + credit);
    assert_eq!(refund, account.refunded);

    // Restored, it takes leases again.
    let restore = instructions::restore_stake(scene.world(), &provider, &fingerprint(0));
    scene.world().must(&[restore], &[&provider.owner]);
    assert_eq!(scene.row().flags & Row::HALTED, 0);
    scene.open(1, 600);
    scene.stage.world.check_books();
}

#[test]
fn no_more_is_credited_than_is_locked() {
    let mut scene = Scene::new();
    // 10 ATH are locked, an epoch costs 20.
    scene.offer(1_200 * ATH, 600, 1);
    let operator = scene.operator.clone();
    let lease = scene.started(0, 600);
    scene.close(&operator, &lease);
    assert_eq!((scene.lease(&lease).compensation, scene.container().locked_stake), (10 * ATH, 0));
}

#[test]
fn a_provider_that_closes_at_the_end_owes_nothing() {
    let mut scene = Scene::new();
    let operator = scene.operator.clone();
    let lease = scene.started(0, 600);
    at(&mut scene, &lease, 600);
    scene.close(&operator, &lease);
    let account = scene.lease(&lease);
    assert_eq!((account.reason, account.compensation, account.ended), (Lease::REASON_EXHAUSTED, 0, account.started + 600));
    assert_eq!(scene.container().status, 0);
}

#[test]
fn announced_maintenance_excuses_leases_opened_after_the_announcement() {
    let mut scene = Scene::new();
    let (operator, provider) = (scene.operator.clone(), scene.provider().clone());
    let long = 30 * 3_600;
    let mut earlier = scene.clone();
    let before = earlier.started(0, long);
    let announce = |scene: &mut Scene| {
        let start = scene.stage.world.now() + DAY + 100;
        let announce = instructions::announce_maintenance(&provider, &fingerprint(0), start, start + 7_200);
        scene.world().must(&[announce], &[&provider.operator]);
        start
    };
    // Opened in the very second of the announcement does not count as after.
    let start = announce(&mut earlier);
    announce(&mut scene);
    let mut same = scene.clone();
    let same_second = same.started(0, long);
    let now = scene.stage.world.now();
    scene.world().set_time(now + 1);
    let after = scene.started(0, long);
    for (scene, lease, excused) in [(earlier, before, false), (same, same_second, false), (scene, after, true)] {
        for (time, within) in [(start - 1, false), (start, true), (start + 7_199, true), (start + 7_200, false)] {
            let mut scene = scene.clone();
            scene.world().set_time(time);
            scene.close(&operator, &lease);
            let free = excused && within;
            assert_eq!(scene.lease(&lease).compensation == 0, free, "{time}");
            assert_eq!(scene.container().status == 0, free);
            assert_eq!(scene.lease(&lease).reason, Lease::REASON_PROVIDER);
        }
    }
}

#[test]
fn anybody_closes_what_is_used_up_and_nobody_else_before() {
    let mut scene = Scene::of(Default::default(), 2);
    let lease = scene.started(0, 600);
    let (stranger, provider) = (scene.world().actor("stranger"), scene.provider().clone());
    let another = scene.world().container_operator(&fingerprint(1));
    at(&mut scene, &lease, 599);
    for key in [&stranger, &provider.owner, &provider.operator, &another] {
        let instruction = close(&scene, key, &lease, false);
        scene.world().refused(instruction, &[key], "LeaseRunning");
    }
    at(&mut scene, &lease, 600);
    scene.world().set_paused(true);
    let instruction = close(&scene, &stranger, &lease, false);
    scene.world().must(&[instruction], &[&stranger]);
    let account = scene.lease(&lease);
    assert_eq!((account.reason, account.ended), (Lease::REASON_EXHAUSTED, account.started + 600));
    check_owed(&mut scene, &lease, 600);
}

#[test]
fn close_lease_refuses() {
    let mut scene = Scene::of(Default::default(), 2);
    let user = scene.user.key.clone();
    let lease = scene.open(0, 600);
    let instruction = close(&scene, &user, &lease, false);
    scene.world().refused(instruction, &[&user], "WrongLeaseState");
    scene.start(&lease);
    let valid = close(&scene, &user, &lease, false);
    let other_provider = scene.world().provider_with(0);
    let other_block = scene.world().grown_block_regardless();
    for (index, address) in [
        (3, addresses::container(0, &fingerprint(1))),
        (4, addresses::provider(other_provider.id)),
        (5, addresses::block(other_block)),
    ] {
        let mut wrong = valid.clone();
        wrong.accounts[index].pubkey = address;
        scene.world().refused(wrong, &[&user], "WrongAccount");
    }
    Call::new(scene.stage.world.clone(), valid, &[&user]).check();
    let operator = scene.operator.clone();
    let by_host = close(&scene, &operator, &lease, false);
    Call::new(scene.stage.world, by_host, &[&operator]).check();
}

/// A leased container neither leaves nor is vacated: its lease is to be ended and settled first.
#[test]
fn a_container_leaves_only_when_its_leases_are_settled() {
    let mut scene = Scene::new();
    let (user, provider) = (scene.user.key.clone(), scene.provider().clone());
    let lease = scene.open(0, 600);
    let deregister = instructions::deregister_container(scene.world(), &provider, &fingerprint(0));
    scene.world().refused(deregister.clone(), &[&provider.owner], "ContainerLeased");
    scene.start(&lease);
    scene.world().refused(deregister.clone(), &[&provider.owner], "ContainerLeased");
    scene.close(&user, &lease);
    scene.world().must(&[deregister], &[&provider.owner]);
    scene.pass_to(15, |_| 90);
    scene.world().patch_as::<Block>(&addresses::block(0), |b| assert_eq!(b.rows[0].status, Row::LEAVING));
    let vacate = instructions::vacate_row(scene.world(), 0, &fingerprint(0));
    scene.world().refused(vacate.clone(), &[], "ContainerLeased");
    scene.settle_to_the_end(&lease);
    scene.world().run(vacate);
    scene.stage.world.check_books();
}
