//! The watch against a chain of the tests' own, on tokio's paused clock.

use futures_util::FutureExt;
use proptest::prelude::*;
use solana_account::Account;

use super::*;
use crate::rpc::fake::Fake;

/// A hash that tells slot and fork.
fn hash(slot: u64, fork: u8) -> [u8; 32] {
    let mut hash = [fork; 32];
    hash[..8].copy_from_slice(&slot.to_le_bytes());
    hash
}

/// Two slots and a half a second.
fn time(slot: u64) -> i64 {
    1_000 + (slot * 2 / 5) as i64
}

/// SlotHashes with these slots (ascending), of which the last 512 are kept, and the Clock in `now`.
fn show(node: &Fake, slots: &[(u64, u8)], now: u64) {
    let kept = &slots[slots.len().saturating_sub(HELD)..];
    let mut data = (kept.len() as u64).to_le_bytes().to_vec();
    for (slot, fork) in kept.iter().rev() {
        data.extend(slot.to_le_bytes());
        data.extend(hash(*slot, *fork));
    }
    data.resize(COUNT_BYTES + ENTRY_BYTES * HELD, 0);
    let mut clock = vec![0; 40];
    clock[..8].copy_from_slice(&now.to_le_bytes());
    clock[32..].copy_from_slice(&time(now).to_le_bytes());
    let mut state = node.state();
    state.accounts.insert(SLOT_HASHES_SYSVAR, Account { data, ..Account::default() });
    state.accounts.insert(CLOCK_SYSVAR, Account { data: clock, ..Account::default() });
    for (slot, _) in slots {
        state.times.insert(*slot, time(*slot));
    }
}

fn run(slots: impl IntoIterator<Item = u64>) -> Vec<(u64, u8)> {
    slots.into_iter().map(|slot| (slot, 0)).collect()
}

fn numbers(seen: &[SeenSlot]) -> Vec<u64> {
    seen.iter().map(|slot| slot.number).collect()
}

fn watch(node: &Arc<Fake>, after: Option<u64>) -> SlotWatch {
    SlotWatch::new(node.clone(), None, after)
}

#[tokio::test(start_paused = true)]
async fn begins_with_the_newest_and_leaves_none_out() {
    let node = Arc::new(Fake::default());
    let mut slots = watch(&node, None);
    show(&node, &run(1..=9), 10);
    let first = slots.next().await.unwrap();
    assert_eq!((first[0].number, first[0].hash, first[0].time), (9, hash(9, 0), time(9)));
    // 11 was skipped.
    show(&node, &run((1..=10).chain(12..=15)), 16);
    assert_eq!(numbers(&slots.next().await.unwrap()), [10, 12, 13, 14, 15]);
}

#[tokio::test(start_paused = true)]
async fn goes_on_after_the_slot_named_though_it_was_skipped() {
    let node = Arc::new(Fake::default());
    show(&node, &run((1..=100).filter(|slot| *slot != 20)), 101);
    let seen = watch(&node, Some(20)).next().await.unwrap();
    assert_eq!(numbers(&seen), (21..=100).collect::<Vec<_>>());
    assert!(seen.iter().all(|slot| slot.time == time(slot.number)));
}

#[tokio::test(start_paused = true)]
async fn more_missed_than_the_cluster_keeps_is_told_once_and_the_rest_follows() {
    let node = Arc::new(Fake::default());
    let mut slots = watch(&node, Some(7));
    show(&node, &run(1..=1_000), 1_001);
    assert_eq!(slots.next().await.unwrap_err(), SlotError::Missed { after: 7, oldest: 489 });
    assert_eq!(numbers(&slots.next().await.unwrap()), (489..=1_000).collect::<Vec<_>>());
    // 512 later nothing was missed, 513 later one slot was.
    show(&node, &run(1..=1_512), 1_513);
    assert_eq!(slots.next().await.unwrap().len(), 512);
    show(&node, &run(1..=2_026), 2_027);
    assert_eq!(slots.next().await.unwrap_err(), SlotError::Missed { after: 1_512, oldest: 1_515 });
}

