//! A real cluster.

mod watch;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use datagalax::{
    constants::{NONE, ROWS},
    error::DatagalaxError,
    state::{Epoch, Keeper, Network},
};
use datagalax_client::{
    Address, Pipeline, ReadError, Reader,
    accounts::{AccountError, AccountType, decode},
    addresses,
    clock::{self, CLOCK_SYSVAR},
    instructions,
    pipeline::SendError,
    rpc::Changes,
};
use futures_util::{
    FutureExt,
    future::{BoxFuture, select_all},
};
use solana_instruction::Instruction;
use tokio::{sync::Mutex, time::timeout};
use watch::{Heads, Seldom};

use crate::{
    chain::{Chain, Done, Failure, Outcome},
    decide::{Action, ChainView, Kind},
    ledger::{Intent, Recorder},
};

/// How long a look at the chores may hold up the epochs.
const CHORES_PATIENCE: Duration = Duration::from_secs(4);

/// What is this keeper's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Whose keeper's account is named where there is a fee.
    pub wallet: Address,
    /// From how much on its pay is withdrawn to the wallet, base units; `None` to leave that to its owner.
    pub claim_from: Option<u64>,
    /// Epochs whose accounts are left for readers before their rent is taken back, at least 4.
    pub keep_epochs: u32,
}

/// A real cluster.
pub struct ClusterChain {
    reader: Reader,
    pipeline: Pipeline,
    recorder: Arc<Recorder>,
    changes: Vec<Mutex<Changes>>,
    own: Own,
    /// The epoch that the network had advanced to when it was read last: read together with it.
    current: Mutex<Option<u32>>,
    heads: Mutex<Heads>,
    seldom: Mutex<Seldom>,
    /// Whether there is more to read at once.
    more: AtomicBool,
}

/// What every round reads.
struct Basics {
    network: Box<Network>,
    epoch: Option<Box<Epoch>>,
    clock: clock::Instant,
    /// Lamports of the fee payer.
    balance: u64,
}

impl ClusterChain {
    /// Reads and sends through this pipeline's nodes, and is woken over these WebSockets when the network or its tickets change.
    /// `recorder` is the pipeline's pending store.
    pub fn new(pipeline: Pipeline, recorder: Arc<Recorder>, sockets: &[String], own: Own) -> Self {
        let watch = |url: &String| Mutex::new(Changes::watch(url, vec![addresses::network(), addresses::checker_set()]));
        Self {
            reader: Reader::new(Arc::clone(pipeline.rpc())),
            pipeline,
            recorder,
            changes: sockets.iter().map(watch).collect(),
            own,
            current: Mutex::default(),
            heads: Mutex::default(),
            seldom: Mutex::default(),
            more: AtomicBool::new(false),
        }
    }

    /// Opens the wallet's keeper account unless it exists; says whether it had to.
    ///
    /// # Errors
    /// The node does not answer, or the payer cannot pay the rent.
    pub async fn register(&self) -> Result<bool, SendError> {
        let address = addresses::keeper(&self.own.wallet);
        // What cannot be read is tried: the program refuses a second one.
        if self.reader.find::<Keeper>(&address).await.is_ok_and(|keeper| keeper.is_some()) {
            return Ok(false);
        }
        let instruction = instructions::register_keeper(&self.pipeline.payer(), &self.own.wallet);
        self.pipeline.send("register the keeper", &[instruction], &[]).await?;
        Ok(true)
    }

    /// The pipeline, to resolve what a stopped keeper left behind.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The network, its current epoch, the clock and the fee payer, in one request unless the network has advanced since the last one: nothing of
    /// them is of a later time than the clock.
    async fn basics(&self) -> Result<Basics, ReadError> {
        let rpc = self.reader.rpc();
        let mut current = self.current.lock().await;
        loop {
            let guess = *current;
            let mut wanted = vec![addresses::network(), CLOCK_SYSVAR, self.pipeline.payer()];
            wanted.extend(guess.map(addresses::epoch));
            let mut read = rpc.accounts(&wanted).await?.into_iter();
            let mut next = || read.next().flatten();
            let (network, clock, payer, epoch) = (next(), next(), next(), next());
            let none = AccountError::NotFound { what: Network::NAME, address: wanted[0] };
            let network = decode::<Network>(&wanted[0], &network.ok_or(none)?)?;
            let no_clock = AccountError::NotFound { what: "clock", address: CLOCK_SYSVAR };
            let clock = clock::parse_clock(&clock.ok_or(no_clock)?)?;
            let named = (network.current_epoch != NONE).then_some(network.current_epoch);
            if named == guess {
                let epoch = guess
                    .map(addresses::epoch)
                    .zip(epoch)
                    .map(|(at, account)| decode::<Epoch>(&at, &account))
                    .transpose()?;
                return Ok(Basics { network, epoch, clock, balance: payer.map_or(0, |payer| payer.lamports) });
            }
            *current = named;
        }
    }

