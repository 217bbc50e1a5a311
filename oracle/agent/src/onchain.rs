//! [`Chain`] and [`Act`] through nodes of the cluster.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use datagalax::state::{Checker, ClassTerms, Container, Epoch, GpuClass, Lease as LeaseAccount};
use datagalax_client::{
    Address, Pipeline, Reader, addresses,
    clock::read_clock,
    instructions::{self, UpdateContainerArgs},
    rpc::{Changes, Rpc},
    slots::{SlotError, SlotWatch},
};
use datagalax_gpu::{
    ask::{self, Ask},
    beacon::Slot,
};
use datagalax_protocol::lease::Usage;
use futures_util::{FutureExt, future::BoxFuture, try_join};
use solana_pubkey::Pubkey;

use crate::chain::{
    Act, Chain, ChainError, Cluster, Committee, Lease, Offer, Phase, Registration, SeenSlot, Slots, SlotsError, Wake,
    Watched,
};

/// How far back slots are told at start: longer than any beacon may be answered. Each costs the node one question.
const SLOTS_BACK: u64 = 300;
/// Of those, how far back the times are still looked for one by one when some are not known.
const SLOTS_KNOWN: u64 = 64;
/// How often a slot whose time no node knows is asked for before it is left out.
const TIMELESS: u32 = 5;

/// The chain as its nodes show it.
pub struct OnChain {
    rpc: Arc<dyn Rpc>,
    ws: Option<String>,
    reader: Reader,
    classes: Mutex<Option<Classes>>,
}

/// All classes, as they were read in an epoch: for the beacons of one epoch they are read once.
#[derive(Clone)]
struct Classes {
    epoch: u32,
    terms: Arc<Vec<(u16, ClassTerms)>>,
}

impl OnChain {
    /// Asks these nodes; notifications come over `ws`. Nothing is asked yet.
    pub fn new(rpc: Arc<dyn Rpc>, ws: Option<String>) -> Self {
        Self { reader: Reader::new(rpc.clone()), rpc, ws, classes: Mutex::default() }
    }

    async fn classes(&self, epoch: u32, own: u16) -> Result<Arc<Vec<(u16, ClassTerms)>>, ChainError> {
        let known = self.classes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A class may be created, and registered in, within the epoch.
        let has_own = |known: &Classes| known.terms.iter().any(|(id, _)| *id == own);
        if let Some(known) = known.filter(|known| known.epoch == epoch && has_own(known)) {
            return Ok(known.terms);
        }
        let classes = self.reader.classes().await.map_err(failed)?;
        let terms: Arc<Vec<_>> = Arc::new(classes.iter().map(|class| (class.id, class.terms)).collect());
        *self.classes.lock().unwrap_or_else(PoisonError::into_inner) = Some(Classes { epoch, terms: terms.clone() });
        Ok(terms)
    }

    async fn class(&self, id: u16) -> Result<Option<Box<GpuClass>>, ChainError> {
        self.reader.find::<GpuClass>(&addresses::class(id)).await.map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> ChainError {
    ChainError(error.to_string())
}

fn lease_of(address: Pubkey, lease: &LeaseAccount) -> Lease {
    let phase = match lease.status {
        LeaseAccount::OPEN => Phase::Open,
        LeaseAccount::STARTED => Phase::Started,
        _ => Phase::Ended,
    };
    let LeaseAccount { user, start_by, started, workload_hash, .. } = *lease;
    Lease { address, user, phase, start_by, started, end: lease.end(), workload_hash }
}

/// What the chain takes of a lease's usage at `now` (its time), `None` when it has all of it.
fn recordable(lease: &LeaseAccount, gpus: u8, now: i64, usage: &Usage) -> Option<Usage> {
    let passed = u64::try_from(now.min(lease.end()).saturating_sub(lease.started)).unwrap_or(0);
    let known = Usage { gpu_seconds: lease.usage_gpu_seconds, joules: lease.usage_energy, bytes: lease.usage_bytes };
    let taken = Usage {
        gpu_seconds: usage.gpu_seconds.min(passed.saturating_mul(u64::from(gpus))).max(known.gpu_seconds),
        joules: usage.joules.max(known.joules),
        bytes: usage.bytes.max(known.bytes),
    };
    let runs = lease.status == LeaseAccount::STARTED || lease.status == LeaseAccount::ENDED;
    (runs && taken != known).then_some(taken)
}

impl Chain for OnChain {
    fn cluster(&self) -> BoxFuture<'_, Result<Cluster, ChainError>> {
        async {
            let network = self.reader.network().await.map_err(failed)?;
            Ok(Cluster { genesis_hash: network.genesis_hash, program: addresses::PROGRAM })
        }
        .boxed()
    }

    fn time(&self) -> BoxFuture<'_, Result<i64, ChainError>> {
        async { Ok(read_clock(self.rpc.as_ref()).await.map_err(failed)?.unix_timestamp) }.boxed()
    }

