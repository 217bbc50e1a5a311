//! `settle_lease`: what was delivered is paid, what was not goes back, to the base unit and in whatever order.

use datagalax::{
    constants::MAX_SETTLED_EPOCHS,
    state::{Grid, Lease, Network},
};
use datagalax_program_tests::{
    World,
    actors::PURSE,
    addresses::{self, Vault},
    epochs::SeatAt,
    instructions,
    refusals::Call,
    reports::Report,
    settings::ATH,
};
use proptest::prelude::*;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::scene::{Paid, Scene, Terms, available, paid_of, terms, units};

/// Good, bad, void-free: an availability for every epoch, some under every threshold.
fn wavering(epoch: u32) -> u8 {
    [100, 97, 81, 99, 100, 42, 88, 100, 93, 0, 100][epoch as usize % 11]
}

/// What a lease must have paid when it is settled up to `to`.
fn expected(world: &World, lease: &Lease, terms: Terms, to: i64, percent: impl Fn(u32) -> Option<u8>) -> (Paid, u64) {
    let delivered = units(world, lease.started, to, percent);
    let seconds = (to - lease.started) as u64;
    let (back, fee_back, _) = terms.paid(seconds * 100 - delivered);
    (terms.paid(delivered), back + fee_back)
}

#[test]
fn whole_epochs_pay_their_availability_the_partial_ones_in_full_and_the_rest_goes_back() {
    let mut scene = Scene::new();
    scene.offer(7_654_321, 600, 1);
    let user = scene.user.key.clone();
    // From 30 s into epoch 2 to 10 s into epoch 19.
    let lease = scene.started(0, 1_000);
    let (started, escrowed) = (scene.lease(&lease).started, scene.lease(&lease).escrowed);
    assert_eq!(started, scene.stage.world.start_of(2) + 30);
    let mut at_once = scene.clone();
    let mut numbers = vec![];
    for epoch in 3..=19 {
        scene.pass_to(epoch, wavering);
        scene.settle(&lease);
        let account = scene.lease(&lease);
        let until = scene.stage.world.start_of(epoch).min(started + 1_000);
        let until = if epoch == 19 { started + 1_000 } else { until };
        assert_eq!(account.settled_until, until, "epoch {epoch}");
        let (paid, refunded) = expected(&scene.stage.world, &account, terms(7_654_321), until, |e| Some(wavering(e)));
        assert_eq!((paid_of(&account), account.refunded), (paid, refunded), "epoch {epoch}");
        assert_eq!(account.status, Lease::STARTED);
        numbers.push(account.paid);
    }
    assert!(
        numbers.windows(2).filter(|pair| pair[0] == pair[1]).count() == 1,
        "only the dead epoch paid nothing: {numbers:?}"
    );
    let before = scene.lease(&lease);
    scene.close(&user, &lease);
    scene.settle(&lease);
    let after = scene.lease(&lease);
    assert_eq!((after.status, after.reason, after.held()), (Lease::SETTLED, Lease::REASON_EXHAUSTED, Ok(0)));
    assert_eq!(paid_of(&after), paid_of(&before), "the end pays nobody");
    assert_eq!(after.refunded, escrowed - after.paid - after.fee, "what rounding kept goes back too");

    // Settled at the end only: the same numbers (conservation law 6).
    at_once.pass_to(19, wavering);
    at_once.close(&user, &lease);
    at_once.settle(&lease);
    let other = at_once.lease(&lease);
    assert_eq!(bytemuck::bytes_of(&other), bytemuck::bytes_of(&after));
    let ledgers = [&scene, &at_once].map(|s| s.stage.world.ledger(Vault::Escrow).liabilities);
    assert_eq!(ledgers[0], ledgers[1]);
    assert_eq!(scene.stage.world.provider(0).lease_due, at_once.stage.world.provider(0).lease_due);

    // Withdrawn: each what is his, the rest to the rewards.
    let to = scene.provider().to;
    let withdraw = instructions::withdraw(scene.world(), &addresses::provider(0), Vault::Escrow, &to);
    scene.world().run(withdraw);
    assert_eq!(scene.stage.world.balance(&to), after.paid);
    assert_eq!(scene.withdraw_user(&lease, Vault::Escrow), after.refunded);
    assert_eq!(scene.stage.world.balance(&scene.user.from), PURSE / 8 - after.paid - after.fee);
    let rewards = scene.stage.world.ledger(Vault::Rewards).balance;
    let sweep = instructions::sweep_vault(scene.world(), Vault::Escrow);
    scene.world().run(sweep.clone());
    assert_eq!(scene.stage.world.ledger(Vault::Rewards).balance - rewards, after.fee);
    assert_eq!(scene.stage.world.balance(&addresses::vault(Vault::Escrow)), 0);
    scene.world().refused(sweep, &[], "NothingToPay");
    scene.stage.world.check_books();
}

