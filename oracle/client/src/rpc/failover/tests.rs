//! Several nodes of the tests' own, on tokio's paused clock.

use proptest::prelude::*;
use solana_instruction::error::InstructionError;

use super::*;
use crate::rpc::fake::Fake;

const ADDRESS: Address = Address::new_from_array([7; 32]);

struct Bench {
    nodes: Vec<Arc<Fake>>,
    all: Failover,
}

/// Nodes that are all at slot 100, whose account tells which node answered.
fn bench(count: u8) -> Bench {
    let nodes: Vec<Arc<Fake>> = (0..count).map(|i| Arc::new(Fake::new(&format!("http://{i}")))).collect();
    for (i, node) in nodes.iter().enumerate() {
        let mut state = node.state();
        state.slot = 100;
        state.accounts.insert(ADDRESS, Account { lamports: i as u64, ..Account::default() });
    }
    let all = Failover::new(nodes.iter().map(|node| node.clone() as Arc<dyn Node>).collect());
    Bench { nodes, all }
}

impl Bench {
    /// Which node answers a read.
    async fn reads_from(&self) -> Result<u64, RpcError> {
        Ok(self.all.accounts(&[ADDRESS]).await?[0].as_ref().unwrap().lamports)
    }

    fn break_down(&self, i: usize) {
        let down = self.nodes[i].down();
        self.nodes[i].state().trouble = Some(down);
    }

    fn repair(&self, i: usize) {
        self.nodes[i].state().trouble = None;
    }

    fn asked(&self, i: usize) -> usize {
        self.nodes[i].state().asked.len()
    }
}

fn transaction() -> Transaction {
    Transaction { signatures: vec![Signature::from([1; 64])], ..Transaction::default() }
}

fn refused(error: TransactionError) -> RpcError {
    RpcError::Preflight { error, logs: vec![] }
}

fn custom() -> TransactionError {
    TransactionError::InstructionError(1, InstructionError::Custom(6_000))
}