    fn registration(&self, container: Pubkey) -> BoxFuture<'_, Result<Option<Registration>, ChainError>> {
        async move {
            let Some(account) = self.reader.find::<Container>(&container).await.map_err(failed)? else { return Ok(None) };
            let class = self.class(account.class).await?;
            let class = class.ok_or_else(|| failed(format!("there is no class {} on chain", account.class)))?;
            let lease = if account.lease == Address::default() { None } else { self.lease(account.lease).await? };
            Ok(Some(Registration {
                block: account.block,
                row: account.row,
                gpus: account.gpus,
                class: account.class,
                minimum_memory: class.terms.minimum_vram,
                provider: account.provider,
                operator: account.operator,
                fingerprint: account.fingerprint,
                offer: Offer {
                    endpoint: account.endpoint().to_owned(),
                    price_per_hour: account.price_per_hour,
                    accepting: account.accepting == 1,
                    minimum_lease: account.minimum_lease,
                    spec_hash: account.spec_hash,
                },
                lease: lease.filter(|lease| lease.phase != Phase::Ended),
            }))
        }
        .boxed()
    }

    fn committee<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Committee, ChainError>> {
        async move {
            let (network, clock, block) = try_join!(
                async { self.reader.network().await.map_err(failed) },
                async { read_clock(self.rpc.as_ref()).await.map_err(failed) },
                async { self.reader.block(registration.block).await.map_err(failed) },
            )?;
            let now = clock.unix_timestamp;
            let number = network.epoch_at(now).map_err(|_| failed("the network's first epoch has not begun"))?;
            let (_, end) = network.bounds(number);
            let remaining = u32::try_from(end.saturating_sub(now)).unwrap_or(0);
            // Not seated yet is no error: the epoch may have begun a moment ago.
            let seats = block.lane(number).map(|lane| lane.committee.as_slice()).unwrap_or_default();
            let seated: Vec<_> = seats.iter().filter(|seat| seat.is_filled()).collect();
            let checkers: Vec<Address> = seated.iter().map(|seat| addresses::checker(seat.checker)).collect();
            let (checkers, epoch, classes) = try_join!(
                async { self.reader.many::<Checker>(&checkers).await.map_err(failed) },
                async { self.reader.find::<Epoch>(&addresses::epoch(number)).await.map_err(failed) },
                self.classes(number, registration.class),
            )?;
            // A seat's operator is copied by its first commit; a key changed after that leaves two that may ask.
            let copied = seated.iter().map(|seat| seat.operator).filter(|key| *key != Address::default());
            let mut operators: Vec<Pubkey> = copied.chain(checkers.into_iter().flatten().map(|c| c.operator)).collect();
            operators.sort_unstable();
            operators.dedup();

            let drawn = epoch.filter(|epoch| epoch.status == Epoch::DRAWN);
            let beacons = drawn.map(|epoch| ask::watch(&network, &epoch, classes.iter().map(|(_, terms)| terms)));
            let own = classes.iter().find(|(id, _)| *id == registration.class);
            let leased = ask::is_leased(&block.rows[usize::from(registration.row)], number);
            let ask = own
                .ok_or_else(|| format!("there is no class {} on chain", registration.class))
                .and_then(|(_, terms)| Ask::of(terms, registration.gpus, leased).map_err(|error| error.to_string()));
            Ok(Committee { epoch: number, operators, remaining, beacons, ask })
        }
        .boxed()
    }

    fn lease(&self, address: Pubkey) -> BoxFuture<'_, Result<Option<Lease>, ChainError>> {
        async move {
            let found = self.reader.find::<LeaseAccount>(&address).await.map_err(failed)?;
            Ok(found.map(|lease| lease_of(address, &lease)))
        }
        .boxed()
    }

    fn slots(&self) -> Box<dyn Slots> {
        Box::new(NodeSlots { rpc: self.rpc.clone(), ws: self.ws.clone(), watch: None, newest: 0, timeless: 0 })
    }

    fn changes(&self, of: Watched) -> Box<dyn Wake> {
        let account = match of {
            Watched::Container(container) => container,
            Watched::Block(index) => addresses::block(index),
        };
        Box::new(NodeChanges(self.ws.as_deref().map(|ws| Changes::watch(ws, vec![account]))))
    }
}