    async fn read(&self) -> Result<(ChainView, i64), ReadError> {
        let Basics { network, epoch, clock, balance } = self.basics().await?;
        let now = clock.unix_timestamp;
        let mut heads = self.heads.lock().await;
        let number = network.epoch_at(now).unwrap_or(0);
        let drawn = epoch.as_ref().is_some_and(|e| e.number == number && e.status == Epoch::DRAWN && e.tickets > 0);
        let more = heads.refresh(&self.reader, &network, number, drawn).await?;
        self.more.store(more, Ordering::Relaxed);
        let mut seldom = self.seldom.lock().await;
        if !seldom.knows_others {
            // Before anything is done: whoever thinks that it is alone does what is another's turn.
            let look = seldom.look_at_keepers(&self.reader, &network, &self.own.wallet, number);
            match timeout(CHORES_PATIENCE, look).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => tracing::warn!("the other keepers could not be looked for: {e}"),
                Err(_) => tracing::warn!("looking for the other keepers took longer than {CHORES_PATIENCE:?}"),
            }
        }
        if seldom.is_due(&network) && !more {
            seldom.begin(number, &heads.heads);
            // Trouble with the chores holds up no epoch.
            let payer = self.pipeline.payer();
            let look = seldom.look(&self.reader, &network, &heads.heads, &self.own.wallet, &payer, now);
            match timeout(CHORES_PATIENCE, look).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => tracing::warn!("reading cases and leases failed: {e}"),
                Err(_) => tracing::warn!("reading cases and leases took longer than {CHORES_PATIENCE:?}"),
            }
        }
        let view = ChainView {
            slot: clock.slot,
            now,
            epoch,
            blocks: heads.heads.values().copied().collect(),
            chores: seldom.chores.clone(),
            others: seldom.others(number),
            keeper: seldom.keeper.clone(),
            claim_from: self.own.claim_from.filter(|_| seldom.has_home),
            balance,
            keep_epochs: self.own.keep_epochs,
            network,
        };
        Ok((view, now))
    }

    /// Looks again at the blocks of some seats or tallies.
    async fn look_again(&self, actions: &[Action]) -> Result<Vec<bool>, ReadError> {
        let place = |action: &Action| match action {
            Action::SeatBlock { epoch, block } | Action::Tally { epoch, block } => Some((*epoch, *block)),
            _ => None,
        };
        let mut heads = self.heads.lock().await;
        let epochs: BTreeSet<u32> = actions.iter().filter_map(place).map(|(epoch, _)| epoch).collect();
        for epoch in epochs {
            let of = |(of, block): (u32, u32)| (of == epoch).then_some(block);
            let blocks: Vec<u32> = actions.iter().filter_map(place).filter_map(of).collect();
            heads.reread(&self.reader, epoch, &blocks).await?;
        }
        let undone = |action: &Action| match action {
            Action::SeatBlock { epoch, block } => heads.heads.get(block).is_some_and(|head| head.wants_seats(*epoch)),
            Action::Tally { epoch, block } => heads.heads.get(block).is_some_and(|head| head.wants_tally(*epoch)),
            _ => true,
        };
        Ok(actions.iter().map(undone).collect())
    }

    /// The instruction of an action; `None` when what it is about is not in the view any more.
    fn instruction(&self, view: &ChainView, action: Action) -> Option<Instruction> {
        let (network, payer) = (&view.network, self.pipeline.payer());
        let keeper = view.keeper.as_ref().map(|(address, _)| *address);
        let container = |wanted: Address| view.chores.containers.iter().find(|w| w.address == wanted).map(|w| &*w.container);
        let lease = |wanted: Address| view.chores.leases.iter().find(|(a, _)| *a == wanted).map(|(_, lease)| &**lease);
        Some(match action {
            Action::Advance(number) => instructions::advance_epoch(&payer, network, number, keeper),
            Action::Churn(epoch) => instructions::churn(epoch),
            Action::Draw(epoch) => instructions::draw(epoch, keeper),
            Action::SeatBlock { epoch, block } => instructions::seat_block(epoch, block),
            Action::Tally { epoch, block } => instructions::tally_block(network, epoch, block, ROWS as u16, keeper),
            Action::OpenCase { container: a, epoch } => instructions::open_case(&payer, &a, container(a)?, epoch),
            Action::CloseCase { container: a, epoch } => instructions::close_case(network, &a, container(a)?, epoch, keeper),
            Action::ReleaseRow { container: a, epoch } => instructions::release_row(&a, container(a)?, epoch),
            Action::VacateRow(a) => instructions::vacate_row(network, &a, container(a)?),
            Action::CancelLease(a) => instructions::cancel_lease(network, &a, lease(a)?),
            Action::CloseLease(a) => instructions::close_lease(&payer, &a, lease(a)?, false, 0),
            Action::SettleLease(a) => instructions::settle_lease(&a, lease(a)?),
            Action::Reclaim(a) => instructions::close_account(&payer, &a, &payer),
            Action::Claim => instructions::withdraw(network, &keeper?, addresses::Vault::Rewards, &self.own.wallet),
        })
    }

    /// Sends a batch as one transaction. When it is refused before it cost anything, its halves are tried: so one that is refused
    /// keeps nobody back, and who is to blame need not be guessed.
    async fn send(&self, view: &ChainView, batch: &[(Action, Instruction)]) -> Vec<(Action, Outcome)> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut parts = vec![batch];
        let epoch = view.network.epoch_at(view.now).unwrap_or_default();
        while let Some(part) = parts.pop() {
            let Some(((first, _), rest)) = part.split_first() else { continue };
            let label = if rest.is_empty() { first.to_string() } else { format!("{first} and {} more", rest.len()) };
            let instructions: Vec<Instruction> = part.iter().map(|(_, instruction)| instruction.clone()).collect();
            let actions = u32::try_from(part.len()).unwrap_or(u32::MAX);
            self.recorder.intend(&label, Intent { kind: first.kind(), actions, epoch, at: view.now });
            let sent = self.pipeline.send(&label, &instructions, &[]).await;
            self.recorder.settled(&label);
            let (signature, cost) = match &sent {
                Ok(landed) => (Some(landed.signature), landed.fee),
                Err(SendError::Failed { signature, fee, .. }) => (Some(*signature), *fee),
                Err(SendError::Unknown { signature, .. }) => (Some(*signature), 0),
                Err(_) => (None, 0),
            };
            // The odd lamports to the first of them.
            let share = |i: usize| {
                let (count, first) = (u64::from(actions), u64::from(i == 0));
                cost / count + first * (cost % count)
            };
            match sent {
                Ok(landed) => {
                    let done = Done { signature: landed.signature, slot: landed.slot, units: landed.units };
                    let of = |(i, (action, _)): (usize, &(Action, Instruction))| {
                        let pay = pay(view, action.kind());
                        (*action, Outcome { result: Ok(done), signature, fee: share(i), pay })
                    };
                    outcomes.extend(part.iter().enumerate().map(of));
                }
                Err(SendError::Refused { .. } | SendError::TooLarge { .. }) if part.len() > 1 => {
                    let (one, other) = part.split_at(part.len() / 2);
                    parts.extend([other, one]);
                }
                Err(e) => {
                    let of = |(i, (action, _)): (usize, &(Action, Instruction))| {
                        (*action, Outcome { result: Err(failure(*action, &e)), signature, fee: share(i), pay: 0 })
                    };
                    outcomes.extend(part.iter().enumerate().map(of));
                }
            }
        }
        outcomes
    }

    /// What was done is not due any more, and what a chore was decided from has changed, or is not as it was read: that waits for
    /// the next look.
    async fn note(&self, action: Action, done: bool) {
        match action {
            Action::SeatBlock { epoch, block } if done => {
                if let Some(head) = self.heads.lock().await.heads.get_mut(&block) {
                    let lane = &mut head.lanes[(epoch & 1) as usize];
                    (lane.epoch, lane.cursor, lane.tallied) = (epoch, 0, false);
                }
            }
            Action::Tally { epoch, block } if done => {
                if let Some(head) = self.heads.lock().await.heads.get_mut(&block) {
                    head.lanes[(epoch & 1) as usize].tallied = true;
                    head.last_tallied = epoch;
                }
            }
            Action::OpenCase { container, .. }
            | Action::CloseCase { container, .. }
            | Action::ReleaseRow { container, .. }
            | Action::VacateRow(container) => {
                self.seldom.lock().await.chores.containers.retain(|watched| watched.address != container);
            }
            Action::CancelLease(lease) | Action::CloseLease(lease) | Action::SettleLease(lease) => {
                self.seldom.lock().await.chores.leases.retain(|(address, _)| *address != lease);
            }
            Action::Reclaim(account) => self.seldom.lock().await.chores.rented.retain(|(address, _)| *address != account),
            Action::Claim => self.seldom.lock().await.keeper.iter_mut().for_each(|(_, keeper)| keeper.due = 0),
            _ => {}
        }
    }
}

