//! The mistakes seen in others' code (the list is in the design's examples), each attempted here.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
};

use datagalax::{
    constants::VOID,
    instructions::{ED25519_ID, Match},
    state::{Case, Row, Ticket},
};
use datagalax_program_tests::{
    Report, World,
    accounts::rows,
    actors::fingerprint,
    addresses::{self, INSTRUCTIONS, TOKEN_PROGRAM, Vault},
    epochs::SeatAt,
    instructions,
    settings::{ATH, GENESIS_HASH},
    stage::{Stage, perfect},
    world::address_of,
};
use sha2::{Digest, Sha256};
use solana_account::ReadableAccount;
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::{
    at, attempt,
    cast::{ACCUSED, BREACHED, LEAVER, Moment, lease_args, votes},
    verdict::Verdict,
};

#[track_caller]
fn refused_as(world: &World, instructions: &[Instruction], name: &str) {
    assert_eq!(attempt(world, instructions), Verdict::Refused(name.into()));
}

/// What a row gets in an epoch of the default emission when it is all there is: 75 of 1,000 ATH a hundred.
const WHOLE: u64 = 750 * ATH;

/// "Approvals counted per account, so that one signer counts twice."
#[test]
fn nobody_votes_twice() {
    let moment = at("4, reveals of 3");
    let (world, checkers) = (&moment.world, &moment.cast.checkers);
    let seats = world.seats(3, 0);
    assert_eq!(seats.len(), 5);
    assert_eq!(seats.iter().map(|s| s.slot).collect::<HashSet<_>>().len(), 5, "no ticket sits twice in a committee");
    let (mine, other) = (seats[0], seats[1]);
    let report = votes(mine).expect("a report");
    let reveal = world.reveal_of(checkers, mine, &report);
    assert_eq!(attempt(world, std::slice::from_ref(&reveal)), Verdict::Done);
    refused_as(world, &[reveal.clone(), reveal.clone()], "AlreadyRevealed");
    // The same word in another's seat, by the same signer; and by the other's key.
    let mut second = world.reveal_of(checkers, SeatAt { seat: other.seat, ..mine }, &report);
    refused_as(world, &[reveal.clone(), second.clone()], "Unauthorized");
    second.accounts[0].pubkey = checkers[other.checker as usize].operator.pubkey();
    refused_as(world, &[reveal, second], "CommitmentMismatch");

    // A seat that nobody committed in cannot be taken with one's own checker.
    let moment = at("4, tally of 3");
    let seats = moment.world.seats(4, 0);
    let me = &moment.cast.checkers[seats[0].checker as usize].operator.pubkey();
    let commit = |checker| instructions::commit_report(me, 0, checker, 4, seats[1].seat, [9; 32]);
    refused_as(&moment.world, &[commit(Some(seats[0].checker))], "WrongAccount");
    refused_as(&moment.world, &[commit(Some(seats[1].checker))], "Unauthorized");
    refused_as(&moment.world, &[commit(None)], "CheckerRequired");
}

/// A lease that names the indexer, and what it must be signed with.
struct Named {
    moment: Moment,
    user: Pubkey,
    container: Pubkey,
    expires: i64,
    open: Instruction,
}

impl Named {
    fn new() -> Self {
        let moment = at("3, commits");
        let (user, expires) = (moment.cast.user.key.pubkey(), moment.world.now() + 600);
        let container = addresses::container(moment.cast.provider.id, &fingerprint(7));
        let id = Some(moment.cast.indexer.id);
        let open = instructions::open_lease(&moment.world, &moment.cast.user, &container, id, lease_args(50, 600, expires));
        Self { moment, user, container, expires, open }
    }

    fn message(&self, genesis_hash: &[u8; 32]) -> Vec<u8> {
        let (user, container) = (&self.user, &self.container);
        let indexer = self.moment.cast.indexer.id;
        Match { genesis_hash, indexer, user, container, nonce: 50, expires: self.expires }.message()
    }

    fn signed(&self, message: &[u8]) -> Instruction {
        let operator = &self.moment.cast.indexer.operator;
        instructions::ed25519(&operator.pubkey().to_bytes(), operator.sign_message(message).as_ref(), message)
    }
}