struct NodeChanges(Option<Changes>);

impl Wake for NodeChanges {
    fn next(&mut self, longest: Duration) -> BoxFuture<'_, ()> {
        async move {
            match &mut self.0 {
                Some(changes) => drop(changes.next(longest).await),
                None => tokio::time::sleep(longest).await,
            }
        }
        .boxed()
    }
}

struct NodeSlots {
    rpc: Arc<dyn Rpc>,
    ws: Option<String>,
    watch: Option<SlotWatch>,
    /// The newest slot when the watch began.
    newest: u64,
    timeless: u32,
}

impl Slots for NodeSlots {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<SeenSlot>, SlotsError>> {
        async move {
            let watch = match &mut self.watch {
                Some(watch) => watch,
                None => {
                    let now = read_clock(self.rpc.as_ref()).await.map_err(|error| SlotsError::Trouble(error.to_string()))?;
                    self.newest = now.slot;
                    let after = now.slot.saturating_sub(SLOTS_BACK);
                    self.watch.insert(SlotWatch::new(self.rpc.clone(), self.ws.as_deref(), Some(after)))
                }
            };
            let slot = |seen: datagalax_client::slots::SeenSlot| SeenSlot {
                slot: Slot { number: seen.number, hash: seen.hash, time: seen.time },
                seen: seen.seen,
            };
            match watch.next().await {
                Ok(slots) => {
                    self.timeless = 0;
                    Ok(slots.into_iter().map(slot).collect())
                }
                Err(SlotError::Dropped { slot, .. }) => Err(SlotsError::Undone { from: slot }),
                Err(error) => {
                    if let SlotError::NoTime { slot, .. } = error {
                        self.timeless += 1;
                        // What lies before this process began is a help, and not worth waiting for.
                        if slot <= self.newest || self.timeless >= TIMELESS {
                            self.timeless = 0;
                            watch.pass(slot.max(self.newest.saturating_sub(SLOTS_KNOWN)));
                        }
                    }
                    Err(SlotsError::Trouble(error.to_string()))
                }
            }
        }
        .boxed()
    }
}

/// What the agent does, with its keys.
pub struct OnChainActs {
    reader: Reader,
    /// Paid and signed by the container's operator.
    operator: Pipeline,
    /// Paid and signed by the provider's operator.
    provider: Option<Pipeline>,
}

impl OnChainActs {
    /// Acts by these pipelines, whose payers are the signing keys.
    pub fn new(reader: Reader, operator: Pipeline, provider: Option<Pipeline>) -> Self {
        Self { reader, operator, provider }
    }
}