#[test]
fn the_fee_is_a_fifth_and_the_indexers_share_a_tenth_of_it_on_all_that_was_paid() {
    let mut scene = Scene::new();
    // A price whose epochs are no whole base units: per-epoch rounding would show.
    scene.offer(1_009, 600, 1);
    let user = scene.user.key.clone();
    let indexer = scene.world().indexer();
    let lease = scene.open_matched(&indexer, 4, 900);
    scene.start(&lease);
    let terms = Terms { share_bps: 1_000, ..terms(1_009) };
    for epoch in 3..=18 {
        scene.pass_to(epoch, wavering);
        if epoch % 3 != 0 {
            scene.settle(&lease);
            let account = scene.lease(&lease);
            let end = account.settled_until;
            let (paid, refunded) = expected(&scene.stage.world, &account, terms, end, |e| Some(wavering(e)));
            assert_eq!((paid_of(&account), account.refunded), (paid, refunded), "epoch {epoch}");
        }
    }
    scene.close(&user, &lease);
    scene.settle_to_the_end(&lease);
    let account = scene.lease(&lease);
    assert_eq!(account.fee, account.paid / 5);
    assert_eq!(account.indexer_fee, account.fee / 10);
    assert!(account.indexer_fee > 0);
    let owed: datagalax::state::Indexer = scene.stage.world.read(&addresses::indexer(indexer.id));
    assert_eq!((owed.due, owed.earned, owed.open_leases, owed.matched), (account.indexer_fee, account.indexer_fee, 0, 1));

    // All four parties, exactly.
    let to = scene.provider().to;
    for (source, to, amount) in
        [(addresses::provider(0), to, account.paid), (addresses::indexer(indexer.id), indexer.to, account.indexer_fee)]
    {
        let withdraw = instructions::withdraw(scene.world(), &source, Vault::Escrow, &to);
        scene.world().run(withdraw.clone());
        assert_eq!(scene.stage.world.balance(&to), amount);
        scene.world().refused(withdraw, &[], "NothingToPay");
    }
    assert_eq!(scene.withdraw_user(&lease, Vault::Escrow), account.refunded);
    let rewards = scene.stage.world.ledger(Vault::Rewards).balance;
    let sweep = instructions::sweep_vault(scene.world(), Vault::Escrow);
    scene.world().run(sweep);
    assert_eq!(scene.stage.world.ledger(Vault::Rewards).balance - rewards, account.fee - account.indexer_fee);
    assert_eq!(scene.stage.world.balance(&addresses::vault(Vault::Escrow)), 0);
    scene.stage.world.check_books();
}

#[test]
fn an_epoch_waits_for_its_tally_until_its_tally_is_over() {
    let mut scene = Scene::new();
    let lease = scene.started(0, 600);
    let settle = instructions::settle_lease(scene.world(), &lease);
    scene.world().refused(settle.clone(), &[], "NothingToSettle");
    let at = |scene: &Scene, epoch: u32, seconds: i64| scene.stage.world.start_of(epoch) + seconds;
    let time = at(&scene, 3, -1);
    scene.world().set_time(time);
    scene.world().refused(settle.clone(), &[], "NothingToSettle");
    // The partial first epoch needs no verdict.
    let time = at(&scene, 3, 0);
    scene.world().set_time(time);
    scene.settle(&lease);
    assert_eq!((scene.lease(&lease).settled_until, scene.lease(&lease).delivered), (at(&scene, 3, 0), 3_000));
    scene.world().refused(settle.clone(), &[], "NothingToSettle");

    // Epoch 3 is over and may be tallied until the end of 4.
    let mut tallied = scene.clone();
    for (epoch, seconds) in [(4, 0), (5, -1)] {
        let time = at(&scene, epoch, seconds);
        scene.world().set_time(time);
        scene.world().refused(settle.clone(), &[], "NothingToSettle");
    }
    // Too late to be tallied: it settles like the last one that was, 100 before the first.
    let time = at(&scene, 5, 0);
    scene.world().set_time(time);
    scene.settle(&lease);
    assert_eq!((scene.lease(&lease).settled_until, scene.lease(&lease).delivered), (at(&scene, 4, 0), 9_000));
    scene.world().refused(settle.clone(), &[], "NothingToSettle");

    // Tallied, it settles at once.
    tallied.pass_to(4, |_| 71);
    tallied.settle(&lease);
    assert_eq!((tallied.lease(&lease).delivered, tallied.lease(&lease).last_availability), (3_000 + 60 * 71, 71));
}

