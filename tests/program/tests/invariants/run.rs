//! A world and its model, stepped together.

use std::{collections::BTreeMap, env, fmt::Write};

use datagalax::{
    error::DatagalaxError,
    state::{ClassTerms, Emission, VestingTerms},
};
use datagalax_program_tests::{
    Report, Settings, World,
    settings::{ATH, parameters},
    time::BEGIN,
};
use solana_instruction::{Instruction, error::InstructionError};
use solana_message::Message;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use solana_transaction::Transaction;
use solana_transaction_error::TransactionError;

use crate::{
    actions::{self, Action},
    calls::Calls,
    compare::Compare,
    model::{Block, Grid, Model, Money, Op, Tickets, Vault},
    people::{PURSE, People},
};

/// How often numbers are changed to find a call that is to be accepted.
const TRIES: u8 = 6;

/// How a case begins.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Checkers with one to three tickets each.
    pub checkers: u8,
    /// Providers with one to three containers each.
    pub providers: u8,
    /// Blocks.
    pub blocks: u8,
    /// Whether the breaker of the vaults is tight.
    pub tight: bool,
    /// Whether what rates and seats pay is bounded.
    pub bounded: bool,
    /// Emission in ATH an epoch; the vault is funded for a few epochs when it is odd.
    pub emission: u16,
}

/// Accepted and refused calls by instruction.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub steps: u64,
    pub orders: u64,
    pub repeats: u64,
    pub calls: BTreeMap<&'static str, (u64, u64)>,
    /// Accepted with an effect that seldom comes up.
    pub seen: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.orders += other.orders;
        self.repeats += other.repeats;
        for (name, (accepted, refused)) in &other.calls {
            let sum = self.calls.entry(name).or_default();
            (sum.0, sum.1) = (sum.0 + accepted, sum.1 + refused);
        }
        for (name, count) in &other.seen {
            *self.seen.entry(name).or_default() += count;
        }
    }

    /// As a table.
    pub fn table(&self) -> String {
        let mut text = format!("{} steps, {} pairs in both orders, {} repetitions\n", self.steps, self.orders, self.repeats);
        for (name, (accepted, refused)) in &self.calls {
            let _ = writeln!(text, "{name:28} {accepted:>8} accepted {refused:>8} refused");
        }
        for (name, count) in &self.seen {
            let _ = writeln!(text, "{name:28} {count:>8} times");
        }
        text
    }
}

/// The two, who is in them, and what was done.
#[derive(Clone)]
pub struct Run {
    pub world: World,
    pub model: Model,
    pub people: People,
    pub stats: Stats,
    /// The last operation, its instructions, and whether it was done.
    last: Option<(Op, Vec<Instruction>, bool)>,
    /// Numbers of fingerprints and nonces given so far.
    pub given: u32,
    /// Steps since the books were last added up.
    unbooked: u32,
    /// Whether every step is printed.
    traced: bool,
}

/// The longest a settled network can be left alone: vesting ends.
pub const WAITS: [i64; 16] = [1, 1, 2, 4, 7, 11, 16, 25, 40, 61, 130, 400, 760, 3_700, 90_000, 400_000];

