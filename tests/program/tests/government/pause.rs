//! `pause`, `unpause`, and which instructions a pause stops.

use datagalax::{
    instructions::{OpenLeaseArgs, UpdateContainerArgs},
    state::Network,
};
use datagalax_program_tests::{
    Checker, Provider, Report, World,
    accounts::rows,
    actors::{class_args, container_args, fingerprint},
    addresses::{self, Vault},
    epochs::SeatAt,
    instructions,
    refusals::Call,
    settings::ATH,
    stage::{Stage, perfect},
    world::{Key, named_key},
};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::{
    proposals::{propose, unchanged},
    withdraw::Settled,
};

const HOUR: i64 = 3_600;
const WEEK: i64 = 7 * 24 * HOUR;
/// How long a pause lasts.
const PAUSE: i64 = 72 * HOUR;

/// Pauses as the guardian, whose key is named by the network and signs in name only.
fn guardian_pauses(world: &mut World) -> Result<(), String> {
    let pause = instructions::pause(&world.network().guardian);
    world.send(&[pause], &[]).map(|_| ()).map_err(|f| f.name)
}

/// Whether a provider can register.
fn is_open(world: &World) -> bool {
    let mut world = world.clone();
    let to_be = world.provider_to_be();
    let register = instructions::register_provider(&to_be.owner.pubkey(), to_be.id, &to_be.operator.pubkey(), &to_be.payout);
    match world.send(&[register], &[&to_be.owner]) {
        Ok(_) => true,
        Err(failure) => {
            assert_eq!(failure.name, "Paused");
            false
        }
    }
}

#[test]
fn a_pause_of_the_guardians_lapses_after_72_hours() {
    let mut world = World::new();
    let begin = world.now();
    assert!(is_open(&world));
    assert_eq!(guardian_pauses(&mut world), Ok(()));
    assert_eq!((world.network().paused_until, world.network().guardian_paused_at), (begin + PAUSE, begin));
    assert!(!is_open(&world));
    world.set_time(begin + PAUSE - 1);
    assert!(!is_open(&world));
    world.set_time(begin + PAUSE);
    assert!(is_open(&world));
    world.check_books();
}

#[test]
fn the_guardian_does_not_pause_twice_within_seven_days() {
    let mut world = World::new();
    let begin = world.now();
    assert_eq!(guardian_pauses(&mut world), Ok(()));
    // While its pause lasts, once it has lapsed, and in the last second of the week.
    for time in [begin, begin + PAUSE - 1, begin + PAUSE, begin + WEEK - 1] {
        world.set_time(time);
        assert_eq!(guardian_pauses(&mut world), Err("GuardianRests".into()));
    }
    world.set_time(begin + WEEK);
    assert_eq!(guardian_pauses(&mut world), Ok(()));
    assert_eq!(world.network().paused_until, begin + WEEK + PAUSE);

    // Nor when the authority ended its pause at once: the guardian may be the one that is wrong.
    let (unpause, authority) = (instructions::unpause(&world), world.authority.clone());
    world.must(&[unpause], &[&authority]);
    assert_eq!(guardian_pauses(&mut world), Err("GuardianRests".into()));
    // A new guardian does not get around it either: the week is the network's.
    world.patch_as::<Network>(&addresses::network(), |n| n.guardian = named_key("new guardian").pubkey());
    assert_eq!(guardian_pauses(&mut world), Err("GuardianRests".into()));
}

