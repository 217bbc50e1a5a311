//! [`Chain`] through a node of the cluster.

use std::{path::Path, sync::Arc};

use datagalax::{
    committee::positions,
    constants::NONE,
    state::{Block, Checker, Container, Epoch, GpuClass},
};
use datagalax_client::{
    Address, Pipeline, ReadError, Reader, addresses,
    clock::read_clock,
    instructions::{commit_report, reveal_report},
    pipeline::{DirectoryStore, SendError, Settings, StoreError},
    rpc::{HttpRpc, Rpc},
};
use datagalax_protocol::Digest;
use futures_util::{FutureExt, future::BoxFuture, try_join};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;

use crate::chain::{Chain, ChainError, Cluster, EpochView, Reveal, RevealWindow, SeatRef, SeatState, Seats, Target};

/// The chain as one node shows it; transactions are paid and signed by the checker's operator key.
pub struct OnChain {
    rpc: Arc<dyn Rpc>,
    reader: Reader,
    pipeline: Pipeline,
}

impl OnChain {
    /// Uses this node. Nothing is asked yet.
    ///
    /// # Errors
    /// The folder for pending transactions cannot be used.
    pub fn new(rpc: &str, ws: Option<&str>, key: Arc<Keypair>, pending: &Path, fee: u64) -> Result<Self, StoreError> {
        let rpc: Arc<dyn Rpc> = Arc::new(HttpRpc::new(rpc, ws));
        let store = Arc::new(DirectoryStore::open(pending)?);
        let settings = Settings { priority_fee: fee, ..Settings::default() };
        let pipeline = Pipeline::new(rpc.clone(), key, store, settings);
        Ok(Self { reader: Reader::new(rpc.clone()), rpc, pipeline })
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
}

fn read(error: ReadError) -> ChainError {
    ChainError { transient: error.is_transient(), message: error.to_string() }
}

fn sent(error: SendError) -> ChainError {
    ChainError { transient: error.is_transient(), message: error.to_string() }
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
            let number = network
                .epoch_at(now)
                .map_err(|_| ChainError { message: "the first epoch has not begun".into(), transient: true })?;
            let epoch = self.reader.find::<Epoch>(&addresses::epoch(number)).await.map_err(read)?;
            let (start, end) = network.bounds(number);
            let measure_until = end.saturating_sub(i64::from(network.grid_of(number).commit_lead));
            let drawn = epoch.is_some_and(|epoch| epoch.status == Epoch::DRAWN);
            Ok(EpochView { number, now, start, end, measure_until, drawn })
        }
        .boxed()
    }

    fn seats(&self, number: u32, checker: u32) -> BoxFuture<'_, Result<Seats, ChainError>> {
        async move {
            let (network, epoch, set) =
                try_join!(self.reader.network(), self.reader.epoch(number), self.reader.checker_set()).map_err(read)?;
            // The draw says where to look; what is written in the block is what counts.
            let holds = |position: u32| {
                let slot = set.tickets.get(position as usize).map(|ticket| ticket.order);
                slot.and_then(|slot| set.tickets.get(slot as usize)).is_some_and(|ticket| ticket.checker == checker)
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
                    let mine =
                        lane.committee.iter().zip(0..).filter(|(seat, _)| seat.is_filled() && seat.checker == checker);
                    seats.seated.extend(mine.map(|(_, seat)| SeatRef { block: block.index, epoch: number, seat }));
                }
            }
            Ok(seats)
        }
        .boxed()
    }

    fn targets(&self, index: u32) -> BoxFuture<'_, Result<Vec<Target>, ChainError>> {
        async move {
            let (block, containers, classes) =
                try_join!(self.reader.block(index), self.reader.list::<Container>(), self.reader.list::<GpuClass>())
                    .map_err(read)?;
            let here = containers.into_iter().filter(|(_, container)| {
                // A vacated row may be taken again: the row says whose it is.
                let row = &block.rows[usize::from(container.row)];
                container.block == index && block.is_occupied(container.row) && row.provider == container.provider
            });
            let target = |(address, container): (Address, Box<Container>)| {
                let class = classes.iter().find(|(_, class)| class.id == container.class);
                let throughput = class.map_or(0, |(_, class)| class.terms.reference_throughput);
                Target {
                    row: container.row,
                    container: address,
                    operator: container.operator,
                    endpoint: container.endpoint().to_owned(),
                    reference: throughput.saturating_mul(u64::from(container.gpus)),
                }
            };
            let mut targets: Vec<Target> = here.map(target).collect();
            targets.sort_by_key(|target| target.row);
            Ok(targets)
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

    fn commit(&self, at: SeatRef, checker: u32, commitment: Digest) -> BoxFuture<'_, Result<(), ChainError>> {
        async move {
            // Naming the checker is needed for a seat's first commit and harmless after.
            let instruction = commit_report(&self.pipeline.payer(), at, Some(checker), commitment);
            let label = format!("commit of epoch {}, block {}, seat {}", at.epoch, at.block, at.seat);
            self.pipeline.send(&label, &[instruction], &[]).await.map_err(sent)?;
            Ok(())
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
}
