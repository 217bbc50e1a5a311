//! What a leased row earns: at most what its lease pays in fees, and by the capacity last measured without a tenant. Leasing
//! from oneself never pays.

use datagalax::state::{Block, Lease};
use datagalax_program_tests::{
    Report, Settings, User, addresses,
    epochs::SeatAt,
    instructions,
    settings::{ATH, parameters},
};
use proptest::prelude::*;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::scene::{Scene, Terms, available, part, terms};

/// What the row earns in an epoch without a lease: 750 ATH at 100 percent of everything.
fn full(availability: u64, capacity: u64) -> u64 {
    if availability < 80 || capacity < 50 { 0 } else { 750 * ATH / 10_000 * availability * capacity }
}

fn wavering(epoch: u32) -> u8 {
    [100, 83, 95, 81, 100, 79, 99][epoch as usize % 7]
}

/// Goes so many seconds into an epoch.
fn at(scene: &mut Scene, epoch: u32, seconds: i64) {
    let time = scene.stage.world.start_of(epoch) + seconds;
    scene.world().set_time(time);
}

/// Passes the next epoch, and says what the row was credited for the one before.
fn credited(scene: &mut Scene, epoch: u32, percent: impl Fn(u32) -> u8) -> u64 {
    let before = scene.row().accrued;
    scene.pass_to(epoch + 1, percent);
    scene.row().accrued - before
}

#[test]
fn a_leased_row_earns_at_most_the_fee_in_every_epoch_that_the_lease_touches() {
    for price in [360 * ATH + 7, 1, 0] {
        let mut scene = Scene::new();
        scene.offer(price, 600, 1);
        scene.pass_to(4, wavering);
        // From 40 s into epoch 4 to 40 s into epoch 14.
        at(&mut scene, 4, 40);
        scene.started(0, 600);
        let terms = terms(price);
        for epoch in 4..=16 {
            let earned = credited(&mut scene, epoch, wavering);
            let availability = u64::from(wavering(epoch));
            let cap = match epoch {
                4 => terms.kept(20),
                5..=13 => terms.kept(60),
                // Two thirds of an epoch.
                14 => part(terms.kept(60), 6_666),
                _ => u64::MAX,
            };
            let expected =
                full(availability, 100).min(if availability < 80 { 0 } else { cap.saturating_mul(availability) / 100 });
            let expected = if cap == u64::MAX { full(availability, 100) } else { expected };
            assert_eq!(earned, expected, "epoch {epoch} at {price}");
        }
    }
}

#[test]
fn a_lease_that_pays_more_than_the_emission_leaves_it_whole() {
    let mut scene = Scene::new();
    scene.offer(1_000_000 * ATH, 600, 1);
    scene.pass_to(4, wavering);
    scene.started(0, 600);
    for epoch in 4..=14 {
        assert_eq!(credited(&mut scene, epoch, wavering), full(u64::from(wavering(epoch)), 100), "epoch {epoch}");
    }
}

#[test]
fn the_cap_is_less_the_indexers_share() {
    let mut scene = Scene::new();
    scene.offer(360 * ATH, 600, 1);
    let indexer = scene.world().indexer();
    scene.pass_to(4, |_| 100);
    let lease = scene.open_matched(&indexer, 0, 600);
    scene.start(&lease);
    credited(&mut scene, 4, |_| 100);
    // 6 ATH an epoch, a fifth of it the fee, nine tenths of that the protocol's.
    assert_eq!(credited(&mut scene, 5, |_| 100), 1_080_000);
    assert_eq!(Terms { share_bps: 1_000, ..terms(360 * ATH) }.kept(60), 1_080_000);
}

#[test]
fn the_epoch_before_the_start_is_not_capped_though_its_tally_is_outstanding() {
    let mut scene = Scene::new();
    scene.offer(ATH, 600, 1);
    scene.pass_to(4, |_| 100);
    let (votes, checkers) = (available(|_| 100), scene.stage.checkers.clone());
    scene.world().reveal_all(&checkers, 4, &votes);
    scene.world().open(5);
    scene.started(0, 600);
    let before = scene.row().accrued;
    scene.world().tally_all(4);
    assert_eq!(scene.row().accrued - before, full(100, 100));
    scene.world().commit_all(&checkers, 5, &votes);
    // From 6 s on.
    assert_eq!(credited(&mut scene, 5, |_| 100), terms(ATH).kept(54));
}