impl Act for OnChainActs {
    fn reject(&self, lease: Pubkey, code: u16) -> BoxFuture<'_, Result<(), ChainError>> {
        async move {
            let account = self.reader.get::<LeaseAccount>(&lease).await.map_err(failed)?;
            let reject = instructions::reject_lease(&self.operator.payer(), &lease, &account, code);
            self.operator.send("reject the lease", &[reject], &[]).await.map_err(failed).map(drop)
        }
        .boxed()
    }

    fn start(&self, lease: Pubkey) -> BoxFuture<'_, Result<(), ChainError>> {
        async move {
            let account = self.reader.get::<LeaseAccount>(&lease).await.map_err(failed)?;
            let start = instructions::start_lease(&self.operator.payer(), &lease, &account);
            self.operator.send("start the lease", &[start], &[]).await.map_err(failed).map(drop)
        }
        .boxed()
    }

    fn record_usage(&self, lease: Pubkey, usage: Usage) -> BoxFuture<'_, Result<(), ChainError>> {
        async move {
            let account = self.reader.get::<LeaseAccount>(&lease).await.map_err(failed)?;
            let (container, clock) =
                try_join!(async { self.reader.container(&account.container).await.map_err(failed) }, async {
                    read_clock(self.reader.rpc().as_ref()).await.map_err(failed)
                },)?;
            let Some(usage) = recordable(&account, container.gpus, clock.unix_timestamp, &usage) else { return Ok(()) };
            let Usage { gpu_seconds, joules, bytes } = usage;
            let payer = self.operator.payer();
            let record = instructions::record_usage(&payer, &lease, &account, gpu_seconds, joules, bytes);
            self.operator.send("record the usage", &[record], &[]).await.map_err(failed).map(drop)
        }
        .boxed()
    }

    fn offer<'a>(&'a self, container: Pubkey, offer: &'a Offer) -> BoxFuture<'a, Result<(), ChainError>> {
        async move {
            let provider = self.provider.as_ref().ok_or_else(|| failed("there is no --provider-keypair"))?;
            let account = self.reader.container(&container).await.map_err(failed)?;
            let args = UpdateContainerArgs {
                // What the agent does not keep stays as it is now, not as it was when the change was decided on.
                spec_hash: account.spec_hash,
                price_per_hour: offer.price_per_hour,
                minimum_lease: account.minimum_lease,
                accepting: u8::from(offer.accepting),
                endpoint: offer.endpoint.clone(),
            };
            let update = instructions::update_container(&provider.payer(), account.provider, &container, args);
            provider.send("update the container", &[update], &[]).await.map_err(failed).map(drop)
        }
        .boxed()
    }

    fn can_offer(&self) -> bool {
        self.provider.is_some()
    }

    fn funds(&self) -> BoxFuture<'_, Result<Vec<(Pubkey, u64)>, ChainError>> {
        async move {
            let payers: Vec<Pubkey> =
                [Some(&self.operator), self.provider.as_ref()].into_iter().flatten().map(|p| p.payer()).collect();
            let accounts = self.reader.rpc().accounts(&payers).await.map_err(failed)?;
            Ok(payers
                .into_iter()
                .zip(accounts.into_iter().map(|account| account.map_or(0, |account| account.lamports)))
                .collect())
        }
        .boxed()
    }

    fn resolve(&self) -> BoxFuture<'_, Result<(), ChainError>> {
        async move {
            for pipeline in [Some(&self.operator), self.provider.as_ref()].into_iter().flatten() {
                pipeline.resolve_pending().await.map_err(failed)?;
            }
            Ok(())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_that_is_recorded_never_falls_and_never_exceeds_the_time_that_passed() {
        let mut lease: LeaseAccount = bytemuck::Zeroable::zeroed();
        (lease.status, lease.started, lease.max_seconds) = (LeaseAccount::STARTED, 1_000, 600);
        let usage = Usage { gpu_seconds: 500, joules: 7, bytes: 9 };
        assert_eq!(recordable(&lease, 2, 1_100, &usage), Some(Usage { gpu_seconds: 200, ..usage }), "a liar's clock");
        assert_eq!(recordable(&lease, 2, 2_000, &usage), Some(usage));
        let most = Usage { gpu_seconds: 5_000, ..usage };
        assert_eq!(recordable(&lease, 2, 9_000, &most).unwrap().gpu_seconds, 1_200, "after the end nothing more passes");
        (lease.usage_gpu_seconds, lease.usage_energy, lease.usage_bytes) = (600, 8, 9);
        assert_eq!(recordable(&lease, 2, 2_000, &usage), None, "what the chain has is more");
        let more = Usage { bytes: 10, ..usage };
        assert_eq!(recordable(&lease, 2, 2_000, &more), Some(Usage { gpu_seconds: 600, joules: 8, bytes: 10 }));
        lease.status = LeaseAccount::SETTLED;
        assert_eq!(recordable(&lease, 2, 2_000, &more), None, "nothing is taken any more");
    }
}