#[test]
fn the_authority_pauses_and_extends_as_often_as_it_likes() {
    let mut world = World::new();
    let (authority, begin) = (world.authority.clone(), world.now());
    let pause = instructions::pause(&authority.pubkey());
    assert_eq!(guardian_pauses(&mut world), Ok(()));
    for hours in [1, 71, 100] {
        world.set_time(begin + hours * HOUR);
        world.must(std::slice::from_ref(&pause), &[&authority]);
        assert_eq!(world.network().paused_until, begin + hours * HOUR + PAUSE);
        assert!(!is_open(&world));
    }
    assert_eq!(world.network().guardian_paused_at, begin, "the authority's pauses are not the guardian's");
    // The extension lapses like any other.
    world.set_time(begin + 172 * HOUR - 1);
    assert!(!is_open(&world));
    world.set_time(begin + 172 * HOUR);
    assert!(is_open(&world));
    // The guardian's week counts from its own pause.
    assert_eq!(guardian_pauses(&mut world), Ok(()));
}

#[test]
fn unpause_ends_a_pause_at_once() {
    let mut world = World::new();
    let (authority, unpause) = (world.authority.clone(), instructions::unpause(&world));
    world.refused(unpause.clone(), &[&authority], "NotPaused");
    assert_eq!(guardian_pauses(&mut world), Ok(()));
    // The guardian pauses; it does not decide when that ends.
    let mut by_guardian = unpause.clone();
    by_guardian.accounts[0].pubkey = world.network().guardian;
    world.refused(by_guardian, &[], "Unauthorized");
    world.must(std::slice::from_ref(&unpause), &[&authority]);
    assert!(is_open(&world));
    world.refused(unpause.clone(), &[&authority], "NotPaused");
    // A lapsed pause is none.
    let later = world.now() + WEEK;
    world.set_time(later);
    assert_eq!(guardian_pauses(&mut world), Ok(()));
    world.set_time(later + PAUSE);
    world.refused(unpause, &[&authority], "NotPaused");
}

#[test]
fn only_the_guardian_and_the_authority_pause() {
    let mut world = World::new();
    let (stranger, authority) = (world.actor("stranger"), world.authority.clone());
    world.refused(instructions::pause(&stranger.pubkey()), &[&stranger], "Unauthorized");
    // A named authority is none yet.
    let name = instructions::propose_authority(&world, &stranger.pubkey());
    world.must(&[name], &[&authority]);
    world.refused(instructions::pause(&stranger.pubkey()), &[&stranger], "Unauthorized");

    Call::new(world.clone(), instructions::pause(&authority.pubkey()), &[&authority]).check();
    Call::new(world.clone(), instructions::pause(&world.network().guardian), &[]).check();
    assert_eq!(guardian_pauses(&mut world), Ok(()));
    // A second later: what ends in the second it began would change nothing but the end itself.
    let later = world.now() + 1;
    world.set_time(later);
    Call::new(world.clone(), instructions::unpause(&world), &[&authority]).check();
}

/// A call that succeeds in its world while that is not paused.
struct Try {
    name: &'static str,
    /// Whether a pause stops it.
    stopped: bool,
    world: World,
    instructions: Vec<Instruction>,
    signers: Vec<Key>,
}

#[derive(Default)]
struct Table(Vec<Try>);

impl Table {
    fn add(&mut self, name: &'static str, stopped: bool, world: &World, instruction: Instruction, signers: &[&Key]) {
        let signers = signers.iter().map(|k| (*k).clone()).collect();
        self.0.push(Try { name, stopped, world: world.clone(), instructions: vec![instruction], signers });
    }

    fn stops(&mut self, name: &'static str, world: &World, instruction: Instruction, signers: &[&Key]) {
        self.add(name, true, world, instruction, signers);
    }

    fn goes_on(&mut self, name: &'static str, world: &World, instruction: Instruction, signers: &[&Key]) {
        self.add(name, false, world, instruction, signers);
    }
}

fn lease_args(seconds: u32) -> OpenLeaseArgs {
    OpenLeaseArgs { nonce: 1, seconds, max_price_per_hour: 2 * ATH, workload_hash: [1; 32], match_expires: 0 }
}

fn container(n: u32) -> Pubkey {
    addresses::container(0, &fingerprint(n))
}

