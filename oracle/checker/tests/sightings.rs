//! Cards, fingerprints and endpoints over blocks and epochs, from what is kept of each to what is found.

use std::collections::BTreeMap;

use datagalax_checker::{
    chain::Cluster,
    store::{BlockKey, EpochKey, KEEP_SECONDS, RowFinish, Sighting, Store, sightings::NAMED},
};
use datagalax_gpu::uniqueness::{Mark, Observation};
use datagalax_protocol::ReportValues;
use proptest::prelude::*;
use solana_pubkey::Pubkey;
use tempfile::TempDir;

const CLUSTER: Cluster = Cluster { genesis_hash: [1; 32], program: Pubkey::new_from_array([2; 32]) };
const HOUR: i64 = 3_600;
/// A bound on the disk that nothing here reaches.
const ENOUGH: u64 = 1 << 30;

/// One store, looked at one block and epoch after the other.
struct Checker {
    store: Store,
    _folder: TempDir,
}

impl Checker {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: Store::open(folder.path(), &CLUSTER).unwrap(), _folder: folder }
    }

    /// Measures a block in an epoch of an hour to the end. What each of its containers shares with which others elsewhere.
    async fn measure(&self, epoch: u32, block: u32, rows: &[Observation]) -> BTreeMap<u8, Vec<(Mark, Vec<Sighting>)>> {
        self.measure_at(EpochKey { start: i64::from(epoch) * HOUR, number: epoch }, block, rows).await
    }

    async fn measure_at(
        &self,
        epoch: EpochKey,
        block: u32,
        rows: &[Observation],
    ) -> BTreeMap<u8, Vec<(Mark, Vec<Sighting>)>> {
        let place = BlockKey { epoch, block };
        let elsewhere = self.store.elsewhere(place, rows).await.unwrap();
        let finish = |(row, seen): (usize, &Observation)| RowFinish {
            row: row as u8,
            container: seen.container,
            findings: Vec::new(),
            times_us: BTreeMap::new(),
            marks: seen.marks().collect(),
        };
        let rows = rows.iter().enumerate().map(finish).collect();
        self.store.finish(place, rows, Vec::new(), ReportValues::new()).await.unwrap();
        elsewhere.into_iter().map(|(container, shared)| (container[0], shared)).collect()
    }
}

/// A container with a fingerprint and an endpoint of its own, and these cards.
fn seen(container: u8, cards: &[&str]) -> Observation {
    Observation {
        container: [container; 32],
        fingerprint: [container; 32],
        uuids: cards.iter().map(|uuid| (*uuid).to_owned()).collect(),
        endpoint: format!("host{container}:7070"),
        times_us: BTreeMap::new(),
    }
}

fn card(uuid: &str, container: u8, block: u32, epoch: u32) -> (Mark, Vec<Sighting>) {
    (Mark::Uuid(uuid.into()), vec![Sighting { container: [container; 32], block, epoch }])
}

#[tokio::test]
async fn a_card_behind_registrations_in_two_blocks_is_found_at_both() {
    let checker = Checker::new();
    let (first, second) = (seen(1, &["GPU-a", "GPU-b"]), seen(2, &["GPU-b"]));
    assert!(checker.measure(1, 5, &[first.clone(), seen(3, &["GPU-c"])]).await.is_empty());
    // It may have moved from one to the other.
    assert!(checker.measure(2, 6, std::slice::from_ref(&second)).await.is_empty());
    // It did not.
    let found = checker.measure(3, 5, &[first.clone(), seen(3, &["GPU-c"])]).await;
    assert_eq!(found, [(1, vec![card("GPU-b", 2, 6, 2)])].into());
    let found = checker.measure(9, 6, &[second]).await;
    assert_eq!(found, [(2, vec![card("GPU-b", 1, 5, 3)])].into());
}