/// What the program pays for an action, as far as the view tells: the fee that its epoch fixed.
fn pay(view: &ChainView, kind: Kind) -> u64 {
    let fee = view.epoch.as_deref().map_or(view.network.parameters.keeper_fee, |epoch| epoch.keeper_fee);
    if kind.is_paid() && view.keeper.is_some() { fee } else { 0 }
}

/// Refusals that mean: done already, or the moment has passed, or is not there yet. The next view tells.
const RACES: [DatagalaxError; 25] = [
    DatagalaxError::AlreadyAdvanced,
    DatagalaxError::AlreadyDrawn,
    DatagalaxError::AlreadySeated,
    DatagalaxError::AlreadyTallied,
    DatagalaxError::NothingToChurn,
    DatagalaxError::ChurnPending,
    DatagalaxError::WrongEpoch,
    DatagalaxError::EpochVoid,
    DatagalaxError::NotDrawn,
    DatagalaxError::NotSeated,
    DatagalaxError::BlockEmpty,
    DatagalaxError::TooEarlyToDraw,
    DatagalaxError::OutsideTallyWindow,
    DatagalaxError::CurrentEpochRequired,
    DatagalaxError::PreviousEpochRequired,
    DatagalaxError::NotStarted,
    DatagalaxError::AlreadyExists,
    DatagalaxError::NotAccused,
    DatagalaxError::CaseOpen,
    DatagalaxError::CaseClosed,
    DatagalaxError::CaseExists,
    DatagalaxError::NotLeaving,
    DatagalaxError::WrongLeaseState,
    DatagalaxError::StartNotTimedOut,
    DatagalaxError::NothingToSettle,
];

