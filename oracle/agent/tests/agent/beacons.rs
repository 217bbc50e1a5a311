//! Beacons end to end over real HTTP: seen, computed at once, answered, opened, and the same after a restart.

use crate::fake::{CONTAINER, DRAW_SLOT, Host, Setup, ask, lease, ready_host, sign, until};
use std::sync::atomic::Ordering;

use datagalax_agent::chain::Phase;
use datagalax_gpu::{beacon, capacity};
use datagalax_protocol::{BeaconAnswer, BeaconRequest, SampleAnswer, SampleRequest, path};
use reqwest::StatusCode;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;

const SLOT: u64 = DRAW_SLOT + 5;

fn request(slot: u64) -> BeaconRequest {
    BeaconRequest { slot, workload: ask().workload, deadline_ms: 20_000 }
}

async fn root(host: &Host, nonce: u8, key: &Keypair) -> BeaconAnswer {
    host.ask(path::BEACON, &request(SLOT), nonce, key).await
}

/// Opens rows as a checker does, and verifies them.
async fn open(host: &Host, answer: &BeaconAnswer, nonce: u8) {
    let drawn = capacity::draw(&answer.workload, &answer.root, &capacity::Spread::default(), &[nonce; 32]);
    let opened: SampleAnswer = host.ask(path::SAMPLE, &drawn, nonce, &host.checker).await;
    let challenge = beacon::challenge(&answer.slot_hash, CONTAINER.as_array());
    capacity::verify(&challenge, &answer.workload, &drawn, &opened.devices).unwrap();
}

#[tokio::test]
async fn a_beacon_is_computed_at_once_answered_to_whoever_may_ask_and_opened() {
    let host = ready_host(Setup::default()).await;
    let refusal = |slot, nonce| {
        let body = sign(&request(slot), nonce, &host.checker).encode();
        host.refusal(path::BEACON, body)
    };
    let (status, text) = refusal(SLOT, 1).await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && text.contains("not seen here yet"), "{status} {text}");
    // Before the draw slot: no beacon.
    host.chain.tell(DRAW_SLOT, 1);
    host.chain.tell(SLOT, 2);
    until("the beacon to be seen", || host.metrics.beacon_slot.get() == SLOT as i64).await;
    let answer = root(&host, 2, &host.checker).await;
    assert_eq!((answer.slot, answer.slot_hash, answer.workload), (SLOT, [2; 32], ask().workload));
    open(&host, &answer, 3).await;
    // It was computed because it came, not because it was asked for.
    assert_eq!(host.metrics.beacons.get_or_create(&datagalax_agent::metrics::Beacon::Proven).get(), 1);
    assert_eq!(root(&host, 4, &host.operator).await.root, answer.root);

    let (status, text) = refusal(DRAW_SLOT, 5).await;
    assert!(status == StatusCode::NOT_FOUND && text.contains("is no beacon of epoch 4"), "{status} {text}");
    let (status, text) = refusal(DRAW_SLOT - 1, 6).await;
    assert!(status == StatusCode::NOT_FOUND && text.contains("too long ago"), "{status} {text}");
    let unknown = SampleRequest { root: [9; 32], rows: vec![capacity_row()], walks: vec![] };
    let (status, text) = host.refusal(path::SAMPLE, sign(&unknown, 7, &host.checker).encode()).await;
    assert!(status == StatusCode::NOT_FOUND && text.contains("no proof with this root"), "{status} {text}");
}

fn capacity_row() -> datagalax_protocol::beacon::RowAt {
    datagalax_protocol::beacon::RowAt { device: 0, pass: 0, row: 0 }
}

#[tokio::test]
async fn a_request_that_comes_while_it_is_computed_waits_for_the_root() {
    let host = ready_host(Setup::default()).await;
    host.chain.tell(SLOT, 3);
    until("the beacon to be seen", || host.metrics.beacon_slot.get() == SLOT as i64).await;
    // Both wait, and get the same root.
    let (one, other) = tokio::join!(root(&host, 1, &host.checker), root(&host, 2, &host.operator));
    assert_eq!(one.root, other.root);
}

#[tokio::test]
async fn a_restart_in_mid_epoch_gives_the_same_root_and_opens_it() {
    let setup = Setup::default();
    let (state, key) = (setup.state.clone(), setup.key.insecure_clone());
    let host = ready_host(setup).await;
    host.chain.tell(SLOT, 4);
    until("the beacon to be seen", || host.metrics.beacon_slot.get() == SLOT as i64).await;
    let before = root(&host, 1, &host.checker).await;
    host.stop().await.unwrap();

    let host = ready_host(Setup { state, key, ..Setup::default() }).await;
    host.chain.tell(SLOT, 4);
    until("the beacon to be seen again", || host.metrics.beacon_slot.get() == SLOT as i64).await;
    let after = root(&host, 1, &host.checker).await;
    assert_eq!((after.root, after.slot_hash, after.workload), (before.root, before.slot_hash, before.workload));
    open(&host, &after, 2).await;
}