#[test]
fn an_epoch_without_a_verdict_settles_like_the_last_one_with_one() {
    let mut scene = Scene::new();
    let lease = scene.started(0, 700);
    // Void: 3 before any verdict, 5, 6. Nobody tallied 8, nobody even advanced to 9.
    let votes = |at: SeatAt| {
        let percent = [0, 0, 100, 0, 83, 0, 0, 91, 10, 10, 100, 77][at.epoch as usize];
        let silent = [3, 5, 6].contains(&at.epoch);
        (!silent).then(|| Report::flat(percent, 100, 9).salted(at.epoch, at.block, at.seat))
    };
    for epoch in [3, 4, 5, 6, 7, 8, 10, 11, 12] {
        scene.stage.pass(epoch, &votes_of(&votes));
        if epoch % 2 == 0 {
            scene.settle(&lease);
        }
    }
    scene.stage.pass(13, &votes_of(&votes));
    scene.settle(&lease);
    // 30 s of 2; 3; 4; 5; 6; 7; 8; 9; 10; 11; 12; 13 has 30 + 11 x 60 + 10 = 700.
    let mut sum = 30 * 100;
    for percent in [100, 83, 83, 83, 91, 91, 91, 100, 77] {
        sum += 60 * percent;
    }
    let lease = scene.lease(&lease);
    let known = scene.stage.world.start_of(12);
    let tail = units(&scene.stage.world, known, lease.settled_until, |_| Some(77));
    assert!(lease.settled_until >= known);
    // 12 had no vote either: the votes end with 11.
    assert_eq!(lease.delivered, sum + tail);
}

/// Votes for the epochs of a list; later ones are void.
fn votes_of(votes: &dyn Fn(SeatAt) -> Option<Report>) -> impl Fn(SeatAt) -> Option<Report> {
    move |at| if at.epoch <= 11 { votes(at) } else { None }
}

#[test]
fn an_overwritten_verdict_settles_at_the_lowest_in_the_ring() {
    let mut scene = Scene::new();
    let lease = scene.started(0, 3_000);
    // 10, 20 and 30 were worse than the rest; 3 to 9 were the best and are the first to be overwritten.
    let percent = |epoch: u32| match epoch {
        3..10 => 100,
        10 => 60,
        20 => 70,
        30 => 65,
        _ => 95,
    };
    let mut in_time = scene.clone();
    scene.pass_to(44, percent);
    // The newest is 43, so 12 to 43 are there. 10 is not, and was the lowest.
    scene.settle(&lease);
    let late = |epoch: u32| Some(if epoch < 12 { 65 } else { percent(epoch) });
    let account = scene.lease(&lease);
    assert_eq!(account.settled_until, scene.stage.world.start_of(44));
    let delivered = units(&scene.stage.world, account.started, account.settled_until, late);
    assert_eq!(account.delivered, delivered);

    // In time, everything is known.
    for epoch in 3..=44 {
        in_time.pass_to(epoch, percent);
        if epoch % 20 == 4 {
            in_time.settle(&lease);
        }
    }
    let account = in_time.lease(&lease);
    let known = units(&in_time.stage.world, account.started, account.settled_until, |e| Some(percent(e)));
    assert_eq!(account.delivered, known);
    assert!(delivered < known, "who settles late gains nothing");
}