impl Run {
    /// A new network with the people in it, and the first steps of `setup` taken as any other.
    pub fn new(setup: &Setup) -> Self {
        let mut p = parameters();
        p.keeper_fee = 2 * ATH;
        p.start_timeout = 300;
        if setup.tight {
            p.breaker_limits = [250 * ATH, 400 * ATH, ATH / 2];
        }
        if setup.bounded {
            p.max_rate.hi = 0;
            p.max_rate.lo = u64::MAX / 3;
            p.max_seat_pay = 3 * ATH;
        }
        let emission = u64::from(setup.emission) * ATH;
        let settings =
            Settings { emission, decay_bps: 500, decay_every: 7, funding: 0, parameters: p, ..Settings::default() };
        let mut world = World::with(settings);
        let mut people = People::settle(&mut world, 21);
        let network = world.network();
        let wallets: BTreeMap<Pubkey, Money> = people.all.iter().map(|k| (k.pubkey(), Money::from(PURSE))).collect();
        people.tokens = wallets.values().sum();
        let mut terms = [None; 8];
        terms[0] = Some(VestingTerms {
            id: 1,
            immediate_bps: 3_000,
            short_bps: 3_000,
            short_days: 90,
            long_bps: 4_000,
            long_days: 180,
            from_day: 0,
        });
        let model = Model {
            now: BEGIN,
            slot: 0,
            payer: world.payer.pubkey(),
            authority: world.authority.pubkey(),
            pending_authority: Pubkey::default(),
            guardian: network.guardian,
            treasury: network.treasury,
            treasury_due: 0,
            parameters: p,
            emission: Emission { amount: emission, decay_bps: 500, decay_every: 7, next_decay: 7, reserved: 0 },
            pending: None,
            terms,
            grids: vec![Grid { start: BEGIN + settings.start_in, first: 0, length: 60, reveal: 15, lead: 10 }],
            paused_until: 0,
            guardian_paused: None,
            current: None,
            previous: None,
            epochs: BTreeMap::new(),
            classes: BTreeMap::new(),
            largest: None,
            providers: BTreeMap::new(),
            checkers: BTreeMap::new(),
            indexers: BTreeMap::new(),
            ids: [0; 3],
            keepers: BTreeMap::new(),
            containers: BTreeMap::new(),
            blocks: vec![],
            tickets: Tickets::default(),
            leases: BTreeMap::new(),
            cases: BTreeMap::new(),
            vaults: [Vault::default(), Vault::default(), Vault::default()],
            wallets,
        };
        let mut run = Self {
            world,
            model,
            people,
            stats: Stats::default(),
            last: None,
            given: 0,
            unbooked: 0,
            traced: env::var_os("DATAGALAX_TRACE").is_some(),
        };
        run.count("initialize_network", true);
        run.world.forgetful = true;
        run.set_up(setup);
        run
    }

    fn set_up(&mut self, setup: &Setup) {
        let person = |n: u8| self.people.pick(n);
        let authority = self.model.authority;
        let class = |weight: u16| ClassTerms {
            stake_base: 10 * ATH,
            minimum_vram: 1,
            reference_throughput: u64::from(weight) * 1_000,
            unit_weight: weight,
            active: 1,
            reserved: [0; 5],
        };
        let funds = u64::from(setup.emission) * ATH * if setup.emission % 2 == 1 { 9 } else { 10_000 };
        let mut all = vec![
            Op::FundRewards { by: person(0), amount: funds.max(1) },
            Op::CreateClass { by: authority, id: 0, terms: class(100) },
            Op::CreateClass { by: authority, id: 1, terms: class(30) },
            Op::CreateBlock { by: person(1), block: 0 },
        ];
        all.extend((0..4).map(|_| Op::GrowBlock { by: person(1), block: 0 }));
        all.push(Op::RegisterKeeper { wallet: person(2) });
        all.push(Op::RegisterIndexer { by: person(3), id: 0, operator: person(4), payout: person(3) });
        for n in 0..setup.checkers {
            let (operator, commission) = (person(5 + n % 4), u16::from(n) * 700 % 10_000);
            all.push(Op::RegisterChecker {
                by: person(9 + n % 5),
                id: u32::from(n),
                operator,
                payout: person(9 + n),
                commission,
            });
            let count = 1 + u16::from(n) % 3;
            all.push(Op::RegisterTickets { by: person(9 + n % 5), checker: u32::from(n), count });
        }
        for n in 0..setup.providers {
            all.push(Op::RegisterProvider {
                by: person(14 + n),
                id: u32::from(n),
                operator: person(15 + n),
                payout: person(16 + n),
            });
            all.push(Op::Stake { by: person(14 + n), provider: u32::from(n), amount: 300 * ATH });
        }
        for op in all {
            self.step(&op);
        }
        // A second block before the first is full: the program would not, but what follows is the same.
        for _ in 1..setup.blocks {
            self.world.grown_block_regardless();
            let lanes = [None, None];
            let rows = BTreeMap::new();
            self.model.blocks.push(Block { grown: 4, rows, seated_from: None, last_tallied: None, lanes });
        }
        self.epoch(0, 0);
        for n in 0..setup.providers {
            for gpus in 1..=1 + n % 3 {
                let by = self.people.pick(14 + n);
                self.given += 1;
                let op = Op::RegisterContainer {
                    by,
                    id: (u32::from(n), self.given),
                    class: u16::from(gpus % 2),
                    block: u32::from(gpus % setup.blocks),
                    gpus,
                    operator: self.people.pick(17),
                    price: 36 * ATH + 7,
                };
                self.step(&op);
            }
        }
        for _ in 0..3 {
            self.epoch(0, 0);
        }
    }

