//! What instructions cost, against the bars of the protocol's section 14, and the table docs/costs.md that says so.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::PathBuf};

use datagalax::{
    constants::ROWS,
    state::{Block, Checker, CheckerSetHeader, Container, Epoch, GpuClass, Network, Provider, Ticket, VaultLedger},
};
use datagalax_program_tests::{
    Outcome, Report, Settings, World,
    accounts::rows,
    actors::{class_args, container_args},
    epochs::SeatAt,
    instructions::{self, Initialize},
    send::compute_budget,
    settings::ATH,
    world::program_bytes,
};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;

use datagalax_program_tests::stage::{Stage, perfect};

/// Compute units of one call of the system program.
const SYSTEM_CALL: u64 = 150;
/// How far a figure may rise before the table must be written anew, percent.
const RISE: u64 = 5;
/// How far it may fall. More, since the official tools build the same source up to 17 percent cheaper.
const FALL: u64 = 20;
const REWRITE: &str = "DATAGALAX_WRITE_COSTS=1 cargo test -p datagalax-program-tests costs";

/// One figure and what it is held against.
struct Figure {
    value: u64,
    unit: &'static str,
    bar: Option<u64>,
}

/// All figures by name, in the order of the table.
#[derive(Default)]
struct Costs(Vec<(String, Figure)>);

impl Costs {
    fn add(&mut self, name: &str, value: u64, unit: &'static str, bar: Option<u64>) {
        self.0.push((name.into(), Figure { value, unit, bar }));
    }

    fn transaction(&mut self, name: &str, outcome: &Outcome, bars: (Option<u64>, Option<u64>)) {
        self.add(name, outcome.compute_units, "CU", bars.0);
        self.add(name, outcome.bytes as u64, "bytes", bars.1);
    }

    fn plain(&mut self, name: &str, outcome: &Outcome) {
        self.transaction(name, outcome, (None, None));
    }
}

fn with_budget(limit: u32, instruction: Instruction) -> Vec<Instruction> {
    let mut all = compute_budget(limit).to_vec();
    all.push(instruction);
    all
}

fn sent(world: &mut World, payer: &Keypair, all: &[Instruction], signers: &[&Keypair]) -> Outcome {
    world.send_paid_by(payer, all, signers).unwrap_or_else(|f| panic!("{}: {:#?}", f.name, f.logs))
}

/// Registrations and money.
fn registrations(costs: &mut Costs) {
    let mut world = World::bare(Settings::default());
    let authority = world.authority.clone();
    let initialize = Initialize::of(&mut world).instruction();
    costs.plain("initialize_network", &sent(&mut world, &authority, &[initialize], &[]));
    let class = instructions::create_class(&world, class_args(0, 100));
    costs.plain("create_class", &sent(&mut world, &authority, &[class], &[]));
    let funder = world.actor("funder");
    let from = world.put_token_account(&world.mint.clone(), &funder.pubkey(), 1_000_000 * ATH, "");
    let fund = instructions::fund_rewards(&world, &funder.pubkey(), &from, 1_000_000 * ATH);
    costs.plain("fund_rewards", &sent(&mut world, &funder, &[fund], &[]));
    let provider = world.provider_to_be();
    let owner = provider.owner.clone();
    let register = instructions::register_provider(&owner.pubkey(), 0, &provider.operator.pubkey(), &provider.payout);
    costs.plain("register_provider", &sent(&mut world, &owner, &[register], &[]));
    let stake = instructions::stake(&world, &provider, 10_000 * ATH);
    costs.plain("stake", &sent(&mut world, &owner, &[stake], &[]));

    let payer = world.actor("block payer");
    let mut whole = vec![instructions::create_block(&payer.pubkey(), 0)];
    whole.extend((0..3).map(|_| instructions::grow_block(&payer.pubkey(), 0)));
    costs.plain("create_block and grow_block x 3", &sent(&mut world, &payer, &whole, &[]));
    world.advance(0);
    // The second registration of a block is the usual one.
    world.containers(&provider, 0, 0, 1, 1);
    let register = instructions::register_container(&world, &provider, 0, 0, container_args([9; 32], 8));
    let outcome = sent(&mut world, &owner, &[register], &[]);
    costs.plain("register_container", &outcome);
    let calls = outcome.logs.iter().filter(|l| l.starts_with("Program 11111111111111111111111111111111 invoke")).count();
    let own = outcome.compute_units - SYSTEM_CALL * calls as u64;
    costs.add("register_container beyond the system program's own", own, "CU", Some(12_000));

    let checker = world.checker_to_be(500);
    let owner = checker.owner.clone();
    let register = instructions::register_checker(&owner.pubkey(), 0, &checker.operator.pubkey(), &checker.payout, 500);
    costs.plain("register_checker", &sent(&mut world, &owner, &[register], &[]));
    for count in [1, 150] {
        let tickets = instructions::register_tickets(&world, &checker, count);
        costs.plain(&format!("register_tickets x {count}"), &sent(&mut world, &owner, &[tickets], &[]));
    }
}

