//! The chain as the keeper sees it: read, act, be woken. A trait, so that the loop is tested without a cluster.

use std::{sync::Arc, time::Duration};

use datagalax::{
    constants::{NONE, ROWS},
    error::DatagalaxError,
    state::{Block, Case, Keeper, Lease, Network},
};
use datagalax_client::{
    Address, Pipeline, ReadError, Reader, addresses, clock::read_clock, instructions, pipeline::SendError, rpc::Changes,
};
use futures_util::{FutureExt, future::BoxFuture};
use solana_instruction::Instruction;
use solana_signature::Signature;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::decide::{Action, ChainView, Chores, Watched, rows_of_interest};

/// Containers that one look at the chores reads, each by a request of its own; the next look takes the next ones.
const WATCHED: usize = 16;
/// Leases of a kind that one look hands on.
const LEASES: usize = 64;
/// How long a look may hold up the epochs.
const CHORES_PATIENCE: Duration = Duration::from_secs(4);
/// Shortest time between two looks at the chores; on long epochs it is a quarter of one.
const CHORES_EVERY: Duration = Duration::from_secs(5);

/// An action that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The transaction.
    pub signature: Signature,
    /// Compute units it took.
    pub units: u64,
}

/// Why an action was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Somebody else did it, or the chain moved on since it was read. No trouble: read again.
    Raced(String),
    /// The node or the cluster does not answer. Try again.
    Transient(String),
    /// Anything else. Tried again too, but with growing pauses, and said as a warning.
    Refused(String),
}

/// What the keeper needs of the chain.
pub trait Chain: Send + Sync {
    /// Reads everything a decision needs, and the chain's time in seconds.
    fn view(&self) -> BoxFuture<'_, Result<(ChainView, i64), ReadError>>;
    /// Carries out an action that the view allowed.
    fn perform<'a>(&'a self, view: &'a ChainView, action: Action) -> BoxFuture<'a, Result<Done, Failure>>;
    /// Waits until something may have changed, at most for `longest`.
    fn changed(&self, longest: Duration) -> BoxFuture<'_, ()>;
}

/// A real cluster.
pub struct ClusterChain {
    reader: Reader,
    pipeline: Pipeline,
    changes: Option<Mutex<Changes>>,
    /// Whose keeper's account is named where there is a fee.
    wallet: Address,
    seldom: Mutex<Seldom>,
}

/// What is read seldom.
#[derive(Default)]
struct Seldom {
    /// When it was read last.
    read: Option<Instant>,
    /// How many looks there were: each takes other containers when there are too many.
    looks: usize,
    /// The keeper's account, if it exists.
    keeper: Option<Address>,
    chores: Chores,
}

impl ClusterChain {
    /// Reads and sends through this pipeline's node; with a WebSocket URL, is woken when the network or its tickets change.
    /// Fees go to the keeper's account of `wallet`, while there is one.
    pub fn new(pipeline: Pipeline, ws: Option<&str>, wallet: Address) -> Self {
        let watched = vec![addresses::network(), addresses::checker_set()];
        let changes = ws.map(|url| Mutex::new(Changes::watch(url, watched)));
        Self { reader: Reader::new(Arc::clone(pipeline.rpc())), pipeline, changes, wallet, seldom: Mutex::default() }
    }

    /// Opens the wallet's keeper account unless it exists; says whether it had to.
    ///
    /// # Errors
    /// The node does not answer, or the payer cannot pay the rent.
    pub async fn register(&self) -> Result<bool, SendError> {
        let address = addresses::keeper(&self.wallet);
        // What cannot be read is tried: the program refuses a second one.
        if self.reader.find::<Keeper>(&address).await.is_ok_and(|keeper| keeper.is_some()) {
            return Ok(false);
        }
        let instruction = instructions::register_keeper(&self.pipeline.payer(), &self.wallet);
        self.pipeline.send("register the keeper", &[instruction], &[]).await?;
        self.seldom.lock().await.read = None;
        Ok(true)
    }

