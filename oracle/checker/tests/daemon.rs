//! Whole epochs of the daemon against a made-up chain and the real agent: what was committed is what is revealed, whatever
//! happens in between.

mod fake;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use datagalax_checker::{
    daemon::{Parts, run},
    measure::{Measurer, Plan},
    probe::{Limits, Prober},
    store::{Stage, Store},
};
use datagalax_protocol::{ReportValues, WorkSize, evidence};
use fake::{CHECKER, CLUSTER, FakeChain, Fault, bad, honest};
use solana_keypair::Keypair;
use solana_signer::Signer;
use tokio::{sync::oneshot, task::JoinHandle};

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

fn start(folder: &Path, chain: &Arc<FakeChain>, key: &Keypair) -> Running {
    let limits = Limits {
        timeout: Duration::from_millis(300),
        challenge_timeout: Duration::from_millis(500),
        size: WorkSize { rows: 64, inner: 64, columns: 32 },
        opened: 8,
    };
    let prober = Prober::new(Arc::new(key.insecure_clone()), limits).unwrap();
    let parts = Parts {
        id: CHECKER,
        cluster: CLUSTER,
        chain: chain.clone(),
        store: Store::open(folder, &CLUSTER, CHECKER).unwrap(),
        measurer: Measurer::new(prober, Plan { probes: 6, concurrency: 64 }),
        poll: Duration::from_millis(100),
        status: Some(folder.join("status.json")),
    };
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(run(parts, async {
        stopped.await.ok();
    }));
    Running { stop, task }
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }

    /// As `kill -9` does it.
    async fn kill(self) {
        self.task.abort();
        self.task.await.unwrap_err();
    }
}

fn votes(chain: &FakeChain) -> Vec<(u8, u8, u8)> {
    let values = ReportValues::from_bytes(chain.revealed.lock().unwrap().expect("revealed"));
    values.votes().map(|(row, vote)| (row, vote.availability, vote.capacity)).collect()
}

#[tokio::test]
async fn an_epoch_is_measured_committed_and_revealed() {
    let (folder, key) = (tempfile::tempdir().unwrap(), Keypair::new());
    let targets = vec![honest(3, &key.pubkey()).await, bad(9, Fault::Hangs).await];
    let chain = FakeChain::new(6, targets);
    let running = start(folder.path(), &chain, &key);
    chain.until("the reveal", |chain| chain.revealed.lock().unwrap().is_some()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    running.stop().await;
    assert_eq!(votes(&chain), [(3, 100, 100), (9, 0, 0)]);
    assert_eq!(chain.commits.load(Ordering::SeqCst), 1);
    let store = Store::open(folder.path(), &CLUSTER, CHECKER).unwrap();
    let [report] = store.load().unwrap().try_into().unwrap();
    assert_eq!(report.stage, Stage::Revealed);
    assert_eq!(evidence::root(&store.evidence(&report).unwrap()), chain.commitment(), "the evidence root on chain");
    let status: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("status.json")).unwrap()).unwrap();
    assert_eq!(status["rows"][0]["vote"]["capacity"], 100);
    assert!(status["rows"][0]["metrics"]["host"]["memory_total"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_checker_killed_after_its_commit_reveals_what_it_committed() {
    let (folder, key) = (tempfile::tempdir().unwrap(), Keypair::new());
    let chain = FakeChain::new(6, vec![honest(0, &key.pubkey()).await]);
    let first = start(folder.path(), &chain, &key);
    chain.until("the commit", |chain| chain.commitment() != [0; 32]).await;
    let committed = chain.commitment();
    first.kill().await;
    let second = start(folder.path(), &chain, &key);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(chain.commitment(), committed, "not measured and committed again");
    chain.until("the reveal", |chain| chain.revealed.lock().unwrap().is_some()).await;
    second.stop().await;
    assert_eq!(votes(&chain), [(0, 100, 100)]);
    assert_eq!(chain.commits.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_checker_killed_before_its_commit_landed_commits_what_it_saved() {
    let (folder, key) = (tempfile::tempdir().unwrap(), Keypair::new());
    let chain = FakeChain::new(7, vec![honest(0, &key.pubkey()).await]);
    chain.refuse_commits.store(true, Ordering::SeqCst);
    let first = start(folder.path(), &chain, &key);
    let status = folder.path().join("status.json");
    chain.until("the report", |_| status.exists()).await;
    first.kill().await;
    let [saved] = Store::open(folder.path(), &CLUSTER, CHECKER).unwrap().load().unwrap().try_into().unwrap();
    assert_eq!(saved.stage, Stage::Saved);
    chain.refuse_commits.store(false, Ordering::SeqCst);
    let second = start(folder.path(), &chain, &key);
    chain.until("the commit", |chain| chain.commitment() == saved.commitment).await;
    chain.until("the reveal", |chain| chain.revealed.lock().unwrap().is_some()).await;
    second.stop().await;
    assert_eq!(*chain.revealed.lock().unwrap(), Some(saved.values));
}

#[tokio::test]
async fn a_lost_answer_is_no_second_commit() {
    let (folder, key) = (tempfile::tempdir().unwrap(), Keypair::new());
    let chain = FakeChain::new(6, vec![honest(0, &key.pubkey()).await]);
    chain.lose_answers.store(true, Ordering::SeqCst);
    let running = start(folder.path(), &chain, &key);
    chain.until("the reveal", |chain| chain.revealed.lock().unwrap().is_some()).await;
    running.stop().await;
    assert_eq!(chain.commits.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_was_not_committed_in_time_is_given_up_and_said() {
    let (folder, key) = (tempfile::tempdir().unwrap(), Keypair::new());
    let chain = FakeChain::new(6, vec![honest(0, &key.pubkey()).await]);
    chain.refuse_commits.store(true, Ordering::SeqCst);
    let running = start(folder.path(), &chain, &key);
    tokio::time::sleep(Duration::from_millis(7_000)).await;
    running.stop().await;
    let [report] = Store::open(folder.path(), &CLUSTER, CHECKER).unwrap().load().unwrap().try_into().unwrap();
    assert_eq!(report.stage, Stage::Lost("its commitment did not land before the epoch's end".into()));
    assert!(chain.revealed.lock().unwrap().is_none());
}

#[tokio::test]
async fn a_reveal_of_something_else_is_refused_and_given_up() {
    let (folder, key) = (tempfile::tempdir().unwrap(), Keypair::new());
    let chain = FakeChain::new(6, vec![honest(0, &key.pubkey()).await]);
    let first = start(folder.path(), &chain, &key);
    chain.until("the commit", |chain| chain.commitment() != [0; 32]).await;
    first.kill().await;
    // Somebody changes the votes on disk.
    let store = Store::open(folder.path(), &CLUSTER, CHECKER).unwrap();
    let [mut report] = store.load().unwrap().try_into().unwrap();
    report.values[0] = 50;
    store.update(&report).unwrap();
    drop(store);
    let second = start(folder.path(), &chain, &key);
    tokio::time::sleep(Duration::from_secs(5)).await;
    second.stop().await;
    assert!(chain.revealed.lock().unwrap().is_none());
    let [report] = Store::open(folder.path(), &CLUSTER, CHECKER).unwrap().load().unwrap().try_into().unwrap();
    assert!(matches!(&report.stage, Stage::Lost(reason) if reason.contains("CommitmentMismatch")), "{:?}", report.stage);
}