#[tokio::test(start_paused = true)]
async fn a_fork_is_told_and_a_node_that_lags_is_not_one() {
    let node = Arc::new(Fake::default());
    let mut slots = watch(&node, None);
    show(&node, &run(1..=9), 10);
    slots.next().await.unwrap();
    show(&node, &run(1..=5), 6);
    assert!(slots.next().now_or_never().is_none(), "nothing is new on a node that lags");
    show(&node, &[run(1..=8), vec![(9, 1), (10, 1)]].concat(), 11);
    assert_eq!(slots.next().await.unwrap_err(), SlotError::Dropped { slot: 9 });
    assert_eq!(numbers(&slots.next().await.unwrap()), [10]);
    // Skipped by the fork that won, and nothing new yet: told once.
    show(&node, &run(1..=9), 10);
    assert!(slots.next().now_or_never().is_none());
    show(&node, &[run(1..=9), vec![(11, 0)]].concat(), 12);
    assert_eq!(slots.next().await.unwrap_err(), SlotError::Dropped { slot: 10 });
    assert_eq!(numbers(&slots.next().await.unwrap()), [11]);
}

#[tokio::test(start_paused = true)]
async fn a_time_that_no_node_knows_is_an_error_and_no_guess() {
    let node = Arc::new(Fake::new("http://one"));
    let mut slots = watch(&node, Some(100));
    show(&node, &run(1..=106), 107);
    node.state().times.remove(&104);
    assert_eq!(numbers(&slots.next().await.unwrap()), [101, 102, 103]);
    let error = slots.next().await.unwrap_err();
    assert!(
        matches!(&error, SlotError::NoTime { slot: 104, url } if url == "http://one") && error.is_transient(),
        "{error}"
    );
    // The node learns it, or the caller leaves the slot out.
    node.state().times.insert(104, time(104));
    assert_eq!(numbers(&slots.next().await.unwrap()), [104, 105, 106]);
    show(&node, &run(1..=109), 110);
    node.state().times.remove(&108);
    assert_eq!(numbers(&slots.next().await.unwrap()), [107]);
    slots.pass(108);
    assert_eq!(numbers(&slots.next().await.unwrap()), [109]);
}

#[tokio::test(start_paused = true)]
async fn times_seen_beside_the_hashes_are_not_asked_for() {
    let node = Arc::new(Fake::default());
    let mut slots = watch(&node, None);
    show(&node, &run(1..=9), 10);
    slots.next().await.unwrap();
    node.state().asked.clear();
    for now in 11..=40 {
        show(&node, &run(1..now), now);
        assert_eq!(numbers(&slots.next().await.unwrap()), [now - 1]);
    }
    // Looks that miss a slot now and then: between two of the same second nothing is asked.
    show(&node, &run(1..=41), 42);
    assert_eq!((time(40), time(42)), (1_016, 1_016));
    assert_eq!(numbers(&slots.next().await.unwrap()), [40, 41]);
    assert!(node.state().asked.iter().all(|what| *what == "heads"));
}