/// Attack: tally a part of an epoch, so that its verdict takes the place of that of 32 epochs earlier, and settle that one.
#[test]
fn a_tally_in_parts_passes_nothing_off_as_an_older_verdict() {
    let mut scene = Scene::of(Default::default(), 2);
    let lease = scene.started(0, 3_000);
    let percent = |epoch: u32| match epoch {
        3 => 60,
        9 => 70,
        35 => 100,
        _ => 95,
    };
    let votes = available(percent);
    scene.pass_to(35, percent);
    let checkers = scene.stage.checkers.clone();
    scene.world().reveal_all(&checkers, 35, &votes);
    let time = scene.stage.world.start_of(36) + 20;
    scene.world().set_time(time);
    let tally = instructions::tally_block(scene.world(), 35, 0, 1);
    scene.world().run(tally);
    assert_eq!(scene.stage.world.block(0).last_tallied, 34);
    assert_eq!(scene.row().history[3], 100, "the verdict of 3 is gone");
    scene.settle(&lease);
    let account = scene.lease(&lease);
    let seen = |epoch: u32| Some(if epoch == 3 { 70 } else { percent(epoch) });
    assert_eq!(account.settled_until, scene.stage.world.start_of(35));
    assert_eq!(account.delivered, units(&scene.stage.world, account.started, account.settled_until, seen));
    // The rest of the tally changes none of it, and the row after the cursor is untouched by the part.
    scene.world().tally_all(35);
    scene.settle(&lease);
    assert_eq!(scene.lease(&lease).delivered, account.delivered + 6_000);
}

#[test]
fn a_call_settles_64_epochs_and_the_next_goes_on() {
    let mut scene = Scene::new();
    let user = scene.user.key.clone();
    let lease = scene.started(0, 9_000);
    let (started, now) = (scene.lease(&lease).started, scene.stage.world.now() + 100_000);
    // Nobody tallies any more: everything at 100.
    scene.world().set_time(now);
    let outcome = scene.settle(&lease);
    assert!(outcome.compute_units < 100_000, "{}", outcome.compute_units);
    let first = scene.stage.world.start_of(2 + MAX_SETTLED_EPOCHS);
    assert_eq!((scene.lease(&lease).settled_until, scene.lease(&lease).delivered), (first, (first - started) as u64 * 100));
    scene.close(&user, &lease);
    for step in 1..=2 {
        scene.settle(&lease);
        let until = (first + step * 64 * 60).min(started + 9_000);
        assert_eq!(scene.lease(&lease).settled_until, until, "call {}", step + 1);
        assert_eq!(scene.lease(&lease).status == Lease::SETTLED, step == 2);
    }
    assert_eq!(scene.lease(&lease).paid, 5 * ATH);
}

#[test]
fn settling_twice_changes_nothing() {
    let mut scene = Scene::new();
    let operator = scene.operator.clone();
    let lease = scene.started(0, 600);
    scene.pass_to(14, wavering);
    // To the end of what is escrowed, though nobody closed it yet.
    scene.settle(&lease);
    let before = scene.stage.world.fingerprint();
    scene.settle(&lease);
    assert_eq!(scene.stage.world.fingerprint(), before);
    scene.close(&operator, &lease);
    scene.settle(&lease);
    let settle = instructions::settle_lease(scene.world(), &lease);
    scene.world().refused(settle, &[], "WrongLeaseState");
    let close = instructions::close_lease(scene.world(), &operator.pubkey(), &lease, false, 0);
    scene.world().refused(close, &[&operator], "WrongLeaseState");
}

/// The lengths of epochs changed twice since: only two grids are kept, and nobody's escrow may be stranded for that.
#[test]
fn a_lease_that_is_older_than_both_grids_still_settles() {
    let mut scene = Scene::new();
    let user = scene.user.key.clone();
    let lease = scene.started(0, 1_200);
    scene.pass_to(6, |e| if e == 4 { 64 } else { 98 });
    let started = scene.lease(&lease).started;
    let (older, newer) = (started + 500, started + 800);
    scene.world().patch_as::<Network>(&addresses::network(), |n| {
        let grid = Grid { start: older, first_epoch: 11, length: 100, reveal_window: 15, commit_lead: 10 };
        n.grids = [Grid { start: newer, first_epoch: 14, length: 50, ..grid }, grid];
    });
    scene.world().set_time(started + 5_000);
    scene.settle(&lease);
    let account = scene.lease(&lease);
    // What lies before both grids at the lowest in the ring, the rest like the last.
    assert_eq!((account.settled_until, account.delivered), (started + 1_200, 1_200 * 64));
    scene.close(&user, &lease);
    scene.settle(&lease);
    assert_eq!(scene.lease(&lease).status, Lease::SETTLED);
}

