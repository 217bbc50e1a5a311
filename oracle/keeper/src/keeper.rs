//! The loop: read, decide, wait for one's turn, look again, send, wait.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use datagalax_client::{Address, ReadError};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep},
};

use crate::{
    books::{Books, Entry},
    chain::{Chain, Failure, Outcome},
    decide::{Action, ChainView, Kind, due, next_moment},
    plan::{Due, Pace, batches, pick},
    turns,
};

/// Tries to reach the node before the keeper gives up at its start.
pub const START_TRIES: u32 = 5;
/// Batches on their way side by side; what moves the epoch itself is not held up by them.
const CONCURRENCY: usize = 8;
/// Actions on their way at most: some twenty transactions, which land within seconds.
const PACE: Pace = Pace { actions: 256, seconds: 5 };
/// Longest time between two reads, so that a lost notification strands nothing.
const LONGEST_IDLE: Duration = Duration::from_secs(5);
/// Shortest time between two reads, so that a busy chain does not make a busy loop.
const SHORTEST_IDLE: Duration = Duration::from_millis(200);
/// First and longest pause after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// Longest pause after a refusal of what has no deadline: somebody has to do something about it first.
const LONGEST_REFUSED: Duration = Duration::from_secs(600);
/// Longest pause after a reading that failed: what is due meanwhile is not known.
const LONGEST_BLIND: Duration = Duration::from_secs(3);
/// Slots after it landed for which an action is not thought to be due again: a node's view may be that old.
const LAG: u64 = 32;
/// Slots behind what was seen before at which a view is too old to act on.
const TOO_OLD: u64 = 150;
/// Seconds of a day, for the budget.
const DAY: i64 = 86_400;

/// Why a keeper did not start.
#[derive(Debug)]
pub struct StartError {
    tries: u32,
    error: ReadError,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (tried {} times)", self.error, self.tries)
    }
}

impl std::error::Error for StartError {}

/// How a keeper keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conduct {
    /// Whose keeper it is: what tells it from the others.
    pub me: Address,
    /// Which of the keepers with this wallet it is: 0 for the first, then its stand-ins.
    pub stand_in: u32,
    /// Lamports that a day may cost; what has a deadline is done beyond it, too. `None` for no limit.
    pub daily_budget: Option<u64>,
}

/// What a keeper tells of itself after each round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The chain's time, seconds; 0 before the first round.
    pub now: i64,
    /// The epoch that the clock is in, if one has begun.
    pub epoch: Option<u32>,
    /// Seconds since the end of the epoch that the network advanced to last; 0 while that is the clock's own.
    pub behind: i64,
    /// Length of the epoch, seconds.
    pub length: u32,
    /// Actions that may be done now.
    pub due: usize,
    /// Lamports spent in the last day.
    pub spent: u64,
    /// Whether that is as much as a day may cost.
    pub over_budget: bool,
    /// Lamports of the fee payer.
    pub balance: u64,
    /// What this keeper is owed and ever earned, base units, if it has an account.
    pub earned: Option<(u64, u64)>,
    /// Other keepers at work.
    pub others: usize,
    /// Why the chain could not be read, while it cannot.
    pub trouble: Option<String>,
}

/// An action on this keeper's mind.
struct Noticed {
    /// When it may try.
    turn: Instant,
    /// The pause after the next failure.
    pause: Duration,
}

/// A batch on its way, and what it was sent for.
struct Flight {
    /// What became of its actions.
    outcomes: Vec<(Action, Outcome)>,
    /// By when, seconds of the chain's clock, where there is a deadline.
    deadlines: HashMap<Action, i64>,
    view: Arc<ChainView>,
}

/// Batches on their way, each in a task of its own. In the loop's own they would stand still while it reads the chain, with locks held
/// that the reading waits for.
type Flying = JoinSet<Flight>;