#[tokio::test(start_paused = true)]
async fn first_sight_outlives_a_node_that_fails_in_between_and_a_call_that_was_dropped() {
    let node = Arc::new(Fake::default());
    let mut slots = watch(&node, Some(8));
    show(&node, &run(1..=9), 30);
    let sight = Instant::now();
    // Polled until it waits for the block's time, then dropped.
    let mut call = Box::pin(slots.next());
    while !node.state().asked.contains(&"block_time") {
        assert!(call.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(call);
    let down = node.down();
    node.state().trouble = Some(down.clone());
    assert_eq!(slots.next().await.unwrap_err(), SlotError::Rpc(down));
    node.state().trouble = None;
    let seen = slots.next().await.unwrap();
    assert!(sight.elapsed() > Duration::from_millis(300), "the calls in between paused");
    assert_eq!((numbers(&seen), seen[0].seen), (vec![9], sight));
}

#[tokio::test(start_paused = true)]
async fn final_is_what_was_seen_and_cannot_be_undone() {
    let node = Arc::new(Fake::default());
    let mut slots = watch(&node, Some(19));
    show(&node, &run(1..=20), 21);
    let seen = slots.next().await.unwrap()[0];
    node.state().finalized = 19;
    assert_eq!(slots.finality(&seen).await.unwrap(), Finality::Waiting);
    node.state().finalized = 20;
    assert_eq!(slots.finality(&seen).await.unwrap(), Finality::Final);
    show(&node, &[run(1..=19), vec![(20, 1), (21, 1)]].concat(), 22);
    assert_eq!(slots.finality(&seen).await.unwrap(), Finality::Dropped);
    show(&node, &[run(1..=19), vec![(21, 1)]].concat(), 22);
    assert_eq!(slots.finality(&seen).await.unwrap(), Finality::Dropped);
    // The hashes come from a node that lags.
    show(&node, &run(1..=10), 11);
    assert_eq!(slots.finality(&seen).await.unwrap(), Finality::Waiting);
    show(&node, &run(1..=600), 601);
    assert_eq!(slots.finality(&seen).await.unwrap_err(), SlotError::Missed { after: 20, oldest: 89 });
}

#[tokio::test(start_paused = true)]
async fn what_is_no_slot_hashes_is_refused() {
    let node = Arc::new(Fake::new("http://one"));
    show(&node, &run(1..=9), 10);
    let sound = node.state().accounts[&SLOT_HASHES_SYSVAR].data.clone();
    let mut too_many = sound.clone();
    too_many[..8].copy_from_slice(&513u64.to_le_bytes());
    let mut reversed = sound.clone();
    reversed[8..16].copy_from_slice(&1u64.to_le_bytes());
    for damaged in [vec![], sound[..100].to_vec(), too_many, reversed] {
        node.state().accounts.get_mut(&SLOT_HASHES_SYSVAR).unwrap().data = damaged;
        let error = watch(&node, None).next().await.unwrap_err();
        assert!(matches!(&error, SlotError::Unreadable { url, .. } if url == "http://one"), "{error}");
    }
    node.state().accounts.remove(&CLOCK_SYSVAR);
    assert!(matches!(watch(&node, None).next().await, Err(SlotError::Unreadable { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is skipped, however the node lags and fails: every slot comes once, in order, with its own hash and time.
    #[test]
    fn every_slot_comes_once_in_order(
        skipped in prop::collection::vec(prop::bool::weighted(0.2), 400),
        looks in prop::collection::vec((0u64..40, prop::option::weighted(0.1, 1u64..30), prop::bool::weighted(0.1)), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let chain: Vec<u64> = (1..=400).filter(|slot| !skipped[*slot as usize - 1]).chain([401]).collect();
            let node = Arc::new(Fake::default());
            let mut slots = watch(&node, Some(0));
            let (mut all, mut now) = (Vec::new(), 1);
            // The last look shows all, also where none before it went ahead.
            for (ahead, lag, fails) in looks.into_iter().chain([(402, None, false)]) {
                now = (now + ahead).min(402);
                let shown = now - lag.unwrap_or(0).min(now - 1);
                show(&node, &run(chain.iter().copied().filter(|slot| *slot < shown)), shown);
                node.state().trouble = fails.then(|| node.down());
                // As often as anything comes of it.
                while let Ok(Ok(seen)) = tokio::time::timeout(Duration::from_secs(2), slots.next()).await {
                    all.extend(seen);
                }
            }
            assert_eq!(numbers(&all), chain);
            assert!(all.iter().all(|slot| slot.hash == hash(slot.number, 0) && slot.time == time(slot.number)));
        });
    }
}