#[tokio::test]
async fn fingerprints_and_endpoints_are_found_as_cards_are() {
    let checker = Checker::new();
    let copy = Observation { fingerprint: [1; 32], endpoint: "HOST1:7070".into(), ..seen(2, &[]) };
    // Two seats in one epoch: the second block finds what the first has noted.
    assert!(checker.measure(1, 5, &[seen(1, &[])]).await.is_empty());
    let found = checker.measure(1, 6, &[copy]).await;
    let first = vec![Sighting { container: [1; 32], block: 5, epoch: 1 }];
    let expected = vec![(Mark::Fingerprint([1; 32]), first.clone()), (Mark::Endpoint("host1:7070".into()), first)];
    assert_eq!(found, [(2, expected)].into());
}

#[tokio::test]
async fn a_card_that_moved_is_no_finding() {
    let checker = Checker::new();
    for epoch in 1..=3 {
        assert!(checker.measure(epoch, 5, &[seen(1, &["GPU-a"])]).await.is_empty());
    }
    // Closed there, registered anew here, with machine and all.
    let moved = Observation { fingerprint: [1; 32], endpoint: "host1:7070".into(), ..seen(2, &["GPU-a"]) };
    for epoch in 4..=9 {
        assert!(checker.measure(epoch, 6, std::slice::from_ref(&moved)).await.is_empty(), "epoch {epoch}");
    }
}

#[tokio::test]
async fn containers_of_the_same_block_are_left_to_the_comparison_of_the_block() {
    let checker = Checker::new();
    let both = [seen(1, &["GPU-a"]), seen(2, &["GPU-a"])];
    for epoch in 1..=3 {
        assert!(checker.measure(epoch, 5, &both).await.is_empty());
    }
}

#[tokio::test]
async fn however_many_share_a_card_few_are_named() {
    let checker = Checker::new();
    for container in 1..=20 {
        checker.measure(1, u32::from(container), &[seen(container, &["GPU-a", "GPU-a"])]).await;
    }
    let found = checker.measure(1, 50, &[seen(50, &["GPU-a"])]).await;
    assert_eq!(found[&50].iter().map(|(_, others)| others.len()).collect::<Vec<_>>(), [NAMED]);
}

#[tokio::test]
async fn what_was_seen_lives_as_long_as_its_evidence() {
    let (first, second) = ([seen(1, &["GPU-a"])], [seen(2, &["GPU-a"])]);
    let checker = Checker::new();
    checker.measure(1, 5, &first).await;
    checker.measure(2, 6, &second).await;
    assert_eq!(checker.measure(3, 5, &first).await.len(), 1);
    let last = 2 + (KEEP_SECONDS / HOUR) as u32;
    checker.store.prune(i64::from(last) * HOUR, ENOUGH, 0).await.unwrap();
    let found = checker
        .store
        .elsewhere(BlockKey { epoch: EpochKey { start: i64::from(last) * HOUR, number: last }, block: 5 }, &first)
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    // The second's goes, and there is nothing to point at.
    checker.store.prune(i64::from(last) * HOUR + 1, ENOUGH, 0).await.unwrap();
    assert!(checker.measure(last + 1, 5, &first).await.is_empty());
    // The same where nothing was pruned: both begin anew.
    let checker = Checker::new();
    checker.measure(1, 5, &first).await;
    checker.measure(2, 6, &second).await;
    assert!(checker.measure(800, 5, &first).await.is_empty());
    assert!(checker.measure(801, 6, &second).await.is_empty());
    assert_eq!(checker.measure(802, 5, &first).await.len(), 1);
}

#[tokio::test]
async fn a_network_that_is_created_anew_begins_with_nothing() {
    let checker = Checker::new();
    for epoch in 3..=6 {
        checker.measure(epoch, 5, &[seen(1, &["GPU-a"])]).await;
    }
    let anew = |number: u32| EpochKey { start: 100 * HOUR + i64::from(number) * HOUR, number };
    assert!(checker.measure_at(anew(1), 6, &[seen(2, &["GPU-a"])]).await.is_empty());
    // The same address as before, in its first epoch and later.
    assert!(checker.measure_at(anew(2), 5, &[seen(1, &["GPU-a"])]).await.is_empty());
    let found = checker.measure_at(anew(3), 6, &[seen(2, &["GPU-a"])]).await;
    assert_eq!(found, [(2, vec![card("GPU-a", 1, 5, 2)])].into());
}

