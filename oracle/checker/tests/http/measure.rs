//! Measuring over real HTTP: honest agents get full marks, and each way to misbehave costs the host, never the checker.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::fake::{
    CLUSTER, EPOCH,
    agent::{Fault, bad, honest, raw},
    slot_hash,
};
use datagalax_checker::{
    beacons::Beacon,
    chain::Target,
    measure::{Measurer, Plan, Progress, Reread, Round, RowState},
    metrics::Metrics,
    probe::{Limits, Prober},
    reach::Policy,
    record::Sink,
    score::{self, BeaconResult, BeaconScore},
    store::{BlockKey, EpochKey, Record, What},
};
use datagalax_gpu::{beacon::Slot, capacity::Spread, location::Location};
use datagalax_protocol::{envelope::MAX_MESSAGE, evidence::Outcome};
use futures_util::{FutureExt, future::BoxFuture};
use solana_keypair::Keypair;
use tokio::time::Instant;

const SLOT: u64 = 1_234;
const PROBES: usize = 6;

#[derive(Default)]
struct Kept(Mutex<Vec<Record>>);

impl Sink for Kept {
    fn record(&self, record: Record) -> BoxFuture<'_, ()> {
        self.0.lock().unwrap().push(record);
        async {}.boxed()
    }
}

fn measurer(concurrency: usize, policy: Policy) -> Arc<Measurer> {
    patient(concurrency, policy, Duration::from_secs(3))
}

fn patient(concurrency: usize, policy: Policy, timeout: Duration) -> Arc<Measurer> {
    let limits = Limits { timeout, spread: Spread { rows: 6, walks: 2 }, policy, ..Limits::default() };
    let prober = Prober::new(Arc::new(Keypair::new()), limits, Metrics::unregistered()).unwrap();
    let plan = Plan { probes: PROBES, concurrency, ..Plan::default() };
    Arc::new(Measurer::new(prober, plan))
}

fn beacon(seen: Option<Instant>, certain: bool) -> Beacon {
    Beacon { slot: Slot { number: SLOT, hash: slot_hash(SLOT), time: 0 }, seen, certain }
}

async fn measure_with(
    measurer: Arc<Measurer>,
    targets: Vec<Target>,
    again: Option<Vec<Target>>,
    beacon: Beacon,
) -> (Vec<RowState>, Vec<Record>) {
    measure_for(Duration::from_millis(6_500), measurer, targets, again, beacon).await
}

async fn measure_for(
    length: Duration,
    measurer: Arc<Measurer>,
    targets: Vec<Target>,
    again: Option<Vec<Target>>,
    beacon: Beacon,
) -> (Vec<RowState>, Vec<Record>) {
    let begun = Instant::now();
    let place = BlockKey { epoch: EpochKey { start: 0, number: EPOCH }, block: 0 };
    let round = Round { cluster: CLUSTER, place };
    let (kept, progress) = (Arc::new(Kept::default()), Progress::new(targets, Vec::new()));
    let sink: Arc<dyn Sink> = kept.clone();
    let until = begun + length;
    let reread: Reread = Arc::new(move || {
        let again = again.clone();
        async move { again }.boxed()
    });
    tokio::join!(
        measurer.probe(round, &progress, &sink, until),
        measurer.beacon(round, &progress, beacon, reread, &sink, until)
    );
    assert!(begun.elapsed() < length * 2, "measuring ends in time: {:?}", begun.elapsed());
    let records = std::mem::take(&mut *kept.0.lock().unwrap());
    (progress.states(), records)
}

async fn measure(targets: Vec<Target>) -> (Vec<RowState>, Vec<Record>) {
    measure_with(measurer(64, Policy::Private), targets, None, beacon(Some(Instant::now()), true)).await
}

fn score(state: &RowState) -> BeaconScore {
    state.beacons.get(&SLOT).map_or(BeaconScore::NotAsked, |result| result.score)
}

fn vote(state: &RowState) -> Option<(u8, u8, bool, bool)> {
    let vote = score::vote(&state.measured(&[(SLOT, slot_hash(SLOT))], Location::Unknown));
    vote.map(|vote| (vote.availability, vote.capacity, vote.token != 0, vote.dishonest))
}

pub async fn an_honest_agent_gets_full_marks_and_leaves_evidence() {
    let (target, _) = honest(0, 5).await;
    let (states, records) = measure(vec![target.clone()]).await;
    assert_eq!(vote(&states[0]), Some((100, 100, true, false)), "{:?}", states[0].trouble);
    assert_eq!((states[0].asked, states[0].answered, states[0].inspected, records.len()), (6, 6, Some(true), 8));
    assert!(states[0].metrics.is_some() && states[0].fastest.is_some());
    // Probes, inspection, root and opening, each signed by both sides, are kept for whoever asks.
    let mut exchanges = Vec::new();
    for record in records {
        assert_eq!((record.row, record.container), (5, target.container.to_bytes()));
        match record.what {
            What::Probe(exchange) | What::Inspection(exchange) => exchanges.push(*exchange),
            What::Beacon(_, evidence) => {
                assert_eq!((evidence.slot, evidence.slot_hash, evidence.exchanges.len()), (SLOT, slot_hash(SLOT), 2));
                assert!(evidence.elapsed_us.is_some());
                exchanges.extend(evidence.exchanges);
            }
        }
    }
    for exchange in exchanges {
        let Outcome::Answered(answer) = &exchange.outcome else { panic!("{:?}", exchange.outcome) };
        assert!(answer.signature_holds() && exchange.request.signature_holds());
        assert_eq!(answer.signer(), target.operator);
    }
}