#[tokio::test(start_paused = true)]
async fn the_preferred_node_answers_and_another_when_it_fails() {
    let bench = bench(3);
    assert_eq!(bench.reads_from().await.unwrap(), 0);
    bench.break_down(0);
    assert_eq!(bench.reads_from().await.unwrap(), 1);
    // It is left alone, and tried again when its pause is over.
    let asked = bench.asked(0);
    assert_eq!(bench.reads_from().await.unwrap(), 1);
    assert_eq!(bench.asked(0), asked);
    bench.repair(0);
    sleep(PAUSES.0).await;
    assert_eq!(bench.reads_from().await.unwrap(), 0);
    // All down: the error names the node, and each was tried.
    (0..3).for_each(|i| bench.break_down(i));
    assert!(matches!(bench.reads_from().await, Err(RpcError::Down { .. })));
    assert!(bench.all.health().iter().all(|node| node.left_alone && node.reason.is_some()));
    // Left alone or not: when there is no other it is used at once.
    bench.repair(2);
    assert_eq!(bench.reads_from().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_costs_one_wait() {
    let bench = bench(2);
    bench.nodes[0].state().hangs = true;
    let start = Instant::now();
    assert_eq!(bench.reads_from().await.unwrap(), 1);
    assert!(start.elapsed() <= IMPATIENCE + Duration::from_millis(50), "{:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(bench.reads_from().await.unwrap(), 1);
    assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_to_a_bound_and_one_trouble_counts_once() {
    let mut health = Health::default();
    let mut now = Instant::now();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        health.failed(now, "x".into());
        health.failed(now, "x".into());
        let until = health.until.unwrap();
        pauses.push((until - now).as_secs());
        now = until;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    // Trust comes back step by step.
    health.fine(now);
    assert_eq!((health.trouble, health.until), (8, None));
    (0..8).for_each(|_| health.fine(now));
    assert_eq!((health.trouble, health.reason), (0, None));
}

#[tokio::test(start_paused = true)]
async fn what_was_read_is_not_turned_back_by_a_node_that_lags() {
    let bench = bench(2);
    bench.nodes[1].state().slot = 97;
    assert_eq!(bench.reads_from().await.unwrap(), 0);
    bench.break_down(0);
    // It is waited for a little ...
    let nodes = bench.nodes.clone();
    tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        nodes[1].state().slot = 100;
    });
    let start = Instant::now();
    assert_eq!(bench.reads_from().await.unwrap(), 1);
    assert!(start.elapsed() >= Duration::from_secs(1));
    // ... and not for ever.
    bench.nodes[1].state().slot = 50;
    let behind = bench.reads_from().await.unwrap_err();
    assert!(matches!(behind, RpcError::Down { .. } | RpcError::Behind { .. }) && behind.is_transient(), "{behind}");
    assert!(bench.all.health()[1].reason.as_ref().unwrap().contains("behind"));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stands_still_is_found_out_and_left() {
    let bench = bench(2);
    assert_eq!(bench.reads_from().await.unwrap(), 0);
    bench.nodes[1].state().slot = 100 + MAX_LAG + 1;
    sleep(PROBE_EVERY * 2).await;
    assert!(bench.all.health()[0].reason.as_ref().unwrap().contains("26 slots behind"), "{:?}", bench.all.health());
    assert_eq!(bench.reads_from().await.unwrap(), 1);
    // It comes back.
    bench.nodes[0].state().slot = 200;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.reads_from().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_of_another_cluster_is_never_used() {
    let bench = bench(3);
    bench.nodes[0].state().genesis = 9;
    bench.break_down(0);
    assert_eq!(bench.reads_from().await.unwrap(), 1);
    bench.repair(0);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(bench.reads_from().await.unwrap(), 1);
    (1..3).for_each(|i| bench.break_down(i));
    bench.reads_from().await.unwrap_err();
    bench.all.send(&transaction(), true).await.unwrap_err();
    bench.all.send(&transaction(), false).await.unwrap_err();
    let asked = bench.nodes[0].state().asked.clone();
    assert!(asked.iter().all(|what| *what == "genesis_hash"), "{asked:?}");
    assert!(bench.all.health()[0].reason.as_ref().unwrap().contains("another cluster"));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_answer_and_no_trouble_of_the_node() {
    let bench = bench(2);
    // The node does not do this; the other does.
    bench.nodes[0].state().trouble = Some(RpcError::Refused { url: "http://0".into(), code: -32_010, message: "no".into() });
    assert_eq!(bench.reads_from().await.unwrap(), 1);
    assert!(!bench.all.health()[0].left_alone);
    bench.nodes[0].state().trouble =
        Some(RpcError::Refused { url: "http://0".into(), code: -32_005, message: "sick".into() });
    assert_eq!(bench.reads_from().await.unwrap(), 1);
    assert!(bench.all.health()[0].left_alone);
}

#[tokio::test(start_paused = true)]
async fn times_are_asked_of_whoever_knows_them() {
    let bench = bench(2);
    assert_eq!(bench.all.block_time(5).await.unwrap(), None);
    bench.nodes[1].state().times.insert(5, 77);
    assert_eq!(bench.all.block_time(5).await.unwrap(), Some(77));
    bench.break_down(1);
    assert_eq!(bench.all.block_time(5).await.unwrap(), None, "one node says that it has none");
    bench.break_down(0);
    bench.all.block_time(5).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_blockhash_unknown_to_one_node_is_tried_with_the_next() {
    let bench = bench(2);
    bench.nodes[0].state().send_trouble = Some(refused(TransactionError::BlockhashNotFound));
    bench.all.send(&transaction(), true).await.unwrap();
    assert_eq!(bench.nodes[1].state().sent.len(), 1);
    bench.nodes[1].state().send_trouble = Some(refused(TransactionError::BlockhashNotFound));
    assert_eq!(bench.all.send(&transaction(), true).await, Err(refused(TransactionError::BlockhashNotFound)));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_an_answer_that_was_lost_is_not_taken_for_one() {
    let bench = bench(2);
    // The first took it, and its answer was lost; for the second it came too late.
    let lost = bench.nodes[0].down();
    bench.nodes[0].state().send_trouble = Some(lost.clone());
    bench.nodes[1].state().send_trouble = Some(refused(custom()));
    assert_eq!(bench.all.send(&transaction(), true).await, Err(lost));
    bench.nodes[1].state().send_trouble = Some(refused(TransactionError::AlreadyProcessed));
    assert_eq!(bench.all.send(&transaction(), true).await, Err(refused(TransactionError::AlreadyProcessed)));
    // A refusal by the first is one: nobody took it.
    let bench = self::bench(2);
    bench.nodes[0].state().send_trouble = Some(refused(custom()));
    assert_eq!(bench.all.send(&transaction(), true).await, Err(refused(custom())));
    assert!(bench.nodes[1].state().sent.is_empty());
}

#[tokio::test(start_paused = true)]
async fn sent_again_it_goes_to_all() {
    let bench = bench(3);
    bench.break_down(1);
    bench.all.send(&transaction(), false).await.unwrap();
    assert_eq!(bench.nodes.iter().map(|node| node.state().sent.len()).collect::<Vec<_>>(), [1, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn one_that_another_node_has_seen_is_not_expired() {
    let bench = bench(3);
    let transaction = transaction();
    let signature = &transaction.signatures[0];
    bench.nodes.iter().for_each(|node| node.state().height = 500);
    assert_eq!(bench.all.fate(signature, 499).await.unwrap(), Fate::Expired);
    // Believed: whoever has seen it, else who thinks that it may still land.
    bench.nodes[1].state().height = 499;
    assert_eq!(bench.all.fate(signature, 499).await.unwrap(), Fate::Open);
    let status = Status { slot: 99, outcome: Ok(()), confirmed: true };
    bench.nodes[2].state().statuses.insert(*signature, status.clone());
    assert_eq!(bench.all.fate(signature, 499).await.unwrap(), Fate::Seen(status));
    // A node that fell far behind is not waited for.
    bench.nodes[2].state().statuses.clear();
    bench.nodes[1].state().slot = 10;
    sleep(PROBE_EVERY * 2).await;
    assert_eq!(bench.all.fate(signature, 499).await.unwrap(), Fate::Expired);
}

#[test]
fn what_cannot_be_meant_is_named() {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let error = |urls: &[&str], sockets: &[&str]| connect(&owned(urls), &owned(sockets)).err().unwrap();
    assert_eq!(error(&[], &[]), ConnectError::Count(0));
    let many: Vec<String> = (0..17).map(|i| format!("http://{i}")).collect();
    assert_eq!(connect(&many, &[]).err().unwrap(), ConnectError::Count(17));
    for url in ["", "localhost:8899", "ws://127.0.0.1:8900", "http://", "http:// x", "https:///path"] {
        assert!(matches!(error(&["http://a", url], &[]), ConnectError::Url { number: 2, .. }), "{url}");
    }
    assert_eq!(error(&["http://a/key", "http://b", "http://a/key/"], &[]), ConnectError::Twice("http://a/...".into()));
    assert_eq!(error(&["http://a", "http://b"], &["ws://a"]), ConnectError::Sockets { sockets: 1, nodes: 2 });
    assert!(matches!(error(&["http://a"], &["http://a"]), ConnectError::Socket { number: 1, .. }));
    let all = connect(&owned(&["http://a:1", "https://b/key"]), &[]).unwrap();
    assert_eq!((all.url(), all.sockets()), ("http://a:1, https://b/...", owned(&["ws://a:2", "wss://b/key"])));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However nodes come, go and lag: state that was read is never older than what was read before, and as long as one good node
    /// is there, it is found.
    #[test]
    fn the_state_never_runs_backwards(steps in prop::collection::vec((0usize..3, 0u64..40, any::<bool>(), 0u64..3_000), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let bench = bench(3);
            let mut read = 0;
            for (i, ahead, up, pause) in steps {
                bench.nodes[i].state().slot += ahead;
                if up { bench.repair(i) } else { bench.break_down(i) }
                sleep(Duration::from_millis(pause)).await;
                let newest = bench.nodes.iter().filter(|node| node.state().trouble.is_none()).map(|node| node.state().slot).max();
                match bench.reads_from().await {
                    Ok(node) => {
                        let slot = bench.nodes[node as usize].state().slot;
                        assert!(slot >= read, "slot {slot} after {read}");
                        read = slot;
                    }
                    Err(error) => assert!(newest.is_none_or(|slot| slot < read), "{error}, though a node is at {newest:?} of {read}"),
                }
            }
        });
    }
}
