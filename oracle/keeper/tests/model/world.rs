//! A cluster of the model: nodes whose views are some slots old, transactions that land later than they are sent, answers that get
//! lost. Time is tokio's paused clock.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use datagalax_client::{Address, ReadError, rpc::RpcError};
use datagalax_keeper::{
    Action, Chain, ChainView, Done, Failure, Kind, Outcome,
    books::{Books, Entry, Fate},
};
use futures_util::{FutureExt, future::BoxFuture};
use solana_signature::Signature;
use tokio::time::{Instant, sleep};

use super::{Model, SLOTS};

/// What a transaction costs, lamports.
pub const FEE: u64 = 5_000;

/// How the cluster behaves.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Slots that every view and every simulation is old.
    pub lag: u64,
    /// Milliseconds between sending and landing.
    pub landing: u64,
    /// Of a hundred requests, those that get no answer; of what is sent, half of these land all the same.
    pub failing: u64,
    /// Milliseconds that transactions of this kind take instead.
    pub slow: Option<(Kind, u64)>,
    /// Milliseconds that a reading takes.
    pub reading: u64,
}

/// Calm: views are new, and what is sent lands within a second.
pub const CALM: Weather = Weather { lag: 0, landing: 800, failing: 0, slow: None, reading: 50 };

/// What landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    pub actions: Vec<Action>,
    pub done: bool,
}

struct State {
    model: Model,
    /// The model after each change, with the slot of the change, oldest first.
    past: VecDeque<(u64, Model)>,
    landed: BTreeMap<Signature, Landed>,
    random: u64,
}

/// The cluster.
pub struct World {
    state: Mutex<State>,
    born: Instant,
    weather: Weather,
    signatures: AtomicU64,
    /// Requests that nodes answered or failed to.
    pub requests: AtomicU64,
}

impl World {
    pub fn new(model: Model, weather: Weather) -> Arc<Self> {
        let past = VecDeque::from([(0, model.clone())]);
        let state = Mutex::new(State { model, past, landed: BTreeMap::new(), random: 7 });
        let (signatures, requests) = (AtomicU64::new(1), AtomicU64::new(0));
        Arc::new(Self { state, born: Instant::now(), weather, signatures, requests })
    }

    /// The state as it is now.
    fn now(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        let now = state.model.start() + i64::try_from(self.born.elapsed().as_secs()).unwrap();
        state.model.run_clock_to(now);
        state
    }

    /// The model as it is now.
    pub fn model(&self) -> Model {
        self.now().model.clone()
    }

    /// What nodes show: the model as it was, with the clock of then.
    fn shown(&self) -> Model {
        let state = self.now();
        let slot = state.model.slot.saturating_sub(self.weather.lag);
        let (_, model) = state.past.iter().rev().find(|(at, _)| *at <= slot).unwrap();
        let mut model = model.clone();
        let lag = i64::try_from(self.weather.lag / SLOTS).unwrap();
        model.run_clock_to((state.model.now - lag).max(model.now));
        model
    }

    /// Whether this request gets no answer. The same sequence in every run.
    fn fails(&self) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock().unwrap();
        state.random = state.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state.random >> 33) % 100 < self.weather.failing
    }

    /// A transaction lands: all of it, or nothing, for the same fee.
    fn land(&self, signature: Signature, actions: &[Action]) {
        let mut state = self.now();
        let mut after = state.model.clone();
        let done = actions.iter().all(|action| after.perform(*action).is_ok());
        if done {
            state.past.push_back((after.slot, after.clone()));
            state.model = after;
        }
        // A view of a minute ago is the oldest that anybody asks for.
        let oldest = state.model.slot.saturating_sub(60 * SLOTS);
        while state.past.len() > 1 && state.past[1].0 < oldest {
            state.past.pop_front();
        }
        let before = state.landed.insert(signature, Landed { actions: actions.to_vec(), done });
        assert_eq!(before, None, "landed twice");
    }

    /// All that landed.
    pub fn landed(&self) -> BTreeMap<Signature, Landed> {
        self.state.lock().unwrap().landed.clone()
    }

    /// By action: how often it landed well, and how often in vain.
    pub fn tries(&self) -> BTreeMap<Action, (u32, u32)> {
        let mut tries = BTreeMap::<Action, (u32, u32)>::new();
        for landed in self.landed().values() {
            for action in &landed.actions {
                let (done, wasted) = tries.entry(*action).or_default();
                *(if landed.done { done } else { wasted }) += 1;
            }
        }
        tries
    }

    /// Every drawn epoch but the last two was seated and tallied in full, and none from `first` on was missed.
    pub fn assert_kept(&self, first: u32, blocks: u32) {
        let model = self.model();
        let current = model.network.current_epoch;
        assert!(current > first + 1, "only at epoch {current}");
        for number in first..current - 1 {
            let tallied = model.epochs.get(&number).map(|epoch| epoch.blocks_tallied);
            assert_eq!(tallied, Some(blocks), "epoch {number}");
        }
    }
}

/// A keeper's own way to the cluster.
pub struct Node {
    pub world: Arc<World>,
    /// The other keepers that it knows of.
    pub others: Vec<Address>,
    /// Written to before anything is sent, as the pipeline does.
    pub books: Arc<dyn Books>,
    /// What it remembers of the blocks: nobody reads them while another does, as in the real one.
    pub heads: tokio::sync::Mutex<()>,
}