/// What each fault comes to: availability, capacity, whether there is a token, whether it is dishonest.
pub async fn every_fault_is_caught_and_costs_only_its_own_row() {
    let expected = [
        (Fault::None, (100, 100, true, false)),
        (Fault::WrongKey, (0, 0, false, false)),
        (Fault::WrongSignature, (0, 0, false, false)),
        (Fault::WrongEpoch, (0, 0, false, false)),
        (Fault::DayBehind, (0, 0, false, false)),
        (Fault::DayAhead, (0, 0, false, false)),
        // The first answer counts once.
        (Fault::Replays, (16, 100, true, false)),
        (Fault::Endless, (0, 0, false, false)),
        (Fault::Gigabyte, (0, 0, false, false)),
        (Fault::Hangs, (0, 0, false, false)),
        (Fault::Trickles, (0, 0, false, false)),
        (Fault::Garbage, (0, 0, false, false)),
        (Fault::Json, (0, 0, false, false)),
        (Fault::Redirects, (0, 0, false, false)),
        (Fault::Busy, (0, 0, false, false)),
        (Fault::OtherBeacon, (100, 0, false, false)),
        (Fault::LessWork, (100, 0, false, false)),
        (Fault::Lies, (100, 0, true, true)),
        (Fault::OpensOthers, (100, 0, true, false)),
        (Fault::Closed, (100, 0, true, false)),
        (Fault::TwoRoots, (100, 0, true, true)),
        (Fault::Late, (100, 0, false, false)),
        // No vote is made of inspections.
        (Fault::OtherHardware, (100, 100, true, false)),
        (Fault::Uninspected, (100, 100, true, false)),
    ];
    let mut targets = Vec::new();
    for (row, (fault, _)) in (0u8..).zip(expected) {
        targets.push(bad(row, fault).await);
    }
    let faults = targets.len();
    let next = |targets: &[Target]| u8::try_from(targets.len()).unwrap();
    // Below HTTP: a head that drips, a head without end, silence after the head, no HTTP at all.
    let slow = Duration::from_millis(100);
    targets.push(raw(next(&targets), b"HTTP/1.1 200 OK\r\nx-", b"a", slow).await);
    targets.push(raw(next(&targets), b"HTTP/1.1 200 OK\r\n", &[b'a'; 65_536], Duration::from_millis(5)).await);
    targets.push(raw(next(&targets), b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"", slow).await);
    targets.push(raw(next(&targets), &[0xff; 512], b"\n", slow).await);
    // Nobody listens, hostile texts, and where a cloud machine's secrets are.
    for endpoint in [
        "http://127.0.0.1:1",
        "file:///etc/passwd",
        "http://user:password@127.0.0.1:80",
        "http://[fe80::1%25eth0]:80",
        "http://169.254.169.254",
        "http://0.0.0.0:80",
    ] {
        let row = next(&targets);
        targets.push(Target { row, endpoint: endpoint.into(), ..targets[0].clone() });
    }
    // So many at once on a busy machine: whoever answers must have time for it, or it is the machine that is measured.
    let patience = Duration::from_secs(4);
    for schedule in targets.iter_mut().filter_map(|target| Some(&mut target.ask.as_mut()?.schedule)) {
        (schedule.allowance, schedule.deadline) = (patience, patience);
    }
    // A place for every question, so that those who keep theirs for long do not hold up the others.
    let measurer = patient(targets.len() * (PROBES + 2), Policy::Private, patience);
    let now = beacon(Some(Instant::now()), true);
    let (states, records) = measure_for(patience * 2, measurer, targets.clone(), None, now).await;
    for (state, (fault, expected)) in states.iter().zip(expected) {
        assert_eq!(vote(state), Some(expected), "{fault:?}: {:?}", state.trouble);
        let paid = matches!(fault, Fault::None | Fault::OtherHardware | Fault::Uninspected);
        assert_eq!(state.trouble.is_none(), paid, "{fault:?}: {:?}", state.trouble);
    }
    for (state, target) in states[faults..].iter().zip(&targets[faults..]) {
        assert_eq!(vote(state), Some((0, 0, false, false)), "{}: {:?}", target.endpoint, state.trouble);
    }
    // What is kept of a stranger is bounded, whatever it sends.
    for record in records {
        let exchanges = match record.what {
            What::Probe(exchange) | What::Inspection(exchange) => vec![*exchange],
            What::Beacon(_, evidence) => evidence.exchanges,
        };
        assert!(exchanges.len() <= 3);
        assert!(exchanges.iter().all(|exchange| borsh::to_vec(exchange).unwrap().len() < MAX_MESSAGE + 4_096));
    }
}

