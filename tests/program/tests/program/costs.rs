//! What instructions cost, against the bars of the protocol's section 14, and the table docs/costs.md that says so.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::PathBuf};

use datagalax::{
    constants::ROWS,
    instructions::{OpenLeaseArgs, UpdateContainerArgs},
    state::{
        Block, Case, Checker, CheckerSetHeader, Container, Epoch, GpuClass, Indexer, Keeper, Lease, Network, Proposal,
        Provider, Row, Ticket, VaultLedger, VestingTerms,
    },
};
use datagalax_program_tests::{
    Outcome, Report, Settings, User, World,
    accounts::rows,
    actors::{class_args, container_args, fingerprint},
    addresses::{self, Vault},
    epochs::SeatAt,
    instructions::{self, Initialize},
    send::{compute_budget, wire_length},
    settings::ATH,
    world::{Key, program_bytes},
};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::Message;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use solana_transaction::Transaction;

use datagalax_program_tests::stage::{Stage, perfect};

/// Longest transaction, bytes.
const LONGEST: u64 = 1_232;
/// Most compute units of a transaction.
const MOST_UNITS: u64 = 1_400_000;
/// Lamports of a signature.
const SIGNATURE: u64 = 5_000;
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
        assert!(outcome.bytes as u64 <= LONGEST, "{name}: {} bytes are no transaction", outcome.bytes);
        self.add(name, outcome.compute_units, "CU", bars.0);
        self.add(name, outcome.bytes as u64, "bytes", bars.1);
    }

    fn plain(&mut self, name: &str, outcome: &Outcome) {
        self.transaction(name, outcome, (None, None));
    }

    /// Sends one instruction, paid and signed by a key, and notes what it took.
    fn call(&mut self, name: &str, world: &mut World, payer: &Keypair, instruction: Instruction) {
        let outcome = sent(world, payer, &[instruction], &[]);
        self.plain(name, &outcome);
        world.check_books();
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
    government(costs, world.clone());
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
    whole.extend((0..4).map(|_| instructions::grow_block(&payer.pubkey(), 0)));
    costs.plain("create_block and grow_block x 4", &sent(&mut world, &payer, &whole, &[]));
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

/// What the authority and the guardian do.
fn government(costs: &mut Costs, mut world: World) {
    // Before the first epoch no class waits for the time lock.
    world.advance(0);
    let authority = world.authority.clone();
    let network = world.network();
    let terms = VestingTerms { id: 0, from_day: 0, ..network.vesting_terms[0] };
    let (parameters, emission) = (network.parameters, network.emission);
    let (treasury, guardian) = (network.treasury, world.actor("guardian"));
    let proposal = Proposal {
        parameters,
        emission,
        vesting: terms,
        treasury,
        guardian: guardian.pubkey(),
        epoch_length: 60,
        reserved: 0,
    };
    let propose = instructions::propose(&world, proposal);
    costs.call("propose", &mut world, &authority, propose.clone());
    let cancel = instructions::cancel_proposal(&world);
    costs.call("cancel_proposal", &mut world, &authority, cancel);
    world.must(&[propose], &[&authority]);
    world.set_time(world.now() + 60);
    costs.call("apply_proposal", &mut world, &authority, instructions::apply_proposal(&treasury));
    let mut dearer = class_args(0, 100).terms;
    dearer.stake_base *= 2;
    let update = instructions::update_class(&world, 0, dearer);
    costs.call("update_class", &mut world, &authority, update);
    world.set_time(world.now() + 60);
    costs.call("apply_class", &mut world, &authority, instructions::apply_class(0));
    costs.call("pause", &mut world, &guardian, instructions::pause(&guardian.pubkey()));
    let unpause = instructions::unpause(&world);
    costs.call("unpause", &mut world, &authority, unpause);
    let next = world.actor("next authority");
    let hand_over = instructions::propose_authority(&world, &next.pubkey());
    costs.call("propose_authority", &mut world, &authority, hand_over);
    costs.call("accept_authority", &mut world, &next, instructions::accept_authority(&next.pubkey()));
}

/// A network with 16 tickets and three live containers, in epoch 3.
fn at_work() -> Stage {
    let stage = Stage::new(16, 3).pass_to(3, &perfect());
    assert_eq!((stage.world.block(0).live, stage.world.set().live), (3, 16));
    stage
}

fn container(number: u32) -> Pubkey {
    addresses::container(0, &fingerprint(number))
}

fn lease_args(nonce: u64, seconds: u32, match_expires: i64) -> OpenLeaseArgs {
    OpenLeaseArgs { nonce, seconds, max_price_per_hour: 2 * ATH, workload_hash: [3; 32], match_expires }
}

/// The user opens a lease of a container and its operator starts it.
fn leased(world: &mut World, user: &User, number: u32, nonce: u64, seconds: u32) -> Pubkey {
    let lease = addresses::lease(&user.key.pubkey(), nonce);
    let open = instructions::open_lease(world, user, &container(number), None, lease_args(nonce, seconds, 0));
    world.must(&[open], &[&user.key]);
    let operator = world.container_operator(&fingerprint(number));
    let start = instructions::start_lease(world, &operator.pubkey(), &lease);
    world.must(&[start], &[&operator]);
    lease
}

/// A lease from its opening to its last token.
fn leases(costs: &mut Costs) {
    let mut stage = at_work();
    let indexer = stage.world.indexer_to_be();
    let register = instructions::register_indexer(&stage.world, &indexer, "https://indexer.example");
    costs.call("register_indexer", &mut stage.world, &indexer.owner, register);
    let update = instructions::update_indexer(&indexer, "https://indexer.example/v2");
    costs.call("update_indexer", &mut stage.world, &indexer.operator, update);
    let (user, keeper) = (stage.world.user(), stage.world.actor("keeper"));
    let operators: Vec<Key> = (0..3).map(|n| stage.world.container_operator(&fingerprint(n))).collect();
    let wallet = user.key.pubkey();
    let lease = |nonce| addresses::lease(&wallet, nonce);
    let world = &mut stage.world;

    let open = instructions::open_lease(world, &user, &container(0), None, lease_args(0, 7_200, 0));
    let outcome = sent(world, &user.key, &[open], &[]);
    costs.transaction("open_lease", &outcome, (Some(20_000), None));
    let expires = world.now() + 600;
    let signature = instructions::sign_match(&indexer.operator, 0, &wallet, &container(1), 1, expires);
    let open = instructions::open_lease(world, &user, &container(1), Some(0), lease_args(1, 600, expires));
    let outcome = sent(world, &user.key, &[signature, open], &[]);
    costs.transaction("open_lease with an indexer's match", &outcome, (Some(20_000), None));
    let open = instructions::open_lease(world, &user, &container(2), None, lease_args(2, 600, 0));
    world.must(std::slice::from_ref(&open), &[&user.key]);
    let reject = instructions::reject_lease(world, &operators[2].pubkey(), &lease(2), 7);
    costs.call("reject_lease", world, &operators[2], reject);
    let open = instructions::open_lease(world, &user, &container(2), None, lease_args(3, 600, 0));
    world.must(&[open], &[&user.key]);
    for (n, operator) in operators.iter().enumerate().take(2) {
        let start = instructions::start_lease(world, &operator.pubkey(), &lease(n as u64));
        if n == 0 {
            costs.call("start_lease", world, operator, start);
        } else {
            world.must(&[start], &[operator]);
        }
    }
    let top_up = instructions::top_up_lease(world, &user, &lease(0), 600);
    costs.call("top_up_lease", world, &user.key, top_up);

    for epoch in 4..=6 {
        stage.pass(epoch, &perfect());
    }
    let world = &mut stage.world;
    let cancel = instructions::cancel_lease(world, &lease(3));
    costs.call("cancel_lease", world, &keeper, cancel);
    let usage = instructions::record_usage(world, &operators[0].pubkey(), &lease(0), 100, 40_000, 1 << 30);
    costs.call("record_usage", world, &operators[0], usage);
    // The rest of epoch 3 and all of 4 and 5; then 6 alone.
    let settle = instructions::settle_lease(world, &lease(1));
    world.must(&[settle], &[]);
    stage.pass(7, &perfect());
    let world = &mut stage.world;
    let settle = instructions::settle_lease(world, &lease(1));
    costs.call("settle_lease, 1 epoch, with an indexer", world, &keeper, settle);

    // Nobody does anything for 70 epochs, and then one is tallied: every verdict before it was overwritten.
    world.open(77);
    world.commit_all(&stage.checkers, 77, &perfect());
    stage.pass(78, &perfect());
    let world = &mut stage.world;
    let settle = instructions::settle_lease(world, &lease(0));
    let before = world.read::<Lease>(&lease(0)).settled_until;
    let outcome = sent(world, &keeper, &with_budget(MOST_UNITS as u32, settle), &[]);
    costs.plain("settle_lease, 64 epochs that were overwritten", &outcome);
    let settled = world.read::<Lease>(&lease(0)).settled_until - before;
    assert!((63 * 60 + 1..=64 * 60).contains(&settled), "64 epochs, the first one in part: {settled} s");
    let close = instructions::close_lease(world, &wallet, &lease(0), false, 0);
    costs.call("close_lease by its user", world, &user.key, close);
    for n in [1, 0] {
        if n == 1 {
            let close = instructions::close_lease(world, &keeper.pubkey(), &lease(1), false, 0);
            world.must(&[close], &[&keeper]);
        }
        let settle = instructions::settle_lease(world, &lease(n));
        world.must(&[settle], &[]);
        assert_eq!(world.read::<Lease>(&lease(n)).status, Lease::SETTLED);
    }
    let sources = [
        ("withdraw of a provider's escrow", addresses::provider(0), stage.provider.to),
        ("withdraw of a user's refund", lease(0), user.from),
        ("withdraw of an indexer's fees", addresses::indexer(0), indexer.to),
    ];
    for (name, source, to) in sources {
        let withdraw = instructions::withdraw(world, &source, Vault::Escrow, &to);
        costs.call(name, world, &keeper, withdraw);
    }
    let sweep = instructions::sweep_vault(world, Vault::Escrow);
    costs.call("sweep_vault", world, &keeper, sweep);
    let close = instructions::close_account(&wallet, &lease(0), &wallet);
    costs.call("close_account of a lease", world, &user.key, close);
    costs.call("leave_indexer", world, &indexer.owner, instructions::leave_indexer(&indexer));
}

/// Cases: one upheld, one that nobody opened, and a breach.
fn cases(costs: &mut Costs) {
    let mut stage = at_work();
    let (user, keeper) = (stage.world.user(), stage.world.actor("keeper"));
    let lease = leased(&mut stage.world, &user, 2, 0, 7_200);
    let votes = |at: SeatAt| {
        let mut report = Report::perfect().salted(at.epoch, at.block, at.seat);
        if at.epoch == 4 || at.epoch == 5 {
            report = report.dishonest(0).dishonest(1).row(2, 10, 100, 9);
        }
        Some(report)
    };
    for epoch in 4..=6 {
        stage.pass(epoch, &votes);
    }
    let world = &mut stage.world;
    let open = instructions::open_case(world, &keeper.pubkey(), &container(0), 4);
    costs.call("open_case", world, &keeper, open);
    let breach = instructions::report_breach(world, &keeper.pubkey(), &lease, 4);
    costs.call("report_breach", world, &keeper, breach);
    let withdraw = instructions::withdraw(world, &lease, Vault::Stake, &user.from);
    costs.call("withdraw of a user's compensation", world, &keeper, withdraw);
    let restore = instructions::restore_stake(world, &stage.provider, &fingerprint(2));
    costs.call("restore_stake", world, &stage.provider.owner, restore);
    // The window of 480 s ends with epoch 11.
    for epoch in 7..=13 {
        stage.pass(epoch, &votes);
    }
    let world = &mut stage.world;
    let close = instructions::close_case(world, &container(0), 4);
    costs.call("close_case, guilty", world, &keeper, close);
    let case = addresses::case(&container(0), 4, Case::DISHONEST);
    assert_eq!(world.read::<Case>(&case).status, Case::UPHELD);
    let release = instructions::release_row(world, &container(1), 4);
    costs.call("release_row", world, &keeper, release);
    let close = instructions::close_account(&keeper.pubkey(), &case, &keeper.pubkey());
    world.forgetful = true;
    costs.call("close_account of a case", world, &keeper, close);
    let sweep = instructions::sweep_vault(world, Vault::Stake);
    world.must(&[sweep], &[]);
    world.check_books();
}

/// Keys, containers that change and leave, stake and tickets that are taken back.
fn leaving(costs: &mut Costs) {
    let mut stage = at_work();
    let (keeper, provider, checker) = (stage.world.actor("keeper"), stage.provider.clone(), stage.checkers[0].clone());
    let world = &mut stage.world;
    let (owner, operator) = (provider.owner.clone(), provider.operator.clone());
    let register = instructions::register_keeper(&keeper.pubkey(), &keeper.pubkey());
    costs.call("register_keeper", world, &keeper, register);
    let account = addresses::provider(0);
    let rotate = instructions::rotate_keys(&owner.pubkey(), &account, &operator.pubkey(), &provider.payout);
    costs.call("rotate_keys", world, &owner, rotate);
    let next = world.actor("next owner");
    let propose = instructions::propose_owner(&owner.pubkey(), &account, &next.pubkey());
    costs.call("propose_owner", &mut world.clone(), &owner, propose.clone());
    let mut handed = world.clone();
    handed.must(&[propose], &[&owner]);
    costs.call("accept_owner", &mut handed, &next, instructions::accept_owner(&next.pubkey(), &account));

    let args = UpdateContainerArgs {
        spec_hash: [8; 32],
        price_per_hour: 3 * ATH,
        minimum_lease: 1_200,
        accepting: 1,
        endpoint: "https://container.example:9000".into(),
    };
    costs.call("update_container", world, &operator, instructions::update_container(&provider, &fingerprint(0), args));
    let (start, end) = (world.now() + 86_400, world.now() + 86_400 + 3_600);
    let announce = instructions::announce_maintenance(&provider, &fingerprint(0), start, end);
    costs.call("announce_maintenance", world, &operator, announce);
    let next = instructions::rotate_container_operator(&provider, &fingerprint(0), &operator.pubkey());
    costs.call("rotate_container_operator", world, &owner, next);

    let deregister = instructions::deregister_container(world, &provider, &fingerprint(0));
    costs.call("deregister_container", world, &owner, deregister);
    costs.call("request_unstake", world, &owner, instructions::request_unstake(&provider, 100 * ATH));
    let slot = world.tickets().iter().position(|t| t.checker == checker.id).expect("a ticket") as u32;
    costs.call("leave_tickets x 1", world, &checker.owner, instructions::leave_tickets(&checker, &[slot]));
    for epoch in 4..=6 {
        stage.pass(epoch, &perfect());
    }
    let world = &mut stage.world;
    let vacate = instructions::vacate_row(world, 0, &fingerprint(0));
    costs.call("vacate_row", world, &keeper, vacate);
    let withdraw = instructions::withdraw_treasury(world);
    costs.call("withdraw_treasury", world, &keeper, withdraw);
    // Unbonding lasts 720 s.
    world.set_time(world.now() + 720);
    let withdraw = instructions::withdraw(world, &account, Vault::Stake, &provider.to);
    costs.call("withdraw of stake", world, &keeper, withdraw);
    // A ticket is withdrawn once its pay is claimed.
    if world.tickets()[slot as usize].accrued > 0 {
        let pay = instructions::claim_seat_pay(world, &checker, &[slot]);
        world.run(pay);
    }
    let withdraw = instructions::withdraw_tickets(world, &checker, &[slot]);
    costs.call("withdraw_tickets x 1", world, &keeper, withdraw);
    let close = instructions::close_account(&checker.owner.pubkey(), &addresses::checker(0), &checker.owner.pubkey());
    world.forgetful = true;
    costs.call("close_account of a checker", world, &checker.owner, close);
    let close = instructions::close_account(&keeper.pubkey(), &addresses::keeper(&keeper.pubkey()), &keeper.pubkey());
    costs.call("close_account of a keeper", world, &keeper, close);
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
    let disagreement = disagreement(costs);
    fees(costs, disagreement);
    tally_of_leased(costs);

    let operator = stage.provider.operator.clone();
    let claim = with_budget(60_000, instructions::claim_rewards(&stage.provider, 0, &rows(0..ROWS)));
    let outcome = sent(&mut stage.world, &operator, &claim, &[]);
    costs.transaction("claim_rewards of 256 rows", &outcome, (Some(60_000), Some(1_232)));
    let withdraw = instructions::withdraw(&stage.world, &addresses::provider(0), Vault::Rewards, &stage.provider.to);
    costs.call("withdraw of vested rewards, one grant", &mut stage.world, &keeper, withdraw.clone());
    // A grant on each of 180 days, as a provider that claims daily has them.
    let mut daily = stage.world.clone();
    daily.forgetful = true;
    let today = u32::try_from(daily.now() / 86_400).expect("a day");
    daily.patch_as::<Provider>(&addresses::provider(0), |p| {
        for day in today - 179..=today {
            let grant = &mut p.grants[day as usize % 180];
            (grant.day, grant.terms) = (day, 1);
            grant.amount += ATH;
            p.claimed += ATH;
        }
    });
    daily.patch_as::<VaultLedger>(&addresses::ledger(Vault::Rewards), |l| l.liabilities += 180 * ATH);
    costs.call("withdraw of vested rewards, 180 grants", &mut daily, &keeper, withdraw);
    let claim = instructions::claim_seat_pay(&stage.world, &stage.checkers[0], &[0]);
    costs.plain("claim_seat_pay of one ticket", &sent(&mut stage.world, &keeper, &[claim], &[]));
    stage.world.check_books();
}

/// The dearest tally: a seat is silent, no two tokens agree everywhere, somebody accuses, and some availability is low.
fn disagreement(costs: &mut Costs) -> u64 {
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
    outcome.compute_units
}

/// A block whose every row is leased: the way round the tally's short one.
fn tally_of_leased(costs: &mut Costs) {
    let votes = |at: SeatAt| if at.epoch < 3 { perfect()(at) } else { uneven(at) };
    let mut stage = Stage::new(5, ROWS as u32).pass_to(3, &votes);
    stage.world.reveal_all(&stage.checkers, 3, &votes);
    stage.world.patch_as::<Block>(&addresses::block(0), |block| {
        for row in &mut block.rows {
            row.note_lease(3, ATH, ATH);
            row.end_lease(9, 10_000);
        }
    });
    let keeper = stage.world.actor("keeper");
    stage.world.open(4);
    stage.world.enter(4, 20);
    let tally = with_budget(400_000, instructions::tally_block(&stage.world, 3, 0, 256));
    let outcome = sent(&mut stage.world, &keeper, &tally, &[]);
    let block = stage.world.block(0);
    assert!(
        block.rows.iter().all(|r| r.accrued > 0 && r.accrued <= ATH && r.flags & Row::LEASED != 0),
        "capped by the fees"
    );
    costs.plain("tally_block, 256 leased rows", &outcome);
    costs.add("tally_block, a leased row", outcome.compute_units.div_ceil(ROWS as u64), "CU", None);
    stage.world.check_books();
}

/// How many instructions of a kind one transaction takes, by its length and its compute units.
fn batch(units: u64, instruction: impl Fn(u32) -> Instruction) -> u64 {
    let payer = Pubkey::new_from_array([9; 32]);
    let fits = |count: u64| {
        let mut all = compute_budget(MOST_UNITS as u32).to_vec();
        all.extend((0..count as u32).map(&instruction));
        // Each instruction of the compute budget takes 150.
        let bytes = wire_length(&Transaction::new_unsigned(Message::new(&all, Some(&payer)))) as u64;
        bytes <= LONGEST && 300 + count * units <= MOST_UNITS
    };
    (1..).take_while(|count| fits(*count)).last().expect("one fits")
}

/// Fees of an epoch of 1,000,000 containers in 3,907 blocks with five reports each (protocol section 1), from the measured
/// figures; priority fees apart. The dearest tally counts.
fn fees(costs: &mut Costs, tally: u64) {
    let (containers, blocks, reports) = (1_000_000u64, 3_907u64, 20_000u64);
    let figure = |name: &str| costs.0.iter().find(|(n, f)| n == name && f.unit == "CU").expect("measured before").1.value;
    let seat = figure("seat_block, 40 tickets");
    let world = World::new();
    let mut tallied = instructions::tally_block(&world, 1, 0, 256);
    tallied.accounts[2].pubkey = addresses::epoch(2);
    let tallies = batch(tally, |block| {
        let mut one = tallied.clone();
        one.accounts[4].pubkey = addresses::block(block);
        one
    });
    let seats = batch(seat, |block| instructions::seat_block(1, block));
    costs.add("tally_block, as many as fit a transaction", tallies, "calls", None);
    costs.add("seat_block, as many as fit a transaction", seats, "calls", None);
    // Advance, churn and draw are one signature each.
    let keeper = 3 + blocks.div_ceil(seats) + blocks.div_ceil(tallies);
    for (name, commits, bar) in [("8 commits", reports.div_ceil(8), 120), ("one commit", reports, 210)] {
        let lamports = (reports + commits + keeper) * SIGNATURE;
        let name = format!("fees per container and epoch at 1,000,000 containers, {name} a transaction");
        costs.add(&name, lamports.div_ceil(containers), "lamports", Some(bar));
    }
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
    account("Lease", size_of::<Lease>());
    account("Case", size_of::<Case>());
    account("Indexer", size_of::<Indexer>());
    account("Keeper", size_of::<Keeper>());
    account("CheckerSet, empty", size_of::<CheckerSetHeader>());
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
    leases(&mut costs);
    cases(&mut costs);
    leaving(&mut costs);
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
