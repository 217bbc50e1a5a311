//! The keeper against a model of the program: it must never propose what the program refuses, and never leave anything undone.

mod model;

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use datagalax::state::Epoch;
use datagalax_client::Address;
use datagalax_keeper::{
    Action, Conduct, Keeper, Kind,
    books::{Books, Fate, MemoryBooks},
    next_actions, next_moment,
};
use model::{
    Model,
    world::{CALM, FEE, Node, Weather, World},
};
use proptest::prelude::*;
use tokio::{
    sync::{Mutex, watch},
    time::{sleep, timeout},
};

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

/// The wallet of keeper `i`.
fn wallet(i: u8) -> Address {
    Address::new_from_array([i; 32])
}

/// Keeper `i`, who knows of keepers 1 to `of`.
fn keeper(world: &Arc<World>, i: u8, of: u8, books: Arc<MemoryBooks>, daily_budget: Option<u64>) -> Keeper<Node> {
    let others = (1..=of).filter(|other| *other != i).map(wallet).collect();
    let node = Node { world: world.clone(), others, books: books.clone(), heads: Mutex::default() };
    Keeper::new(node, Conduct { me: wallet(i), stand_in: 0, daily_budget }, books)
}

/// Lets these of `of` keepers run for so many seconds.
async fn keep(world: &Arc<World>, alive: &[u8], of: u8, seconds: u64) {
    let (stop, stopped) = watch::channel(false);
    let mut running = Vec::new();
    for (i, after) in alive.iter().zip(0u64..) {
        let mut keeper = keeper(world, *i, of, Arc::default(), None);
        let stopped = stopped.clone();
        running.push(tokio::spawn(async move {
            // They do not begin in step.
            sleep(Duration::from_millis(137 * after)).await;
            keeper.run(stopped).await;
        }));
    }
    sleep(Duration::from_secs(seconds)).await;
    stop.send_replace(true);
    for keeper in running {
        timeout(Duration::from_secs(600), keeper).await.expect("the keeper does not end").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_node_stops_no_loop() {
    // The next round begins while what is on its way is still being looked at again, with the heads in its hands.
    let world = World::new(Model::new(480, 96, 12, 40), Weather { reading: 3_000, ..CALM });
    keep(&world, &[1], 1, 480 * 6).await;
    world.assert_kept(1, 12);
    assert!(world.tries().values().all(|tries| *tries == (1, 0)), "{:?}", world.tries());
}

#[tokio::test(start_paused = true)]
async fn the_loop_keeps_every_epoch_and_batches() {
    let world = World::new(Model::new(30, 6, 30, 40), CALM);
    keep(&world, &[1], 1, 30 * 6).await;
    world.assert_kept(1, 30);
    assert!(world.tries().values().all(|tries| *tries == (1, 0)), "{:?}", world.tries());
    // 30 blocks: two transactions of seats and four of tallies, besides advance, churn and draw.
    let of = |kind| {
        let all = world.landed();
        all.values().filter(|l| l.actions.len() > 1 && l.actions[0].kind() == kind).map(|l| l.actions.len()).max()
    };
    assert_eq!((of(Kind::Seat), of(Kind::Tally)), (Some(20), Some(9)));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_answers_every_other_time_loses_no_epoch() {
    let world = World::new(Model::new(480, 96, 3, 40), Weather { failing: 50, ..CALM });
    keep(&world, &[1], 1, 480 * 20).await;
    world.assert_kept(1, 3);
    assert!(world.tries().values().all(|(done, _)| *done == 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_stuck_holds_up_no_epoch() {
    // A tally takes longer than an epoch to land; all epochs are drawn and seated all the same.
    let world = World::new(Model::new(60, 12, 12, 40), Weather { slow: Some((Kind::Tally, 100_000)), ..CALM });
    keep(&world, &[1], 1, 60 * 8).await;
    let model = world.model();
    for number in 0..7 {
        assert_eq!(model.epochs.get(&number).map(|epoch| epoch.status), Some(Epoch::DRAWN), "epoch {number}");
    }
    let seated = world.tries().into_iter().filter(|(action, _)| action.kind() == Kind::Seat);
    assert_eq!(seated.filter(|(_, (done, _))| *done == 1).count(), 12 * 7);
}

#[tokio::test(start_paused = true)]
async fn a_view_that_is_slots_old_has_nothing_done_twice() {
    for lag in [2, 6, 12] {
        let world = World::new(Model::new(240, 48, 12, 40), Weather { lag, ..CALM });
        keep(&world, &[1], 1, 240 * 6).await;
        world.assert_kept(1, 12);
        assert!(world.tries().values().all(|tries| *tries == (1, 0)), "lag {lag}: {:?}", world.tries());
    }
}

/// Every set of five keepers at work, the others dead: how many transactions landed, and how many of them in vain.
async fn five_keepers(length: u32, epochs: u32) -> (usize, usize) {
    let (mut landed, mut wasted) = (0, 0);
    for alive in 1u8..32 {
        let alive: Vec<u8> = (1..=5).filter(|i| alive & (1 << (i - 1)) != 0).collect();
        let world = World::new(Model::new(length, length / 5, 12, 40), CALM);
        keep(&world, &alive, 5, u64::from(length * epochs)).await;
        world.assert_kept(1, 12);
        let tries = world.tries();
        assert!(tries.values().all(|(done, wasted)| *done == 1 && *wasted <= 1), "{alive:?}: {tries:?}");
        landed += world.landed().len();
        wasted += world.landed().values().filter(|landed| !landed.done).count();
    }
    println!("epochs of {length} s, 31 sets of five keepers: {landed} transactions, {wasted} of them in vain");
    (landed, wasted)
}

#[tokio::test(start_paused = true)]
async fn any_of_five_keepers_do_all_in_time_and_waste_nothing() {
    let (_, wasted) = five_keepers(1_440, 4).await;
    assert_eq!(wasted, 0);
}

#[tokio::test(start_paused = true)]
async fn even_in_epochs_of_a_minute_five_keepers_waste_little() {
    // The draw's fifteen seconds hold five turns of two seconds, and landing takes one.
    let (landed, wasted) = five_keepers(60, 5).await;
    assert!(wasted * 50 < landed, "{wasted} of {landed}");
}

#[tokio::test(start_paused = true)]
async fn a_stand_in_of_the_same_wallet_does_what_the_first_leaves_undone() {
    for first_lives in [true, false] {
        let world = World::new(Model::new(1_440, 288, 12, 40), CALM);
        let (stop, stopped) = watch::channel(false);
        let mut running = Vec::new();
        for stand_in in u32::from(!first_lives)..2 {
            let books = Arc::new(MemoryBooks::default());
            let node = Node { world: world.clone(), others: vec![], books: books.clone(), heads: Mutex::default() };
            let mut keeper = Keeper::new(node, Conduct { me: wallet(1), stand_in, daily_budget: None }, books);
            let stopped = stopped.clone();
            running.push(tokio::spawn(async move { keeper.run(stopped).await }));
        }
        sleep(Duration::from_secs(1_440 * 4)).await;
        stop.send_replace(true);
        for keeper in running {
            keeper.await.unwrap();
        }
        world.assert_kept(1, 12);
        assert!(world.tries().values().all(|tries| *tries == (1, 0)), "{:?}", world.tries());
    }
}

#[tokio::test(start_paused = true)]
async fn keepers_that_do_not_know_each_other_race_without_harm() {
    let world = World::new(Model::new(60, 12, 3, 40), CALM);
    let (stop, stopped) = watch::channel(false);
    let running: Vec<_> = (1..=3)
        .map(|i| {
            let mut keeper = keeper(&world, i, 0, Arc::default(), None);
            let stopped = stopped.clone();
            tokio::spawn(async move { keeper.run(stopped).await })
        })
        .collect();
    sleep(Duration::from_secs(60 * 5)).await;
    stop.send_replace(true);
    for keeper in running {
        keeper.await.unwrap();
    }
    world.assert_kept(1, 3);
    assert!(world.tries().values().any(|(_, wasted)| *wasted > 0), "they must have met");
}

/// Polls a keeper so often, and then drops it where it is, as kill -9 does.
async fn run_for_polls(keeper: &mut Keeper<Node>, polls: usize) -> bool {
    let (_stop, stopped) = watch::channel(false);
    let mut run = pin!(keeper.run(stopped));
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(true);
        }
        left -= 1;
        run.as_mut().poll(context).map(|()| false)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn killed_anywhere_it_does_nothing_twice_and_forgets_nothing() {
    // Long enough for three epochs of every kind of action; each run is stopped one await later than the one before.
    for polls in 1..260 {
        let world = World::new(Model::new(30, 6, 12, 40), CALM);
        let books = Arc::new(MemoryBooks::default());
        let mut first = keeper(&world, 1, 1, books.clone(), None);
        assert!(run_for_polls(&mut first, polls).await);
        drop(first);
        let mut second = keeper(&world, 1, 1, books.clone(), None);
        second.chain().resolve().await;
        let (stop, stopped) = watch::channel(false);
        let rest = tokio::spawn(async move { second.run(stopped).await });
        sleep(Duration::from_secs(30 * 4)).await;
        stop.send_replace(true);
        rest.await.unwrap();
        world.assert_kept(1, 12);
        let tries = world.tries();
        assert!(tries.values().all(|tries| *tries == (1, 0)), "{polls} polls: {tries:?}");
        // The books tell of every transaction, and of no other.
        let landed = world.landed();
        let sums = books.sums(0).await.unwrap();
        let paid: u64 = sums.values().map(|sum| sum.fees).sum();
        let done: u64 = sums.values().map(|sum| sum.done).sum();
        assert_eq!(paid, FEE * landed.len() as u64, "{polls} polls");
        assert_eq!(done, landed.values().map(|l| l.actions.len() as u64).sum::<u64>(), "{polls} polls");
        assert_eq!(books.open().await.unwrap(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_its_budget_a_keeper_does_only_what_has_a_deadline() {
    let world = World::new(Model::new(60, 12, 3, 40), CALM);
    let books = Arc::new(MemoryBooks::default());
    let mut keeper = keeper(&world, 1, 1, books.clone(), Some(2 * FEE));
    let mut seen = keeper.seen();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(async move { keeper.run(stopped).await });
    let over = seen.wait_for(|seen| seen.over_budget).await.unwrap().spent;
    assert_eq!(over, 2 * FEE);
    sleep(Duration::from_secs(60 * 4)).await;
    // All of an epoch's work has a deadline.
    world.assert_kept(1, 3);
    stop.send_replace(true);
    running.await.unwrap();
    let entries = books.open().await.unwrap();
    assert!(entries.iter().all(|entry| entry.fate != Fate::Open), "nothing is left open");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_down_at_the_start_ends_it_after_some_tries() {
    let world = World::new(Model::new(30, 6, 1, 3), Weather { failing: 100, ..CALM });
    let error = keeper(&world, 1, 1, Arc::default(), None).start().await.unwrap_err().to_string();
    assert!(error.contains("http://test") && error.contains("tried 5 times"), "{error}");
}