pub async fn on_a_public_network_nothing_inside_is_asked() {
    let (target, probes) = honest(0, 0).await;
    let local = Target { endpoint: target.endpoint.replace("127.0.0.1", "localhost"), row: 1, ..target.clone() };
    let (states, _) =
        measure_with(measurer(64, Policy::Public), vec![target, local], None, beacon(Some(Instant::now()), true)).await;
    for state in &states {
        assert_eq!(vote(state), Some((0, 0, false, false)));
        assert!(state.trouble.as_ref().unwrap().contains("not an address of the public internet"), "{:?}", state.trouble);
    }
    assert_eq!(probes.load(std::sync::atomic::Ordering::SeqCst), 0);
}

pub async fn a_lease_that_began_meanwhile_is_read_once_more_before_judging() {
    let (mut target, _) = honest(0, 0).await;
    let fresh = target.clone();
    let ask = target.ask.as_mut().unwrap();
    // The chain was read before the change: this side expects other work than the host does.
    ask.workload.passes = 1;
    let less = bad(1, Fault::LessWork).await;
    let now = Target { ask: target.ask, ..less.clone() };
    let targets = vec![less.clone()];
    let measure =
        |again| measure_with(measurer(64, Policy::Private), targets.clone(), again, beacon(Some(Instant::now()), true));
    assert_eq!(
        vote(&measure(Some(vec![now])).await.0[0]),
        Some((100, 100, true, false)),
        "the other work is what is asked now"
    );
    assert_eq!(vote(&measure(Some(vec![fresh, less.clone()])).await.0[0]), Some((100, 0, false, false)), "it is still not");
}

pub async fn a_beacon_that_was_not_seen_in_time_gives_a_token_and_no_capacity() {
    let (target, _) = honest(0, 0).await;
    let silent = bad(1, Fault::Hangs).await;
    let (states, _) = measure_with(measurer(64, Policy::Private), vec![target, silent], None, beacon(None, true)).await;
    assert!(matches!(score(&states[0]), BeaconScore::Answered { capacity: None, token: 1.., dishonest: false }));
    assert_eq!(score(&states[1]), BeaconScore::NotAsked, "silence after the deadline proves nothing");
}

pub async fn silence_at_what_may_be_no_beacon_proves_nothing() {
    let silent = bad(1, Fault::Busy).await;
    let (states, _) =
        measure_with(measurer(64, Policy::Private), vec![silent], None, beacon(Some(Instant::now()), false)).await;
    assert_eq!(score(&states[0]), BeaconScore::NotAsked);
}

pub async fn more_hosts_than_places_are_all_probed() {
    let mut targets = Vec::new();
    for row in 0..3 {
        targets.push(honest(0, row).await.0);
    }
    let (states, _) = measure_with(measurer(1, Policy::Private), targets, None, beacon(Some(Instant::now()), true)).await;
    for state in states {
        assert_eq!(vote(&state), Some((100, 100, true, false)));
    }
}

pub async fn what_an_earlier_run_measured_is_not_measured_again() {
    let (target, probes) = honest(0, 0).await;
    let score = BeaconScore::Answered { capacity: Some(77), token: 3, dishonest: false };
    let known = BeaconResult { hash: slot_hash(SLOT), score, elapsed_us: None, root_at_ms: None };
    let (inspected, beacons) = (Some(false), [(SLOT, known)].into());
    let state = RowState { asked: 4, answered: 2, inspected, beacons, ..RowState::default() };
    let place = BlockKey { epoch: EpochKey { start: 0, number: EPOCH }, block: 0 };
    let round = Round { cluster: CLUSTER, place };
    let progress = Progress::new(vec![target], vec![state]);
    let kept = Arc::new(Kept::default());
    let sink: Arc<dyn Sink> = kept.clone();
    let (measurer, until) = (measurer(8, Policy::Private), Instant::now() + Duration::from_millis(4_500));
    let reread: Reread = Arc::new(|| async { None }.boxed());
    measurer.beacon(round, &progress, beacon(Some(Instant::now()), true), reread, &sink, until).await;
    measurer.probe(round, &progress, &sink, until).await;
    let state = &progress.states()[0];
    assert_eq!((state.asked, state.answered, probes.load(std::sync::atomic::Ordering::SeqCst)), (6, 4, 2));
    assert_eq!(vote(state), Some((66, 77, true, false)));
    assert_eq!(state.inspected, Some(false));
    let records = kept.0.lock().unwrap();
    assert!(records.len() == 2 && records.iter().all(|record| matches!(record.what, What::Probe(_))), "nor inspected");
}