/// "Ed25519 checks that leave an instruction index or offset free": the native program checks what an attacker signed, while this
/// program is shown what the indexer would have signed.
#[test]
fn the_signature_that_is_checked_is_the_one_that_is_read() {
    let named = Named::new();
    let world = &named.moment.world;
    let message = named.message(&GENESIS_HASH);
    assert_eq!(attempt(world, &[named.signed(&message), named.open.clone()]), Verdict::Done);

    let attacker = datagalax_program_tests::world::named_key("attacker");
    let (theirs, mine) = (named.moment.cast.indexer.operator.pubkey().to_bytes(), attacker.pubkey().to_bytes());
    let signature = attacker.sign_message(&message);
    // All in one instruction: the indexer's key where it is read, the attacker's behind, where the offset points.
    let here = u16::MAX;
    let shown = instructions::ed25519(&theirs, signature.as_ref(), &message);
    let end = shown.data.len() as u16;
    let with_key_at = |offset: u16, index: u16, tail: &[u8]| {
        let mut changed = shown.clone();
        changed.data[6..8].copy_from_slice(&offset.to_le_bytes());
        changed.data[8..10].copy_from_slice(&index.to_le_bytes());
        changed.data.extend(tail);
        changed
    };
    refused_as(world, &[with_key_at(end, here, &mine), named.open.clone()], "MatchMismatch");
    // In another instruction: index 1 is the attacker's own, honestly signed one (0 is the compute budget).
    let own = instructions::ed25519(&mine, signature.as_ref(), &message);
    refused_as(world, &[own.clone(), with_key_at(16, 1, &[]), named.open.clone()], "MatchMismatch");
    // No signature at all, and one that is checked after it was believed.
    let mut none = shown;
    none.data[0] = 0;
    assert!(matches!(attempt(world, &[none, named.open.clone()]), Verdict::Refused(_) | Verdict::Broken(_)));
    refused_as(world, &[named.open.clone(), named.signed(&message)], "MatchMissing");
    refused_as(world, &[own, named.open.clone()], "MatchMismatch");

    // The list of instructions is the sysvar (Sealevel class 11): not an account of one's own that tells of a signature.
    let mut forged = world.clone();
    let list = address_of(&[b"instructions of one's own"]);
    forged.put(list, address_of(&[b"somebody"]), told(&named.signed(&message)));
    let mut open = named.open.clone();
    let place = open.accounts.iter().position(|m| m.pubkey == INSTRUCTIONS).expect("the sysvar's place");
    open.accounts[place].pubkey = list;
    refused_as(&forged, &[open], "WrongAccount");
}

/// Data of an instructions sysvar that tells of one instruction before the running one.
fn told(instruction: &Instruction) -> Vec<u8> {
    let mut data = [2u16.to_le_bytes(), 6u16.to_le_bytes(), 6u16.to_le_bytes(), 0u16.to_le_bytes()].concat();
    data.extend(ED25519_ID.as_ref());
    data.extend((instruction.data.len() as u16).to_le_bytes());
    data.extend(&instruction.data);
    data.extend(1u16.to_le_bytes());
    data
}

/// "A signature message without cluster, program or epoch."
#[test]
fn a_signed_message_is_good_for_one_cluster_program_and_epoch() {
    let named = Named::new();
    let elsewhere = named.message(&[0x11; 32]);
    refused_as(&named.moment.world, &[named.signed(&elsewhere), named.open.clone()], "MatchMismatch");
    let mut other_program = named.message(&GENESIS_HASH);
    let at_program = b"datagalax:match:v1".len() + 32;
    assert_eq!(other_program[at_program..at_program + 32], datagalax::ID.to_bytes());
    other_program[at_program..at_program + 32].fill(0x22);
    refused_as(&named.moment.world, &[named.signed(&other_program), named.open.clone()], "MatchMismatch");

    // A report: the commitment of any other cluster, program, block, epoch, seat or checker is not this one's. The hash is made here
    // once more, from the protocol's words.
    let moment = at("4, tally of 3");
    let seat = moment.world.seats(4, 0)[0];
    let operator = moment.cast.checkers[seat.checker as usize].operator.clone();
    let report = Report::perfect();
    let commitment = |genesis: &[u8; 32], program: &Pubkey, block: u32, epoch: u32, number: u8, checker: u32| -> [u8; 32] {
        let mut hash =
            Sha256::new().chain_update(b"datagalax:report:v1").chain_update(program.as_ref()).chain_update(genesis);
        hash.update(block.to_le_bytes());
        hash.update(epoch.to_le_bytes());
        hash.update([number]);
        hash.update(checker.to_le_bytes());
        hash.chain_update(report.salt).chain_update(report.evidence_root).chain_update(report.values).finalize().into()
    };
    let (id, g) = (datagalax::ID, GENESIS_HASH);
    let (e, s, c) = (4, seat.seat, seat.checker);
    for (expected, hash) in [
        (None, commitment(&g, &id, 0, e, s, c)),
        (Some("another cluster"), commitment(&[1; 32], &id, 0, e, s, c)),
        (Some("another program"), commitment(&g, &address_of(&[b"fork"]), 0, e, s, c)),
        (Some("another block"), commitment(&g, &id, 1, e, s, c)),
        (Some("another epoch"), commitment(&g, &id, 0, e + 2, s, c)),
        (Some("another seat"), commitment(&g, &id, 0, e, s + 1, c)),
        (Some("another checker"), commitment(&g, &id, 0, e, s, c + 1)),
    ] {
        let mut world = moment.world.clone();
        let commit = instructions::commit_report(&operator.pubkey(), 0, Some(c), e, s, hash);
        world.must(&[commit], &[&operator]);
        world.enter(5, 1);
        let reveal = world.reveal_of(&moment.cast.checkers, seat, &report);
        match expected {
            None => assert_eq!(attempt(&world, &[reveal]), Verdict::Done),
            Some(_) => refused_as(&world, &[reveal], "CommitmentMismatch"),
        }
    }
}