/// The network's own instructions.
fn government(table: &mut Table, stage: &Stage) {
    let mut world = stage.world.clone();
    let (authority, proposal) = (world.authority.clone(), unchanged(&world));
    let next = world.actor("next authority");
    table.goes_on("propose", &world, instructions::propose(&world, proposal), &[&authority]);
    table.goes_on("propose_authority", &world, instructions::propose_authority(&world, &next.pubkey()), &[&authority]);
    table.goes_on("pause", &world, instructions::pause(&authority.pubkey()), &[&authority]);
    let (funder, mint) = (world.actor("funder"), world.mint);
    let from = world.put_token_account(&mint, &funder.pubkey(), 5, "");
    table.goes_on("fund_rewards", &world, instructions::fund_rewards(&world, &funder.pubkey(), &from, 5), &[&funder]);
    table.goes_on("create_class", &world, instructions::create_class(&world, class_args(1, 50)), &[&authority]);
    let terms = datagalax::state::ClassTerms { stake_base: 1, ..world.class(0).terms };
    let update = instructions::update_class(&world, 0, terms);
    table.goes_on("update_class", &world, update.clone(), &[&authority]);
    let name = instructions::propose_authority(&world, &next.pubkey());
    world.must(&[update, name], &[&authority]);
    propose(&mut world, proposal);
    table.goes_on("accept_authority", &world, instructions::accept_authority(&next.pubkey()), &[&next]);
    table.goes_on("cancel_proposal", &world, instructions::cancel_proposal(&world), &[&authority]);
    world.wait_until(world.network().pending_at);
    table.goes_on("apply_proposal", &world, instructions::apply_proposal(&proposal.treasury), &[]);
    table.goes_on("apply_class", &world, instructions::apply_class(0), &[]);
    table.goes_on("withdraw_treasury", &stage.world, instructions::withdraw_treasury(&stage.world), &[]);
    let slashed = crate::sweep::slashed();
    table.goes_on("sweep_vault", &slashed, instructions::sweep_vault(&slashed, Vault::Stake), &[]);
}

/// Providers, checkers, indexers and keepers.
fn parties(table: &mut Table, stage: &Stage) {
    let mut world = stage.world.clone();
    let (provider, checker) = (stage.provider.clone(), stage.checkers[0].clone());
    let to_be = world.provider_to_be();
    let register = instructions::register_provider(&to_be.owner.pubkey(), to_be.id, &to_be.operator.pubkey(), &to_be.payout);
    table.stops("register_provider", &world, register, &[&to_be.owner]);
    table.stops("stake", &world, instructions::stake(&world, &provider, ATH), &[&provider.owner]);
    table.goes_on("request_unstake", &world, instructions::request_unstake(&provider, ATH), &[&provider.owner]);
    let to_be: Checker = world.checker_to_be(0);
    let register =
        instructions::register_checker(&to_be.owner.pubkey(), to_be.id, &to_be.operator.pubkey(), &to_be.payout, 0);
    table.stops("register_checker", &world, register, &[&to_be.owner]);
    table.stops("register_tickets", &world, instructions::register_tickets(&world, &checker, 1), &[&checker.owner]);
    table.goes_on("leave_tickets", &world, instructions::leave_tickets(&checker, &[0]), &[&checker.owner]);
    let slot = world.tickets().iter().position(|t| t.accrued > 0).expect("somebody earned");
    let earner = &stage.checkers[slot];
    let slot = u32::try_from(slot).expect("small");
    table.goes_on("claim_seat_pay", &world, instructions::claim_seat_pay(&world, earner, &[slot]), &[]);
    let to_be = world.indexer_to_be();
    let register = instructions::register_indexer(&world, &to_be, "https://indexer.example");
    table.stops("register_indexer", &world, register, &[&to_be.owner]);
    let indexer = world.indexer();
    let update = instructions::update_indexer(&indexer, "https://other.example");
    table.goes_on("update_indexer", &world, update, &[&indexer.operator]);
    table.goes_on("leave_indexer", &world, instructions::leave_indexer(&indexer), &[&indexer.owner]);
    let payer = world.payer.pubkey();
    table.goes_on("register_keeper", &world, instructions::register_keeper(&payer, &to_be.payout), &[]);

    let (owner, address) = (&provider.owner, addresses::provider(0));
    let heir = world.actor("heir");
    let rotate = instructions::rotate_keys(&owner.pubkey(), &address, &heir.pubkey(), &heir.pubkey());
    table.goes_on("rotate_keys", &world, rotate, &[owner]);
    let name = instructions::propose_owner(&owner.pubkey(), &address, &heir.pubkey());
    table.goes_on("propose_owner", &world, name.clone(), &[owner]);
    world.must(&[name], &[owner]);
    table.goes_on("accept_owner", &world, instructions::accept_owner(&heir.pubkey(), &address), &[&heir]);

    // A ticket that left, and stake that unlocked: both are matured.
    let mut left = Stage::new(6, 1);
    let owner = left.checkers[5].owner.clone();
    let leave = instructions::leave_tickets(&left.checkers[5], &[5]);
    left.world.must(&[leave], &[&owner]);
    let ask = instructions::request_unstake(&left.provider, ATH);
    left.world.must(&[ask], &[&left.provider.owner]);
    let mut left = left.pass_to(2, &perfect());
    let later = left.world.now() + 720;
    left.world.set_time(later);
    let withdraw = instructions::withdraw_tickets(&left.world, &left.checkers[5], &[5]);
    table.goes_on("withdraw_tickets", &left.world, withdraw, &[]);
    let withdraw = instructions::withdraw(&left.world, &address, Vault::Stake, &left.provider.to);
    table.goes_on("withdraw", &left.world, withdraw, &[]);
}

