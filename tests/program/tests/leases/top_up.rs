//! `top_up_lease`.

use datagalax::constants::LONGEST_LEASE;
use datagalax_program_tests::{addresses, addresses::Vault, instructions, refusals::Call};
use solana_signer::Signer;

use crate::scene::{Scene, terms};

#[test]
fn many_top_ups_cost_what_one_long_lease_costs() {
    // Prices whose parts are no whole base units.
    for price in [1, 7, 2_000_003, 999_999_999_989] {
        let mut scene = Scene::new();
        scene.offer(price, 600, 1);
        let user = scene.user.clone();
        let before = scene.stage.world.balance(&user.from);
        let lease = scene.started(0, 601);
        let mut total = 601;
        for seconds in [1, 1, 59, 1_234, 7] {
            let top_up = instructions::top_up_lease(scene.world(), &user, &lease, seconds);
            scene.world().must(&[top_up], &[&user.key]);
            scene.stage.world.check_books();
            total += u64::from(seconds);
            let account = scene.lease(&lease);
            assert_eq!((u64::from(account.max_seconds), account.escrowed), (total, terms(price).escrow(total)));
            assert_eq!(before - scene.stage.world.balance(&user.from), terms(price).escrow(total));
            assert_eq!(scene.stage.world.ledger(Vault::Escrow).liabilities, account.escrowed);
            assert_eq!(account.end(), account.started + total as i64);
        }
        let mut at_once = Scene::new();
        at_once.offer(price, 600, 1);
        let whole = at_once.started(0, total as u32);
        assert_eq!(at_once.lease(&whole).escrowed, scene.lease(&lease).escrowed);
    }
}

#[test]
fn a_lease_is_topped_up_while_it_runs() {
    let mut scene = Scene::new();
    let user = scene.user.clone();
    let lease = scene.open(0, 600);
    let top_up = |scene: &Scene, seconds| instructions::top_up_lease(&scene.stage.world, &user, &lease, seconds);
    let instruction = top_up(&scene, 60);
    scene.world().refused(instruction, &[&user.key], "WrongLeaseState");
    scene.start(&lease);
    let started = scene.stage.world.now();
    for seconds in [0, LONGEST_LEASE - 599, u32::MAX] {
        let instruction = top_up(&scene, seconds);
        scene.world().refused(instruction, &[&user.key], "BadDuration");
    }
    let mut longest = scene.clone();
    let instruction = top_up(&longest, LONGEST_LEASE - 600);
    longest.world().must(&[instruction], &[&user.key]);

    // At the last second, and at the one after.
    scene.world().set_time(started + 599);
    let instruction = top_up(&scene, 1);
    scene.world().must(&[instruction], &[&user.key]);
    scene.world().set_time(started + 601);
    let instruction = top_up(&scene, 1);
    scene.world().refused(instruction, &[&user.key], "WrongLeaseState");
    scene.close(&user.key, &lease);
    let instruction = top_up(&scene, 1);
    scene.world().refused(instruction, &[&user.key], "WrongLeaseState");
}

#[test]
fn a_lease_keeps_its_price_when_it_is_topped_up() {
    let mut scene = Scene::new();
    let user = scene.user.clone();
    let lease = scene.started(0, 600);
    scene.offer(50_000_000, 86_400, 0);
    let top_up = instructions::top_up_lease(scene.world(), &user, &lease, 3_000);
    scene.world().must(&[top_up], &[&user.key]);
    assert_eq!(scene.lease(&lease).escrowed, terms(2_000_000).escrow(3_600));
}

#[test]
fn top_up_lease_refuses() {
    let mut scene = Scene::new();
    let (user, other) = (scene.user.clone(), scene.world().user());
    let lease = scene.started(0, 600);
    let valid = instructions::top_up_lease(scene.world(), &user, &lease, 60);
    let stranger = instructions::top_up_lease(scene.world(), &other, &lease, 60);
    scene.world().refused(stranger, &[&other.key], "Unauthorized");
    let mut wrong = valid.clone();
    wrong.accounts[4].pubkey = other.from;
    scene.world().refused(wrong, &[&user.key], "OwnerMismatch");
    let second = scene.world().grown_block_regardless();
    let mut wrong = valid.clone();
    wrong.accounts[2].pubkey = addresses::block(second);
    scene.world().refused(wrong, &[&user.key], "WrongAccount");
    let mut wrong = valid.clone();
    for account in &mut wrong.accounts {
        if account.pubkey == addresses::vault(Vault::Escrow) {
            account.pubkey = addresses::vault(Vault::Stake);
        } else if account.pubkey == addresses::ledger(Vault::Escrow) {
            account.pubkey = addresses::ledger(Vault::Stake);
        }
    }
    scene.world().refused(wrong, &[&user.key], "WrongAccount");
    assert_eq!(user.key.pubkey(), scene.lease(&lease).user);
    scene.world().set_paused(true);
    scene.world().refused(valid.clone(), &[&user.key], "Paused");
    scene.world().set_paused(false);
    Call::new(scene.stage.world, valid, &[&user.key]).check();
}