/// "A reward index that advances while nothing is staked": whoever comes first to an idle network takes what the idle time
/// would have paid.
#[test]
fn idle_time_pays_nobody() {
    // Epochs 0 to 20 pass with tickets and without a container.
    let mut world = World::new();
    world.class_of(0, 100);
    let checkers: Vec<_> = (0..3).map(|_| world.checker_with(1, 0)).collect();
    let block = world.grown_block();
    let provider = world.provider_with(1_000 * ATH);
    for epoch in 0..=20 {
        world.open(epoch);
        world.check_books();
        let idle = world.epoch(epoch);
        assert_eq!((idle.rate.hi, idle.rate.lo, idle.seat_pay), (0, 0, 0), "epoch {epoch}");
    }
    // One comes in 20, is checked in 21, live from 23, and earns of 23 and 24 alone.
    world.containers(&provider, 0, block, 0, 1);
    for epoch in 21..=25 {
        world.pass(&checkers, epoch, &perfect());
    }
    assert_eq!(world.accrued(block), 2 * WHOLE);
    let paid: u64 = world.tickets().iter().map(|t| t.accrued).sum();
    assert_eq!(paid, 2 * (200 * ATH / 3 * 3), "and the seats of the same two epochs");
    // All that idle epochs reserved is free again, but for the treasury's part of it.
    let ledger = world.ledger(Vault::Rewards);
    let (running, treasury) = ([24, 25].map(|e| world.epoch(e).pool).iter().sum::<u64>(), world.network().treasury_due);
    assert_eq!(ledger.liabilities, running - world.epoch(24).credited() + 2 * (WHOLE + 200 * ATH / 3 * 3) + treasury);
}

/// "Pending rewards lost on unstake."
#[test]
fn who_leaves_keeps_what_was_earned() {
    // A container: its row's accrual goes into the provider's vesting.
    let mut moment = at("7, judged");
    let (world, id) = (&mut moment.world, moment.cast.provider.id);
    let container = world.container(id, &fingerprint(LEAVER));
    let accrued = world.block(0).rows[usize::from(container.row)].accrued;
    assert!(accrued > 0, "it earned before it left");
    let (claimed, locked) = (world.provider(id).claimed, world.provider(id).locked);
    let vacate = instructions::vacate_row(world, id, &fingerprint(LEAVER));
    world.run(vacate);
    assert_eq!(world.provider(id).claimed, claimed + accrued);
    assert_eq!(world.provider(id).locked, locked - container.locked_stake);
    world.check_books();

    // A ticket: its price waits until its pay is claimed, and the pay is there after it left the order.
    let mut moment = at("7, judged");
    let world = &mut moment.world;
    let checker = &moment.cast.checkers[0];
    let ticket = world.tickets()[0];
    assert_eq!((ticket.status, ticket.checker), (Ticket::REMOVED, checker.id));
    assert!(ticket.accrued > 0, "it sat before it left");
    world.set_time(i64::from(ticket.unlocks_at) + 1);
    let withdraw = instructions::withdraw_tickets(world, checker, &[0]);
    refused_as(world, std::slice::from_ref(&withdraw), "TicketResting");
    let (claim, before) = (instructions::claim_seat_pay(world, checker, &[0]), world.balance(&checker.to));
    world.must(&[claim, withdraw], &[]);
    assert_eq!(world.balance(&checker.to), before + ticket.accrued + ticket.price);
    world.check_books();

    // And no account that is still owed something is closed, by whomever.
    let moment = at("7, judged");
    let (world, cast) = (&moment.world, &moment.cast);
    let close = |signer: &Pubkey, account: Pubkey| instructions::close_account(signer, &account, signer);
    refused_as(world, &[close(&cast.provider.owner.pubkey(), addresses::provider(id))], "NotDone");
    refused_as(world, &[close(&cast.indexer.owner.pubkey(), addresses::indexer(cast.indexer.id))], "NotDone");
    refused_as(world, &[close(&cast.keeper, addresses::keeper(&cast.keeper))], "NotDone");
    refused_as(world, &[close(&checker.owner.pubkey(), addresses::checker(checker.id))], "NotDone");
}

