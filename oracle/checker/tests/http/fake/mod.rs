//! A chain and agents made up for the tests. The chain keeps the program's rules about commits and reveals; the agents speak real
//! HTTP and compute real proofs, or misbehave in one way each.

pub mod agent;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU64,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use datagalax::report::{Seating, commitment};
use datagalax_checker::chain::{
    Chain, ChainError, Cluster, Commit, EpochView, Finality, Pay, Registration, Reveal, RevealWindow, Seat, SeatRef,
    SeatState, Seats, SeenSlot, Slots, Target,
};
use datagalax_gpu::{
    ask::Ask,
    beacon::{Slot, Watch, Window},
    capacity::Schedule,
};
use datagalax_protocol::{Digest, WorkSize, Workload};
use futures_util::{FutureExt, future::BoxFuture};
use solana_pubkey::Pubkey;
use tokio::time::Instant;

pub const EPOCH: u32 = 4;
pub const CLUSTER: Cluster = Cluster { genesis_hash: [1; 32], program: Pubkey::new_from_array([2; 32]) };
/// Slots a second of the made-up chain.
const SLOTS: u64 = 5;
const FIRST_SLOT: u64 = 1_000;
/// How long an answer may take: on a busy machine a thread waits for its turn.
pub const ANSWER: Duration = Duration::from_millis(2_500);
/// Seconds before an epoch's end at which measuring ends.
const COMMIT_LEAD: i64 = 3;

pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

pub fn container(block: u32, row: u8) -> Pubkey {
    let mut bytes = [100 + row; 32];
    bytes[0] = block as u8;
    Pubkey::new_from_array(bytes)
}

/// Every slot's hash, the same for chain and agents.
pub fn slot_hash(number: u64) -> Digest {
    datagalax_gpu::beacon::challenge(&[7; 32], &[number as u8; 32])
}

/// Little work that still has all parts.
pub fn ask() -> Ask {
    let size = WorkSize { rows: 64, inner: 64, columns: 32 };
    let workload = Workload { size, passes: 2, walkers: 16, steps: 8, devices: 1 };
    let schedule = Schedule { expected: Duration::from_millis(10), allowance: ANSWER, deadline: ANSWER };
    Ask { workload, schedule, reference: 1_000 }
}

/// A container that answers at an endpoint.
pub fn target(block: u32, row: u8, operator: Pubkey, endpoint: String) -> Target {
    let (container, fingerprint) = (container(block, row), [row; 32]);
    let (gpus, minimum_memory, claimed) = (1, 0, None);
    Target { row, container, operator, endpoint, fingerprint, gpus, minimum_memory, ask: Some(ask()), claimed }
}

/// A chain with some blocks, seated in one epoch.
pub struct FakeChain {
    pub start: i64,
    begun: std::time::Instant,
    pub end: i64,
    pub measure_until: i64,
    pub reveal_until: i64,
    pub targets: BTreeMap<u32, Vec<Target>>,
    pub seats: Mutex<BTreeMap<(u32, u8), SeatState>>,
    /// Seats that are not shown yet.
    pub hidden: Mutex<Vec<(u32, u8)>>,
    pub revealed: Mutex<HashMap<(u32, u8), [u8; 768]>>,
    pub commits: AtomicU32,
    pub commit_calls: AtomicU32,
    pub reveals: AtomicU32,
    /// Commits do not land and the node says so.
    pub refuse_commits: AtomicBool,
    /// The same of reveals.
    pub refuse_reveals: AtomicBool,
    /// So many commits, and so many reveals, are refused by a node that is behind.
    pub behind: [AtomicU32; 2],
    /// Commits land, but the answer gets lost.
    pub lose_answers: AtomicBool,
    /// Slots seen last, for each new run of a checker from the newest on.
    seen: AtomicU64,
    pub pay: AtomicU64,
    pub claims: AtomicU32,
}

impl FakeChain {
    /// An epoch of `length` seconds that begins with the clock's next second, measured until three seconds before its end; `seats`
    /// are block, seat and checker. Reveals are taken for six seconds after its end.
    pub fn new(length: i64, targets: Vec<(u32, Target)>, seats: &[(u32, u8, u32)]) -> Arc<Self> {
        Self::revealed_within(6, length, targets, seats)
    }

