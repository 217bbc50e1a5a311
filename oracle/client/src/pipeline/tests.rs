//! The pipeline against a cluster of the tests' own: what it answers is scripted, time is tokio's paused clock.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use datagalax::error::DatagalaxError;
use futures_util::{FutureExt, future::BoxFuture};
use proptest::prelude::*;
use solana_account::Account;
use solana_hash::Hash;
use solana_instruction::error::InstructionError;

use super::*;
use crate::{
    addresses::PROGRAM,
    refusal::FIRST_CODE,
    rpc::{Simulation, Status},
};

/// What the cluster does with one send.
#[derive(Clone, Debug, PartialEq)]
enum OnSend {
    /// It lands with this outcome.
    Land(Result<(), TransactionError>),
    /// The response is lost, but it lands.
    LandAndLoseAnswer,
    /// Nobody sees it.
    Drop,
    /// The preflight refuses it.
    Refuse(TransactionError),
}

#[derive(Default)]
struct Cluster {
    script: Mutex<VecDeque<OnSend>>,
    landed: Mutex<HashMap<Signature, Status>>,
    sent: Mutex<Vec<Transaction>>,
    height: AtomicU64,
    /// Blocks made at each look at the height.
    blocks_a_look: u64,
    hashes: AtomicU64,
    simulations: AtomicUsize,
    refuse_simulation: Option<TransactionError>,
    units: u64,
    /// Requests answered before the node goes down.
    answers: Option<AtomicUsize>,
    notifies: bool,
    /// What the pending store must hold whenever something is sent.
    store: Option<Arc<MemoryStore>>,
}

impl Cluster {
    fn new(script: impl IntoIterator<Item = OnSend>) -> Self {
        Self { script: Mutex::new(script.into_iter().collect()), blocks_a_look: 1, units: 10_000, ..Self::default() }
    }

    fn answer<T>(&self, value: T) -> BoxFuture<'_, Result<T, RpcError>>
    where
        T: Send + 'static,
    {
        let down = self
            .answers
            .as_ref()
            .is_some_and(|left| left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err());
        let result =
            if down { Err(RpcError::Down { url: "http://test".into(), reason: "refused".into() }) } else { Ok(value) };
        std::future::ready(result).boxed()
    }
}

impl Rpc for Cluster {
    fn url(&self) -> &str {
        "http://test"
    }
    fn accounts<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        self.answer(vec![None; addresses.len()])
    }
    fn heads<'a>(&'a self, addresses: &'a [Address], _: usize) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        self.accounts(addresses)
    }
    fn program_accounts<'a>(
        &'a self,
        _: &'a Address,
        _: &'a [(usize, Vec<u8>)],
    ) -> BoxFuture<'a, Result<Vec<(Address, Account)>, RpcError>> {
        self.answer(vec![])
    }
    fn latest_blockhash(&self) -> BoxFuture<'_, Result<Blockhash, RpcError>> {
        let n = self.hashes.fetch_add(1, Ordering::Relaxed) as u8;
        let height = self.height.load(Ordering::Relaxed);
        self.answer(Blockhash { hash: Hash::new_from_array([n; 32]), last_valid_block_height: height + 20 })
    }
    fn block_height(&self) -> BoxFuture<'_, Result<u64, RpcError>> {
        let height = self.height.fetch_add(self.blocks_a_look, Ordering::Relaxed);
        self.answer(height)
    }
    fn finalized_slot(&self) -> BoxFuture<'_, Result<u64, RpcError>> {
        self.answer(0)
    }
    fn block_time(&self, _: u64) -> BoxFuture<'_, Result<Option<i64>, RpcError>> {
        self.answer(None)
    }
    fn genesis_hash(&self) -> BoxFuture<'_, Result<Hash, RpcError>> {
        self.answer(Hash::default())
    }
    fn rent(&self, _: usize) -> BoxFuture<'_, Result<u64, RpcError>> {
        self.answer(1)
    }
    fn simulate<'a>(&'a self, _: &'a Transaction) -> BoxFuture<'a, Result<Simulation, RpcError>> {
        self.simulations.fetch_add(1, Ordering::Relaxed);
        let outcome = self.refuse_simulation.clone().map_or(Ok(()), Err);
        self.answer(Simulation { outcome, logs: vec![], units: self.units })
    }
    fn send<'a>(&'a self, transaction: &'a Transaction, _: bool) -> BoxFuture<'a, Result<(), RpcError>> {
        transaction.verify().expect("only signed transactions are sent");
        if let Some(store) = &self.store {
            let kept = store.all().unwrap();
            assert!(kept.iter().any(|p| p.transaction == *transaction), "sent before it was kept");
        }
        self.sent.lock().unwrap().push(transaction.clone());
        let what = self.script.lock().unwrap().pop_front().unwrap_or(OnSend::Drop);
        let land = |outcome| {
            let status = Status { slot: 7, outcome, confirmed: true };
            self.landed.lock().unwrap().entry(transaction.signatures[0]).or_insert(status);
        };
        match what {
            OnSend::Land(outcome) => land(outcome),
            OnSend::LandAndLoseAnswer => {
                land(Ok(()));
                let lost = RpcError::Down { url: "http://test".into(), reason: "reset".into() };
                return std::future::ready(Err(lost)).boxed();
            }
            OnSend::Drop => {}
            OnSend::Refuse(error) => {
                return std::future::ready(Err(RpcError::Preflight { error, logs: vec![] })).boxed();
            }
        }
        self.answer(())
    }
    fn statuses<'a>(&'a self, signatures: &'a [Signature]) -> BoxFuture<'a, Result<Vec<Option<Status>>, RpcError>> {
        let landed = self.landed.lock().unwrap();
        let statuses = signatures.iter().map(|s| landed.get(s).cloned()).collect();
        drop(landed);
        self.answer(statuses)
    }
    fn confirmed<'a>(&'a self, _: &'a Signature) -> BoxFuture<'a, ()> {
        if self.notifies { std::future::ready(()).boxed() } else { std::future::pending().boxed() }
    }
}