    /// The pipeline, to resolve what a stopped keeper left behind.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    async fn read(&self) -> Result<(ChainView, i64), ReadError> {
        let network = self.reader.network().await?;
        let epoch = match network.current_epoch {
            NONE => None,
            number => Some(self.reader.epoch(number).await?),
        };
        let blocks = self.reader.blocks(network.blocks).await?;
        // After everything of the epoch, so that nothing of it is of a later time than the clock.
        let clock = read_clock(self.reader.rpc().as_ref()).await?;
        let now = clock.unix_timestamp;
        let chores = self.chores(&network, &blocks, now).await;
        Ok((ChainView { network, slot: clock.slot, epoch, blocks, chores }, now))
    }

    /// The chores as read last, read again when that is long ago. Trouble with them holds up no epoch.
    async fn chores(&self, network: &Network, blocks: &[Box<Block>], now: i64) -> Chores {
        let mut seldom = self.seldom.lock().await;
        let every = CHORES_EVERY.max(Duration::from_secs(u64::from(network.grids[0].length / 4)));
        if seldom.read.is_none_or(|at| at.elapsed() >= every) {
            let rows = rows_of_interest(network, blocks, now);
            let first = if rows.is_empty() { 0 } else { seldom.looks * WATCHED % rows.len() };
            let some: Vec<_> = rows.iter().cycle().skip(first).take(rows.len().min(WATCHED)).copied().collect();
            match timeout(CHORES_PATIENCE, self.look(blocks, &some)).await {
                Ok(Ok((keeper, chores))) => (seldom.keeper, seldom.chores) = (keeper, chores),
                Ok(Err(e)) => tracing::warn!("reading cases and leases failed: {e}"),
                Err(_) => tracing::warn!("reading cases and leases took longer than {CHORES_PATIENCE:?}"),
            }
            seldom.read = Some(Instant::now());
            seldom.looks = seldom.looks.wrapping_add(1);
        }
        seldom.chores.clone()
    }

    async fn look(&self, blocks: &[Box<Block>], rows: &[(u32, u8)]) -> Result<(Option<Address>, Chores), ReadError> {
        let keeper = addresses::keeper(&self.wallet);
        let keeper = self.reader.find::<Keeper>(&keeper).await?.map(|_| keeper);
        let mut chores = Chores::default();
        for (block, row) in rows {
            let Some((address, container)) = self.reader.container_at(*block, *row).await? else { continue };
            let frozen = blocks.iter().find(|b| b.index == *block).map(|b| &b.rows[usize::from(*row)]);
            let case = match frozen.filter(|row| row.is_accused()) {
                Some(row) => self.reader.find(&addresses::case(&address, row.first_condemned, Case::DISHONEST)).await?,
                None => None,
            };
            chores.containers.push(Watched { address, container, case });
        }
        for status in [Lease::OPEN, Lease::STARTED, Lease::ENDED] {
            let mut leases = self.reader.leases_in(status).await?;
            // Those that were settled longest ago first.
            leases.sort_by_key(|(_, lease)| lease.settled_until.max(lease.start_by));
            chores.leases.extend(leases.into_iter().take(LEASES));
        }
        Ok((keeper, chores))
    }

    /// The instruction of an action; `None` when what it is about is not in the view any more.
    fn instruction(&self, view: &ChainView, action: Action, keeper: Option<Address>) -> Option<Instruction> {
        let (network, payer) = (&view.network, self.pipeline.payer());
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
        })
    }

    /// What a chore was decided from has changed, or is not as it was read: it waits for the next look.
    async fn forget(&self, action: Action) {
        let chores = &mut self.seldom.lock().await.chores;
        match action {
            Action::OpenCase { container, .. }
            | Action::CloseCase { container, .. }
            | Action::ReleaseRow { container, .. }
            | Action::VacateRow(container) => chores.containers.retain(|w| w.address != container),
            Action::CancelLease(lease) | Action::CloseLease(lease) | Action::SettleLease(lease) => {
                chores.leases.retain(|(address, _)| *address != lease);
            }
            Action::Advance(_) | Action::Churn(_) | Action::Draw(_) | Action::SeatBlock { .. } | Action::Tally { .. } => {}
        }
    }
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

    fn perform<'a>(&'a self, view: &'a ChainView, action: Action) -> BoxFuture<'a, Result<Done, Failure>> {
        async move {
            let keeper = self.seldom.lock().await.keeper;
            let gone = || Failure::Raced("it is not on the chain any more".to_owned());
            let instruction = self.instruction(view, action, keeper).ok_or_else(gone)?;
            let sent = self.pipeline.send(&action.to_string(), &[instruction], &[]).await;
            self.forget(action).await;
            match sent {
                Ok(landed) => Ok(Done { signature: landed.signature, units: landed.units }),
                Err(e) => Err(failure(action, &e)),
            }
        }
        .boxed()
    }

    fn changed(&self, longest: Duration) -> BoxFuture<'_, ()> {
        async move {
            match &self.changes {
                Some(changes) => {
                    changes.lock().await.next(longest).await;
                }
                None => tokio::time::sleep(longest).await,
            }
        }
        .boxed()
    }
}
