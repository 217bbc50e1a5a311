//! The keeper against a model of the program: it must never propose what the program refuses, and never leave anything undone.

mod model;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use datagalax::{constants::NONE, state::Epoch};
use datagalax_client::{ReadError, rpc::RpcError};
use datagalax_keeper::{Action, Chain, ChainView, Done, Failure, Keeper, next_actions, next_moment};
use futures_util::{FutureExt, future::BoxFuture};
use model::Model;
use proptest::prelude::*;
use tokio::{sync::watch, time::Instant};

#[test]
fn one_epoch_goes_in_order() {
    let mut model = Model::new(30, 4, 1, 3);
    model.now = model.start() + 1;
    let mut done = Vec::new();
    while model.now < model.start() + 60 {
        for action in model.due() {
            model.perform(action).unwrap();
            done.push(action);
        }
        model.tick();
    }
    let block = 0;
    assert_eq!(
        done,
        [
            Action::Advance(0),
            Action::Churn(0),
            Action::Draw(0),
            Action::Advance(1),
            Action::Draw(1),
            Action::SeatBlock { epoch: 1, block },
        ]
    );
    for _ in 0..20 {
        model.tick();
    }
    // Reveals of epoch 1 end 4 s into epoch 2.
    assert_eq!(model.due().last(), Some(&Action::Tally { epoch: 1, block }));
}

#[test]
fn nothing_is_due_before_the_first_epoch() {
    let model = Model::new(30, 4, 1, 3);
    let view = model.view();
    assert_eq!(next_actions(&view, model.start() - 1), []);
    assert_eq!(next_moment(&view, model.start() - 100), model.start());
}

#[test]
fn deadlines_go_first() {
    let mut model = Model::new(40, 4, 2, 5);
    model.run_to(model.start() + 120);
    // Epoch 3 has begun and nobody advanced; epoch 2 is not tallied. Draws are due in 10 s, the tally in 40.
    model.now = model.start() + 125;
    let due = model.due();
    assert_eq!(due[0], Action::Advance(3));
    assert_eq!(due.len(), 3, "{due:?}");
    // After the first quarter an advance saves no draw any more, but is still due.
    model.now = model.start() + 131;
    assert!(model.due().contains(&Action::Advance(3)));
}

#[test]
fn an_epoch_nobody_drew_is_left_alone() {
    let mut model = Model::new(40, 4, 1, 5);
    model.now = model.start() + 1;
    model.perform(Action::Advance(0)).unwrap();
    model.now = model.start() + 10;
    assert_eq!(model.due(), [], "the quarter is over: void");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whenever a keeper looks, everything it proposes is accepted, in the order proposed.
    #[test]
    fn nothing_proposed_is_refused(
        length in 20u32..90,
        blocks in 1u32..4,
        tickets in 0u32..80,
        pauses in prop::collection::vec(1u64..70, 1..60),
    ) {
        let mut model = Model::new(length, length / 4, blocks, tickets);
        for pause in pauses {
            for _ in 0..pause {
                model.tick();
            }
            for action in model.due() {
                prop_assert_eq!(model.perform(action), Ok(()), "{}", action);
            }
        }
    }

    /// A keeper that follows `next_moment` and notices slots draws every epoch, seats and tallies every block.
    #[test]
    fn nothing_is_left_undone(length in 20u32..60, blocks in 1u32..4, tickets in 1u32..80) {
        let mut model = Model::new(length, length / 4, blocks, tickets);
        model.now = model.start();
        let epochs = 6;
        let end = model.start() + i64::from(length) * epochs;
        while model.now < end {
            while let Some(action) = model.due().first().copied() {
                prop_assert_eq!(model.perform(action), Ok(()), "{}", action);
            }
            let next = next_moment(&model.view(), model.now);
            prop_assert!(next > model.now);
            model.run_clock_to(next);
        }
        for number in 0..epochs as u32 {
            prop_assert_eq!(model.epochs[&number].status, Epoch::DRAWN, "epoch {}", number);
        }
        // Blocks are seated from epoch 1 on; the epoch before the last is the last one whose tally is over.
        for number in 1..epochs as u32 - 1 {
            prop_assert_eq!(model.epochs[&number].blocks_tallied, blocks, "epoch {}", number);
        }
    }
}

/// The model as a chain of its own, with a node that fails now and then and another keeper that is faster now and then.
struct ModelChain {
    model: Mutex<Model>,
    born: Instant,
    calls: Mutex<u32>,
    fail_every: u32,
    raced: Mutex<u32>,
}