#[test]
fn a_top_up_caps_the_epochs_it_adds() {
    let mut scene = Scene::new();
    scene.offer(36 * ATH, 600, 1);
    scene.pass_to(4, |_| 100);
    let (user, lease) = (scene.user.clone(), scene.started(0, 600));
    // In the last second; from 30 s into 14 to 42 s into 15.
    scene.pass_to(14, |_| 100);
    let top_up = instructions::top_up_lease(scene.world(), &user, &lease, 72);
    at(&mut scene, 14, 29);
    scene.world().must(&[top_up], &[&user.key]);
    let terms = terms(36 * ATH);
    for (epoch, expected) in [(14, terms.kept(60)), (15, part(terms.kept(60), 7_000)), (16, full(100, 100))] {
        assert_eq!(credited(&mut scene, epoch, |_| 100), expected, "epoch {epoch}");
    }
}

/// Attack: close a lease, and open a dearer or a cheaper one in the same epoch.
#[test]
fn closing_never_clears_the_cap_of_an_epoch_that_was_touched() {
    for (first, second) in [(36 * ATH, 360_000 * ATH), (360_000 * ATH, 36 * ATH), (36 * ATH, 0)] {
        let mut scene = Scene::new();
        scene.offer(first, 600, 1);
        scene.pass_to(4, |_| 100);
        let user = scene.user.key.clone();
        let lease = scene.started(0, 600);
        scene.pass_to(6, |_| 100);
        at(&mut scene, 6, 36);
        scene.close(&user, &lease);
        let alone = scene.clone();
        scene.offer(second, 600, 1);
        at(&mut scene, 6, 48);
        scene.started(1, 600);
        let (dear, cheap) = (terms(first), terms(second));
        let head = cheap.kept(12);
        let least = part(dear.kept(60), 6_000).min(head).min(full(100, 100));
        assert_eq!(credited(&mut scene, 6, |_| 100), least, "{first} then {second}");
        assert_eq!(credited(&mut scene, 7, |_| 100), cheap.kept(60).min(full(100, 100)));
        // Without another lease: this epoch is capped, the next is free.
        let mut alone = alone;
        assert_eq!(credited(&mut alone, 6, |_| 100), part(dear.kept(60), 6_000).min(full(100, 100)));
        assert_eq!(credited(&mut alone, 7, |_| 100), full(100, 100));
    }
}

/// A lease that ends with an epoch does not touch the next, and one that ends in the second it began touches its own.
#[test]
fn a_lease_touches_the_epochs_that_it_has_seconds_of() {
    let mut scene = Scene::new();
    scene.offer(36 * ATH, 600, 1);
    scene.pass_to(4, |_| 100);
    let user = scene.user.key.clone();
    let mut empty = scene.clone();
    let lease = empty.started(0, 600);
    let close = instructions::close_lease(empty.world(), &user.pubkey(), &lease, true, 0);
    empty.world().must(&[close], &[&user]);
    assert_eq!(credited(&mut empty, 4, |_| 100), 0, "it paid nothing");
    assert_eq!(credited(&mut empty, 5, |_| 100), full(100, 100));

    // 630 s from 30 s into epoch 4: to the end of epoch 14.
    scene.started(0, 630);
    scene.pass_to(14, |_| 100);
    assert_eq!(credited(&mut scene, 14, |_| 100), terms(36 * ATH).kept(60));
    assert_eq!(credited(&mut scene, 15, |_| 100), full(100, 100));
}