fn failure(action: Action, error: &SendError) -> Failure {
    let text = error.to_string();
    if error.is_transient() {
        return Failure::Transient(text);
    }
    let Some(refusal) = error.refusal() else { return Failure::Refused(text) };
    // An advance creates the epoch's account, a case its own: that it exists already may be said by the system program or the
    // framework.
    let exists = matches!(action, Action::Advance(_) | Action::OpenCase { .. })
        && refusal.advice().is_some_and(|a| matches!(a.name, "AccountAlreadyInUse" | "AccountAlreadyInitialized"));
    if exists || RACES.iter().any(|race| refusal.is(*race)) {
        Failure::Raced(refusal.advice().map_or(text, |advice| advice.name.to_owned()))
    } else {
        Failure::Refused(text)
    }
}

impl Chain for ClusterChain {
    fn view(&self) -> BoxFuture<'_, Result<(ChainView, i64), ReadError>> {
        self.read().boxed()
    }

    fn undone<'a>(&'a self, _: &'a ChainView, actions: &'a [Action]) -> BoxFuture<'a, Result<Vec<bool>, ReadError>> {
        self.look_again(actions).boxed()
    }

    fn perform<'a>(&'a self, view: &'a ChainView, actions: &'a [Action]) -> BoxFuture<'a, Vec<Outcome>> {
        async move {
            let with = |action: &Action| Some((*action, self.instruction(view, *action)?));
            let batch: Vec<(Action, Instruction)> = actions.iter().filter_map(with).collect();
            let sent = self.send(view, &batch).await;
            let mut outcomes = Vec::with_capacity(actions.len());
            for action in actions {
                let outcome = sent.iter().find(|(of, _)| of == action).map(|(_, outcome)| outcome.clone());
                let gone = || Outcome::free(Failure::Raced("it is not on the chain any more".to_owned()));
                let outcome = outcome.unwrap_or_else(gone);
                self.note(*action, outcome.result.is_ok()).await;
                outcomes.push(outcome);
            }
            outcomes
        }
        .boxed()
    }

    fn changed(&self, longest: Duration) -> BoxFuture<'_, ()> {
        async move {
            if self.more.load(Ordering::Relaxed) {
                return;
            }
            let woken = self.changes.iter().map(|changes| async { changes.lock().await.next(longest).await }.boxed());
            match self.changes.is_empty() {
                // The first of them, be it by its time.
                false => drop(select_all(woken).await),
                true => tokio::time::sleep(longest).await,
            }
        }
        .boxed()
    }
}