/// Balances of every token account but the vaults, and what is owed to whoever judges, accuses, keeps or administers.
fn gains(world: &World) -> (BTreeMap<Pubkey, u64>, u64, u64, u64) {
    let vaults = Vault::ALL.map(addresses::vault);
    let held = |(address, account): (&Pubkey, &solana_account::AccountSharedData)| {
        let is_one = *account.owner() == TOKEN_PROGRAM && account.data().len() == 165 && !vaults.contains(address);
        is_one.then(|| (*address, world.balance(address)))
    };
    let seats = world.tickets().iter().map(|t| t.accrued).sum();
    let keepers = world.all::<datagalax::state::Keeper>().iter().map(|(_, k)| k.due).sum();
    (world.svm.accounts_db().inner.iter().filter_map(held).collect(), seats, keepers, world.network().treasury_due)
}

/// "The slasher paid from the slash."
#[test]
fn a_slash_pays_nobody_who_judges_accuses_or_administers() {
    // A breach: a third of the stake, of which the user gets an epoch's price at most.
    let mut moment = at("7, accused");
    let world = &mut moment.world;
    let lease = addresses::lease(&moment.cast.user.key.pubkey(), 4);
    let reporter = world.actor("reporter");
    let (before, container) = (gains(world), world.container(moment.cast.provider.id, &fingerprint(BREACHED)));
    let report = instructions::report_breach(world, &reporter.pubkey(), &lease, 4);
    world.must(&[report], &[&reporter]);
    assert_eq!(gains(world), before);
    let case: Case = world.read(&addresses::case(&addresses::container(0, &fingerprint(BREACHED)), 4, Case::BREACH));
    // 2 ATH an hour, a minute.
    assert_eq!((case.stake_taken, case.compensation), (container.original_locked_stake / 3, 2 * ATH / 60));
    let (sweep, stock) = (instructions::sweep_vault(world, Vault::Stake), world.ledger(Vault::Rewards).balance);
    world.run(sweep);
    assert_eq!(world.ledger(Vault::Rewards).balance, stock + case.stake_taken - case.compensation);
    assert_eq!(gains(world), before);
    world.check_books();

    // A case of dishonesty: all of it goes to the rewards vault. Whoever closes it gets what any action of a keeper's is paid, out of
    // the treasury's share, however much was taken.
    let mut moment = at("21, everything is due");
    let world = &mut moment.world;
    let address = addresses::container(moment.cast.provider.id, &fingerprint(ACCUSED));
    let (before, container) = (gains(world), world.container(moment.cast.provider.id, &fingerprint(ACCUSED)));
    let (accrued, rewards) = (world.block(0).rows[usize::from(container.row)].accrued, world.ledger(Vault::Rewards));
    let close = instructions::close_case(world, &address, 4);
    world.run(close);
    let case: Case = world.read(&addresses::case(&address, 4, Case::DISHONEST));
    assert_eq!((case.status, case.stake_taken, case.accrual_taken), (Case::UPHELD, container.locked_stake, accrued));
    assert!(case.stake_taken > 0 && accrued > 0);
    let after = gains(world);
    let fee = world.network().parameters.keeper_fee;
    assert_eq!((after.0, after.1, after.2, after.3), (before.0, before.1, before.2 + fee, before.3));
    assert_eq!(world.ledger(Vault::Rewards).liabilities, rewards.liabilities - accrued - case.grants_taken);
    world.check_books();
}