#[test]
fn the_capacity_of_a_leased_row_is_the_last_one_measured_without_a_tenant() {
    let mut scene = Scene::new();
    scene.offer(1_000_000 * ATH, 600, 1);
    // The tenant has the GPUs: the light challenge says 20.
    let capacity = |epoch: u32| match epoch {
        2 => 100,
        3 => 93,
        4..=14 => 20,
        _ => 71,
    };
    let votes = |at: SeatAt| Some(Report::flat(100, capacity(at.epoch), 9).salted(at.epoch, at.block, at.seat));
    scene.stage.pass(3, &votes);
    scene.stage.pass(4, &votes);
    assert_eq!((scene.row().full_capacity, scene.row().full_capacity_epoch), (93, 3));
    scene.started(0, 600);
    for epoch in 5..=18 {
        let before = scene.row().accrued;
        scene.stage.pass(epoch, &votes);
        // Epochs 4 to 14 are touched, 15 is measured in full again.
        let expected = if epoch - 1 <= 14 { 93 } else { 71 };
        assert_eq!(scene.row().accrued - before, full(100, expected), "epoch {}", epoch - 1);
        assert_eq!(u64::from(scene.row().full_capacity), expected);
    }
    assert_eq!(scene.row().full_capacity_epoch, 17);
    assert_eq!(scene.row().bad_epochs, 0, "a busy host is no bad one");
}

#[test]
fn after_seven_days_without_a_full_measurement_a_leased_row_earns_nothing() {
    let day = 86_400;
    let parameters = datagalax::state::Parameters { case_window: 8 * day, unbonding: 12 * day, ..parameters() };
    let mut scene = Scene::of(Settings { epoch_length: day, parameters, ..Settings::default() }, 1);
    scene.offer(1_000_000 * ATH, 600, 1);
    scene.pass_to(4, |_| 100);
    // Measured in full in 3 for the last time; the lease runs to the middle of 16.
    scene.started(0, 12 * day);
    assert_eq!(scene.row().full_capacity_epoch, 3);
    for epoch in 4..=18 {
        let earned = credited(&mut scene, epoch, |_| 100);
        let expected = if (11..=16).contains(&epoch) { 0 } else { full(100, 100) };
        assert_eq!(earned, expected, "epoch {epoch}");
    }
    // Never measured at all: nothing either.
    let mut never = Scene::new();
    never.world().patch_as::<Block>(&addresses::block(0), |b| b.rows[0].full_capacity_epoch = u32::MAX);
    never.offer(1_000_000 * ATH, 600, 1);
    never.started(0, 600);
    never.pass_to(3, |_| 100);
    assert_eq!(credited(&mut never, 3, |_| 100), 0);
}

/// With epochs of an hour a lease may lie within one, or in parts of two.
#[test]
fn a_lease_within_an_epoch_caps_it_by_what_it_pays() {
    let hour = 3_600;
    let parameters = datagalax::state::Parameters { case_window: 8 * hour, unbonding: 12 * hour, ..parameters() };
    let mut scene = Scene::of(Settings { epoch_length: hour, parameters, ..Settings::default() }, 1);
    scene.offer(360 * ATH, 600, 1);
    scene.pass_to(4, |_| 100);
    let (user, terms) = (scene.user.key.clone(), terms(360 * ATH));
    // 600 s of epoch 4, and nothing of 5.
    let lease = scene.started(0, 600);
    let ended = scene.lease(&lease).end();
    scene.world().set_time(ended);
    scene.close(&user, &lease);
    let mut twice = scene.clone();
    let sixth = part(terms.kept(3_600), 1_666);
    assert!(sixth <= terms.kept(600));
    assert_eq!(credited(&mut scene, 4, |_| 100), sixth);
    assert_eq!(credited(&mut scene, 5, |_| 100), full(100, 100));

    // Another one behind it, half in epoch 4 and half in 5: no more than the lesser of the two in 4.
    at(&mut twice, 4, 3_300);
    twice.started(1, 600);
    assert_eq!(credited(&mut twice, 4, |_| 100), terms.kept(300));
    assert_eq!(credited(&mut twice, 5, |_| 100), part(terms.kept(3_600), 833));
    assert_eq!(credited(&mut twice, 6, |_| 100), full(100, 100));
}