    fn count(&mut self, name: &'static str, accepted: bool) {
        let calls = self.stats.calls.entry(name).or_default();
        *(if accepted { &mut calls.0 } else { &mut calls.1 }) += 1;
    }

    /// Lets time pass.
    pub fn wait(&mut self, seconds: i64) {
        self.wait_until(self.model.now + seconds);
    }

    /// Lets time pass until an instant, if it is not later already.
    pub fn wait_until(&mut self, now: i64) {
        self.world.wait_until(now);
        (self.model.now, self.model.slot) = (self.world.now(), self.world.slot());
    }

    /// Whether the model would accept an operation now.
    pub fn would(&self, op: &Op) -> bool {
        self.model.clone().apply(op).is_ok()
    }

    /// Takes one step: an operation, in the model and on the chain.
    pub fn step(&mut self, op: &Op) -> bool {
        let built = Calls { world: &mut self.world, people: &self.people, model: &self.model }.build(op);
        let Some(instructions) = built else { return false };
        let accepted = self.send(op, &instructions);
        self.last = Some((op.clone(), instructions, accepted));
        accepted
    }

    fn send(&mut self, op: &Op, instructions: &[Instruction]) -> bool {
        (self.model.now, self.model.slot) = (self.world.now(), self.world.slot());
        if self.traced {
            eprintln!("{} {op:?}", self.model.now);
        }
        let mut next = self.model.clone();
        let predicted = next.apply(op);
        let name = actions::name(op);
        let result = transact(&mut self.world, instructions);
        self.stats.steps += 1;
        self.count(name, result.is_ok());
        match (&predicted, &result) {
            (Ok(()), Ok(())) => {
                self.note(op, &next);
                self.model = next;
                Compare { world: &self.world, model: &self.model, people: &self.people }.all();
                self.unbooked += 1;
                if self.unbooked >= 16 {
                    self.unbooked = 0;
                    self.world.check_books();
                }
            }
            (Err(_), Err(error)) => {
                let broken = [DatagalaxError::InvariantViolated, DatagalaxError::Overflow].map(|e| 6_000 + e as u32);
                let code = match error {
                    TransactionError::InstructionError(_, InstructionError::Custom(code)) => *code,
                    TransactionError::InstructionError(_, InstructionError::ProgramFailedToComplete) => broken[0],
                    _ => 0,
                };
                assert!(!broken.contains(&code), "{name} broke the program ({error:?}): {op:?}");
            }
            (Ok(()), Err(error)) => panic!("{name} was refused ({error:?}): {op:?}"),
            (Err(why), Ok(())) => panic!("{name} was accepted, but is to be refused ({why}): {op:?}"),
        }
        result.is_ok()
    }

