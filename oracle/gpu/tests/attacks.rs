//! Attacks, each tried and caught. What "caught" means is what each test asserts: no capacity, less capacity than the card
//! is worth, a proved lie, or a finding.

mod simulation;

use datagalax::{
    constants::ROWS,
    math::Rate,
    state::{Block, Row},
    tally::{Rules, judge_rows, open_lane, settle_seat},
};

use datagalax_gpu::{
    backend::BackendError,
    beacon,
    capacity::{self, ProveError, SampleError, Spread, detection},
    location::{self, Location, Position},
    plausibility::{self, Claim},
    uniqueness::{self, Finding, Mark, Observation},
};
use datagalax_protocol::{
    BeaconAnswer, Context, Digest, Envelope, GpuDetails, GpuMetrics, Inspection, Metrics, Workload, beacon::contradicts,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use simulation::{
    ALLOWANCE, Card, Cheat, MULTIPLYING, SEATS, THRESHOLD, WALKING, WORKLOAD, committee, device, judge, judged_by_all,
    normal, prove, prove_on, reference, schedule,
};
use solana_keypair::Keypair;

const CHALLENGE: Digest = [0xc4; 32];
/// Seconds that an answer travels.
const TRAVEL: f64 = 0.2;

fn rng() -> StdRng {
    StdRng::seed_from_u64(5)
}

/// The capacity of an honest computation that took so long.
fn capacity_of(seconds: f64) -> u8 {
    judged_by_all(&CHALLENGE, &prove(&CHALLENGE), seconds + TRAVEL, &mut rng()).0
}

#[test]
fn an_honest_card_gets_all() {
    assert_eq!(judged_by_all(&CHALLENGE, &prove(&CHALLENGE), Card::REFERENCE.seconds() + TRAVEL, &mut rng()), (100, 0));
}

#[test]
fn a_card_of_half_the_memory() {
    // It cannot take the work at all ...
    let half = 4 * u64::from(WORKLOAD.size.rows) * u64::from(WORKLOAD.size.columns) / 2;
    let refused = prove_on(&CHALLENGE, &WORKLOAD, vec![Cheat::memory(half)]).unwrap_err();
    assert!(matches!(refused, ProveError::Backend(BackendError::Memory { .. })), "{refused}");
    // ... and keeping the other half in the host's memory makes the walks late: no answer.
    assert_eq!(capacity_of(Card { held: 0.5, ..Card::REFERENCE }.seconds()), 0);
    // Speed does not make up for it: walking is waiting for memory.
    assert_eq!(capacity_of(Card { held: 0.5, speed: 1.5 }.seconds()), 0);
    // Of three quarters two thirds of the pay are left, of nine tenths nearly all: what section 6 of the analysis says.
    assert_eq!(capacity_of(Card { held: 0.75, ..Card::REFERENCE }.seconds()), 66);
    assert_eq!(capacity_of(Card { held: 0.9, ..Card::REFERENCE }.seconds()), 87);
}

#[test]
fn a_slower_card_gets_what_it_is_worth() {
    for speed in [0.95, 0.9, 0.8, 0.7] {
        let card = Card { speed, ..Card::REFERENCE };
        let capacity = f64::from(capacity_of(card.seconds()));
        let whole = (MULTIPLYING + WALKING) / card.seconds();
        let analysis = detection::scored(whole, MULTIPLYING + WALKING, ALLOWANCE, TRAVEL);
        assert!((capacity - analysis).abs() <= 1.0, "{speed}: {capacity}, by the analysis {analysis}");
    }
    assert_eq!(capacity_of(Card { speed: 0.5, ..Card::REFERENCE }.seconds()), 0, "after the deadline");
    // A faster one gets no more than all.
    assert_eq!(capacity_of(Card { speed: 3.0, ..Card::REFERENCE }.seconds()), 100);
}

#[test]
fn one_card_behind_two_registrations_is_paid_for_one_at_most() {
    let one = Card::REFERENCE.seconds();
    // Both at once: each twice as long. One after the other: the second waits.
    assert_eq!((capacity_of(2.0 * one), capacity_of(2.0 * one)), (0, 0));
    assert_eq!((capacity_of(one), capacity_of(2.0 * one)), (100, 0));
    // One answer does not serve both: the challenges differ by the container.
    let (a, b) = (beacon::challenge(&[1; 32], &[2; 32]), beacon::challenge(&[1; 32], &[3; 32]));
    let judgement = judge(&b, &prove(&a), one, Location::Possible, &mut rng());
    assert!(judgement.dishonest && judgement.capacity == 0);
}

#[test]
fn registrations_that_take_turns_are_found_by_their_timing() {
    // A card twice as fast as its class, behind two registrations: both are paid, but their times give them away.
    let mut rng = rng();
    let one = Card { speed: 2.0, ..Card::REFERENCE }.seconds();
    let mut hosts: Vec<Observation> =
        (0..20u8).map(|id| Observation { container: [id; 32], fingerprint: [id; 32], ..Default::default() }).collect();
    for slot in 0..20u64 {
        let first = usize::from(rng.random::<bool>());
        for (id, host) in hosts.iter_mut().enumerate() {
            let seconds = if id < 2 { one * if id == first { 1.0 } else { 2.0 } } else { Card::REFERENCE.seconds() };
            host.times_us.insert(slot, ((seconds + TRAVEL + 0.1 * normal(&mut rng).abs()) * 1e6) as u64);
        }
    }
    let found = uniqueness::findings(&hosts);
    let [Finding::Timing { containers, times_us, .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!((*containers, times_us.len()), ([[0; 32], [1; 32]], 20));
}

#[test]
fn a_card_plugged_in_only_for_the_test() {
    // Nobody knows the instant. A card that is there half of the time is there for at least three of four beacons in
    // 5 of 16 epochs: less than the half that it would earn for being there.
    let mut rng = rng();
    let epochs = 4_000;
    let paid = (0..epochs)
        .filter(|_| {
            let answers: Vec<_> = (0..4).map(|_| rng.random::<bool>().then_some(100)).collect();
            beacon::capacity(&answers).unwrap() >= THRESHOLD
        })
        .count();
    let share = paid as f64 / f64::from(epochs);
    let analysis = detection::at_least(3, 4, 0.5);
    assert!((share - analysis).abs() < 0.03 && share < 0.4, "{share}, by the analysis {analysis}");
    // Fetched at the sight of the beacon, from wherever takes half a minute to be ready, it is late.
    assert_eq!(capacity_of(30.0 + Card::REFERENCE.seconds()), 0);
}

#[test]
fn a_relayed_challenge() {
    // To a card that is registered elsewhere: it has a challenge of its own at the same instant.
    let one = Card::REFERENCE.seconds();
    let paid = [capacity_of(one), capacity_of(one + one)].iter().filter(|capacity| **capacity >= THRESHOLD).count();
    assert_eq!(paid, 1);
    // To one that is not: then it is there, idle, and reserved. It is in another place, which its answers tell when a checker
    // is nearer to it than the claim is: the whole host is in Frankfurt, the claim says Tokyo.
    let (tokyo, frankfurt) = (Position::new(3_568, 13_969).unwrap(), Position::new(5_011, 868).unwrap());
    let trips: Vec<_> = (0..16).map(|i| std::time::Duration::from_millis(4 + i % 5)).collect();
    let location = location::locate(&tokyo, &frankfurt, &trips);
    assert!(matches!(location, Location::Outside { .. }));
    let judgement = judge(&CHALLENGE, &prove(&CHALLENGE), one, location, &mut rng());
    assert_eq!((judgement.capacity, judgement.dishonest), (0, false), "no capacity, but never dishonest");
}

#[test]
fn cached_answers() {
    // Yesterday's proof, opened honestly: every row is under its root, and none is the challenge's.
    let yesterday = prove(&[0x77; 32]);
    let (capacity, dishonest) = judged_by_all(&CHALLENGE, &yesterday, 0.5, &mut rng());
    assert_eq!((capacity, dishonest), (0, SEATS));
    // Two roots for one beacon, one of them perhaps good: whoever gets both has the proof.
    let key = Keypair::new_from_array([7; 32]);
    let context = Context { genesis_hash: [1; 32], program: [2; 32].into(), subject: [3; 32].into(), epoch: 4 };
    let answer = BeaconAnswer {
        request: [9; 32],
        slot: 1_000,
        slot_hash: [5; 32],
        workload: WORKLOAD,
        root: yesterday.root(),
        elapsed_us: 1,
    };
    let sign = |answer: &BeaconAnswer, nonce: u8| Envelope::sign(&context, answer, [nonce; 16], 0, &key).unwrap();
    let other = BeaconAnswer { root: prove(&CHALLENGE).root(), request: [8; 32], ..answer };
    assert!(contradicts(&sign(&answer, 1), &sign(&other, 2)));
    assert!(!contradicts(&sign(&answer, 1), &sign(&BeaconAnswer { request: [8; 32], ..answer }, 2)), "one root, two askers");
    assert!(!contradicts(&sign(&answer, 1), &sign(&BeaconAnswer { slot: 1_001, ..other }, 2)), "another beacon");
    assert!(!contradicts(&sign(&answer, 1), &sign(&BeaconAnswer { slot_hash: [6; 32], ..other }, 2)), "a fork");
    let mut forged = sign(&other, 2);
    forged.signature[0] ^= 1;
    assert!(!contradicts(&sign(&answer, 1), &forged), "anybody could write that");
}

#[test]
fn a_checker_that_copies_yesterdays_report() {
    // 256 live containers answer today's last beacon. Four seats vote with the tokens of its roots, the fifth reveals what
    // it, or anybody, revealed yesterday. The program's own tally judges them.
    let mut rng = rng();
    let mut report = || -> [u8; ROWS] { std::array::from_fn(|_| beacon::token(Some(&rng.random()))) };
    let (yesterday, today) = (report(), report());
    let epoch = 9;
    let mut block: Box<Block> = bytemuck::zeroed_box();
    block.rows = [Row { status: Row::LIVE, ..Row::checking(1, 1, 10, 1, 3) }; ROWS];
    block.live = ROWS as u16;
    let lane = &mut block.lanes[1];
    open_lane(lane, epoch, SEATS as u8);
    for (i, seat) in lane.committee.iter_mut().enumerate() {
        (seat.slot, seat.checker, seat.revealed) = (i as u32, i as u32, 1);
        (seat.availability, seat.capacity) = ([100; ROWS], [100; ROWS]);
        seat.token = if i == 4 { yesterday } else { today };
    }
    let rules = Rules {
        epoch,
        skipped_from: epoch,
        rate: Rate { hi: 1, lo: 0 },
        quorum: 3,
        condemning: 4,
        availability_threshold: 80,
        capacity_threshold: THRESHOLD,
        breach_threshold: 50,
        tolerance: 5,
        tokens_required: true,
        case_epochs: 48,
        capacity_epochs: 168,
    };
    judge_rows(&mut block, &rules, ROWS as u16).unwrap();
    let settled: Vec<_> = block.lanes[1].committee.iter().map(|seat| settle_seat(seat, 1_000_000, 8)).collect();
    assert!(settled[..4].iter().all(|seat| seat.pay == 1_000_000 && seat.marked == Some(false)), "{settled:?}");
    // By chance 1 token in 255 fits.
    assert!(settled[4].pay < 30_000 && settled[4].marked == Some(true), "{settled:?}");
    // And one host's real proofs of two days have two tokens.
    let (yesterday, today) = (prove(&[1; 32]).root(), prove(&[2; 32]).root());
    assert_ne!(beacon::token(Some(&yesterday)), beacon::token(Some(&today)));
}

#[test]
fn a_truncated_fill() {
    // The first half of the rows is computed, the rest made up.
    let half = WORKLOAD.size.rows / 2;
    let proof = prove_on(&CHALLENGE, &WORKLOAD, vec![Cheat::rows(move |row| row >= half)]).unwrap();
    assert_eq!(judged_by_all(&CHALLENGE, &proof, 4.0, &mut rng()), (0, SEATS));
    // The root of half as many rows does not pass for the whole: it binds their number.
    let truncated = Workload { size: datagalax_protocol::WorkSize { rows: half, ..WORKLOAD.size }, ..WORKLOAD };
    let proof = prove_on(&CHALLENGE, &truncated, vec![device()]).unwrap();
    let request = capacity::draw(&truncated, &proof.root(), &Spread::default(), &[1; 32]);
    let opened = proof.open(&request).unwrap();
    let refused = capacity::verify(&CHALLENGE, &WORKLOAD, &request, &opened).unwrap_err();
    assert!(matches!(refused, SampleError::Row { .. }), "{refused}");
    // All rows, but nothing kept to walk over.
    let proof = prove_on(&CHALLENGE, &WORKLOAD, vec![Cheat::walks(|_| true)]).unwrap();
    assert_eq!(judged_by_all(&CHALLENGE, &proof, 7.0, &mut rng()), (0, SEATS));
}

#[test]
fn forged_metrics() {
    // A small card that calls itself a large one. Its metrics may pass; its challenge does not; and while it computes, the
    // memory it can have in use is its own.
    let gib = 1u64 << 30;
    let gpu = GpuMetrics {
        uuid: "GPU-forged".into(),
        model: "NVIDIA H100 80GB HBM3".into(),
        memory_total: 80 * gib,
        memory_used: 10 * gib,
        power: Some(9_000),
        pcie_generation: Some(5),
        ..GpuMetrics::default()
    };
    let fingerprint = datagalax_gpu::Hardware::of_cards(std::slice::from_ref(&gpu)).fingerprint();
    let metrics = Metrics { fingerprint, gpus: vec![gpu], ..Metrics::default() };
    let details = vec![GpuDetails { pcie_generation_max: Some(4), ..GpuDetails::default() }];
    let forged = Inspection { metrics, details, interfaces: Vec::new() };
    let claim = Claim { fingerprint, gpus: 1, minimum_memory: 79 * gib };
    let uuid = || "GPU-forged".to_owned();
    let found = plausibility::findings(&claim, &forged, 0);
    assert_eq!(found, [plausibility::Finding::Impossible { uuid: uuid(), reading: "PCIe generation" }]);
    let demand = capacity::Demand {
        memory: 80 * gib,
        share: 85,
        reference: 600_000_000_000_000,
        devices: 1,
        duration: std::time::Duration::from_secs(8),
    };
    let found = plausibility::under_load(&forged, &demand.workload().unwrap());
    assert!(matches!(found[..], [plausibility::Finding::NotFilled { .. }, plausibility::Finding::Idle { .. }]), "{found:?}");
    // Somebody else's UUIDs, and eight cards of which seven are names.
    let mut hosts = vec![Observation { container: [1; 32], ..Default::default() }.with_cards(&forged.metrics.gpus)];
    hosts.push(
        Observation { container: [2; 32], fingerprint: [9; 32], ..Default::default() }.with_cards(&forged.metrics.gpus),
    );
    let expected = Finding::Shared { mark: Mark::Uuid(uuid()), containers: vec![[1; 32], [2; 32]] };
    assert_eq!(uniqueness::findings(&hosts), [expected]);
    assert_eq!(capacity_of(8.0 * Card::REFERENCE.seconds()), 0, "one card does the work of eight");
}

#[test]
fn a_fraction_of_the_rows_is_seen_as_often_as_the_analysis_says() {
    let mut rng = rng();
    let trials = 1_500;
    for tenths in [2, 5, 10, 20] {
        // Of 64 rows a pass, two passes; the same share of each.
        let mut measured = [0u32; 2];
        let skipped = (64 * tenths / 100).max(1);
        let fraction = f64::from(skipped) / 64.0;
        let spread = Spread { rows: 8, walks: 0 };
        for _ in 0..trials {
            let mut rows: Vec<u32> = (0..64).collect();
            rows.shuffle(&mut rng);
            let made_up: Vec<u32> = rows[..skipped as usize].to_vec();
            let challenge: Digest = rng.random();
            let proof = prove_on(&challenge, &WORKLOAD, vec![Cheat::rows(move |row| made_up.contains(&row))]).unwrap();
            let seen = (0..SEATS)
                .filter(|_| {
                    let request = capacity::draw(&WORKLOAD, &proof.root(), &spread, &rng.random());
                    let refused = capacity::verify(&challenge, &WORKLOAD, &request, &proof.open(&request).unwrap());
                    refused.is_err_and(|error| error.is_lie())
                })
                .count();
            measured[0] += seen as u32;
            measured[1] += u32::from(seen >= 3);
        }
        let each = detection::detection(fraction, spread.rows as u32);
        let three = detection::at_least(3, SEATS as u32, each);
        let rate = f64::from(measured[0]) / (f64::from(trials) * SEATS as f64);
        let majority = f64::from(measured[1]) / f64::from(trials);
        println!(
            "{:.1} percent left out, 8 openings: seen by each {rate:.3} (analysis {each:.3}), by three {majority:.3} ({three:.3})",
            100.0 * fraction
        );
        // Drawing without repetition sees a little more; three standard deviations of what is left.
        assert!((rate - each).abs() < 0.02 + 1.5 / f64::from(trials).sqrt() * 0.5, "{fraction}: {rate}, analysis {each}");
        assert!((majority - three).abs() < 0.05, "{fraction}: {majority}, analysis {three}");
    }
}

#[test]
fn leaving_out_rows_does_not_pay() {
    // Leaving out a share saves at most that share of the time. A capacity that three of five checkers make zero costs the
    // epoch; that four of them prove a lie, and cost the stake, is not even counted here.
    let expected = |skipped: f64| {
        let each = detection::detection(skipped, Spread::default().rows as u32);
        (1.0 - detection::at_least(3, SEATS as u32, each)) / (1.0 - skipped) - 1.0
    };
    for thousandths in 5..500 {
        let skipped = f64::from(thousandths) / 1_000.0;
        assert!(expected(skipped) < 0.0, "{skipped} gains {}", expected(skipped));
    }
    // Below half a percent there is something to gain, less than the rounding of a percentage.
    let best = (1..50).map(|n| expected(f64::from(n) / 10_000.0)).fold(0.0, f64::max);
    assert!(best < 0.002, "{best}");
}

#[test]
fn a_lie_counts_even_when_it_is_late_and_out_of_place() {
    let proof = prove_on(&CHALLENGE, &WORKLOAD, vec![Cheat::rows(|_| true)]).unwrap();
    let outside = Location::Outside { distance_km: 9_000.0, reach_km: 300.0 };
    let judgement = judge(&CHALLENGE, &proof, 1_000.0, outside, &mut rng());
    assert!(judgement.dishonest && judgement.capacity == 0 && judgement.token != 0);
    assert_eq!(committee(&[judgement; SEATS]), (0, SEATS));
    assert!(schedule().deadline.as_secs_f64() > MULTIPLYING + WALKING && reference() > 0);
}
