//! Measuring agents over real HTTP on loopback: the real one, and one of every kind of fault.

mod fake;

use std::{sync::Arc, time::Duration};

use datagalax_checker::{
    chain::Target,
    measure::{Measurer, Plan, RowResult, values},
    probe::{Limits, Prober},
    score::Capacity,
};
use datagalax_protocol::{WorkSize, evidence::Outcome};
use fake::{CLUSTER, EPOCH, Fault, bad, honest};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tokio::time::Instant;

fn measurer(key: Keypair) -> Arc<Measurer> {
    let limits = Limits {
        timeout: Duration::from_millis(700),
        challenge_timeout: Duration::from_millis(900),
        size: WorkSize { rows: 64, inner: 64, columns: 32 },
        opened: 8,
    };
    let prober = Prober::new(Arc::new(key), limits).unwrap();
    Arc::new(Measurer::new(prober, Plan { probes: 6, concurrency: 64 }))
}

async fn measure(key: Keypair, targets: Vec<Target>) -> Vec<RowResult> {
    let begun = Instant::now();
    let until = begun + Duration::from_millis(3_500);
    let rows = measurer(key).measure(CLUSTER, EPOCH, targets, until).await;
    assert!(begun.elapsed() < Duration::from_millis(4_500), "measuring ends in time: {:?}", begun.elapsed());
    rows
}

fn votes(rows: &[RowResult]) -> Vec<(u8, u8, u8, bool)> {
    let votes = values(rows).unwrap();
    votes.votes().map(|(row, vote)| (row, vote.availability, vote.capacity, vote.dishonest)).collect()
}

#[tokio::test]
async fn an_honest_agent_gets_full_marks_and_leaves_evidence() {
    let key = Keypair::new();
    let target = honest(5, &key.pubkey()).await;
    let rows = measure(key, vec![target.clone()]).await;
    assert_eq!(votes(&rows), [(5, 100, 100, false)], "{:?}", rows[0].trouble);
    let row = &rows[0];
    assert_eq!((row.measured.asked, row.measured.answered), (6, 6));
    assert!(row.metrics.as_ref().unwrap().host.memory_total > 0);
    // Root and opening, both signed by the container, are kept for whoever asks.
    assert_eq!((row.evidence.liveness.len(), row.evidence.capacity.len()), (6, 2));
    for exchange in row.evidence.liveness.iter().chain(&row.evidence.capacity) {
        let Outcome::Answered(answer) = &exchange.outcome else { panic!("{:?}", exchange.outcome) };
        assert!(answer.signature_holds() && exchange.request.signature_holds());
        assert_eq!(answer.signer(), target.operator);
    }
}

#[tokio::test]
async fn a_key_without_a_seat_measures_nothing() {
    let target = honest(5, &Pubkey::default()).await;
    let rows = measure(Keypair::new(), vec![target]).await;
    assert_eq!(votes(&rows), [(5, 0, 0, false)]);
    assert!(rows[0].metrics.is_none());
}

#[tokio::test]
async fn a_slower_reference_is_met_and_a_faster_one_is_not() {
    let key = Keypair::new();
    let mut target = honest(5, &key.pubkey()).await;
    target.reference = u64::MAX;
    assert_eq!(votes(&measure(key, vec![target]).await), [(5, 100, 0, false)]);
}

#[tokio::test]
async fn every_fault_is_caught_and_costs_only_its_own_row() {
    let expected = [
        (Fault::None, 100, Capacity::Proved(100)),
        (Fault::WrongKey, 0, Capacity::Failed),
        (Fault::WrongEpoch, 0, Capacity::Failed),
        (Fault::Oversized, 0, Capacity::Failed),
        (Fault::Hangs, 0, Capacity::Failed),
        (Fault::Trickles, 0, Capacity::Failed),
        (Fault::Garbage, 0, Capacity::Failed),
        (Fault::Busy, 0, Capacity::Failed),
        (Fault::Lies, 100, Capacity::Lied),
        (Fault::OpensOthers, 100, Capacity::Failed),
        (Fault::Slow, 100, Capacity::Failed),
    ];
    let mut targets = Vec::new();
    for (row, (fault, ..)) in (0u8..).zip(expected) {
        targets.push(bad(row, fault).await);
    }
    let nobody = u8::try_from(targets.len()).unwrap();
    // Nobody listens there, and no address at all.
    targets.push(Target { row: nobody, endpoint: "http://127.0.0.1:1".into(), ..targets[0].clone() });
    targets.push(Target { row: nobody + 1, endpoint: "file:///etc/passwd".into(), ..targets[0].clone() });
    let rows = measure(Keypair::new(), targets).await;
    for (row, (fault, availability, capacity)) in rows.iter().zip(expected) {
        let measured = row.measured;
        assert_eq!(measured.capacity, capacity, "{fault:?}: {:?}", row.trouble);
        assert_eq!((measured.asked, measured.answered * 100 / measured.asked), (6, availability), "{fault:?}");
        assert_eq!(row.trouble.is_none(), fault == Fault::None, "{fault:?}");
    }
    for row in &rows[usize::from(nobody)..] {
        assert_eq!((row.measured.answered, row.measured.capacity), (0, Capacity::Failed), "{}", row.target.endpoint);
    }
    let votes = votes(&rows);
    assert_eq!(votes.len(), rows.len());
    assert_eq!(votes.iter().filter(|(.., dishonest)| *dishonest).count(), 1, "only the signed lie");
}

#[tokio::test]
async fn an_old_answer_counts_once() {
    let rows = measure(Keypair::new(), vec![bad(0, Fault::Replays).await]).await;
    assert_eq!(rows[0].measured.answered, 1, "{:?}", rows[0].trouble);
}

#[tokio::test]
async fn more_hosts_than_places_are_all_measured() {
    let key = Keypair::new();
    let mut targets = Vec::new();
    for row in 0..3 {
        targets.push(honest(row, &key.pubkey()).await);
    }
    let limits = Limits { size: WorkSize { rows: 16, inner: 16, columns: 16 }, ..Limits::default() };
    let prober = Prober::new(Arc::new(key), limits).unwrap();
    let measurer = Arc::new(Measurer::new(prober, Plan { probes: 20, concurrency: 1 }));
    let until = Instant::now() + Duration::from_secs(10);
    let rows = measurer.measure(CLUSTER, EPOCH, targets, until).await;
    assert_eq!(votes(&rows), [(0, 100, 100, false), (1, 100, 100, false), (2, 100, 100, false)]);
}