/// Opens and starts a lease by a new user, which may be the provider behind another wallet.
fn lease_from_oneself(scene: &mut Scene, nonce: u64, price: u64, seconds: u32) -> (User, Pubkey) {
    scene.offer(price, 600, 1);
    let user = scene.world().user();
    let open = scene.open_by(&user, nonce, seconds);
    scene.world().must(&[open], &[&user.key]);
    let lease = addresses::lease(&user.key.pubkey(), nonce);
    scene.start(&lease);
    (user, lease)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Nothing,
    /// Starts a lease, if none runs, at a price of 10 to this power, for so many seconds.
    Start(u32, u32),
    /// Ends the one that runs: as not served where that is allowed, else as its user.
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Nothing),
        3 => (0u32..14, 600u32..700).prop_map(|(power, seconds)| Step::Start(power, seconds)),
        2 => Just(Step::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    /// Whatever leases somebody takes from himself, at whatever price, ended however: the fees that he pays are at least
    /// what the row earns in the epochs that they touch.
    #[test]
    fn leasing_from_oneself_never_pays(
        steps in prop::collection::vec((30i64..45, step(), 45i64..60, step()), 12),
        percents in prop::collection::vec(80u8..=100, 5),
        bad in (4u32..14, 0u8..80),
    ) {
        let mut scene = Scene::new();
        let percent = |epoch: u32| if epoch == bad.0 { bad.1 } else { percents[epoch as usize % percents.len()] };
        // With the time until which the container was taken: who ends a lease early may owe for longer.
        let mut leases: Vec<(User, Pubkey, i64)> = vec![];
        let mut earned = vec![0; 3];
        for (n, (early, one, late, two)) in steps.into_iter().enumerate() {
            let epoch = 3 + n as u32;
            earned.push(0);
            earned[epoch as usize - 1] = credited(&mut scene, epoch - 1, percent);
            for (seconds, step) in [(early, one), (late, two)] {
                at(&mut scene, epoch, seconds);
                let running = leases.last().filter(|(_, l, _)| scene.lease(l).status == Lease::STARTED).cloned();
                match (step, running) {
                    (Step::Start(power, seconds), None) => {
                        let (user, lease) = lease_from_oneself(&mut scene, n as u64, 10u64.pow(power), seconds);
                        leases.push((user, lease, scene.lease(&lease).end()));
                    }
                    (Step::End, Some((user, lease, end))) => {
                        leases.last_mut().expect("it runs").2 = end.min(scene.stage.world.now());
                        for not_served in [true, false] {
                            let close =
                                instructions::close_lease(scene.world(), &user.key.pubkey(), &lease, not_served, 0);
                            if scene.world().send(&[close], &[&user.key]).is_ok() {
                                break;
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        // Let everything end, be tallied and be settled, within what the ring remembers.
        for epoch in 15..=29 {
            earned.push(0);
            earned[epoch as usize - 1] = credited(&mut scene, epoch - 1, percent);
        }
        let (mut fees, mut touched) = (0, [false; 30]);
        for (user, lease, until) in &leases {
            if scene.lease(lease).status == Lease::STARTED {
                scene.close(&user.key, lease);
            }
            if scene.lease(lease).status != Lease::SETTLED {
                scene.settle_to_the_end(lease);
            }
            let account = scene.lease(lease);
            fees += account.fee - account.indexer_fee;
            for (epoch, touched) in touched.iter_mut().enumerate() {
                let (start, end) = (scene.stage.world.start_of(epoch as u32), scene.stage.world.start_of(epoch as u32 + 1));
                *touched |= account.started < end && start < *until.max(&(account.started + 1));
            }
        }
        let gained: u64 = (0..29).filter(|e| touched[*e]).map(|e| earned[e]).sum();
        // One base unit a lease for a last epoch whose part is rounded.
        prop_assert!(gained <= fees + leases.len() as u64, "{gained} earned for fees of {fees}: {earned:?} {touched:?}");
    }
}
