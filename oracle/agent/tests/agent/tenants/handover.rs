//! Handing a workload over.

use std::{os::unix::fs::MetadataExt, sync::Arc};

use super::{Leased, asking, image, leased, running, runtime::Made, script, setup, tenant};
use crate::fake::{lease, now, sign, until};
use datagalax_agent::{
    chain::{Lease, Phase},
    workloads::policy::Policy,
};
use datagalax_protocol::lease::{End, LogFrame, State, Workload, WorkloadRequest, path};
use datagalax_tenant::TenantError;
use futures_util::StreamExt;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

fn refusal<T: std::fmt::Debug>(outcome: Result<T, TenantError>) -> String {
    match outcome {
        Err(TenantError::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// Handovers that were accepted, declined, refused.
fn counted(leased: &Leased) -> [u64; 3] {
    use datagalax_agent::metrics::Handover::{Accepted, Declined, Refused};
    [Accepted, Declined, Refused].map(|outcome| leased.host.metrics.handovers.get_or_create(&outcome).get())
}

#[tokio::test]
async fn a_workload_that_is_handed_over_is_kept_and_started_and_handing_it_over_again_changes_nothing() {
    let made = Arc::new(Made::default());
    let leased = leased(setup(running(made.clone())), &image()).await;
    assert_eq!(leased.status().await.state, State::Awaited);
    leased.run(&image()).await;
    leased.hand_over(&image()).await.unwrap();
    let status = leased.comes("it to run", |state| *state == State::Running).await;
    assert_eq!((status.lease.as_str(), status.notices.len()), (leased.lease.address.to_string().as_str(), 0));
    assert!(status.ends.is_some());
    assert_eq!((made.done(), leased.host.chain.done()), (vec!["start".to_owned()], vec!["start".to_owned()]));
    let kept = leased.host.state_path().join(format!("lease-{}.json", leased.lease.address));
    assert_eq!(std::fs::metadata(kept).unwrap().mode() & 0o777, 0o600);
    assert_eq!(counted(&leased)[0], 2);
}

#[tokio::test]
async fn what_the_hosts_policy_refuses_is_rejected_and_its_user_told_why() {
    let mut policy = running(Arc::new(Made::default()));
    policy.policy = Policy { images: vec!["docker.io/".into()], ..policy.policy };
    let leased = leased(setup(policy), &image()).await;
    let told = refusal(leased.hand_over(&image()).await);
    assert!(told.contains("only images that begin with docker.io/"), "{told}");
    until("the lease to be rejected", || leased.host.chain.done() == ["reject 3"]).await;
    // The lease is over, and its user may still ask how it ended.
    let State::Ended { end: End::NotStarted { reason } } = leased.status().await.state else { panic!("it has ended") };
    assert_eq!(reason, told);
    assert_eq!(counted(&leased), [0, 1, counted(&leased)[2]]);
    assert!(!leased.on_disk());
}

#[tokio::test]
async fn a_missing_image_is_a_rejection_and_the_last_words_of_the_log() {
    let made = Arc::new(Made { missing_image: true, ..Made::default() });
    let leased = leased(setup(running(made)), &image()).await;
    leased.hand_over(&image()).await.unwrap();
    let frames: Vec<_> = leased.tenant.logs(0, true).collect().await;
    let Some(Ok(LogFrame::End(End::NotStarted { reason }))) = frames.last() else { panic!("{frames:?}") };
    assert!(reason.contains("example.org/a@sha256:") && reason.contains("manifest unknown"), "{reason}");
    until("the lease to be rejected", || leased.host.chain.done() == ["reject 4"]).await;
}

#[tokio::test]
async fn a_lease_whose_workload_never_comes_is_rejected_before_it_is_missed() {
    let leased = leased(setup(running(Arc::new(Made::default()))), &image()).await;
    leased.host.chain.change_lease(|lease| lease.start_by = now() + 14);
    until("the lease to be rejected", || leased.host.chain.done() == ["reject 5"]).await;
}

#[tokio::test]
async fn another_workload_than_the_leases_is_refused() {
    let leased = leased(setup(running(Arc::new(Made::default()))), &image()).await;
    let other = Workload { salt: [9; 32], ..image() };
    let told = refusal(leased.hand_over(&other).await);
    assert!(told.contains("not the workload whose hash is in the lease"), "{told}");
    assert_eq!(leased.status().await.state, State::Awaited);
    leased.run(&image()).await;
}

#[tokio::test]
async fn another_wallet_hands_nothing_over_and_gets_no_session_and_is_told_who_may() {
    let leased = leased(setup(running(Arc::new(Made::default()))), &image()).await;
    let (stranger, image) = (tenant(&leased.host, &Arc::new(Keypair::new()), leased.lease.address), image());
    for told in [refusal(asking(|| stranger.hand_over(&image)).await), refusal(asking(|| stranger.status()).await)] {
        assert!(told.contains(&leased.user.pubkey().to_string()), "{told}");
    }
    // Not even the host's own operator.
    let operator = Arc::new(leased.host.operator.insecure_clone());
    let operators = tenant(&leased.host, &operator, leased.lease.address);
    refusal(asking(|| operators.status()).await);
    // Nor the user, about another lease.
    let elsewhere = tenant(&leased.host, &leased.user, Pubkey::new_unique());
    refusal(asking(|| elsewhere.hand_over(&image)).await);
}

#[tokio::test]
async fn strangers_make_the_host_look_at_the_chain_once_a_second_at_most() {
    let leased = leased(setup(running(Arc::new(Made::default()))), &image()).await;
    leased.status().await;
    let began = std::time::Instant::now();
    let before = leased.host.chain.asked();
    for _ in 0..20 {
        let stranger = tenant(&leased.host, &Arc::new(Keypair::new()), leased.lease.address);
        stranger.status().await.unwrap_err();
    }
    // The follower looks, too: every two seconds while the lease is open.
    let allowed = 2 * (began.elapsed().as_secs() + 1) + 1;
    let looked = leased.host.chain.asked() - before;
    assert!(looked <= allowed, "{looked} looks, {allowed} allowed");
}

#[tokio::test]
async fn a_lease_that_was_opened_a_moment_ago_is_looked_up() {
    // Nobody tells the agent of it.
    let host = crate::fake::ready_host(setup(running(Arc::new(Made::default())))).await;
    let user = Arc::new(Keypair::new());
    let opened = Lease { workload_hash: image().hash(), ..lease(user.pubkey(), Phase::Open) };
    host.chain.registration.lock().unwrap().as_mut().unwrap().lease = Some(opened);
    let leased = Leased { tenant: tenant(&host, &user, opened.address), host, user, lease: opened };
    leased.run(&image()).await;
}

#[tokio::test]
async fn in_the_clear_nothing_is_taken_and_a_message_counts_once() {
    let leased = leased(setup(running(Arc::new(Made::default()))), &script("sleep 1000")).await;
    let asked = WorkloadRequest { lease: leased.lease.address.to_bytes(), workload: script("sleep 1000") };
    let message = sign(&asked, 1, &leased.user).encode();
    let (status, text) = leased.host.refusal(path::WORKLOAD, message.clone()).await;
    assert_eq!((status, text.contains("TLS")), (reqwest::StatusCode::FORBIDDEN, true), "{text}");
    let (status, text) = leased.host.get(&path::status(&leased.lease.address)).await;
    assert_eq!((status, text.contains("TLS")), (reqwest::StatusCode::FORBIDDEN, true), "{text}");
    leased.status().await;
    let http = datagalax_service::tls::http(&leased.host.operator.pubkey()).build().unwrap();
    let url = format!("https://{}{}", leased.host.address, path::WORKLOAD);
    let [first, second] = [message.clone(), message].map(|message| http.post(&url).body(message).send());
    assert_eq!(first.await.unwrap().status(), reqwest::StatusCode::OK);
    assert_eq!(second.await.unwrap().status(), reqwest::StatusCode::CONFLICT, "replayed");
}
