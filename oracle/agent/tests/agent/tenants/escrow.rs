//! The end of what was escrowed, and what is noted of usage.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{PATIENCE, image, leased, running, runtime::Made, setup};
use crate::fake::{now, until};
use datagalax_agent::{metrics::Noted, workloads::Running};
use datagalax_protocol::lease::{End, LogFrame, State};
use futures_util::StreamExt;
use tokio::time::timeout;

#[tokio::test]
async fn the_user_is_told_before_the_escrow_is_used_up_and_again_after_a_top_up_and_then_it_is_stopped() {
    let made = Arc::new(Made::default());
    let leased = leased(setup(running(made.clone())), &image()).await;
    leased.run(&image()).await;
    let mut logs = leased.tenant.logs(0, true);
    leased.host.chain.change_lease(|lease| lease.end = now() + 250);
    let next = timeout(PATIENCE, logs.next()).await.expect("the user is told").unwrap().unwrap();
    let LogFrame::Notice(first) = next else { panic!("{next:?}") };
    assert!(first.text.contains("used up in 4m") && first.text.contains("top up"), "{}", first.text);
    // Once, however often it is looked at.
    leased.host.chain.change_lease(|_| ());
    // Topped up beyond the time to warn, and that comes, too.
    let topped_up = now() + 3_600;
    leased.host.chain.change_lease(|lease| lease.end = topped_up);
    leased.shows("the top-up", |status| (status.ends == Some(topped_up)).then_some(())).await;
    assert_eq!(leased.status().await.notices.len(), 1);
    leased.host.chain.change_lease(|lease| lease.end = now() + 120);
    let next = timeout(PATIENCE, logs.next()).await.expect("the user is told again").unwrap().unwrap();
    assert!(matches!(&next, LogFrame::Notice(second) if second.text.contains("used up in") && *second != first), "{next:?}");
    // The end. The chain has not been told that it is over.
    leased.host.chain.change_lease(|lease| lease.end = now());
    let next = timeout(PATIENCE, logs.next()).await.expect("it ends").unwrap().unwrap();
    assert_eq!(next, LogFrame::End(End::Stopped));
    assert!(logs.next().await.is_none());
    until("everything to be gone", || !leased.on_disk()).await;
    assert_eq!(made.done(), ["start", "stop"]);
    // It stays ended while nobody closes the lease.
    leased.host.chain.change_lease(|_| ());
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(made.done(), ["start", "stop"]);
    assert_eq!(leased.status().await.state, State::Ended { end: End::Stopped });
}

#[tokio::test]
async fn usage_is_noted_now_and_then_and_at_the_end_and_never_falls() {
    let made = Arc::new(Made::default());
    let often = Running { usage_every: Duration::from_millis(300), ..running(made.clone()) };
    let leased = leased(setup(often), &image()).await;
    leased.run(&image()).await;
    let began = now();
    made.traffic.store(5_000, Ordering::SeqCst);
    let noted = || leased.host.chain.usage.lock().unwrap().clone();
    until("usage to be noted", || noted().len() >= 3).await;
    // Its user disappears: it goes on, and ends with the lease.
    leased.close();
    until("everything to be gone", || !leased.on_disk()).await;
    let (noted, passed) = (noted(), (now() - began + 2) as u64);
    assert!(noted.iter().all(|(lease, _)| *lease == leased.lease.address));
    let rising = |figure: fn(&datagalax_protocol::lease::Usage) -> u64| noted.is_sorted_by_key(|(_, usage)| figure(usage));
    assert!(rising(|usage| usage.gpu_seconds) && rising(|usage| usage.joules) && rising(|usage| usage.bytes), "{noted:?}");
    let last = noted.last().unwrap().1;
    assert!((1..=passed).contains(&last.gpu_seconds), "{last:?} in {passed} s");
    assert_eq!(last.bytes, 5_000, "read a last time at the end");
    let count = |outcome| leased.host.metrics.usage_records.get_or_create(&outcome).get();
    assert_eq!((count(Noted::Noted), count(Noted::Failed)), (noted.len() as u64, 0));
}

#[tokio::test]
async fn usage_that_cannot_be_noted_harms_nothing() {
    let made = Arc::new(Made::default());
    let often = Running { usage_every: Duration::from_millis(100), ..running(made.clone()) };
    let leased = leased(setup(often), &image()).await;
    *leased.host.chain.refuse_usage.lock().unwrap() = true;
    leased.run(&image()).await;
    let failed = || leased.host.metrics.usage_records.get_or_create(&Noted::Failed).get();
    until("noting to fail", || failed() >= 2).await;
    leased.comes("it to run on", |state| *state == State::Running).await;
    assert!(leased.host.health.reasons().is_empty(), "{:?}", leased.host.health.reasons());
    assert_eq!(made.done(), ["start"]);
}