/// "A verdict of 'neutral' that pays."
#[test]
fn no_vote_pays_nothing() {
    // One seat has no opinion on anything: it is paid nothing, the others as if it were wrong, the rows all the same.
    let lazy = 1;
    let shrugs = move |at: SeatAt| {
        let report = if at.checker == lazy && at.epoch >= 3 { Report::empty() } else { Report::perfect() };
        Some(report.salted(at.epoch, at.block, at.seat))
    };
    let mut stage = Stage::new(5, 2).pass_to(3, &shrugs);
    stage.world.finish(&stage.checkers, 3, &shrugs);
    for ticket in stage.world.tickets() {
        assert_eq!(ticket.accrued, if ticket.checker == lazy { 0 } else { 40 * ATH }, "checker {}", ticket.checker);
    }
    assert_eq!(stage.world.accrued(0), WHOLE);

    // Nobody has an opinion: nobody is paid, seats and rows alike, and what was reserved goes back.
    let nobody = |at: SeatAt| {
        let report = if at.epoch >= 3 { Report::empty() } else { Report::perfect() };
        Some(report.salted(at.epoch, at.block, at.seat))
    };
    let mut stage = Stage::new(5, 2).pass_to(3, &nobody);
    stage.world.finish(&stage.checkers, 3, &nobody);
    assert_eq!((stage.world.epoch(3).credited(), stage.world.accrued(0)), (0, 0));
    assert!(stage.world.tickets().iter().all(|t| t.accrued == 0 && t.record == 0), "not marked either: nothing was judged");
    assert!(stage.world.block(0).rows[..2].iter().all(|r| r.history[3] == VOID && r.status == Row::LIVE));
    let claim = instructions::claim_rewards(&stage.provider, 0, &rows([0, 1]));
    stage.world.refused(claim, &[&stage.provider.operator.clone()], "NothingToPay");
}

/// "A queue in one account capped at 314": hundreds wait here, and each has its turn, first in first out.
#[test]
fn a_queue_has_room_for_whoever_comes() {
    let mut world = World::new();
    let whale = world.checker_with(0, 0);
    for _ in 0..4 {
        let more = instructions::register_tickets(&world, &whale, 150);
        world.must(&[more], &[&whale.owner]);
    }
    let last = world.checker_with(1, 0);
    assert_eq!(world.set().pending, 601);
    for epoch in 0..=18 {
        world.advance(epoch);
        world.churn(epoch);
        let entered = 601.min(32 * (epoch + 1));
        assert_eq!((world.set().live, world.set().pending), (entered, 601 - entered), "epoch {epoch}");
        assert!((0..entered as usize).all(|i| world.tickets()[i].order == i as u32), "in the order they came");
    }
    assert_eq!(world.tickets()[600].checker, last.id);
    // And as many leave.
    let slots: Vec<u32> = (0..600).collect();
    for some in slots.chunks(150) {
        let leave = instructions::leave_tickets(&whale, some);
        world.must(&[leave], &[&whale.owner]);
    }
    assert_eq!(world.set().leaving, 600);
    world.check_books();
}

/// Whether a line of code names a floating-point type or number. In texts, dots may stand between digits.
fn floats(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    let is_number = |w: &[u8]| w[0].is_ascii_digit() && w[1] == b'.' && w[2].is_ascii_digit();
    let number = !code.contains('"') && code.as_bytes().windows(3).any(is_number);
    number || words.any(|w| ["f32", "f64"].iter().any(|float| w.ends_with(float) && !w.starts_with("0x")))
}

/// "f64 on chain": validators that round differently fork, and amounts above 2^53 are no integers any more.
#[test]
fn nothing_on_chain_floats() {
    assert!(["let x = 1.5;", "amount as f64", "fn f(x: f32)", "1f64"].into_iter().all(floats));
    assert!(!["x // 1.5", "0..10", "0x1f64", "pair.0", "a u64"].into_iter().any(floats));
    let mut files = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../programs/datagalax/src")];
    let mut read = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(&path).expect("a folder").map(|e| e.expect("an entry").path()));
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source");
        // Tests run on the host.
        let (program, _) = text.split_once("#[cfg(test)]\nmod tests").unwrap_or((&text, ""));
        for (n, line) in program.lines().enumerate() {
            assert!(!floats(line), "{}:{}: {line}", path.display(), n + 1);
        }
        read += 1;
    }
    assert!(read > 80, "{read} files were read");
}