impl ModelChain {
    fn now(&self) -> std::sync::MutexGuard<'_, Model> {
        let mut model = self.model.lock().unwrap();
        let passed = i64::try_from(self.born.elapsed().as_secs()).unwrap();
        let now = model.start() + passed;
        model.run_clock_to(now);
        model
    }

    fn fails(&self) -> bool {
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        self.fail_every > 0 && (*calls).is_multiple_of(self.fail_every)
    }
}

impl Chain for ModelChain {
    fn view(&self) -> BoxFuture<'_, Result<(ChainView, i64), ReadError>> {
        let down = || RpcError::Down { url: "http://test".into(), reason: "refused".into() };
        let result = if self.fails() {
            Err(down().into())
        } else {
            Ok({
                let m = self.now();
                (m.view(), m.now)
            })
        };
        // What was read is old by the time it arrives: that is when keepers meet.
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            result
        }
        .boxed()
    }
    fn perform<'a>(&'a self, _: &'a ChainView, action: Action) -> BoxFuture<'a, Result<Done, Failure>> {
        let result = if self.fails() {
            // Sent and landed, but the answer was lost: the next try finds it done.
            let _ = self.now().perform(action);
            Err(Failure::Transient("no answer".into()))
        } else {
            match self.now().perform(action) {
                Ok(()) => Ok(Done { signature: Default::default(), units: 1 }),
                Err(why) => {
                    *self.raced.lock().unwrap() += 1;
                    Err(Failure::Raced(format!("{why:?}")))
                }
            }
        };
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            result
        }
        .boxed()
    }
    fn changed(&self, longest: Duration) -> BoxFuture<'_, ()> {
        tokio::time::sleep(longest).boxed()
    }
}

async fn keep(fail_every: u32, keepers: usize) -> Arc<ModelChain> {
    let chain = Arc::new(ModelChain {
        model: Mutex::new(Model::new(30, 6, 3, 40)),
        born: Instant::now(),
        calls: Mutex::new(0),
        fail_every,
        raced: Mutex::new(0),
    });
    let (stop, stopped) = watch::channel(false);
    let mut running = Vec::new();
    for _ in 0..keepers {
        let mut keeper = Keeper::new(Shared(chain.clone()));
        let stopped = stopped.clone();
        running.push(tokio::spawn(async move { keeper.run(stopped).await }));
    }
    tokio::time::sleep(Duration::from_secs(30 * 6)).await;
    stop.send_replace(true);
    for keeper in running {
        keeper.await.unwrap();
    }
    chain
}

struct Shared(Arc<ModelChain>);

impl Chain for Shared {
    fn view(&self) -> BoxFuture<'_, Result<(ChainView, i64), ReadError>> {
        self.0.view()
    }
    fn perform<'a>(&'a self, view: &'a ChainView, action: Action) -> BoxFuture<'a, Result<Done, Failure>> {
        self.0.perform(view, action)
    }
    fn changed(&self, longest: Duration) -> BoxFuture<'_, ()> {
        self.0.changed(longest)
    }
}

fn assert_kept(chain: &ModelChain) {
    let model = chain.model.lock().unwrap();
    for number in 1..5 {
        assert_eq!(model.epochs[&number].blocks_tallied, 3, "epoch {number}");
    }
    assert_ne!(model.network.current_epoch, NONE);
}

#[tokio::test(start_paused = true)]
async fn the_loop_keeps_every_epoch() {
    let chain = keep(0, 1).await;
    assert_kept(&chain);
}

#[tokio::test(start_paused = true)]
async fn the_loop_survives_a_node_that_fails_every_third_time() {
    let chain = keep(3, 1).await;
    assert_kept(&chain);
}

#[tokio::test(start_paused = true)]
async fn three_keepers_side_by_side_race_without_harm() {
    let chain = keep(0, 3).await;
    assert_kept(&chain);
    assert!(*chain.raced.lock().unwrap() > 0, "they must have met");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_down_at_the_start_ends_it_after_some_tries() {
    let model = Mutex::new(Model::new(30, 6, 1, 3));
    let chain = ModelChain { model, born: Instant::now(), calls: Mutex::new(0), fail_every: 1, raced: Mutex::new(0) };
    let error = Keeper::new(chain).start().await.unwrap_err().to_string();
    assert!(error.contains("http://test") && error.contains("tried 5 times"), "{error}");
}