#[test]
fn settle_lease_refuses() {
    let mut scene = Scene::of(Default::default(), 2);
    let indexer = scene.world().indexer();
    let lease = scene.open_matched(&indexer, 0, 600);
    let settle = instructions::settle_lease(scene.world(), &lease);
    scene.world().refused(settle, &[], "WrongLeaseState");
    scene.start(&lease);
    scene.pass_to(5, |_| 90);
    let valid = instructions::settle_lease(scene.world(), &lease);
    // Another container, provider, block, indexer or none, another vault's books.
    let other_provider = scene.world().provider_with(0);
    let other_indexer = scene.world().indexer();
    let other_block = scene.world().grown_block_regardless();
    let second = addresses::container(0, &datagalax_program_tests::actors::fingerprint(1));
    for (index, address) in [
        (2, second),
        (3, addresses::provider(other_provider.id)),
        (4, addresses::block(other_block)),
        (5, addresses::indexer(other_indexer.id)),
        (5, datagalax::ID),
        (6, addresses::ledger(Vault::Rewards)),
        (6, addresses::ledger(Vault::Stake)),
    ] {
        let mut wrong: solana_instruction::Instruction = valid.clone();
        wrong.accounts[index].pubkey = address;
        if address == datagalax::ID {
            wrong.accounts[index].is_writable = false;
        }
        scene.world().refused(wrong, &[], "WrongAccount");
    }
    // A pause never stops it.
    let mut paused = scene.clone();
    paused.world().set_paused(true);
    paused.settle(&lease);
    Call::new(scene.stage.world, valid, &[]).check();
}

/// Settles at the given epochs; at the end, closes by the user's hand and settles to the end.
fn drive(mut scene: Scene, lease: &Pubkey, percents: &[u8], stops: &[u32], close_at: u32) -> Scene {
    let user = scene.user.key.clone();
    let percent = |epoch: u32| percents[epoch as usize % percents.len()];
    for epoch in 3..=22 {
        scene.pass_to(epoch, percent);
        if epoch == close_at {
            scene.close(&user, lease);
        }
        if stops.contains(&epoch) {
            let settle = instructions::settle_lease(scene.world(), lease);
            // Refused where there is nothing to settle yet.
            let sent = scene.world().send(&[settle], &[]).map(|_| ()).map_err(|f| f.name);
            assert!(sent.is_ok() || ["NothingToSettle", "WrongLeaseState"].contains(&sent.unwrap_err().as_str()));
            scene.stage.world.check_books();
        }
    }
    if close_at > 22 {
        scene.close(&user, lease);
    }
    scene.settle_to_the_end(lease);
    scene
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    /// Conservation laws 3 and 6: whoever settles whenever, everybody gets the same, and it is what the protocol says.
    #[test]
    fn the_order_of_settling_does_not_matter(
        price in 0u64..1 << 40,
        seconds in 600u32..1_200,
        percents in prop::collection::vec(0u8..=100, 7),
        stops in prop::collection::vec(3u32..23, 0..12),
        close_at in 3u32..40,
    ) {
        let mut scene = Scene::new();
        scene.offer(price, 600, 1);
        let lease = scene.started(0, seconds);
        let escrowed = scene.lease(&lease).escrowed;
        prop_assert_eq!(escrowed, terms(price).escrow(u64::from(seconds)));
        let split = drive(scene.clone(), &lease, &percents, &stops, close_at);
        let whole = drive(scene, &lease, &percents, &[], close_at);
        let (a, b) = (split.lease(&lease), whole.lease(&lease));
        prop_assert_eq!(bytemuck::bytes_of(&a), bytemuck::bytes_of(&b));
        let percent = |epoch: u32| Some(percents[epoch as usize % percents.len()]);
        let delivered = units(&split.stage.world, a.started, a.ended, percent);
        prop_assert_eq!(paid_of(&a), terms(price).paid(delivered));
        prop_assert_eq!(a.refunded, escrowed - a.paid - a.fee);
        prop_assert!(a.ended - a.started >= 600, "a user owes the minimum");
    }
}