    /// Counts what seldom comes up, so that a run says whether it did.
    fn note(&mut self, op: &Op, next: &Model) {
        let before = &self.model;
        let mut seen = |name, is: bool| *self.stats.seen.entry(name).or_default() += u64::from(is);
        match op {
            Op::TallyBlock { .. } => {
                let accused =
                    |m: &Model| m.blocks.iter().flat_map(|b| b.rows.values()).filter(|r| r.accused.is_some()).count();
                let live = |m: &Model| {
                    let rows = m.blocks.iter().flat_map(|b| b.rows.values());
                    rows.filter(|r| r.state == crate::model::RowState::Live).count()
                };
                seen("a row condemned", accused(next) > accused(before));
                seen("a row gone live", live(next) > live(before));
                seen("a row fallen back", live(next) < live(before));
                seen("a ticket disgraced", next.tickets.retiring.len() > before.tickets.retiring.len());
            }
            Op::Churn => {
                let retired =
                    |m: &Model| m.tickets.slots.iter().filter(|t| t.state == crate::model::TicketState::Retired).count();
                seen("a ticket retired", retired(next) > retired(before));
            }
            Op::CloseCase { .. } => {
                let upheld = |m: &Model| m.cases.values().filter(|c| c.upheld).count();
                seen("a case upheld", upheld(next) > upheld(before));
                seen("a case rejected", upheld(next) == upheld(before));
            }
            Op::SettleLease { .. } => {
                let settled = |m: &Model| m.leases.values().filter(|l| l.state == crate::model::LeaseState::Settled).count();
                seen("a lease settled to its end", settled(next) > settled(before));
            }
            Op::ApplyProposal => seen("a change of grid", next.grids.len() > before.grids.len()),
            Op::Draw { .. } => seen("a draw armed again", next.current.is_some_and(|c| !next.epochs[&c].drawn)),
            Op::Withdraw { kind, .. } => {
                let flow = next.vaults[*kind].total_out - before.vaults[*kind].total_out;
                seen("a withdrawal", flow > 0);
            }
            _ => {}
        }
    }

    /// Does the last thing again: law 5.
    pub fn again(&mut self) {
        let Some((op, instructions, done)) = self.last.clone() else { return };
        let before = self.world.fingerprint();
        let accepted = self.send(&op, &instructions);
        self.last = Some((op.clone(), instructions, done || accepted));
        // What was refused may only have been too early.
        if done && !actions::adds(&op) {
            self.stats.repeats += 1;
            assert!(!accepted || self.world.fingerprint() == before, "twice did more than once: {op:?}");
        }
    }

    /// One action.
    pub fn act(&mut self, action: &Action) {
        match action {
            Action::Wait(n) => self.wait(WAITS[usize::from(*n) % WAITS.len()]),
            Action::Slots => {
                self.world.pass_slots(600);
                self.wait(0);
            }
            Action::Again => self.again(),
            Action::Call { what, by, a, b, c } => {
                // Mostly something that is to be accepted, if a few tries find it.
                let tries = if by % 8 == 7 { 1 } else { TRIES };
                let mut found = None;
                for i in 0..tries {
                    let [a, b, c] = [(*a, 1), (*b, 37), (*c, 59)].map(|(n, by)| n.wrapping_add(i.wrapping_mul(by)));
                    let op = actions::Draw { run: self, by: *by, a, b, c }.resolve(what);
                    let fits = op.as_ref().is_some_and(|op| self.would(op));
                    found = if fits { op } else { found.or(op) };
                    if fits {
                        break;
                    }
                }
                if let Some(op) = found {
                    self.step(&op);
                }
            }
            Action::Epochs { count, profile, row } => {
                for _ in 0..*count {
                    self.epoch(*profile, *row);
                }
            }
            Action::BothOrders { a, b } => self.both_orders(*a, *b),
        }
    }

