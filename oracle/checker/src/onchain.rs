//! [`Chain`] through a node of the cluster.

use std::{
    mem::offset_of,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use datagalax::{
    committee::positions,
    constants::NONE,
    error::DatagalaxError,
    state::{Block, Checker, Container, Epoch, GpuClass},
};
use datagalax_client::{
    Address, Pipeline, ReadError, Reader, addresses,
    clock::read_clock,
    instructions::{claim_seat_pay, commit_report, reveal_report},
    pipeline::{Action, DirectoryStore, SendError, Settings, StoreError},
    rpc::Rpc,
    slots::{self, SlotError, SlotWatch},
};
use datagalax_gpu::{
    ask::{self, Ask},
    beacon::{Slot, Watch},
    location::Position,
};
use futures_util::{FutureExt, future::BoxFuture, try_join};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use tokio::{sync::Mutex, time::Instant};

use crate::chain::{
    Chain, ChainError, Cluster, Commit, EpochView, Finality, Pay, Registration, Reveal, RevealWindow, Seat, SeatRef,
    SeatState, Seats, SeenSlot, Slots, Target,
};

/// Slots that are so much older than the newest when they come were not seen when they happened, seconds.
const STALE: i64 = 2;
/// How often a slot's time is asked for before the slot is left out.
const PATIENCE: u32 = 5;
/// Tickets named in one claim.
const TICKETS: usize = 100;

/// The chain as one node shows it; transactions are paid and signed by the checker's operator key.
pub struct OnChain {
    rpc: Arc<dyn Rpc>,
    ws: Option<String>,
    reader: Reader,
    pipeline: Pipeline,
    slots: Mutex<Option<SlotWatch>>,
    /// A watch beside the one above, which is busy waiting.
    finality: SlotWatch,
    /// How often in a row the node did not know a slot's time.
    no_time: AtomicU32,
    /// Start and number of the epoch whose draw was seen last, and how its beacons are found.
    drawn: Mutex<Option<((i64, u32), Watch)>>,
}

impl OnChain {
    /// Uses this node, or several as one; `ws` is a WebSocket address that tells of new slots. Nothing is asked yet.
    ///
    /// # Errors
    /// The folder for pending transactions cannot be used.
    pub fn new(
        rpc: Arc<dyn Rpc>,
        ws: Option<String>,
        key: Arc<Keypair>,
        pending: &Path,
        fee: u64,
    ) -> Result<Self, StoreError> {
        let store = Arc::new(DirectoryStore::open(pending)?);
        let settings = Settings { priority_fee: fee, ..Settings::default() };
        let pipeline = Pipeline::new(rpc.clone(), key, store, settings);
        let (reader, finality) = (Reader::new(rpc.clone()), SlotWatch::new(rpc.clone(), None, None));
        Ok(Self {
            reader,
            rpc,
            ws,
            pipeline,
            slots: Mutex::new(None),
            finality,
            no_time: AtomicU32::new(0),
            drawn: Mutex::new(None),
        })
    }

    /// Finds out what became of transactions that a stopped process left behind; before any new work.
    ///
    /// # Errors
    /// The node stops answering meanwhile.
    pub async fn resolve_pending(&self) -> Result<usize, ChainError> {
        Ok(self.pipeline.resolve_pending().await.map_err(sent)?.len())
    }

    async fn now(&self) -> Result<i64, ChainError> {
        Ok(read_clock(self.rpc.as_ref()).await.map_err(read)?.unix_timestamp)
    }

    /// The current epoch's account, if it was advanced to.
    async fn current(&self) -> Result<Option<Box<Epoch>>, ChainError> {
        let (network, now) = try_join!(async { self.reader.network().await.map_err(read) }, self.now())?;
        let Ok(number) = network.epoch_at(now) else { return Ok(None) };
        self.reader.find::<Epoch>(&addresses::epoch(number)).await.map_err(read)
    }
}

fn read(error: ReadError) -> ChainError {
    ChainError { transient: error.is_transient(), hopeless: false, message: error.to_string() }
}

fn sent(error: SendError) -> ChainError {
    // A seat's commitment changes only by this operator's own hand, and was read just before.
    let hopeless = error.is(DatagalaxError::CommitmentMismatch);
    ChainError { transient: error.is_transient(), hopeless, message: error.to_string() }
}

fn slot_error(error: SlotError) -> ChainError {
    ChainError { transient: error.is_transient(), hopeless: false, message: error.to_string() }
}

impl Chain for OnChain {
    fn cluster(&self) -> BoxFuture<'_, Result<Cluster, ChainError>> {
        async {
            let network = self.reader.network().await.map_err(read)?;
            Ok(Cluster { genesis_hash: network.genesis_hash, program: addresses::PROGRAM })
        }
        .boxed()
    }

    fn operator(&self, checker: u32) -> BoxFuture<'_, Result<Option<Pubkey>, ChainError>> {
        async move {
            let found = self.reader.find::<Checker>(&addresses::checker(checker)).await.map_err(read)?;
            Ok(found.map(|checker| checker.operator))
        }
        .boxed()
    }

    fn epoch(&self) -> BoxFuture<'_, Result<EpochView, ChainError>> {
        async {
            let (network, now) = try_join!(async { self.reader.network().await.map_err(read) }, self.now())?;
            let number = network.epoch_at(now).map_err(|_| ChainError {
                message: "the first epoch has not begun".into(),
                transient: true,
                hopeless: false,
            })?;
            let epoch = self.reader.find::<Epoch>(&addresses::epoch(number)).await.map_err(read)?;
            let (start, end) = network.bounds(number);
            let measure_until = end.saturating_sub(i64::from(network.grid_of(number).commit_lead));
            let mut view = EpochView { number, now, start, end, measure_until, watch: None, draw_slot: 0 };
            if let Some(epoch) = epoch.filter(|epoch| epoch.status == Epoch::DRAWN) {
                let mut drawn = self.drawn.lock().await;
                // Classes are read once an epoch, when its draw is seen first.
                let watch = match *drawn {
                    Some((of, watch)) if of == (start, number) => watch,
                    _ => {
                        let classes = self.reader.classes().await.map_err(read)?;
                        ask::watch(&network, &epoch, classes.iter().map(|class| &class.terms))
                    }
                };
                *drawn = Some(((start, number), watch));
                (view.watch, view.draw_slot) = (Some(watch), epoch.draw_slot);
            }
            Ok(view)
        }
        .boxed()
    }

    fn seats<'a>(&'a self, number: u32, checkers: &'a [u32]) -> BoxFuture<'a, Result<Seats, ChainError>> {
        async move {
            let (network, epoch, set) =
                try_join!(self.reader.network(), self.reader.epoch(number), self.reader.checker_set()).map_err(read)?;
            // The draw says where to look; what is written in the block is what counts.
            let holds = |position: u32| {
                let slot = set.tickets.get(position as usize).map(|ticket| ticket.order);
                let ticket = slot.and_then(|slot| set.tickets.get(slot as usize));
                ticket.is_some_and(|ticket| checkers.contains(&ticket.checker))
            };
            let drawn = |block: u32| positions(&epoch.seed, block, epoch.tickets).iter().any(|p| *p != NONE && holds(*p));
            let addresses: Vec<Address> = (0..network.blocks).filter(|block| drawn(*block)).map(addresses::block).collect();
            let mut seats = Seats::default();
            // 41 KB each.
            for part in addresses.chunks(16) {
                for block in self.reader.many::<Block>(part).await.map_err(read)?.into_iter().flatten() {
                    let Ok(lane) = block.lane(number) else {
                        if block.occupied > 0 && block.seated_from <= number {
                            seats.waiting += 1;
                        }
                        continue;
                    };
                    let mine = lane
                        .committee
                        .iter()
                        .zip(0..)
                        .filter(|(seat, _)| seat.is_filled() && checkers.contains(&seat.checker));
                    seats.seated.extend(mine.map(|(held, seat)| Seat {
                        at: SeatRef { block: block.index, epoch: number, seat },
                        checker: held.checker,
                    }));
                }
            }
            Ok(seats)
        }
        .boxed()
    }

    fn targets(&self, index: u32, epoch: u32) -> BoxFuture<'_, Result<Vec<Target>, ChainError>> {
        async move {
            let number = index.to_le_bytes();
            let of_block = [(offset_of!(Container, block), number.as_slice())];
            let (block, containers, classes) = try_join!(
                self.reader.block(index),
                self.reader.matching::<Container>(&of_block),
                self.reader.list::<GpuClass>()
            )
            .map_err(read)?;
            let here = containers.into_iter().filter(|(_, container)| {
                // A vacated row may be taken again: the row says whose it is.
                let row = &block.rows[usize::from(container.row)];
                container.block == index && block.is_occupied(container.row) && row.provider == container.provider
            });
            let target = |(address, container): (Address, Box<Container>)| {
                let leased = ask::is_leased(&block.rows[usize::from(container.row)], epoch);
                let class = classes.iter().find(|(_, class)| class.id == container.class);
                // Why no challenge can be planned is the same for everybody, and no fault of the host's.
                let ask = class.and_then(|(_, class)| Ask::of(&class.terms, container.gpus, leased).ok());
                Target {
                    row: container.row,
                    container: address,
                    operator: container.operator,
                    endpoint: container.endpoint().to_owned(),
                    fingerprint: container.fingerprint,
                    gpus: container.gpus,
                    minimum_memory: class.map_or(0, |(_, class)| class.terms.minimum_vram),
                    ask,
                    claimed: Position::new(container.latitude, container.longitude).ok(),
                }
            };
            let mut targets: Vec<Target> = here.map(target).collect();
            targets.sort_by_key(|target| target.row);
            targets.dedup_by_key(|target| target.row);
            Ok(targets)
        }
        .boxed()
    }

    fn slots(&self) -> BoxFuture<'_, Result<Slots, ChainError>> {
        async {
            let mut slots = self.slots.lock().await;
            if slots.is_none() {
                // From the draw on if the cluster still has that: a restarted checker learns which beacons it missed.
                let drawn = self.current().await?.filter(|epoch| epoch.status == Epoch::DRAWN);
                let watch = SlotWatch::new(self.rpc.clone(), self.ws.as_deref(), drawn.map(|epoch| epoch.draw_slot));
                *slots = Some(watch);
            }
            let Some(watch) = slots.as_mut() else { return Ok(Slots::New(Vec::new())) };
            match watch.next().await {
                Ok(new) => {
                    self.no_time.store(0, Ordering::Relaxed);
                    let newest = new.last().map_or(0, |slot| slot.time);
                    let seen = |slot: slots::SeenSlot| SeenSlot {
                        slot: Slot { number: slot.number, hash: slot.hash, time: slot.time },
                        seen: (newest.saturating_sub(slot.time) <= STALE).then_some(slot.seen),
                    };
                    Ok(Slots::New(new.into_iter().map(seen).collect()))
                }
                Err(SlotError::Missed { .. }) => Ok(Slots::Missed),
                Err(SlotError::Dropped { slot }) => Ok(Slots::Dropped(slot)),
                Err(SlotError::NoTime { slot, .. }) if self.no_time.fetch_add(1, Ordering::Relaxed) >= PATIENCE => {
                    // A node that does not keep its blocks: the slots after this one matter more. More of the kind are left out at
                    // once, until one has its time again.
                    watch.pass(slot);
                    Ok(Slots::Missed)
                }
                Err(error) => Err(slot_error(error)),
            }
        }
        .boxed()
    }

    fn finality(&self, slot: Slot) -> BoxFuture<'_, Result<Finality, ChainError>> {
        async move {
            let Slot { number, hash, time } = slot;
            match self.finality.finality(&slots::SeenSlot { number, hash, time, seen: Instant::now() }).await {
                Ok(slots::Finality::Waiting) => Ok(Finality::Open),
                Ok(slots::Finality::Final) => Ok(Finality::Final),
                Ok(slots::Finality::Dropped) => Ok(Finality::Dropped),
                Err(SlotError::Missed { .. }) => Ok(Finality::Forgotten),
                Err(error) => Err(slot_error(error)),
            }
        }
        .boxed()
    }

    fn seat(&self, at: SeatRef) -> BoxFuture<'_, Result<Option<SeatState>, ChainError>> {
        async move {
            let block = self.reader.block(at.block).await.map_err(read)?;
            let lane = block.lane(at.epoch).ok();
            let seat = lane.and_then(|lane| lane.committee.get(usize::from(at.seat))).filter(|seat| seat.is_filled());
            Ok(seat.map(|seat| SeatState {
                checker: seat.checker,
                commitment: seat.commitment,
                revealed: seat.revealed != 0,
            }))
        }
        .boxed()
    }

    fn reveal_window(&self, epoch: u32) -> BoxFuture<'_, Result<RevealWindow, ChainError>> {
        async move {
            let (network, now) = try_join!(async { self.reader.network().await.map_err(read) }, self.now())?;
            let (opens, closes, _) = network.report_windows(epoch);
            Ok(RevealWindow { now, opens, closes, epoch_start: network.bounds(epoch).0 })
        }
        .boxed()
    }

    fn commit<'a>(&'a self, commits: &'a [Commit]) -> BoxFuture<'a, Vec<Result<(), ChainError>>> {
        async move {
            let operator = self.pipeline.payer();
            let action = |Commit { seat: Seat { at, checker }, commitment }: &Commit| Action {
                label: format!("commit of epoch {}, block {}, seat {}", at.epoch, at.block, at.seat),
                // Naming the checker is needed for a seat's first commit and harmless after.
                instructions: vec![commit_report(&operator, *at, Some(*checker), *commitment)],
                signers: Vec::new(),
            };
            let actions: Vec<Action<'_>> = commits.iter().map(action).collect();
            let results = self.pipeline.send_batch(&actions).await;
            results.into_iter().map(|result| result.map(drop).map_err(sent)).collect()
        }
        .boxed()
    }

    fn reveal<'a>(&'a self, at: SeatRef, report: Reveal<'a>) -> BoxFuture<'a, Result<(), ChainError>> {
        async move {
            let Reveal { salt, evidence_root, values } = report;
            let operator = self.pipeline.payer();
            let instruction = reveal_report(&operator, at, salt, evidence_root, values.as_bytes());
            let label = format!("reveal of epoch {}, block {}, seat {}", at.epoch, at.block, at.seat);
            self.pipeline.send(&label, &[instruction], &[]).await.map_err(sent)?;
            Ok(())
        }
        .boxed()
    }

    fn pay(&self, checker: u32) -> BoxFuture<'_, Result<Pay, ChainError>> {
        async move {
            let set = self.reader.checker_set().await.map_err(read)?;
            let accrued = |slot: &u32| set.tickets.get(*slot as usize).map_or(0, |ticket| ticket.accrued);
            let tickets: Vec<u32> =
                set.slots_of(checker).into_iter().filter(|slot| accrued(slot) > 0).take(TICKETS).collect();
            Ok(Pay { amount: tickets.iter().map(accrued).fold(0, u64::saturating_add), tickets })
        }
        .boxed()
    }

    fn claim<'a>(&'a self, checker: u32, pay: &'a Pay) -> BoxFuture<'a, Result<(), ChainError>> {
        async move {
            let (network, account) = try_join!(async { self.reader.network().await.map_err(read) }, async {
                self.reader.get::<Checker>(&addresses::checker(checker)).await.map_err(read)
            },)?;
            let instruction = claim_seat_pay(&network, &account, &pay.tickets);
            self.pipeline.send(&format!("claim of checker {checker}'s pay"), &[instruction], &[]).await.map_err(sent)?;
            Ok(())
        }
        .boxed()
    }

    fn registration(&self, container: Pubkey) -> BoxFuture<'_, Result<Option<Registration>, ChainError>> {
        async move {
            let found = self.reader.find::<Container>(&container).await.map_err(read)?;
            Ok(found.map(|found| Registration { operator: found.operator, endpoint: found.endpoint().to_owned() }))
        }
        .boxed()
    }
}