/// The epoch's permissionless steps, with 40 tickets in the order.
fn epochs(costs: &mut Costs) {
    let mut world = World::new();
    world.class_of(0, 100);
    let provider = world.provider_with(1_000 * ATH);
    world.grown_block();
    world.open(0);
    world.containers(&provider, 0, 0, 0, 1);
    world.advance(1);
    let checker = world.checker_with(40, 0);
    let payer = world.actor("keeper");
    world.enter(2, 1);
    let advance = instructions::advance_epoch(&world, &payer.pubkey(), 2);
    costs.plain("advance_epoch, two epochs behind it open", &sent(&mut world, &payer, &[advance], &[]));
    costs.plain("churn x 32", &sent(&mut world, &payer, &[instructions::churn(2)], &[]));
    world.enter(2, 6);
    costs.plain("draw", &sent(&mut world, &payer, &[instructions::draw(2)], &[]));
    world.advance(3);
    world.enter(3, 6);
    let both = [instructions::churn(3), instructions::draw(3)];
    costs.plain("churn x 8 and draw", &sent(&mut world, &payer, &both, &[]));
    costs.plain("seat_block, 40 tickets", &sent(&mut world, &payer, &[instructions::seat_block(3, 0)], &[]));

    // Eight seats of one operator, over two blocks and more.
    for index in 1..8 {
        world.grown_block_regardless();
        world.containers(&provider, 0, index, 100 * index, 1);
    }
    world.open(4);
    world.enter(4, 30);
    let seats: Vec<SeatAt> = (0..8).map(|b| world.seats(4, b)[0]).collect();
    let commit = |at: &SeatAt, first: bool| {
        let commitment = Report::perfect().commitment(at.epoch, at.block, at.seat, at.checker);
        let operator = checker.operator.pubkey();
        instructions::commit_report(&operator, at.block, first.then_some(at.checker), at.epoch, at.seat, commitment)
    };
    let operator = checker.operator.clone();
    let first = with_budget(5_000, commit(&seats[0], true));
    costs.plain("commit_report, the seat's first", &sent(&mut world, &operator, &first, &[]));
    let again = with_budget(5_000, commit(&seats[0], false));
    costs.plain("commit_report, replaced", &sent(&mut world, &operator, &again, &[]));
    let mut batch = compute_budget(20_000).to_vec();
    batch.extend(seats.iter().map(|at| commit(at, true)));
    costs.transaction("commit_report x 8, one operator", &sent(&mut world, &operator, &batch, &[]), (None, Some(1_232)));
}

/// Reports that differ in every row and seat, so that no median is at hand.
fn uneven(at: SeatAt) -> Option<Report> {
    let mut report = Report::perfect().salted(at.epoch, at.block, at.seat);
    for row in 0..ROWS {
        let turn = ((row + usize::from(at.seat) * 3) % 5) as u8;
        report = report.row(row, 100 - turn, 95 + turn, 9);
    }
    Some(report)
}