    /// Law 6: two calls that anybody may make, in both orders; what is then still due is done, and the states are the same.
    fn both_orders(&mut self, a: u8, b: u8) {
        let open = actions::permissionless(self);
        if open.len() < 2 {
            return;
        }
        let one = usize::from(a) % open.len();
        let other = (one + 1 + usize::from(b) % (open.len() - 1)) % open.len();
        let (first, second) = (&open[one], &open[other]);
        if actions::is_ordered(first, second) {
            return;
        }
        let one_then_other = |one: &Op, other: &Op| {
            let mut run = self.clone();
            run.step(one);
            run.step(other);
            run.drain();
            run
        };
        let (forth, back) = (one_then_other(first, second), one_then_other(second, first));
        Compare { world: &back.world, model: &forth.model, people: &self.people }.all();
        assert_eq!(forth.world.fingerprint(), back.world.fingerprint(), "the order matters: {first:?} and {second:?}");
        self.stats.orders += 1;
        self.stats.steps += 4;
    }

    /// Does what anybody may still do now, so that only lasting differences remain.
    fn drain(&mut self) {
        for _ in 0..20 {
            let due: Vec<Op> = actions::permissionless(self).into_iter().filter(actions::settles).collect();
            if due.is_empty() {
                return;
            }
            for op in due {
                if self.would(&op) {
                    self.step(&op);
                }
            }
        }
    }

    /// The next epoch, with everything that is due in it; reports by `profile`, which is about `row`.
    pub fn epoch(&mut self, profile: u8, row: u8) {
        let next = self.model.epoch_at(self.model.now).map_or(0, |e| e + 1);
        let (start, end) = self.model.bounds(next);
        let keeper = self.model.keepers.keys().next().copied();
        self.wait_until(start + 1);
        for op in actions::reveals(self, next.wrapping_sub(1)) {
            self.step(&op);
        }
        self.step(&Op::AdvanceEpoch { number: next, keeper });
        if self.would(&Op::Churn) {
            self.step(&Op::Churn);
        }
        self.wait_until(start + 6);
        self.step(&Op::Draw { keeper: None });
        let blocks = self.model.blocks.len() as u32;
        for block in 0..blocks {
            let op = Op::SeatBlock { epoch: next, block };
            if self.would(&op) {
                self.step(&op);
            }
        }
        self.wait_until(start + 16);
        for block in (0..blocks).filter(|_| next > 0) {
            let op = Op::TallyBlock { epoch: next - 1, block, rows: 256, keeper };
            if self.would(&op) {
                self.step(&op);
            }
        }
        self.wait_until((start + end) / 2);
        for op in actions::commits(self, next, profile, row) {
            self.step(&op);
        }
    }
}

/// Sends a transaction. Nothing is signed: LiteSVM does not look, and what the program reads is the flag in the message.
fn transact(world: &mut World, instructions: &[Instruction]) -> Result<(), TransactionError> {
    let message = Message::new(instructions, Some(&world.payer.pubkey()));
    world.svm.send_transaction(Transaction::new_unsigned(message)).map(|_| ()).map_err(|f| f.err)
}

/// The report of a seat by a profile.
pub fn report(epoch: u32, block: u32, seat: u8, profile: u8, row: u8) -> Option<Report> {
    let row = usize::from(row);
    let perfect = Report::perfect();
    let report = match profile % 16 {
        // Nobody speaks; one does not.
        1 => return None,
        2 if seat == 0 => return None,
        3 if seat < 3 => return None,
        // The row is down, weak, or neither here nor there.
        4 => perfect.row(row, 20, 100, 9),
        5 => perfect.row(row, 100, 30, 9),
        6 => perfect.row(row, 85, 97, 9),
        // All, most or few say that it lies.
        7 | 8 => perfect.row(row, 100, 100, 9).dishonest(row),
        9 if seat < 4 => perfect.dishonest(row),
        10 if seat < 2 => perfect.dishonest(row),
        // They disagree: tokens, values, no votes.
        11 => perfect.row(row, 100, 100, 1 + seat % 2),
        12 => perfect.row(row, 100 - 7 * seat, 60 + 7 * seat, 9),
        13 if seat.is_multiple_of(2) => Report::empty(),
        14 => perfect.row(row, 100, 100, 0),
        15 => perfect.row(row, 40 + 5 * seat, 255, if seat < 3 { 9 } else { 8 }),
        _ => perfect,
    };
    Some(report.salted(epoch, block, seat))
}
