//! `register_checker`, `register_tickets`, `churn`.

use datagalax::{
    constants::{CHURN_LIMIT, MAX_TICKETS, MAX_TICKETS_PER_CALL, NONE},
    state::{CheckerSetHeader, Network, Ticket},
};
use datagalax_program_tests::{
    Settings, World,
    accounts::TICKETS_OFFSET,
    actors::PURSE,
    addresses::{self, Vault},
    instructions,
    settings::{ATH, parameters},
    tokens::MintData,
    world::address_of,
};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use datagalax_program_tests::refusals::Call;

const PRICE: u64 = 100 * ATH;

#[test]
fn register_checker_names_its_keys_and_takes_the_next_id() {
    let mut world = World::new();
    for (id, commission) in [(0, 0), (1, 10_000)] {
        let checker = world.checker_with(0, commission);
        let account = world.checker(id);
        assert_eq!((checker.id, account.id, account.commission_bps), (id, id, commission));
        assert_eq!((account.owner, account.operator), (checker.owner.pubkey(), checker.operator.pubkey()));
        assert_eq!((account.payout, account.tickets, account.staked), (checker.payout, 0, 0));
    }
    world.check_books();
}

#[test]
fn register_checker_refuses() {
    let mut world = World::new();
    world.checker_with(0, 0);
    let to_be = world.checker_to_be(0);
    let (owner, operator) = (to_be.owner.pubkey(), to_be.operator.pubkey());
    let register = |id, operator: &Pubkey, bps| instructions::register_checker(&owner, id, operator, &to_be.payout, bps);
    world.refused(register(2, &operator, 0), &[&to_be.owner], "InvalidSeeds");
    world.refused(register(0, &operator, 0), &[&to_be.owner], "InvalidSeeds");
    world.refused(register(1, &operator, 10_001), &[&to_be.owner], "ParameterOutOfBounds");
    world.refused(register(1, &Pubkey::default(), 0), &[&to_be.owner], "ParameterOutOfBounds");
    world.set_paused(true);
    world.refused(register(1, &operator, 0), &[&to_be.owner], "Paused");
    world.set_paused(false);
    let mut last = world.clone();
    last.patch_as::<Network>(&addresses::network(), |n| n.checkers = NONE - 1);
    last.refused(register(NONE - 1, &operator, 0), &[&to_be.owner], "Overflow");
    Call::new(world, register(1, &operator, 10_000), &[&to_be.owner]).check();
}

#[test]
fn register_tickets_stakes_and_queues() {
    let mut world = World::new();
    let first = world.checker_with(2, 0);
    let second = world.checker_with(1, 0);
    let more = instructions::register_tickets(&world, &first, 1);
    world.must(&[more], &[&first.owner]);
    let tickets = world.tickets();
    assert_eq!(tickets.iter().map(|t| t.checker).collect::<Vec<_>>(), [0, 0, 1, 0]);
    assert_eq!(tickets.iter().map(|t| t.next).collect::<Vec<_>>(), [1, 2, 3, NONE]);
    assert!(tickets.iter().all(|t| t.status == Ticket::WAITING && t.position == NONE && t.accrued == 0 && t.record == 0));
    assert!(tickets.iter().all(|t| t.price == PRICE && t.unlocks_at == 0 && t.removed == NONE && t.refuted == NONE));
    let set = world.set();
    assert_eq!((set.live, set.pending, set.pending_head, set.pending_tail), (0, 4, 0, 3));
    assert_eq!((world.checker(0).tickets, world.checker(0).staked), (3, 3 * PRICE));
    assert_eq!((world.checker(1).tickets, world.balance(&second.from)), (1, PURSE - PRICE));
    let account = world.account(&addresses::checker_set());
    assert!(account.lamports >= world.svm.minimum_balance_for_rent_exemption(account.data.len()), "rent-exempt");
    world.check_books();
}

