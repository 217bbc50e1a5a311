//! Timing over epochs, from what is kept of each to what is found: two registrations behind one card, among 254 honest ones.

use std::{collections::BTreeMap, sync::Arc};

use datagalax_checker::{
    chain::{Cluster, Target},
    findings::{RowKnown, observations, of_block},
    measure::RowState,
    score::{BeaconResult, BeaconScore},
    store::{BlockKey, Elsewhere, EpochKey, RowFinish, Store, measuring::TIMED_EPOCHS},
};
use datagalax_gpu::location::Location;
use datagalax_protocol::ReportValues;
use rand::{Rng, SeedableRng, rngs::StdRng};
use solana_pubkey::Pubkey;

const CLUSTER: Cluster = Cluster { genesis_hash: [1; 32], program: Pubkey::new_from_array([2; 32]) };
const BEACONS: u64 = 4;

fn target(row: u8) -> Arc<Target> {
    let mut container = [0; 32];
    container[0] = row;
    Arc::new(Target {
        row,
        container: Pubkey::from(container),
        operator: Pubkey::default(),
        endpoint: format!("http://host{row}:7070"),
        fingerprint: container,
        gpus: 1,
        minimum_memory: 0,
        ask: None,
        claimed: None,
    })
}

/// One epoch of 256 containers. The first two have one card that is twice as fast as their class: one of them after the other.
fn epoch(number: u32, rng: &mut StdRng) -> (Vec<RowKnown>, Vec<(u64, [u8; 32])>) {
    let slots = u64::from(number) * BEACONS..u64::from(number + 1) * BEACONS;
    let counted: Vec<(u64, [u8; 32])> = slots.map(|slot| (slot, [slot as u8; 32])).collect();
    let mut beacons: Vec<BTreeMap<u64, BeaconResult>> = vec![BTreeMap::new(); 256];
    for (slot, hash) in &counted {
        let first = usize::from(rng.random::<bool>());
        for (row, results) in beacons.iter_mut().enumerate() {
            let computed = if row < 2 { 4.0 + if row == first { 0.0 } else { 4.0 } } else { 8.0 };
            let seconds: f64 = computed * rng.random_range(1.0..1.06) + rng.random_range(0.2..0.3);
            let score = BeaconScore::Answered { capacity: Some(100), token: 1, dishonest: false };
            let elapsed_us = Some((seconds * 1e6) as u64);
            results.insert(*slot, BeaconResult { hash: *hash, score, elapsed_us, root_at_ms: None });
        }
    }
    let known = |(row, beacons)| RowKnown {
        target: target(row),
        state: RowState { beacons, ..RowState::default() },
        location: Location::Unknown,
        inspection: None,
    };
    ((0..=255).zip(beacons).map(known).collect(), counted)
}

#[tokio::test]
async fn one_card_behind_two_registrations_is_found_after_enough_epochs_and_honest_ones_never() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Some(Store::open(folder.path(), &CLUSTER).unwrap());
    let mut rng = StdRng::seed_from_u64(3);
    for number in 0..10 {
        let place = BlockKey { epoch: EpochKey { start: i64::from(number) * 3_600, number }, block: 5 };
        if number == 6 {
            // The table is on the disk.
            drop(store.take());
            while store.is_none() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                store = Store::open(folder.path(), &CLUSTER).ok();
            }
        }
        let store = store.as_ref().unwrap();
        let (rows, counted) = epoch(number, &mut rng);
        let earlier = store.earlier_times(place).await.unwrap();
        let kept = (number as usize).min(TIMED_EPOCHS - 1) * BEACONS as usize;
        assert!(earlier.values().all(|times| times.len() == kept), "epoch {number}");
        let found = of_block(&rows, &observations(&rows, &counted, &earlier), &Elsewhere::new());
        // Twenty beacons that both answered: the fifth epoch's are the last of them.
        let enough = number >= 4;
        for (row, found) in found.iter().enumerate() {
            let kinds: Vec<&str> = found.iter().map(|(kind, _)| kind.as_str()).collect();
            assert_eq!(kinds, if row < 2 && enough { vec!["timing"] } else { vec![] }, "epoch {number}, row {row}");
        }
        if enough {
            let text = &found[0].texts()[0];
            assert!(text.starts_with("answers by turns (correlation -"), "{text}");
            assert!(text.contains(&rows[1].target.container.to_string()), "{text}");
        }
        let finish = |row: &RowKnown| RowFinish {
            row: row.target.row,
            container: row.target.container.to_bytes(),
            findings: Vec::new(),
            times_us: row.times_us(&counted),
            marks: Vec::new(),
        };
        let finished = rows.iter().map(finish).collect();
        store.finish(place, finished, counted.clone(), ReportValues::new()).await.unwrap();
        // Of another block nothing is known.
        assert!(store.earlier_times(BlockKey { block: 6, ..place }).await.unwrap().is_empty());
    }
    // A network that is created anew with the same genesis hash begins with nothing.
    let anew = BlockKey { epoch: EpochKey { start: 90_000, number: 0 }, block: 5 };
    assert!(store.unwrap().earlier_times(anew).await.unwrap().is_empty());
}