    /// As [`Self::new`], with so many seconds for reveals.
    pub fn revealed_within(reveals: i64, length: i64, targets: Vec<(u32, Target)>, seats: &[(u32, u8, u32)]) -> Arc<Self> {
        // What is left for the last beacon does not depend on when in a second the test starts.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let next = Duration::from_secs(since.as_secs() + 1);
        let (start, begun) = (next.as_secs() as i64, std::time::Instant::now() + (next - since));
        let mut blocks: BTreeMap<u32, Vec<Target>> = BTreeMap::new();
        for (block, target) in targets {
            blocks.entry(block).or_default().push(target);
        }
        let seat = |&(block, seat, checker): &(u32, u8, u32)| {
            ((block, seat), SeatState { checker, commitment: [0; 32], revealed: false })
        };
        Arc::new(Self {
            start,
            begun,
            end: start + length,
            measure_until: start + length - COMMIT_LEAD,
            reveal_until: start + length + reveals,
            targets: blocks,
            seats: Mutex::new(seats.iter().map(seat).collect()),
            hidden: Mutex::default(),
            revealed: Mutex::default(),
            commits: AtomicU32::new(0),
            commit_calls: AtomicU32::new(0),
            reveals: AtomicU32::new(0),
            refuse_commits: AtomicBool::new(false),
            refuse_reveals: AtomicBool::new(false),
            behind: [AtomicU32::new(0), AtomicU32::new(0)],
            lose_answers: AtomicBool::new(false),
            seen: AtomicU64::new(FIRST_SLOT),
            pay: AtomicU64::new(0),
            claims: AtomicU32::new(0),
        })
    }

    pub fn commitment(&self, block: u32, seat: u8) -> Digest {
        self.seats.lock().unwrap()[&(block, seat)].commitment
    }

    pub fn values(&self, block: u32, seat: u8) -> Option<[u8; 768]> {
        self.revealed.lock().unwrap().get(&(block, seat)).copied()
    }

    fn slot(&self, number: u64) -> Slot {
        Slot { number, hash: slot_hash(number), time: self.start + ((number - FIRST_SLOT) / SLOTS) as i64 }
    }

    fn newest(&self) -> u64 {
        FIRST_SLOT + self.begun.elapsed().as_millis() as u64 * SLOTS / 1_000
    }

    fn window(&self) -> Window {
        Window {
            draw_slot: FIRST_SLOT,
            end: self.end,
            length: self.end - self.start,
            commit_lead: self.end - self.measure_until,
            answer: ANSWER,
            finality: Duration::from_millis(1_500),
        }
    }

    /// The epoch's beacons, all of them.
    pub fn beacons(&self) -> Vec<u64> {
        let slots: Vec<Slot> = (FIRST_SLOT..FIRST_SLOT + 200).map(|number| self.slot(number)).collect();
        datagalax_gpu::beacon::of_epoch(&slots, self.window(), MODULUS).map(|(slot, _)| slot.number).collect()
    }

    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..1_200 {
            if condition(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        panic!("waited 36 s for {what}");
    }

    fn commit_one(&self, commit: &Commit) -> Result<(), ChainError> {
        assert_eq!(commit.seat.at.epoch, EPOCH);
        if self.refuse_commits.load(Ordering::SeqCst) {
            return Err(lost());
        }
        if self.is_behind(0) {
            return Err(refused("NotSeated"));
        }
        if now() >= self.end {
            return Err(refused("OutsideCommitWindow"));
        }
        let mut seats = self.seats.lock().unwrap();
        let seat = seats.get_mut(&(commit.seat.at.block, commit.seat.at.seat)).unwrap();
        assert_eq!(seat.checker, commit.seat.checker);
        self.commits.fetch_add(1, Ordering::SeqCst);
        seat.commitment = commit.commitment;
        if self.lose_answers.swap(false, Ordering::SeqCst) { Err(lost()) } else { Ok(()) }
    }

    fn is_behind(&self, what: usize) -> bool {
        let less = |left: u32| left.checked_sub(1);
        self.behind[what].fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }

    fn reveal_one(&self, at: SeatRef, report: Reveal<'_>) -> Result<(), ChainError> {
        if self.refuse_reveals.load(Ordering::SeqCst) {
            return Err(lost());
        }
        let time = now();
        if self.is_behind(1) || time < self.end || time >= self.reveal_until {
            return Err(refused("OutsideRevealWindow"));
        }
        let mut seats = self.seats.lock().unwrap();
        let seat = seats.get_mut(&(at.block, at.seat)).unwrap();
        let seating = Seating {
            program: &CLUSTER.program,
            genesis_hash: &CLUSTER.genesis_hash,
            block: at.block,
            epoch: at.epoch,
            seat: at.seat,
            checker: seat.checker,
        };
        if seat.revealed {
            return Err(refused("AlreadyRevealed"));
        }
        if commitment(&seating, report.salt, report.evidence_root, report.values.as_bytes()) != seat.commitment {
            return Err(refused("CommitmentMismatch"));
        }
        (seat.revealed, seat.commitment) = (true, *report.evidence_root);
        self.reveals.fetch_add(1, Ordering::SeqCst);
        self.revealed.lock().unwrap().insert((at.block, at.seat), *report.values.as_bytes());
        Ok(())
    }
}

const MODULUS: NonZeroU64 = NonZeroU64::new(6).unwrap();

fn refused(message: &str) -> ChainError {
    ChainError { message: message.into(), transient: false, hopeless: message == "CommitmentMismatch" }
}

fn lost() -> ChainError {
    ChainError { message: "no answer from the node".into(), transient: true, hopeless: false }
}

impl Chain for FakeChain {
    fn cluster(&self) -> BoxFuture<'_, Result<Cluster, ChainError>> {
        async { Ok(CLUSTER) }.boxed()
    }