/// Blocks and containers.
fn containers(table: &mut Table, stage: &Stage) {
    let mut world = stage.world.clone();
    let (provider, payer): (Provider, _) = (stage.provider.clone(), world.payer.pubkey());
    let register = instructions::register_container(&world, &provider, 0, 0, container_args(fingerprint(9), 1));
    table.stops("register_container", &world, register, &[&provider.owner]);
    let args = UpdateContainerArgs {
        spec_hash: [1; 32],
        price_per_hour: 3,
        minimum_lease: 600,
        accepting: 0,
        endpoint: "http://127.0.0.1:1".into(),
    };
    let update = instructions::update_container(&provider, &fingerprint(0), args);
    table.goes_on("update_container", &world, update, &[&provider.operator]);
    let rotate = instructions::rotate_container_operator(&provider, &fingerprint(0), &provider.payout);
    table.goes_on("rotate_container_operator", &world, rotate, &[&provider.owner]);
    let start = world.now() + 30 * HOUR;
    let announce = instructions::announce_maintenance(&provider, &fingerprint(0), start, start + HOUR);
    table.goes_on("announce_maintenance", &world, announce, &[&provider.operator]);
    let claim = instructions::claim_rewards(&provider, 0, &rows([0]));
    table.stops("claim_rewards", &world, claim, &[&provider.operator]);
    let leave = instructions::deregister_container(&world, &provider, &fingerprint(0));
    table.goes_on("deregister_container", &world, leave.clone(), &[&provider.owner]);
    world.must(&[leave], &[&provider.owner]);
    let next = world.network().current_epoch + 2;
    world.open(next);
    table.goes_on("vacate_row", &world, instructions::vacate_row(&world, 0, &fingerprint(0)), &[]);

    // A world without a free row takes another block; a block that is not whole yet is grown.
    let mut bare = World::new();
    table.stops("create_block", &bare, instructions::create_block(&payer, 0), &[]);
    bare.run(instructions::create_block(&payer, 0));
    table.goes_on("grow_block", &bare, instructions::grow_block(&payer, 0), &[]);
}

