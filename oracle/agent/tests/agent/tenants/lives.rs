//! Workloads that are lost, and agents that are restarted, with a runtime that does what the test says.

use std::sync::Arc;

use super::{image, leased, running, runtime::Made, setup, tenant};
use crate::fake::{Setup, ready_host, until};
use datagalax_agent::{daemon::Leases, metrics::Begin};
use datagalax_protocol::lease::{End, LogFrame, State, Status};
use futures_util::StreamExt;
use solana_keypair::Keypair;

#[tokio::test]
async fn a_workload_that_the_host_lost_is_started_again_and_its_user_told() {
    let made = Arc::new(Made::default());
    let leased = leased(setup(running(made.clone())), &image()).await;
    leased.run(&image()).await;
    made.becomes(datagalax_runtime::Status::Ended(datagalax_runtime::End::Lost));
    let started = |cause| leased.host.metrics.workload_starts.get_or_create(&cause).get();
    until("it to be started again", || started(Begin::Lost) == 1).await;
    let status = leased.comes("it to run again", |state| *state == State::Running).await;
    assert!(status.notices[0].text.contains("lost the workload"), "{:?}", status.notices);
    assert_eq!((made.done(), leased.host.chain.done()), (vec!["start".into(), "start".into()], vec!["start".to_owned()]));
    assert_eq!((started(Begin::First), leased.host.metrics.workloads_running.get()), (1, 1));
}

#[tokio::test]
async fn a_workload_that_ends_by_itself_is_not_started_again() {
    let made = Arc::new(Made::default());
    let leased = leased(setup(running(made.clone())), &image()).await;
    leased.run(&image()).await;
    made.becomes(datagalax_runtime::Status::Ended(datagalax_runtime::End::Exited(3)));
    let end = End::Exited { status: 3 };
    leased.comes("its end", |state| *state == State::Ended { end: end.clone() }).await;
    let frames: Vec<_> = leased.tenant.logs(0, false).map(Result::unwrap).collect().await;
    assert_eq!(frames, [LogFrame::End(end)]);
    assert_eq!(made.done(), ["start"]);
    assert!(leased.host.health.reasons().is_empty(), "{:?}", leased.host.health.reasons());
}

#[tokio::test]
async fn an_agent_that_is_restarted_finds_the_workload_running_and_what_it_used() {
    let made = Arc::new(Made::default());
    let (state, key) = (Arc::new(tempfile::tempdir().unwrap()), Keypair::new());
    let again = || Setup { state: state.clone(), key: key.insecure_clone(), ..setup(running(made.clone())) };
    let mut leased = leased(again(), &image()).await;
    leased.run(&image()).await;
    let gpu_seconds = |status: &Status| (status.usage.gpu_seconds > 0).then_some(status.usage.gpu_seconds);
    let used = leased.shows("some usage", gpu_seconds).await;
    let registration = leased.host.chain.registration.lock().unwrap().clone();
    let stopped = leased.host;
    stopped.stop().await.unwrap();
    assert_eq!(made.done(), ["start"], "it goes on without the agent");

    let lease = registration.unwrap().lease;
    let change = Box::new(move |known: &mut Option<datagalax_agent::chain::Registration>| {
        known.as_mut().unwrap().lease = lease;
    });
    leased.host = ready_host(Setup { registration: change, ..again() }).await;
    leased.tenant = tenant(&leased.host, &leased.user, leased.lease.address);
    let status = leased.comes("it to be found", |state| *state == State::Running).await;
    assert!(status.usage.gpu_seconds >= used && status.notices.is_empty(), "{status:?}");
    assert_eq!((made.done(), leased.host.chain.done()), (vec!["start".to_owned()], Vec::<String>::new()));
    leased.close();
    until("everything to be gone", || !leased.on_disk()).await;
    assert_eq!(made.done(), ["start", "stop"]);
}

#[tokio::test]
async fn what_is_left_of_a_lease_that_ended_while_the_agent_was_away_is_removed_and_its_usage_noted() {
    let made = Arc::new(Made::default());
    let (state, key) = (Arc::new(tempfile::tempdir().unwrap()), Keypair::new());
    let again = || Setup { state: state.clone(), key: key.insecure_clone(), ..setup(running(made.clone())) };
    let first = leased(again(), &image()).await;
    first.run(&image()).await;
    first.shows("some usage", |status| (status.usage.gpu_seconds > 0).then_some(())).await;
    let address = first.lease.address;
    first.host.stop().await.unwrap();
    let host = ready_host(again()).await;
    let record = state.path().join(format!("lease-{address}.json"));
    until("it to be removed", || !record.exists()).await;
    assert_eq!(made.done(), ["start", "stop"]);
    let noted = host.chain.usage.lock().unwrap().clone();
    assert!(matches!(noted.as_slice(), [(lease, usage)] if *lease == address && usage.gpu_seconds > 0), "{noted:?}");
}

#[tokio::test]
async fn an_agent_without_a_runtime_says_so_by_its_code() {
    let leased = leased(Setup { leases: Leases::Decline, ..Setup::default() }, &image()).await;
    until("the lease to be rejected", || leased.host.chain.done() == ["reject 1"]).await;
    leased.tenant.status().await.unwrap_err();
}