    fn operator(&self, _: u32) -> BoxFuture<'_, Result<Option<Pubkey>, ChainError>> {
        async { Ok(None) }.boxed()
    }

    fn epoch(&self) -> BoxFuture<'_, Result<EpochView, ChainError>> {
        let Self { start, end, measure_until, .. } = *self;
        let now = now();
        let view = if now < end {
            let watch = Some(Watch::new(self.window(), MODULUS));
            EpochView { number: EPOCH, now, start, end, measure_until, watch, draw_slot: FIRST_SLOT }
        } else {
            let (start, end) = (end, end + 1_000);
            EpochView { number: EPOCH + 1, now, start, end, measure_until: end, watch: None, draw_slot: 0 }
        };
        async move { Ok(view) }.boxed()
    }

    fn seats<'a>(&'a self, epoch: u32, checkers: &'a [u32]) -> BoxFuture<'a, Result<Seats, ChainError>> {
        assert_eq!(epoch, EPOCH);
        let hidden = self.hidden.lock().unwrap().clone();
        let mut found = Seats::default();
        for (place, state) in self.seats.lock().unwrap().iter().filter(|(_, state)| checkers.contains(&state.checker)) {
            if hidden.contains(place) {
                found.waiting += 1;
            } else {
                let at = SeatRef { block: place.0, epoch, seat: place.1 };
                found.seated.push(Seat { at, checker: state.checker });
            }
        }
        async { Ok(found) }.boxed()
    }

    fn targets(&self, block: u32, _: u32) -> BoxFuture<'_, Result<Vec<Target>, ChainError>> {
        async move { Ok(self.targets.get(&block).cloned().unwrap_or_default()) }.boxed()
    }

    fn slots(&self) -> BoxFuture<'_, Result<Slots, ChainError>> {
        async {
            let last = self.seen.load(Ordering::SeqCst);
            while self.newest() <= last {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let newest = self.newest();
            self.seen.store(newest, Ordering::SeqCst);
            // As after a gap: what is older than a second was not seen when it happened.
            let seen = |number| SeenSlot { slot: self.slot(number), seen: (newest - number <= SLOTS).then(Instant::now) };
            Ok(Slots::New((last + 1..=newest).map(seen).collect()))
        }
        .boxed()
    }

    fn finality(&self, slot: Slot) -> BoxFuture<'_, Result<Finality, ChainError>> {
        let finality = if self.newest() >= slot.number + 2 { Finality::Final } else { Finality::Open };
        async move { Ok(finality) }.boxed()
    }

    fn seat(&self, at: SeatRef) -> BoxFuture<'_, Result<Option<SeatState>, ChainError>> {
        let seat = self.seats.lock().unwrap().get(&(at.block, at.seat)).copied();
        async move { Ok(seat) }.boxed()
    }

    fn reveal_window(&self, epoch: u32) -> BoxFuture<'_, Result<RevealWindow, ChainError>> {
        let window = if epoch == EPOCH {
            RevealWindow { now: now(), opens: self.end, closes: self.reveal_until, epoch_start: self.start }
        } else {
            RevealWindow { now: now(), opens: self.end + 1_000, closes: self.end + 2_000, epoch_start: self.end }
        };
        async move { Ok(window) }.boxed()
    }

    fn commit<'a>(&'a self, commits: &'a [Commit]) -> BoxFuture<'a, Vec<Result<(), ChainError>>> {
        self.commit_calls.fetch_add(1, Ordering::SeqCst);
        async move { commits.iter().map(|commit| self.commit_one(commit)).collect() }.boxed()
    }

    fn reveal<'a>(&'a self, at: SeatRef, report: Reveal<'a>) -> BoxFuture<'a, Result<(), ChainError>> {
        async move { self.reveal_one(at, report) }.boxed()
    }

    fn pay(&self, _: u32) -> BoxFuture<'_, Result<Pay, ChainError>> {
        async { Ok(Pay { amount: self.pay.load(Ordering::SeqCst), tickets: vec![3] }) }.boxed()
    }

    fn claim<'a>(&'a self, _: u32, pay: &'a Pay) -> BoxFuture<'a, Result<(), ChainError>> {
        self.pay.fetch_sub(pay.amount, Ordering::SeqCst);
        self.claims.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }.boxed()
    }

    fn registration(&self, container: Pubkey) -> BoxFuture<'_, Result<Option<Registration>, ChainError>> {
        let mut all = self.targets.values().flatten();
        let found = all.find(|target| target.container == container);
        let found = found.map(|t| Registration { operator: t.operator, endpoint: t.endpoint.clone() });
        async { Ok(found) }.boxed()
    }
}
