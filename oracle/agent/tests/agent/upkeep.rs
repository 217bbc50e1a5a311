//! What the agent does on the chain by itself: closing a failing host, rejecting leases, keeping the offer in step.

use std::{sync::Arc, time::Duration};

use crate::fake::{Host, Played, Setup, lease, now, ready_host, recording, until};
use datagalax_agent::{
    chain::Phase,
    faults::fitness::{Policy, Return},
    offer::Wanted,
};
use datagalax_gpu::probe::Recording;
use datagalax_protocol::inspection::Xid;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;

fn sound() -> Recording {
    recording("consumer")
}

fn with_xid(code: u64, at: i64) -> Recording {
    let mut recording = sound();
    recording.gpus[0].details.xids = vec![Xid { code, seen_at: at }];
    recording
}

/// A host with one card, whose readings the test plays.
async fn with_card(can_offer: bool, quiet: u64) -> (Host, Arc<Played>) {
    let played = Arc::new(Played::new(sound()));
    let setup = Setup {
        probe: played.clone(),
        registration: Box::new(|registration| registration.as_mut().unwrap().minimum_memory = 1 << 30),
        can_offer,
        policy: Policy { quiet: Duration::from_secs(quiet), back: Return::Automatic, hottest: 90 },
        ..Setup::default()
    };
    (ready_host(setup).await, played)
}

#[tokio::test]
async fn an_xid_closes_the_container_before_the_next_tenant_and_quiet_opens_it_again() {
    let (host, played) = with_card(true, 6).await;
    played.play(with_xid(94, now()));
    let closed = format!("offer {} 0 false", host.url);
    until("the container to be closed", || host.chain.done() == [closed.clone()]).await;
    assert!(host.health.topics()["hardware"].contains("Xid 94"), "{:?}", host.health.topics());
    let opened = format!("offer {} 0 true", host.url);
    until("the container to be opened again", || host.chain.done().last() == Some(&opened)).await;
    assert_eq!(host.chain.done().len(), 2);
}

#[tokio::test]
async fn a_restart_forgets_no_fault_and_not_who_closed_the_container_unless_it_is_told_to() {
    // A card that must be reset, on a host that was closed for it.
    let played = Arc::new(Played::new(with_xid(95, now())));
    let (state, key) = (Arc::new(tempfile::tempdir().unwrap()), Keypair::new());
    let again = |played: &Arc<Played>, clear_faults, accepting| Setup {
        probe: played.clone(),
        registration: Box::new(move |registration| {
            let registration = registration.as_mut().unwrap();
            (registration.minimum_memory, registration.offer.accepting) = (1 << 30, accepting);
        }),
        can_offer: true,
        clear_faults,
        state: state.clone(),
        key: key.insecure_clone(),
        ..Setup::default()
    };
    let host = crate::fake::host(again(&played, false, true)).await;
    until("the container to be closed", || host.chain.done().len() == 1).await;
    host.stop().await.unwrap();

    // The new process sees no Xid any more.
    played.play(sound());
    let host = crate::fake::host(again(&played, false, false)).await;
    until("the fault to be told again", || host.health.topics().contains_key("hardware")).await;
    assert_eq!(host.chain.done(), Vec::<String>::new());
    host.stop().await.unwrap();

    let host = ready_host(again(&played, true, false)).await;
    until("the container to be opened again", || host.chain.done() == [format!("offer {} 0 true", host.url)]).await;
    host.stop().await.unwrap();
    // Forgotten once and for all.
    let host = ready_host(again(&played, false, true)).await;
    assert_eq!(host.metrics.faults.get(), 0);
}

#[tokio::test]
async fn without_the_providers_key_leases_of_a_failing_host_are_rejected_and_the_command_is_told() {
    let (host, played) = with_card(false, 600).await;
    played.play(with_xid(79, now()));
    until("the command to be told", || host.health.topics().contains_key("offer")).await;
    let told = host.health.topics()["offer"].clone();
    assert!(told.contains("container update") && told.contains("--accepting false"), "{told}");
    host.chain.change(|registration| registration.lease = Some(lease(Pubkey::new_unique(), Phase::Open)));
    until("the lease to be rejected", || host.chain.done() == ["reject 2"]).await;
}

#[tokio::test]
async fn what_the_provider_closed_by_hand_stays_closed() {
    let (host, _played) = with_card(true, 1).await;
    host.chain.change(|registration| registration.offer.accepting = false);
    until("the change to be seen", || host.metrics.accepting.get() == 0).await;
    host.chain.change(|registration| registration.offer.price_per_hour = 7);
    until("the next change to be seen", || host.metrics.price_per_hour.get() == 7).await;
    assert_eq!(host.chain.done(), Vec::<String>::new());
}

#[tokio::test]
async fn a_lease_is_rejected_with_the_reason_while_there_is_no_runtime() {
    let host = ready_host(Setup::default()).await;
    host.chain.change(|registration| registration.lease = Some(lease(Pubkey::new_unique(), Phase::Open)));
    until("the lease to be rejected", || host.chain.done() == ["reject 1"]).await;
    until("the lease to be gone", || host.metrics.leased.get() == 0).await;
    assert!(host.health.reasons().is_empty(), "{:?}", host.health.reasons());
}

#[tokio::test]
async fn endpoint_and_price_are_brought_in_step_once() {
    let wanted = Wanted { endpoint: None, price_per_hour: Some(1_500_000) };
    let host = ready_host(Setup { wanted, can_offer: true, ..Setup::default() }).await;
    let offered = format!("offer {} 1500000 true", host.url);
    until("the price to be offered", || host.chain.done() == [offered.clone()]).await;
    until("the change to be seen", || host.metrics.price_per_hour.get() == 1_500_000).await;
    assert_eq!(host.chain.done().len(), 1);
}

#[tokio::test]
async fn a_clock_that_is_off_an_endpoint_that_leads_elsewhere_and_a_key_without_fees_are_told() {
    let setup = Setup {
        lamports: 5_000,
        registration: Box::new(|registration| registration.as_mut().unwrap().offer.endpoint = "http://127.0.0.1:1".into()),
        ..Setup::default()
    };
    let host = crate::fake::host(setup).await;
    *host.chain.ahead.lock().unwrap() = 3_600;
    host.chain.change(|_| {});
    until("all to be told", || {
        let topics = host.health.topics();
        ["clock", "endpoint", "fees"].iter().all(|topic| topics.contains_key(topic))
    })
    .await;
    let topics = host.health.topics();
    assert!(topics["clock"].contains("behind the chain's") && topics["clock"].contains("NTP"), "{topics:?}");
    assert!(topics["endpoint"].contains("http://127.0.0.1:1 does not lead here"), "{topics:?}");
}