/// An epoch from its advance to its tally.
fn epochs(table: &mut Table) {
    let mut stage = Stage::new(5, 1).pass_to(2, &perfect());
    let more = instructions::register_tickets(&stage.world, &stage.checkers[0], 1);
    stage.world.must(&[more], &[&stage.checkers[0].owner]);
    let world = &mut stage.world;
    let payer = world.payer.pubkey();
    let at = world.seats(2, 0)[0];
    let report = perfect()(at).expect("a report");
    let operator = stage.checkers[at.checker as usize].operator.clone();
    world.enter(3, 1);
    table.goes_on("reveal_report", world, world.reveal_of(&stage.checkers, at, &report), &[&operator]);
    table.goes_on("advance_epoch", world, instructions::advance_epoch(world, &payer, 3), &[]);
    world.reveal_all(&stage.checkers, 2, &perfect());
    world.advance(3);
    table.goes_on("churn", world, instructions::churn(3), &[]);
    world.churn(3);
    world.enter(3, 6);
    table.goes_on("draw", world, instructions::draw(3), &[]);
    world.draw(3);
    table.goes_on("seat_block", world, instructions::seat_block(3, 0), &[]);
    world.seat(3, 0);
    let at = world.seats(3, 0)[0];
    let operator = stage.checkers[at.checker as usize].operator.clone();
    let commit = instructions::commit_report(&operator.pubkey(), 0, Some(at.checker), 3, at.seat, [9; 32]);
    table.goes_on("commit_report", world, commit, &[&operator]);
    world.enter(3, 16);
    table.goes_on("tally_block", world, instructions::tally_block(world, 2, 0, 256), &[]);

    let mut world = World::new();
    (0..=4).for_each(|epoch| world.open(epoch));
    world.forgetful = true;
    table.goes_on("close_account", &world, instructions::close_account(&payer, &addresses::epoch(0), &payer), &[]);
}

/// Leases from opening to their end.
fn leases(table: &mut Table, stage: &Stage) {
    let mut world = stage.world.clone();
    let (user, operator) = (world.user(), world.container_operator(&fingerprint(0)));
    let open = instructions::open_lease(&world, &user, &container(0), None, lease_args(600));
    table.stops("open_lease", &world, open.clone(), &[&user.key]);
    world.must(&[open], &[&user.key]);
    let lease = addresses::lease(&user.key.pubkey(), 1);
    let key = operator.pubkey();
    table.goes_on("reject_lease", &world, instructions::reject_lease(&world, &key, &lease, 1), &[&operator]);
    let start = instructions::start_lease(&world, &key, &lease);
    table.goes_on("start_lease", &world, start.clone(), &[&operator]);
    let mut late = world.clone();
    late.set_time(world.now() + 61);
    table.goes_on("cancel_lease", &late, instructions::cancel_lease(&late, &lease), &[]);
    world.must(&[start], &[&operator]);
    table.stops("top_up_lease", &world, instructions::top_up_lease(&world, &user, &lease, 60), &[&user.key]);
    let started = world.now();
    world.set_time(started + 600);
    let usage = instructions::record_usage(&world, &key, &lease, 1, 1, 1);
    table.goes_on("record_usage", &world, usage, &[&operator]);
    let close = instructions::close_lease(&world, &user.key.pubkey(), &lease, false, 0);
    table.goes_on("close_lease", &world, close.clone(), &[&user.key]);
    world.must(&[close], &[&user.key]);
    world.set_time(started + HOUR);
    table.goes_on("settle_lease", &world, instructions::settle_lease(&world, &lease), &[]);

    // A host that closed early is halted until its stake is restored.
    let Settled { stage, .. } = Settled::new();
    let restore = instructions::restore_stake(&stage.world, &stage.provider, &fingerprint(0));
    table.goes_on("restore_stake", &stage.world, restore, &[&stage.provider.owner]);
}