#[tokio::test]
async fn sightings_take_an_eighth_of_the_disk_and_the_oldest_go_first() {
    let checker = Checker::new();
    let many: Vec<String> = (0..64).map(|card| format!("GPU-{card}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for epoch in 1..=3 {
        checker.measure(epoch, epoch, &[seen(epoch as u8, &many)]).await;
    }
    // Room for those of the last epoch and one more.
    let room = 8 * 160 * (64 + 2 + 1);
    checker.store.prune(4 * HOUR, room, 0).await.unwrap();
    let found = checker.measure(3, 9, &[seen(9, &["GPU-7"])]).await;
    assert_eq!(found, [(9, vec![card("GPU-7", 3, 3, 3)])].into());
    for (container, kept) in [(1, false), (2, true)] {
        // First seen in epoch 0: whoever was seen since then with the card is found.
        let place = BlockKey { epoch: EpochKey { start: 0, number: 3 }, block: 8 };
        let found = checker.store.elsewhere(place, &[seen(100, &["GPU-7"])]).await.unwrap();
        let others: Vec<u8> = found.values().flatten().flat_map(|(_, all)| all).map(|one| one.container[0]).collect();
        assert_eq!(others.contains(&container), kept, "{others:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Found is what was seen at both at overlapping times, and nothing else, whatever was seen in whatever order.
    #[test]
    fn found_is_what_two_containers_had_at_overlapping_times(
        looks in prop::collection::vec((0u32..3, prop::collection::vec(0u8..3, 4)), 1..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let checker = Checker::new();
            // First and last epoch of each card at each container, in the plainest way.
            let mut model: BTreeMap<(u8, u8), (u32, u32)> = BTreeMap::new();
            for (epoch, (block, cards)) in looks.into_iter().enumerate() {
                let epoch = epoch as u32;
                // Two containers a block, with two cards each, perhaps the same.
                let names: Vec<String> = cards.iter().map(|card| format!("GPU-{card}")).collect();
                let containers = [block as u8 * 2, block as u8 * 2 + 1];
                let rows: Vec<Observation> = containers
                    .iter()
                    .zip(names.chunks(2))
                    .map(|(container, names)| seen(*container, &[&names[0], &names[1]]))
                    .collect();
                let found = checker.measure(epoch, block, &rows).await;
                let found: Vec<(u8, String, u8, u32)> = found
                    .into_iter()
                    .flat_map(|(container, shared)| shared.into_iter().map(move |(mark, others)| (container, mark, others)))
                    .flat_map(|(container, mark, others)| {
                        others.into_iter().map(move |other| (container, mark.to_string(), other.container[0], other.epoch))
                    })
                    .collect();
                let mut expected = Vec::new();
                for (container, cards) in containers.iter().zip(cards.chunks(2)) {
                    let mut cards = cards.to_vec();
                    cards.sort_unstable();
                    cards.dedup();
                    for card in cards {
                        let since = model.get(&(*container, card)).map_or(epoch, |(first, _)| *first);
                        let others = model.iter().filter(|((other, theirs), (_, last))| {
                            *theirs == card && !containers.contains(other) && *last >= since
                        });
                        let others = others.take(NAMED);
                        expected.extend(others.map(|((other, _), (_, last))| (*container, format!("card GPU-{card}"), *other, *last)));
                    }
                }
                assert_eq!(found, expected);
                for (container, cards) in containers.iter().zip(cards.chunks(2)) {
                    for card in cards {
                        model.entry((*container, *card)).or_insert((epoch, epoch)).1 = epoch;
                    }
                }
            }
        });
    }
}