/// A full block: reveal, tally, claims.
fn full_block(costs: &mut Costs) {
    let votes = |at: SeatAt| if at.epoch < 3 { perfect()(at) } else { uneven(at) };
    let mut stage = Stage::new(5, ROWS as u32).pass_to(1, &votes);
    stage.world.reveal_all(&stage.checkers, 1, &votes);
    let keeper = stage.world.actor("keeper");
    stage.world.open(2);
    stage.world.enter(2, 16);
    let going_live = with_budget(400_000, instructions::tally_block(&stage.world, 1, 0, 256));
    let outcome = sent(&mut stage.world, &keeper, &going_live, &[]);
    costs.plain("tally_block, 256 rows go live", &outcome);
    stage.world.commit_all(&stage.checkers, 2, &votes);
    stage.pass(3, &votes);
    stage.world.enter(4, 1);
    let seats = stage.world.seats(3, 0);
    for (i, at) in seats.iter().enumerate() {
        let operator = stage.checkers[at.checker as usize].operator.clone();
        let reveal = stage.world.reveal_of(&stage.checkers, *at, &votes(*at).expect("a vote"));
        let all = with_budget(5_500, reveal);
        if i == 0 {
            let outcome = sent(&mut stage.world, &operator, &all, &[]);
            costs.transaction("reveal_report of 256 rows", &outcome, (Some(5_500), Some(1_232)));
        } else {
            let outcome = sent(&mut stage.world, &keeper, &all, &[&operator]);
            if i == 1 {
                costs.transaction("reveal_report, another fee payer", &outcome, (Some(5_500), Some(1_232)));
            }
        }
    }
    stage.world.open(4);
    stage.world.enter(4, 20);
    let live = stage.world.block(0).rows.iter().filter(|r| r.status == datagalax::state::Row::LIVE).count();
    assert_eq!((live, seats.len()), (ROWS, 5));
    let tally = with_budget(400_000, instructions::tally_block(&stage.world, 3, 0, 256));
    let outcome = sent(&mut stage.world, &keeper, &tally, &[]);
    costs.plain("tally_block, 256 live rows, 5 reports", &outcome);
    costs.add("tally_block, a row", outcome.compute_units.div_ceil(ROWS as u64), "CU", Some(380));
    stage.world.check_books();
    disagreement(costs);

    let operator = stage.provider.operator.clone();
    let claim = with_budget(60_000, instructions::claim_rewards(&stage.provider, 0, &rows(0..ROWS)));
    let outcome = sent(&mut stage.world, &operator, &claim, &[]);
    costs.transaction("claim_rewards of 256 rows", &outcome, (Some(60_000), Some(1_232)));
    let claim = instructions::claim_seat_pay(&stage.world, &stage.checkers[0], &[0]);
    costs.plain("claim_seat_pay of one ticket", &sent(&mut stage.world, &keeper, &[claim], &[]));
    stage.world.check_books();
}

/// The dearest tally: a seat is silent, no two tokens agree everywhere, somebody accuses, and some availability is low.
fn disagreement(costs: &mut Costs) {
    let quarrel = |at: SeatAt| {
        let mut report = uneven(at)?;
        for row in 0..ROWS {
            report.values[2 * ROWS + row] = if at.seat == 1 { row as u8 } else { 9 };
            if row % 8 == 0 {
                report.values[row] = 20 | 0x80;
            }
        }
        (at.seat != 4).then_some(report)
    };
    let votes = |at: SeatAt| if at.epoch < 3 { perfect()(at) } else { quarrel(at) };
    let mut stage = Stage::new(5, ROWS as u32).pass_to(3, &votes);
    stage.world.reveal_all(&stage.checkers, 3, &votes);
    let keeper = stage.world.actor("keeper");
    stage.world.open(4);
    stage.world.enter(4, 20);
    let tally = with_budget(400_000, instructions::tally_block(&stage.world, 3, 0, 256));
    let outcome = sent(&mut stage.world, &keeper, &tally, &[]);
    costs.plain("tally_block, 256 live rows, 4 reports that disagree", &outcome);
    costs.add("tally_block, a row of reports that disagree", outcome.compute_units.div_ceil(ROWS as u64), "CU", Some(380));
    stage.world.check_books();
}