/// Carries out what is due until it is told to stop.
pub struct Keeper<C> {
    chain: Arc<C>,
    conduct: Conduct,
    books: Arc<dyn Books>,
    /// What is due, and when its turn is.
    noticed: HashMap<Action, Noticed>,
    /// What is on its way.
    flying: HashSet<Action>,
    /// What was done, and the slot it landed in.
    landed: HashMap<Action, u64>,
    /// Newest slot of any view.
    newest: u64,
    waiting_for_network: bool,
    seen: watch::Sender<Seen>,
}

impl<C: Chain + 'static> Keeper<C> {
    /// A keeper of this chain that writes down what it spends.
    pub fn new(chain: C, conduct: Conduct, books: Arc<dyn Books>) -> Self {
        Self {
            chain: Arc::new(chain),
            conduct,
            books,
            noticed: HashMap::new(),
            flying: HashSet::new(),
            landed: HashMap::new(),
            newest: 0,
            waiting_for_network: false,
            seen: watch::Sender::default(),
        }
    }

    /// The chain.
    pub fn chain(&self) -> &C {
        &self.chain
    }

    /// What it saw last, told anew after each round.
    pub fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Makes sure that the node answers, so that a wrong URL is an error and not an endless loop.
    ///
    /// # Errors
    /// [`StartError`] after [`START_TRIES`] tries, or at once when the node answers something that waiting does not mend.
    pub async fn start(&self) -> Result<(), StartError> {
        let mut pause = BACKOFF.0;
        let mut tries = 1;
        loop {
            match self.chain.view().await {
                Ok(_) => return Ok(()),
                // Not initialised yet: the keeper waits for that.
                Err(e) if e.is_not_found() => return Ok(()),
                Err(error) if !error.is_transient() || tries >= START_TRIES => return Err(StartError { tries, error }),
                Err(e) => tracing::warn!("{e}; trying again in {pause:?}"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
            tries += 1;
        }
    }

    /// Runs until `stop` says so; actions on their way are waited for.
    pub async fn run(&mut self, mut stop: watch::Receiver<bool>) {
        let mut flying = Flying::new();
        let mut pause = BACKOFF.0;
        while !*stop.borrow() {
            let idle = match self.round(&stop, &mut flying).await {
                Ok(idle) => {
                    pause = BACKOFF.0;
                    idle
                }
                Err(e) if e.is_not_found() => {
                    if !std::mem::replace(&mut self.waiting_for_network, true) {
                        tracing::info!("{e}; waiting for it");
                    }
                    self.seen.send_modify(|seen| seen.trouble = Some(e.to_string()));
                    Duration::from_secs(1)
                }
                Err(e) => {
                    tracing::warn!("reading the chain failed: {e}; trying again in {pause:?}");
                    self.seen.send_modify(|seen| seen.trouble = Some(e.to_string()));
                    let next = (pause * 2).min(LONGEST_BLIND);
                    std::mem::replace(&mut pause, next)
                }
            };
            let chain = &self.chain;
            let woken = async {
                sleep(SHORTEST_IDLE.min(idle)).await;
                chain.changed(idle.saturating_sub(SHORTEST_IDLE)).await;
            };
            let landed = tokio::select! {
                _ = stop.changed() => None,
                Some(flight) = flying.join_next() => Some(flight),
                () = woken => None,
            };
            if let Some(flight) = landed {
                self.land(flight).await;
            }
            while let Some(flight) = flying.try_join_next() {
                self.land(flight).await;
            }
        }
        while let Some(flight) = flying.join_next().await {
            self.land(flight).await;
        }
    }

    /// Reads once and sends what is due and this keeper's turn. How long nothing new is due after it.
    async fn round(&mut self, stop: &watch::Receiver<bool>, flying: &mut Flying) -> Result<Duration, ReadError> {
        let (view, now) = self.chain.view().await?;
        self.waiting_for_network = false;
        if view.slot + TOO_OLD < self.newest {
            tracing::warn!(
                behind = self.newest - view.slot,
                "this node is slots behind what was read before; not acting on it"
            );
            return Ok(LONGEST_IDLE);
        }
        self.newest = self.newest.max(view.slot);
        self.landed.retain(|_, slot| view.slot < slot.saturating_add(LAG));
        let known = |due: &Due| self.landed.contains_key(&due.action) || self.flying.contains(&due.action);
        let due: Vec<Due> = due(&view, now).into_iter().filter(|due| !known(due)).collect();
        self.notice(&view, &due, now);
        let over_budget = self.tell(&view, &due, now).await;
        let clock = Instant::now();
        let ready = |due: &&Due| {
            let turn = self.noticed.get(&due.action).is_none_or(|noticed| noticed.turn <= clock);
            turn && (due.deadline.is_some() || !over_budget)
        };
        let ready: Vec<Due> = due.iter().filter(ready).copied().collect();
        // One that is stuck holds up no epoch.
        let (epochs, rest): (Vec<Due>, Vec<Due>) =
            ready.into_iter().partition(|due| matches!(due.action.kind(), Kind::Advance | Kind::Churn | Kind::Draw));
        let room = PACE.actions.saturating_sub(self.flying.len());
        let rest = if room > 0 { pick(&rest, now, Pace { actions: room, ..PACE }) } else { Vec::new() };
        let places = CONCURRENCY.saturating_sub(flying.len());
        let sent: Vec<Vec<Action>> = batches(&epochs).into_iter().chain(batches(&rest).into_iter().take(places)).collect();
        let dates = epochs.iter().chain(&rest).filter_map(|due| Some((due.action, due.deadline?)));
        let dates: HashMap<Action, i64> = dates.collect();
        let view = Arc::new(view);
        for batch in sent {
            self.flying.extend(&batch);
            let deadlines = batch.iter().filter_map(|action| Some((*action, *dates.get(action)?))).collect();
            let (chain, view, stop) = (self.chain.clone(), view.clone(), stop.clone());
            let flight = async move {
                let outcomes = send(&*chain, &view, batch, &stop).await;
                Flight { outcomes, deadlines, view }
            };
            flying.spawn(flight);
        }
        // What is left without a place is looked at when one is free.
        let until_moment = u64::try_from(next_moment(&view, now).saturating_sub(now)).unwrap_or(1);
        let turns = self.noticed.values().map(|noticed| noticed.turn.saturating_duration_since(clock));
        let turn = turns.filter(|wait| !wait.is_zero()).min().unwrap_or(LONGEST_IDLE);
        Ok(Duration::from_secs(until_moment).min(turn).min(LONGEST_IDLE))
    }

    /// Writes down what became of a batch, and when what failed is tried again.
    async fn land(&mut self, flight: Result<Flight, JoinError>) {
        let Flight { outcomes, deadlines, view } = match flight {
            Ok(flight) => flight,
            // Nobody aborts them. A bug in one is a bug of the keeper: it ends, and whoever watches it starts it again.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let now = view.now;
        let entries = Entry::of(&outcomes, view.network.epoch_at(now).unwrap_or_default(), now);
        if let Err(e) = self.books.write(entries).await {
            tracing::warn!("the books could not be written, so that the report may lack what was just sent: {e}");
        }
        for (action, outcome) in outcomes {
            self.flying.remove(&action);
            let deadline = deadlines.get(&action);
            let (pause, longest) = match outcome.result {
                Ok(done) => {
                    self.landed.insert(action, done.slot.max(view.slot));
                    continue;
                }
                // The chain is ahead of the view, or one slot behind it: look again soon.
                Err(Failure::Raced(_)) => (None, BACKOFF.1),
                Err(Failure::Refused(_)) if deadline.is_none() => (self.noticed.get(&action), LONGEST_REFUSED),
                Err(_) => (self.noticed.get(&action), BACKOFF.1),
            };
            let pause = pause.map_or(BACKOFF.0, |noticed| noticed.pause);
            // The nearer its deadline, the sooner it is tried again.
            let left = deadline.map_or(i64::MAX, |deadline| deadline.saturating_sub(now)).max(0);
            let most = Duration::from_secs(u64::try_from(left / 8).unwrap_or(0)).clamp(BACKOFF.0, longest);
            let next = (pause * 2).min(most);
            self.noticed.insert(action, Noticed { turn: Instant::now() + pause.min(most), pause: next });
        }
    }

    /// Gives what fell due its turn, and forgets what no longer is.
    fn notice(&mut self, view: &ChainView, due: &[Due], now: i64) {
        let still: HashSet<Action> = due.iter().map(|due| due.action).collect();
        self.noticed.retain(|action, _| still.contains(action) || self.flying.contains(action));
        let length = view.network.grids[0].length;
        let clock = Instant::now();
        for due in due {
            self.noticed.entry(due.action).or_insert_with(|| {
                let (turn, turns) = turns::turn(&self.conduct.me, self.conduct.stand_in, &view.others, &due.action);
                let wait = turns::step(due, now, length, turns) * turn;
                Noticed { turn: clock + wait, pause: BACKOFF.0 }
            });
        }
    }

    /// Tells what was seen; whether the day's budget is used up.
    async fn tell(&self, view: &ChainView, due: &[Due], now: i64) -> bool {
        let network = &view.network;
        let epoch = network.epoch_at(now).ok();
        let spent = self.books.spent_since(now.saturating_sub(DAY)).await.unwrap_or_else(|e| {
            // Books that cannot be read are no reason to let the network stand still.
            tracing::warn!("the books could not be read: {e}");
            0
        });
        let over_budget = self.conduct.daily_budget.is_some_and(|budget| spent >= budget);
        let behind = match (epoch, network.current_epoch) {
            (None, _) => 0,
            (Some(_), datagalax::constants::NONE) => now.saturating_sub(network.grids[0].start),
            (Some(_), current) => now.saturating_sub(network.bounds(current).1).max(0),
        };
        let before = self.seen.send_replace(Seen {
            now,
            epoch,
            behind,
            length: network.grids[0].length,
            due: due.len(),
            spent,
            over_budget,
            balance: view.balance,
            earned: view.keeper.as_ref().map(|(_, keeper)| (keeper.due, keeper.earned)),
            others: view.others.len(),
            trouble: None,
        });
        if over_budget && !before.over_budget {
            tracing::warn!(
                spent,
                "the day's budget is used up: only what has a deadline is done; raise --daily-budget to do the rest"
            );
        }
        over_budget
    }
}

/// A batch: looked at again, then sent, logged in a line for each action. A failure of any kind ends nothing.
async fn send<C: Chain>(
    chain: &C,
    view: &ChainView,
    batch: Vec<Action>,
    stop: &watch::Receiver<bool>,
) -> Vec<(Action, Outcome)> {
    // Told to stop: what is on its way is waited for, nothing new begins.
    if *stop.borrow() {
        return Vec::new();
    }
    let start = Instant::now();
    let undone = match chain.undone(view, &batch).await {
        Ok(undone) => undone,
        Err(e) => {
            tracing::warn!("looking again at what is due failed: {e}");
            let failed = |action| (action, Outcome::free(Failure::Transient(e.to_string())));
            return batch.into_iter().map(failed).collect();
        }
    };
    let (left, gone): (Vec<_>, Vec<_>) = batch.into_iter().zip(undone).partition(|(_, undone)| *undone);
    let raced = |(action, _)| (action, Outcome::free(Failure::Raced("it was done meanwhile".to_owned())));
    let mut outcomes: Vec<(Action, Outcome)> = gone.into_iter().map(raced).collect();
    let left: Vec<Action> = left.into_iter().map(|(action, _)| action).collect();
    if !left.is_empty() {
        let results = chain.perform(view, &left).await;
        outcomes.extend(left.into_iter().zip(results));
    }
    let ms = start.elapsed().as_millis();
    for (action, outcome) in &outcomes {
        let fee = outcome.fee;
        match &outcome.result {
            Ok(done) => tracing::info!(signature = %done.signature, units = done.units, fee, ms, "{action}"),
            Err(Failure::Raced(why)) => {
                tracing::info!(fee, ms, "{action}: somebody was faster, or the moment has passed ({why})");
            }
            Err(Failure::Transient(why) | Failure::Refused(why)) => tracing::warn!(fee, ms, "{action}: {why}"),
        }
    }
    outcomes
}