#[tokio::test]
async fn a_root_that_differs_from_the_one_on_record_is_never_signed_and_makes_the_host_unfit() {
    let setup = Setup::default();
    let (state, key) = (setup.state.clone(), setup.key.insecure_clone());
    let host = ready_host(setup).await;
    host.chain.tell(SLOT, 4);
    until("the beacon to be seen", || host.metrics.beacon_slot.get() == SLOT as i64).await;
    root(&host, 1, &host.checker).await;
    host.stop().await.unwrap();

    // As if the hardware had computed something else the first time.
    let path = state.path().join("roots.json");
    let mut roots: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    roots[0]["root"][0] = serde_json::json!(roots[0]["root"][0].as_u64().unwrap() ^ 1);
    std::fs::write(&path, roots.to_string()).unwrap();
    let host = ready_host(Setup { state, key, ..Setup::default() }).await;
    host.chain.tell(SLOT, 4);
    until("the hardware to be distrusted", || host.health.topics().contains_key("hardware")).await;
    let (status, text) = host.refusal(path::BEACON, sign(&request(SLOT), 1, &host.checker).encode()).await;
    assert!(status == StatusCode::INTERNAL_SERVER_ERROR && text.contains("gave another root before"), "{status} {text}");
    assert!(host.health.topics()["hardware"].contains("compute wrongly"), "{:?}", host.health.topics());
}

#[tokio::test]
async fn the_operator_may_check_any_recent_slot_and_the_committee_only_beacons() {
    // No slot is a beacon but by chance, of which there is none.
    let host = ready_host(Setup { modulus: u64::MAX, ..Setup::default() }).await;
    host.chain.tell(SLOT, 5);
    until("the slot to be seen", || host.metrics.slot.get() == SLOT as i64).await;
    let answer = root(&host, 1, &host.operator).await;
    assert_eq!(answer.slot_hash, [5; 32]);
    let (status, _) = host.refusal(path::BEACON, sign(&request(SLOT), 2, &host.checker).encode()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_lease_that_starts_changes_what_the_next_beacon_asks_and_not_what_was_answered() {
    let host = ready_host(Setup::default()).await;
    host.chain.tell(SLOT, 1);
    until("the beacon to be seen", || host.metrics.beacon_slot.get() == SLOT as i64).await;
    let idle = root(&host, 1, &host.checker).await;
    // What a lease makes of it, in small: the light workload of cards would keep a processor busy for seconds.
    let light = datagalax_gpu::ask::Ask { workload: capacity::Demand::cpu(1).unwrap(), ..ask() };
    host.chain.committee.lock().unwrap().as_mut().unwrap().ask = Ok(light);
    let looks = host.chain.looks.load(Ordering::SeqCst);
    host.chain.change(|registration| registration.lease = Some(lease(Pubkey::new_unique(), Phase::Started)));
    until("what is asked to be read again", || host.chain.looks.load(Ordering::SeqCst) > looks).await;
    until("the lease to be seen", || host.metrics.leased.get() == 1).await;
    host.chain.tell(SLOT + 1, 2);
    until("the next beacon to be seen", || host.metrics.beacon_slot.get() == (SLOT + 1) as i64).await;
    let leased: BeaconAnswer = host.ask(path::BEACON, &request(SLOT + 1), 2, &host.checker).await;
    assert_eq!((idle.workload, leased.workload), (ask().workload, light.workload));
    assert_eq!(root(&host, 3, &host.checker).await.root, idle.root, "the first is what it was");
}

#[tokio::test]
async fn proofs_of_the_last_beacons_are_kept_within_their_memory() {
    let one = capacity::kept_memory(&ask().workload);
    let host = ready_host(Setup { proof_memory: 2 * one, ..Setup::default() }).await;
    let mut answers = Vec::new();
    for n in 0..3 {
        host.chain.tell(SLOT + n, n as u8);
        until("the beacon to be seen", || host.metrics.beacon_slot.get() == (SLOT + n) as i64).await;
        let answer: BeaconAnswer = host.ask(path::BEACON, &request(SLOT + n), n as u8, &host.checker).await;
        answers.push(answer);
    }
    open(&host, &answers[2], 10).await;
    open(&host, &answers[1], 11).await;
    let first = SampleRequest { root: answers[0].root, rows: vec![capacity_row()], walks: vec![] };
    let (status, text) = host.refusal(path::SAMPLE, sign(&first, 12, &host.checker).encode()).await;
    assert!(status == StatusCode::NOT_FOUND && text.contains("others have taken its place"), "{status} {text}");
}