fn sizes(costs: &mut Costs) {
    costs.add("program", program_bytes().len() as u64, "bytes", Some(300_000));
    let mut account = |name: &str, size: usize| costs.add(&format!("account {name}"), 8 + size as u64, "bytes", None);
    account("Network", size_of::<Network>());
    account("VaultLedger", size_of::<VaultLedger>());
    account("GpuClass", size_of::<GpuClass>());
    account("Provider", size_of::<Provider>());
    account("Container", size_of::<Container>());
    account("Block", size_of::<Block>());
    account("Checker", size_of::<Checker>());
    account("Epoch", size_of::<Epoch>());
    // The count of tickets is padded to eight bytes.
    account("CheckerSet, empty", size_of::<CheckerSetHeader>() + 8);
    costs.add("account CheckerSet, each ticket", size_of::<Ticket>() as u64, "bytes", None);
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/costs.md")
}

fn table(costs: &Costs) -> String {
    let mut text = String::from(
        "# What instructions cost\n\nMeasured in LiteSVM with the program as `cargo xtask build-program` builds it from the package \
         registries; bars are the protocol's (section 14). A test fails when a figure leaves this table. Written anew by\n`",
    );
    let _ = write!(text, "{REWRITE}`.\n\n| what | figure | unit | bar | |\n|---|---:|---|---:|---|\n");
    for (name, figure) in &costs.0 {
        let (bar, verdict) = match figure.bar {
            None => (String::new(), String::new()),
            Some(bar) if figure.value <= bar => (bar.to_string(), "met".into()),
            Some(bar) => (bar.to_string(), format!("missed by {}", figure.value - bar)),
        };
        let _ = writeln!(text, "| {name} | {} | {} | {bar} | {verdict} |", figure.value, figure.unit);
    }
    text
}

/// The committed figures, and whether their bar was met, by name and unit.
fn committed(text: &str) -> BTreeMap<(String, String), (u64, bool)> {
    let cells = |line: &str| line.split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    text.lines()
        .map(cells)
        .filter(|c| c.len() == 7)
        .filter_map(|c| Some(((c[1].clone(), c[3].clone()), (c[2].parse().ok()?, c[5] == "met"))))
        .collect()
}

#[test]
fn costs_are_what_the_table_says() {
    let mut costs = Costs::default();
    registrations(&mut costs);
    epochs(&mut costs);
    full_block(&mut costs);
    sizes(&mut costs);
    if env::var_os("DATAGALAX_WRITE_COSTS").is_some_and(|v| v == "1") {
        fs::write(path(), table(&costs)).expect("docs/costs.md can be written");
        return;
    }
    let text = fs::read_to_string(path()).unwrap_or_else(|e| panic!("docs/costs.md: {e}; write it with\n{REWRITE}"));
    let mut known = committed(&text);
    for (name, figure) in &costs.0 {
        let Some((written, met)) = known.remove(&(name.clone(), figure.unit.to_owned())) else {
            panic!("docs/costs.md lacks {name} ({}); write it anew with\n{REWRITE}", figure.unit);
        };
        assert!(
            figure.value * 100 <= written * (100 + RISE) && figure.value * 100 >= written * (100 - FALL),
            "{name}: {} {}, docs/costs.md says {written}; if that is meant, write it anew with\n{REWRITE}",
            figure.value,
            figure.unit
        );
        assert!(!met || figure.bar.is_some_and(|bar| figure.value <= bar), "{name}: {} misses its bar", figure.value);
    }
    assert!(known.is_empty(), "docs/costs.md lists what is measured no more: {known:?}; write it anew with\n{REWRITE}");
}
