//! Workloads that are images, in a real engine of these tests' own.

// The engine is the one of the runtime's tests, which use more of it.
#[path = "../../../../runtime/tests/engine/mod.rs"]
#[allow(dead_code, reason = "the runtime's tests use the rest")]
mod engine;

use std::{sync::Arc, time::Duration};

use bollard::query_parameters::ListContainersOptionsBuilder;
use datagalax_agent::chain::Registration;
use datagalax_protocol::lease::{State, Workload};
use datagalax_runtime::{Runtime, oci::Containers};
use solana_keypair::Keypair;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::{
    Leased, PATIENCE, leased,
    processes::{run, says},
    running, script, setup, tenant,
};
use crate::fake::{Setup, ready_host, until};

/// What the workload's port answers to this.
async fn echo(leased: &Leased, said: &[u8]) -> String {
    loop {
        let mut heard = vec![0; said.len()];
        let asked = async {
            let mut port = leased.tenant.port("ECHO").await.ok()?;
            port.write_all(said).await.ok()?;
            port.read_exact(&mut heard).await.ok()
        };
        // It listens a moment after it says so.
        match asked.await {
            Some(_) => return String::from_utf8(heard).unwrap(),
            None => sleep(Duration::from_millis(100)).await,
        }
    }
}

#[tokio::test]
async fn an_image_is_run_and_reached_outlives_the_agent_and_is_gone_with_its_lease() {
    let engine = engine::engine().await;
    let place = tempfile::tempdir().unwrap();
    let serve = "echo it is $SECRET; while :; do nc -l -p $PORT_ECHO -e /bin/cat; done";
    let workload = Workload {
        image: Some(engine.image.clone()),
        environment: [("SECRET".to_owned(), "xyzzy".to_owned())].into(),
        ..script(serve)
    };
    let open = async || {
        let containers = Containers::open(&place.path().join("leases"), &engine.socket).await.unwrap();
        setup(running(Arc::new(containers) as Arc<dyn Runtime>))
    };
    let (state, key) = (Arc::new(tempfile::tempdir().unwrap()), Keypair::new());
    let again = async || Setup { state: state.clone(), key: key.insecure_clone(), ..open().await };
    let mut leased = leased(again().await, &workload).await;
    leased.run(&workload).await;
    assert_eq!(says(&leased, "\n").await, "it is xyzzy\n");
    assert_eq!(run(&leased, &["cat"], b"through and through").await, ("through and through".into(), String::new(), 0));
    let (_, err, status) = run(&leased, &["touch", "/outside"], b"").await;
    assert!(status != 0 && err.contains("Read-only"), "{status}: {err}");

    assert_eq!(timeout(PATIENCE, echo(&leased, b"hello")).await.expect("it answers"), "hello");
    leased.tenant.copy_in("in.txt", &b"copied"[..]).await.unwrap();
    assert_eq!(run(&leased, &["cat", "in.txt"], b"").await.0, "copied");

    let lease = leased.host.chain.registration.lock().unwrap().as_ref().unwrap().lease;
    leased.host.stop().await.unwrap();
    let change = Box::new(move |known: &mut Option<Registration>| known.as_mut().unwrap().lease = lease);
    leased.host = ready_host(Setup { registration: change, ..again().await }).await;
    leased.tenant = tenant(&leased.host, &leased.user, leased.lease.address);
    leased.comes("it to be found", |state| *state == State::Running).await;
    assert_eq!(run(&leased, &["cat", "in.txt"], b"").await.0, "copied");
    assert!(leased.status().await.notices.is_empty(), "it is the same one");

    leased.close();
    until("the record to be gone", || !leased.on_disk()).await;
    let all = ListContainersOptionsBuilder::new().all(true).build();
    assert_eq!(engine.docker.list_containers(Some(all)).await.unwrap(), []);
}