fn no_answer() -> ReadError {
    RpcError::Down { url: "http://test".into(), reason: "refused".into() }.into()
}

impl Node {
    /// What a keeper does at its start: finds out what became of all that was sent before, and writes it down.
    pub async fn resolve(&self) {
        loop {
            let landed = self.world.landed();
            let mut open = self.books.open().await.unwrap();
            if open.is_empty() {
                return;
            }
            for entry in &mut open {
                if let Some(landed) = landed.get(&entry.signature) {
                    entry.fate = if landed.done { Fate::Done } else { Fate::Wasted };
                } else if self.world.born.elapsed()
                    > Duration::from_secs(u64::try_from(entry.at - self.world.model().start()).unwrap() + 10)
                {
                    entry.fate = Fate::Expired;
                }
            }
            self.books.write(open).await.unwrap();
            sleep(Duration::from_millis(400)).await;
        }
    }

    async fn send(&self, view: &ChainView, actions: &[Action]) -> Vec<Outcome> {
        // Simulated on what the node shows; one that fails is left out and costs nothing.
        let mut shown = self.world.shown();
        let (good, bad): (Vec<_>, Vec<_>) = actions.iter().map(|a| (*a, shown.perform(*a))).partition(|(_, r)| r.is_ok());
        let mut outcomes: BTreeMap<Action, Outcome> = BTreeMap::new();
        for (action, refused) in bad {
            outcomes.insert(action, Outcome::free(Failure::Raced(format!("{refused:?}"))));
        }
        let good: Vec<Action> = good.into_iter().map(|(action, _)| action).collect();
        if let Some(first) = good.first() {
            let mut bytes = [0; 64];
            bytes[..8].copy_from_slice(&self.world.signatures.fetch_add(1, Ordering::Relaxed).to_le_bytes());
            let signature = Signature::from(bytes);
            let model = self.world.model();
            let entry = Entry {
                signature,
                kind: first.kind(),
                actions: u32::try_from(good.len()).unwrap(),
                epoch: model.network.epoch_at(model.now).unwrap(),
                at: model.now,
                fee: FEE,
                pay: 0,
                fate: Fate::Open,
            };
            self.books.write(vec![entry]).await.unwrap();
            // Sent: it lands whoever waits for it.
            let (world, sent) = (self.world.clone(), good.clone());
            let answer = if self.world.fails() { Some(self.world.fails()) } else { None };
            let slow = world.weather.slow.filter(|(kind, _)| *kind == first.kind());
            let takes = slow.map_or(world.weather.landing, |(_, takes)| takes);
            let landing = tokio::spawn(async move {
                sleep(Duration::from_millis(takes)).await;
                if answer != Some(true) {
                    world.land(signature, &sent);
                }
            });
            landing.await.unwrap();
            let landed = self.world.landed().get(&signature).cloned();
            let count = u64::try_from(good.len()).unwrap();
            for (i, action) in (0u64..).zip(good) {
                let fee = FEE / count + if i == 0 { FEE % count } else { 0 };
                let done = Done { signature, slot: self.world.model().slot, units: 1 };
                let (result, fee) = match (&answer, &landed) {
                    (Some(_), _) => (Err(Failure::Transient("no answer".into())), 0),
                    (None, Some(Landed { done: true, .. })) => (Ok(done), fee),
                    (None, _) => (Err(Failure::Raced("it landed and failed".into())), fee),
                };
                outcomes.insert(action, Outcome { result, signature: Some(signature), fee, pay: 0 });
            }
        }
        let _ = view;
        actions.iter().map(|action| outcomes[action].clone()).collect()
    }
}

impl Chain for Node {
    fn view(&self) -> BoxFuture<'_, Result<(ChainView, i64), ReadError>> {
        let result = if self.world.fails() {
            Err(no_answer())
        } else {
            let model = self.world.shown();
            Ok((ChainView { others: self.others.clone(), ..model.view() }, model.now))
        };
        // What was read is old by the time it arrives: that is when keepers meet.
        async move {
            let _heads = self.heads.lock().await;
            sleep(Duration::from_millis(self.world.weather.reading)).await;
            result
        }
        .boxed()
    }

    fn undone<'a>(&'a self, _: &'a ChainView, actions: &'a [Action]) -> BoxFuture<'a, Result<Vec<bool>, ReadError>> {
        let result = if self.world.fails() {
            Err(no_answer())
        } else {
            let shown = self.world.shown();
            Ok(actions.iter().map(|action| shown.clone().perform(*action).is_ok()).collect())
        };
        async move {
            let _heads = self.heads.lock().await;
            sleep(Duration::from_millis(self.world.weather.reading)).await;
            result
        }
        .boxed()
    }

    fn perform<'a>(&'a self, view: &'a ChainView, actions: &'a [Action]) -> BoxFuture<'a, Vec<Outcome>> {
        self.send(view, actions).boxed()
    }

    fn changed(&self, longest: Duration) -> BoxFuture<'_, ()> {
        sleep(longest).boxed()
    }
}