/// Row 0 is dishonest in epoch 3; row 1, which is leased, is not served in epochs 5 and 6.
fn bad(at: SeatAt) -> Option<Report> {
    let report = match at.epoch {
        3 => Report::perfect().dishonest(0),
        5 | 6 => Report::perfect().row(1, 10, 100, 9),
        _ => Report::perfect(),
    };
    Some(report.salted(at.epoch, at.block, at.seat))
}

/// Cases of dishonesty and of breach.
fn cases(table: &mut Table) {
    let mut stage = Stage::new(15, 2).pass_to(4, &bad);
    let world = &mut stage.world;
    let payer = world.payer.pubkey();
    let (user, operator) = (world.user(), world.container_operator(&fingerprint(1)));
    let open = instructions::open_lease(world, &user, &container(1), None, lease_args(1_200));
    world.must(&[open], &[&user.key]);
    let lease = addresses::lease(&user.key.pubkey(), 1);
    let start = instructions::start_lease(world, &operator.pubkey(), &lease);
    world.must(&[start], &[&operator]);
    let open = instructions::open_case(world, &payer, &container(0), 3);
    table.goes_on("open_case", world, open.clone(), &[]);
    let until = world.block(0).rows[0].case_until;
    let mut stage = stage.pass_to(7, &bad);
    let report = instructions::report_breach(&stage.world, &payer, &lease, 5);
    table.goes_on("report_breach", &stage.world, report, &[]);

    let mut unopened = stage.clone().pass_to(until + 2, &bad);
    let release = instructions::release_row(&unopened.world, &container(0), 3);
    table.goes_on("release_row", &unopened.world, release, &[]);
    unopened.world.run(open.clone());
    stage.world.run(open);
    let opened = stage.pass_to(until + 2, &bad);
    table.goes_on("close_case", &opened.world, instructions::close_case(&opened.world, &container(0), 3), &[]);
}

/// Numbers of all instructions that a network which exists can be sent, but `unpause`, which has its own test.
fn all_numbers() -> Vec<u8> {
    let ranges = [1..=8, 10..=13, 20..=27, 30..=35, 40..=45, 50..=51, 60..=68, 70..=77, 80..=83, 90..=92];
    ranges.into_iter().flatten().collect()
}

#[test]
fn a_pause_stops_what_brings_in_and_nothing_that_runs_or_pays() {
    let stage = Stage::new(5, 2).pass_to(4, &perfect());
    let mut table = Table::default();
    government(&mut table, &stage);
    parties(&mut table, &stage);
    containers(&mut table, &stage);
    epochs(&mut table);
    leases(&mut table, &stage);
    cases(&mut table);

    let mut numbers: Vec<u8> = table.0.iter().map(|t| t.instructions[0].data[0]).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, all_numbers(), "every instruction is tried once");

    let mut stopped = vec![];
    for Try { name, stopped: expected, world, instructions, signers } in table.0 {
        let signers: Vec<&solana_keypair::Keypair> = signers.iter().map(|k| &**k).collect();
        let mut running = world.clone();
        if let Err(failure) = running.send(&instructions, &signers) {
            panic!("{name} does not succeed without a pause: {} {:#?}", failure.name, failure.logs);
        }
        let mut paused = world;
        paused.set_paused(true);
        let before = paused.fingerprint();
        match paused.send(&instructions, &signers) {
            Ok(_) => {
                assert!(!expected, "{name} goes on in a pause");
                assert_ne!(paused.fingerprint(), before, "{name} did nothing");
                paused.check_books();
            }
            Err(failure) => {
                assert_eq!(failure.name, "Paused", "{name}");
                assert!(expected, "{name} is stopped by a pause");
                assert_eq!(paused.fingerprint(), before);
                stopped.push(name);
            }
        }
    }
    stopped.sort_unstable();
    let expected = [
        "claim_rewards",
        "create_block",
        "open_lease",
        "register_checker",
        "register_container",
        "register_indexer",
        "register_provider",
        "register_tickets",
        "stake",
        "top_up_lease",
    ];
    assert_eq!(stopped, expected);
}