struct Bench {
    cluster: Arc<Cluster>,
    store: Arc<MemoryStore>,
    pipeline: Pipeline,
}

fn bench(mut cluster: Cluster) -> Bench {
    let store = Arc::new(MemoryStore::default());
    cluster.store = Some(store.clone());
    let cluster = Arc::new(cluster);
    let payer = Arc::new(Keypair::new());
    let pipeline = Pipeline::new(
        cluster.clone(),
        payer,
        store.clone(),
        Settings { patience: Duration::from_secs(30), ..Settings::default() },
    );
    Bench { cluster, store, pipeline }
}

fn nothing() -> Instruction {
    Instruction { program_id: PROGRAM, accounts: vec![], data: vec![1, 2, 3] }
}

fn refusal() -> TransactionError {
    let code = FIRST_CODE + DatagalaxError::AlreadyDrawn as u32;
    TransactionError::InstructionError(1, InstructionError::Custom(code))
}

#[tokio::test(start_paused = true)]
async fn lands_with_a_limit_from_the_simulation() {
    let bench = bench(Cluster::new([OnSend::Land(Ok(()))]));
    let landed = bench.pipeline.send("test", &[nothing()], &[]).await.unwrap();
    let sent = bench.cluster.sent.lock().unwrap();
    assert_eq!((landed.slot, landed.units, landed.signature), (7, 10_000, sent[0].signatures[0]));
    // ComputeBudget: 2 sets the limit; 10,000 and the least margin of 3,000.
    assert_eq!(sent[0].message.instructions[0].data, [vec![2], 13_000u32.to_le_bytes().to_vec()].concat());
    assert_eq!(sent[0].message.instructions.len(), 2, "no price unless one is set");
    assert_eq!(bench.store.all().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_simulated_refusal_sends_nothing() {
    let bench = bench(Cluster { refuse_simulation: Some(refusal()), ..Cluster::new([]) });
    let error = bench.pipeline.send("draw", &[nothing()], &[]).await.unwrap_err();
    assert!(error.is(DatagalaxError::AlreadyDrawn) && error.to_string().contains("drawn already"), "{error}");
    assert!(bench.cluster.sent.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_preflight_refusal_and_a_failure_on_chain_are_told_apart() {
    let one = bench(Cluster::new([OnSend::Refuse(refusal())]));
    assert!(matches!(one.pipeline.send("x", &[nothing()], &[]).await, Err(SendError::Refused { .. })));
    assert_eq!(one.store.all().unwrap(), []);
    let two = bench(Cluster::new([OnSend::Land(Err(refusal()))]));
    let error = two.pipeline.send("x", &[nothing()], &[]).await.unwrap_err();
    assert!(matches!(error, SendError::Failed { .. }) && error.is(DatagalaxError::AlreadyDrawn));
    assert_eq!(two.store.all().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_found_out_not_repeated() {
    let bench = bench(Cluster::new([OnSend::LandAndLoseAnswer]));
    bench.pipeline.send("x", &[nothing()], &[]).await.unwrap();
    assert_eq!(bench.cluster.landed.lock().unwrap().len(), 1);
    assert_eq!(bench.cluster.sent.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn is_sent_again_unchanged_until_it_lands() {
    let bench = bench(Cluster::new([OnSend::Drop, OnSend::Drop, OnSend::Land(Ok(()))]));
    bench.pipeline.send("x", &[nothing()], &[]).await.unwrap();
    let sent = bench.cluster.sent.lock().unwrap();
    assert!(sent.len() == 3 && sent.iter().all(|t| *t == sent[0]), "the same transaction, three times");
}

#[tokio::test(start_paused = true)]
async fn is_signed_anew_only_after_it_expired_and_not_for_ever() {
    let bench = bench(Cluster { blocks_a_look: 10, ..Cluster::new([]) });
    let error = bench.pipeline.send("x", &[nothing()], &[]).await.unwrap_err();
    assert!(matches!(error, SendError::Expired { attempts: 3, .. }), "{error}");
    let sent = bench.cluster.sent.lock().unwrap();
    let hashes: std::collections::BTreeSet<_> = sent.iter().map(|t| t.message.recent_blockhash.to_bytes()).collect();
    assert_eq!(hashes.len(), 3);
    assert_eq!(bench.store.all().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_after_sending_leaves_it_pending_and_a_restart_resolves_it() {
    // Blockhash, simulation and the send itself are answered, then nothing more.
    let cluster = Cluster { answers: Some(AtomicUsize::new(3)), ..Cluster::new([OnSend::Land(Ok(()))]) };
    let one = bench(cluster);
    let error = one.pipeline.send("commit block 3", &[nothing()], &[]).await.unwrap_err();
    assert!(matches!(&error, SendError::Unknown { reason, .. } if reason.contains("http://test")), "{error}");
    assert_eq!(one.store.all().unwrap().len(), 1);

    one.cluster.answers.as_ref().unwrap().store(usize::MAX, Ordering::Relaxed);
    let resolved = one.pipeline.resolve_pending().await.unwrap();
    assert_eq!(
        resolved.iter().map(|(p, r)| (p.label.as_str(), r)).collect::<Vec<_>>(),
        [("commit block 3", &Resolved::Landed)]
    );
    assert_eq!(one.store.all().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_down_from_the_start_is_named() {
    let bench = bench(Cluster { answers: Some(AtomicUsize::new(0)), ..Cluster::new([]) });
    let error = bench.pipeline.send("x", &[nothing()], &[]).await.unwrap_err();
    assert!(matches!(error, SendError::Rpc(RpcError::Down { .. })) && error.is_transient());
}

#[tokio::test(start_paused = true)]
async fn too_large_and_unsigned_are_named_before_anything_is_asked() {
    let bench = bench(Cluster::new([]));
    let large = Instruction { data: vec![0; 1_200], ..nothing() };
    assert!(matches!(bench.pipeline.send("x", &[large], &[]).await, Err(SendError::TooLarge { .. })));
    let other = Keypair::new();
    let mut signed = nothing();
    signed.accounts.push(solana_instruction::AccountMeta::new_readonly(other.pubkey(), true));
    assert!(matches!(bench.pipeline.send("x", std::slice::from_ref(&signed), &[]).await, Err(SendError::Unsigned { .. })));
    assert_eq!(bench.cluster.simulations.load(Ordering::Relaxed), 0);
    // Keys that are not needed and keys given twice do no harm.
    bench.cluster.script.lock().unwrap().push_back(OnSend::Land(Ok(())));
    let spare = Keypair::new();
    bench.pipeline.send("x", &[signed], &[&other, &spare, &other]).await.unwrap();
}

fn any_send() -> impl Strategy<Value = OnSend> {
    prop_oneof![
        Just(OnSend::Land(Ok(()))),
        Just(OnSend::Land(Err(refusal()))),
        Just(OnSend::LandAndLoseAnswer),
        Just(OnSend::Drop),
        Just(OnSend::Refuse(TransactionError::BlockhashNotFound)),
        Just(OnSend::Refuse(TransactionError::AlreadyProcessed)),
        Just(OnSend::Refuse(refusal())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the cluster does: never two successes, and the answer is what the chain says.
    #[test]
    fn nothing_is_done_twice_and_nothing_is_forgotten(
        script in prop::collection::vec(any_send(), 0..6),
        answers in prop::option::of(0usize..40),
        blocks_a_look in 0u64..8,
        notifies in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let cluster = Cluster { answers: answers.map(AtomicUsize::new), blocks_a_look, notifies, ..Cluster::new(script) };
            let bench = bench(cluster);
            let result = bench.pipeline.send("x", &[nothing()], &[]).await;
            let landed = bench.cluster.landed.lock().unwrap().clone();
            let done = landed.values().filter(|s| s.outcome.is_ok()).count();
            assert!(done <= 1, "done {done} times");
            let kept = bench.store.all().unwrap();
            match result {
                Ok(landed) => assert!(done == 1 && kept.is_empty() && bench.cluster.landed.lock().unwrap().contains_key(&landed.signature)),
                Err(SendError::Unknown { signature, .. }) => {
                    assert!(kept.iter().any(|p| p.signature() == signature), "an unknown outcome must stay in the store");
                }
                Err(_) => assert!(done == 0 && kept.is_empty()),
            }
        });
    }
}