#[test]
fn register_tickets_refuses() {
    let mut world = World::new();
    let checker = world.checker_with(1, 0);
    let other = world.checker_with(0, 0);
    for count in [0, MAX_TICKETS_PER_CALL + 1, u16::MAX] {
        let instruction = instructions::register_tickets(&world, &checker, count);
        world.refused(instruction, &[&checker.owner], "BadTicketCount");
    }
    let valid = instructions::register_tickets(&world, &checker, 2);
    let mut wrong = valid.clone();
    wrong.accounts[2].pubkey = addresses::checker(other.id);
    world.refused(wrong, &[&checker.owner], "Unauthorized");
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = checker.operator.pubkey();
    world.refused(wrong, &[&checker.operator], "Unauthorized");
    let mut wrong = valid.clone();
    wrong.accounts[6].pubkey = addresses::ledger(Vault::Rewards);
    wrong.accounts[7].pubkey = addresses::vault(Vault::Rewards);
    world.refused(wrong, &[&checker.owner], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[7].pubkey = addresses::vault(Vault::Rewards);
    world.refused(wrong, &[&checker.owner], "WrongAccount");
    let mint = address_of(&[b"other mint"]);
    world.put_mint(mint, MintData::default());
    let mut wrong = valid.clone();
    wrong.accounts[5].pubkey = mint;
    world.refused(wrong, &[&checker.owner], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[4].pubkey = other.from;
    assert!(world.send(&[wrong], &[&checker.owner]).is_err(), "another's tokens");
    world.set_paused(true);
    world.refused(valid.clone(), &[&checker.owner], "Paused");
    world.set_paused(false);

    // One who cannot pay.
    let mut poor = world.clone();
    poor.patch(&checker.from, |data| data[64..72].copy_from_slice(&(2 * PRICE - 1).to_le_bytes()));
    poor.refused(valid.clone(), &[&checker.owner], "InsufficientFunds");
    // A price that overflows.
    let mut dear = world.clone();
    dear.patch_as::<Network>(&addresses::network(), |n| n.parameters.ticket_price = u64::MAX / 2 + 1);
    dear.refused(valid.clone(), &[&checker.owner], "Overflow");
    Call::new(world, valid, &[&checker.owner]).check();
}

#[test]
fn the_most_tickets_of_a_call_fit() {
    let mut world = World::new();
    let checker = world.checker_with(MAX_TICKETS_PER_CALL, 0);
    let before = world.account(&addresses::checker_set()).data.len();
    let more = instructions::register_tickets(&world, &checker, MAX_TICKETS_PER_CALL);
    world.must(&[more], &[&checker.owner]);
    assert_eq!((world.tickets().len(), world.set().pending), (300, 300));
    // The runtime lets an account grow by 10,240 bytes in one instruction.
    let grown = world.account(&addresses::checker_set()).data.len() - before;
    assert_eq!(grown, 150 * size_of::<Ticket>());
    assert!(grown <= datagalax::constants::GROWTH_STEP);
    world.check_books();
}

#[test]
fn the_set_has_a_bound() {
    let mut world = World::new();
    let checker = world.checker_with(1, 0);
    // As if the set held all but one of its tickets.
    let mut account = world.account(&addresses::checker_set());
    account.data.resize(TICKETS_OFFSET + size_of::<Ticket>() * (MAX_TICKETS as usize - 1), 0);
    account.lamports = world.svm.minimum_balance_for_rent_exemption(account.data.len());
    world.put_account(addresses::checker_set(), account);
    world.patch_as::<CheckerSetHeader>(&addresses::checker_set(), |set| set.slots = MAX_TICKETS - 1);
    let two = instructions::register_tickets(&world, &checker, 2);
    world.refused(two, &[&checker.owner], "BadTicketCount");
    let one = instructions::register_tickets(&world, &checker, 1);
    world.must(&[one], &[&checker.owner]);
    assert_eq!(world.tickets().len(), MAX_TICKETS as usize);
    let another = instructions::register_tickets(&world, &checker, 1);
    world.refused(another, &[&checker.owner], "BadTicketCount");
}

#[test]
fn churn_lets_tickets_in_first_in_first_out() {
    let mut world = World::new();
    world.checker_with(2, 0);
    world.checker_with(1, 0);
    world.advance(0);
    world.run(instructions::churn(0));
    let set = world.set();
    assert_eq!((set.live, set.pending, set.pending_head, set.pending_tail), (3, 0, NONE, NONE));
    assert_eq!(world.tickets().iter().map(|t| t.order).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(world.epoch(0).churned, 3);
    world.check_books();
    // More arrive after the advance: they wait for the next boundary.
    world.checker_with(1, 0);
    world.draw(0);
    assert_eq!(world.epoch(0).tickets, 3);
    world.checker_with(2, 0);
    world.advance(1);
    world.run(instructions::churn(1));
    assert_eq!((world.set().live, world.epoch(0).churned, world.epoch(1).churned), (6, 3, 3));
    world.check_books();
}

/// Once the draw slot has passed anybody can tell the seed of every n. Who could still enter then would choose n; who could
/// make the draw wait for newcomers could hold it up until the epoch is void.
#[test]
fn nobody_who_came_after_the_advance_changes_the_draw() {
    let mut world = World::new();
    world.checker_with(3, 0);
    world.advance(0);
    world.run(instructions::churn(0));
    world.wait_until(world.start_of(0) + 6);
    world.checker_with(2, 0);
    world.refused(instructions::churn(0), &[], "NothingToChurn");
    world.draw(0);
    assert_eq!((world.epoch(0).tickets, world.set().live, world.set().pending), (3, 3, 2));
    world.check_books();
}

#[test]
fn a_boundary_moves_at_most_its_limit() {
    let mut world = World::new();
    world.checker_with(40, 0);
    world.advance(0);
    world.wait_until(world.start_of(0) + 6);
    world.refused(instructions::draw(0), &[], "ChurnPending");
    world.run(instructions::churn(0));
    assert_eq!((world.set().live, world.set().pending, world.epoch(0).churned), (CHURN_LIMIT, 8, CHURN_LIMIT));
    world.check_books();
    world.refused(instructions::churn(0), &[], "NothingToChurn");
    // The rest waits for the next boundary, and does not hold up this one's draw.
    world.draw(0);
    assert_eq!(world.epoch(0).tickets, CHURN_LIMIT);
    world.advance(1);
    world.run(instructions::churn(1));
    assert_eq!((world.set().live, world.set().pending), (40, 0));
    world.check_books();
}

#[test]
fn churn_refuses() {
    let mut world = World::new();
    world.provider_with(0);
    world.class_of(0, 1);
    world.advance(0);
    world.refused(instructions::churn(0), &[], "NothingToChurn");
    world.checker_with(1, 0);
    world.advance(1);
    let valid = instructions::churn(1);
    Call::new(world.clone(), valid.clone(), &[]).check();
    world.run(valid.clone());
    world.draw(1);
    world.checker_with(1, 0);
    world.refused(valid.clone(), &[], "AlreadyDrawn");
    world.advance(2);
    world.refused(valid, &[], "CurrentEpochRequired");
    // A pause stops no churn.
    world.set_paused(true);
    world.run(instructions::churn(2));
}

#[test]
fn tickets_keep_the_price_they_were_bought_at() {
    let settings =
        Settings { parameters: datagalax::state::Parameters { ticket_price: 7, ..parameters() }, ..Settings::default() };
    let mut world = World::with(settings);
    let checker = world.checker_with(3, 0);
    world.patch_as::<Network>(&addresses::network(), |n| n.parameters.ticket_price = 11);
    let more = instructions::register_tickets(&world, &checker, 1);
    world.must(&[more], &[&checker.owner]);
    assert_eq!(world.checker(0).staked, 3 * 7 + 11);
    assert_eq!(world.tickets().iter().map(|t| t.price).collect::<Vec<_>>(), [7, 7, 7, 11]);
    world.check_books();
}
