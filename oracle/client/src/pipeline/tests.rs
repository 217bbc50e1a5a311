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

use tokio::time::sleep;

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
    /// What others pay.
    fees: Vec<u64>,
    /// Actions (by the first byte of their data) that fail in simulation, and those that fail only on chain.
    bad: Vec<u8>,
    bad_on_chain: Vec<u8>,
    /// Actions that were done, in order.
    done: Mutex<Vec<u8>>,
    /// Compute units of all, where the chain has a limit of its own.
    limited: bool,
    /// Whether all lands once the script is at its end; else it is dropped.
    lands: bool,
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
    fn accounts_at<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<crate::rpc::Snapshot, RpcError>> {
        self.answer((1, vec![None; addresses.len()]))
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
    fn recent_fees<'a>(&'a self, _: &'a [Address]) -> BoxFuture<'a, Result<Vec<u64>, RpcError>> {
        self.answer(self.fees.clone())
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
    fn simulate<'a>(&'a self, transaction: &'a Transaction) -> BoxFuture<'a, Result<Simulation, RpcError>> {
        self.simulations.fetch_add(1, Ordering::Relaxed);
        let acts = acts(transaction);
        let units = self.units * acts.len() as u64;
        let bad = acts.iter().find(|(_, act)| self.bad.contains(act)).map(|(at, _)| failure(*at));
        let over = acts.last().filter(|_| self.limited && units > u64::from(MAX_COMPUTE_UNITS));
        let over =
            over.map(|(at, _)| TransactionError::InstructionError(*at, InstructionError::ComputationalBudgetExceeded));
        let outcome = self.refuse_simulation.clone().or(bad).or(over).map_or(Ok(()), Err);
        self.answer(Simulation { outcome, logs: vec![], units })
    }
    fn send<'a>(&'a self, transaction: &'a Transaction, _: bool) -> BoxFuture<'a, Result<(), RpcError>> {
        transaction.verify().expect("only signed transactions are sent");
        if let Some(store) = &self.store {
            let kept = store.all().unwrap();
            assert!(kept.iter().any(|p| p.transaction == *transaction), "sent before it was kept");
        }
        self.sent.lock().unwrap().push(transaction.clone());
        let what = self.script.lock().unwrap().pop_front();
        let what = what.unwrap_or(if self.lands { OnSend::Land(Ok(())) } else { OnSend::Drop });
        let land = |outcome: Result<(), TransactionError>| {
            let acts = acts(transaction);
            let bad = acts.iter().find(|(_, act)| self.bad_on_chain.contains(act)).map(|(at, _)| failure(*at));
            let outcome = outcome.and(bad.map_or(Ok(()), Err));
            if outcome.is_ok() && !self.landed.lock().unwrap().contains_key(&transaction.signatures[0]) {
                self.done.lock().unwrap().extend(acts.iter().map(|(_, act)| *act));
            }
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

/// The actions of a transaction, each with the index of its instruction.
fn acts(transaction: &Transaction) -> Vec<(u8, u8)> {
    let message = &transaction.message;
    let ours = |i: &&(u8, &solana_message::compiled_instruction::CompiledInstruction)| {
        message.account_keys[usize::from(i.1.program_id_index)] == PROGRAM
    };
    (0u8..).zip(&message.instructions).collect::<Vec<_>>().iter().filter(ours).map(|(at, i)| (*at, i.data[0])).collect()
}

fn failure(at: u8) -> TransactionError {
    let code = FIRST_CODE + DatagalaxError::AlreadyDrawn as u32;
    TransactionError::InstructionError(at, InstructionError::Custom(code))
}

fn act(id: u8) -> Instruction {
    Instruction { program_id: PROGRAM, accounts: vec![], data: vec![id; 60] }
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

impl Bench {
    /// The pipeline of a process that comes after this one.
    fn restarted(&self) -> Pipeline {
        let inner = &self.pipeline.inner;
        Pipeline::new(self.cluster.clone(), inner.payer.clone(), self.store.clone(), inner.settings)
    }

    fn comes_back(&self) {
        self.cluster.answers.as_ref().unwrap().store(usize::MAX, Ordering::Relaxed);
    }

    fn done(&self) -> Vec<u8> {
        self.cluster.done.lock().unwrap().clone()
    }
}

/// A cluster that lands all, and that can go down.
fn sound() -> Cluster {
    Cluster { answers: Some(AtomicUsize::new(usize::MAX)), lands: true, ..Cluster::new([]) }
}

fn actions(ids: impl IntoIterator<Item = u8>) -> Vec<Action<'static>> {
    ids.into_iter().map(|id| Action { label: format!("do {id}"), instructions: vec![act(id)], signers: vec![] }).collect()
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
    assert_eq!((landed.slot, landed.units, landed.signature, landed.fee), (7, 10_000, sent[0].signatures[0], 5_000));
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
    // Blockhash, simulation, recent fees and the send itself are answered, then nothing more.
    let cluster = Cluster { answers: Some(AtomicUsize::new(4)), ..Cluster::new([OnSend::Land(Ok(()))]) };
    let one = bench(cluster);
    let error = one.pipeline.send("commit block 3", &[nothing()], &[]).await.unwrap_err();
    assert!(matches!(&error, SendError::Unknown { reason, .. } if reason.contains("http://test")), "{error}");
    assert_eq!(one.store.all().unwrap().len(), 1);

    one.cluster.answers.as_ref().unwrap().store(usize::MAX, Ordering::Relaxed);
    let resolved = one.restarted().resolve_pending().await.unwrap();
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

#[tokio::test(start_paused = true)]
async fn pays_what_others_pay_within_the_bounds_and_more_when_it_did_not_land() {
    let dropped = vec![OnSend::Drop; 9];
    let cluster = Cluster { fees: vec![100_000, 0, 300_000, 200_000], blocks_a_look: 10, ..Cluster::new(dropped) };
    let bench = bench(cluster);
    bench.pipeline.send("x", &[nothing()], &[]).await.unwrap_err();
    let mut prices: Vec<u64> = Vec::new();
    for transaction in bench.cluster.sent.lock().unwrap().iter() {
        // ComputeBudget: 3 sets the price.
        assert_eq!(transaction.message.instructions[1].data[0], 3);
        let price = u64::from_le_bytes(transaction.message.instructions[1].data[1..].try_into().unwrap());
        if prices.last() != Some(&price) {
            prices.push(price);
        }
    }
    assert_eq!(prices, [200_000, 300_000, 450_000]);

    let bench = self::bench(Cluster { fees: vec![u64::MAX], ..Cluster::new([OnSend::Land(Ok(()))]) });
    let landed = bench.pipeline.send("x", &[nothing()], &[]).await.unwrap();
    // 13,000 units at the hard maximum of a lamport each.
    assert_eq!(landed.fee, 5_000 + 13_000);
}

#[tokio::test(start_paused = true)]
async fn a_failure_tells_what_it_cost() {
    let bench = bench(Cluster::new([OnSend::Land(Err(refusal()))]));
    let error = bench.pipeline.send("x", &[nothing()], &[]).await.unwrap_err();
    assert!(matches!(error, SendError::Failed { fee: 5_000, .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_action_twice_within_a_blockhash_is_done_twice() {
    let bench = bench(sound());
    let (action, pipeline) = ([act(1)], &bench.pipeline);
    let (one, two) = tokio::join!(pipeline.send("x", &action, &[]), pipeline.send("x", &action, &[]));
    let three = pipeline.send("x", &action, &[]).await;
    let signatures = [one, two, three].map(|landed| landed.unwrap().signature);
    assert!(signatures[0] != signatures[1] && signatures[1] != signatures[2] && signatures[0] != signatures[2]);
    assert_eq!(bench.done(), [1, 1, 1]);
    assert_eq!(bench.cluster.hashes.load(Ordering::Relaxed), 1, "one blockhash did for all");
}

#[tokio::test(start_paused = true)]
async fn blockhashes_come_from_the_background() {
    let bench = bench(sound());
    for _ in 0..20 {
        bench.pipeline.send("x", &[act(1)], &[]).await.unwrap();
        sleep(Duration::from_millis(500)).await;
    }
    // One at the start, and one every five seconds.
    let asked = bench.cluster.hashes.load(Ordering::Relaxed);
    assert!((2..=5).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_out_of_sight_is_looked_for_and_is_that_of_the_same_sent_again() {
    // As long as the node is away ...
    let bench = bench(Cluster { answers: Some(AtomicUsize::new(4)), lands: true, ..Cluster::new([]) });
    let error = bench.pipeline.send("x", &[act(1)], &[]).await.unwrap_err();
    let SendError::Unknown { signature, .. } = error else { panic!("{error}") };
    let again = bench.pipeline.send("x", &[act(1)], &[]).await.unwrap_err();
    assert!(matches!(again, SendError::Unknown { signature: of, .. } if of == signature), "{again}");
    assert_eq!((bench.pipeline.unresolved(), bench.store.all().unwrap().len()), (1, 1));
    // ... and when it is back, sent again before or after the background found out.
    bench.comes_back();
    sleep(Duration::from_secs(200)).await;
    assert_eq!((bench.pipeline.unresolved(), bench.store.all().unwrap().len()), (0, 0));
    assert_eq!(bench.pipeline.send("x", &[act(1)], &[]).await.unwrap().signature, signature);
    assert_eq!(bench.done(), [1]);
    // Once: after that it is another action.
    assert_ne!(bench.pipeline.send("x", &[act(1)], &[]).await.unwrap().signature, signature);
    assert_eq!(bench.done(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_is_carried_to_its_end_in_the_background() {
    let bench = bench(Cluster { blocks_a_look: 0, ..Cluster::new([OnSend::Drop, OnSend::Drop, OnSend::Land(Ok(()))]) });
    let dropped = tokio::time::timeout(Duration::from_millis(900), bench.pipeline.send("x", &[act(1)], &[])).await;
    assert!(dropped.is_err() && bench.pipeline.unresolved() == 1);
    let landed = bench.pipeline.send("x", &[act(1)], &[]).await.unwrap();
    assert_eq!(landed.signature, bench.cluster.sent.lock().unwrap()[0].signatures[0]);
    assert_eq!((bench.done(), bench.pipeline.unresolved(), bench.store.all().unwrap()), (vec![1], 0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn nothing_new_is_sent_before_what_was_left_over_is_resolved() {
    let bench = bench(Cluster { answers: Some(AtomicUsize::new(4)), lands: true, ..Cluster::new([]) });
    bench.pipeline.send("the old one", &[act(1)], &[]).await.unwrap_err();
    let next = bench.restarted();
    let error = next.send("the new one", &[act(2)], &[]).await.unwrap_err();
    assert!(
        matches!(&error, SendError::Unresolved { left, .. } if left == "the old one") && error.is_transient(),
        "{error}"
    );
    assert_eq!(bench.cluster.sent.lock().unwrap().iter().filter(|t| acts(t)[0].1 == 2).count(), 0);
    bench.comes_back();
    next.send("the new one", &[act(2)], &[]).await.unwrap();
    assert_eq!((bench.done(), bench.store.all().unwrap()), (vec![1, 2], vec![]));
}

/// Keeps, and cannot drop.
#[derive(Default)]
struct Stuck(MemoryStore);

impl PendingStore for Stuck {
    fn put(&self, pending: &Pending) -> Result<(), StoreError> {
        self.0.put(pending)
    }
    fn remove(&self, _: &Signature) -> Result<(), StoreError> {
        Err(DirectoryStore::open("/dev/null/x".as_ref()).err().unwrap())
    }
    fn all(&self) -> Result<Vec<Pending>, StoreError> {
        self.0.all()
    }
}

#[tokio::test(start_paused = true)]
async fn that_the_store_cannot_drop_it_does_not_change_an_outcome() {
    let cluster = Arc::new(sound());
    let pipeline = Pipeline::new(cluster, Arc::new(Keypair::new()), Arc::new(Stuck::default()), Settings::default());
    pipeline.send("x", &[act(1)], &[]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_takes_few_transactions_and_shares_their_fees() {
    let bench = bench(sound());
    let results = bench.pipeline.send_batch(&actions(0..40)).await;
    let landed: Vec<Landed> = results.into_iter().map(Result::unwrap).collect();
    let sent = bench.cluster.sent.lock().unwrap().clone();
    assert_eq!(bench.done(), (0..40).collect::<Vec<_>>(), "in order, each once");
    // 40 of some 65 bytes each, and 200 bytes around them.
    assert!(sent.len() == 3 && sent.iter().all(|t| wire_bytes(&t.message) <= MAX_TRANSACTION), "{}", sent.len());
    assert_eq!(landed.iter().map(|l| l.fee).sum::<u64>(), 3 * 5_000);
}

#[tokio::test(start_paused = true)]
async fn who_fails_in_a_batch_holds_up_nobody() {
    for (bad, bad_on_chain) in [(vec![3, 7], vec![]), (vec![], vec![3, 7]), (vec![3], vec![7])] {
        let on_chain = bad_on_chain.len() as u64;
        let bench = bench(Cluster { bad, bad_on_chain, fees: vec![1_000], ..sound() });
        let results = bench.pipeline.send_batch(&actions(0..10)).await;
        for (i, result) in results.iter().enumerate() {
            match result {
                Err(error) => {
                    assert!([3, 7].contains(&i) && error.is(DatagalaxError::AlreadyDrawn), "{i}: {error}");
                    assert!(error.to_string().starts_with(&format!("cannot do {i}")), "{error}");
                }
                Ok(_) => assert!(![3, 7].contains(&i), "{i}"),
            }
        }
        assert_eq!(bench.done(), [0, 1, 2, 4, 5, 6, 8, 9]);
        // What landed and failed was paid for, and is told.
        let told: u64 = results
            .iter()
            .map(|r| match r {
                Ok(landed) => landed.fee,
                Err(SendError::Failed { fee, .. }) => *fee,
                Err(_) => 0,
            })
            .sum();
        let paid: u64 = bench
            .cluster
            .sent
            .lock()
            .unwrap()
            .iter()
            .map(|t| {
                let limit = u32::from_le_bytes(t.message.instructions[0].data[1..].try_into().unwrap());
                charged(1, limit, 1_000)
            })
            .sum();
        assert_eq!(told, paid, "{on_chain} failed on chain");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_divided_where_compute_units_do_not_suffice() {
    for limited in [false, true] {
        let bench = bench(Cluster { units: 300_000, limited, ..sound() });
        let results = bench.pipeline.send_batch(&actions(0..10)).await;
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(bench.done(), (0..10).collect::<Vec<_>>());
        let most = bench.cluster.sent.lock().unwrap().iter().map(|t| acts(t).len()).max();
        // Four of 300,000 and 15 percent.
        assert!(matches!(most, Some(2..=4)), "{most:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_node_goes_away_says_what_is_open_and_what_was_not_tried() {
    let bench = bench(Cluster { answers: Some(AtomicUsize::new(4)), lands: true, ..Cluster::new([]) });
    let results = bench.pipeline.send_batch(&actions(0..40)).await;
    let unknown = results.iter().filter(|r| matches!(r, Err(SendError::Unknown { .. }))).count();
    let untried = results.iter().filter(|r| matches!(r, Err(SendError::Unresolved { .. }))).count();
    assert!(unknown > 1 && untried > 1 && unknown + untried == 40, "{unknown} {untried}");
    // Sent again when the node is back, in whatever pieces, each is done once.
    bench.comes_back();
    let first = bench.pipeline.send("do 0", &[act(0)], &[]).await.unwrap();
    let rest = bench.pipeline.send_batch(&actions(1..40)).await;
    assert_eq!(rest[0].as_ref().unwrap().signature, first.signature);
    let mut done = bench.done();
    done.sort_unstable();
    assert_eq!(done, (0..40).collect::<Vec<_>>());
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

proptest! {
    // Each of them is hundreds of looks at the cluster.
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]

    /// The same of batches, of a caller who tries again what did not succeed, and of processes that are stopped in between: what is
    /// said to be done is done, and everything is done at most once for each success that is said or lost.
    #[test]
    fn a_batch_tried_again_until_it_succeeds_is_done_once(
        script in prop::collection::vec(any_send(), 0..12),
        outages in prop::collection::vec(0usize..25, 0..3),
        blocks_a_look in 1u64..8,
        bad in prop::collection::vec(0u8..24, 0..3),
        dropped in prop::option::of(0u64..4_000),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let cluster = Cluster {
                answers: Some(AtomicUsize::new(usize::MAX)),
                blocks_a_look,
                bad: bad.clone(),
                lands: true,
                ..Cluster::new(script)
            };
            let bench = bench(cluster);
            let mut todo: Vec<u8> = (0..24).collect();
            if let Some(after) = dropped {
                let batch = actions(todo.clone());
                let _ = tokio::time::timeout(Duration::from_millis(after), bench.pipeline.send_batch(&batch)).await;
                // Whoever drops the call looks at the chain, and does not know what is on its way.
                todo.retain(|act| !bench.done().contains(act));
            }
            // As often as the script can refuse: each round uses up one of its words at least.
            for answers in outages.iter().copied().chain([usize::MAX; 13]) {
                bench.cluster.answers.as_ref().unwrap().store(answers, Ordering::Relaxed);
                let results = bench.pipeline.send_batch(&actions(todo.clone())).await;
                let done = bench.done();
                for (act, result) in todo.clone().iter().zip(&results) {
                    if result.is_ok() {
                        assert!(done.contains(act), "{act} is said to be done");
                        todo.retain(|a| a != act);
                    }
                }
            }
            sleep(Duration::from_secs(100)).await;
            let done = bench.done();
            for act in 0..24 {
                let times = done.iter().filter(|a| **a == act).count();
                assert_eq!(times, usize::from(!bad.contains(&act)), "{act} of {done:?}, left {todo:?}");
            }
            assert_eq!(bench.store.all().unwrap(), []);
        });
    }
}
