//! `leave_tickets`, and `churn` with its three queues.

use datagalax::{
    constants::{CHURN_LIMIT, NONE},
    state::{Epoch, Parameters, Ticket},
};
use datagalax_program_tests::{
    Checker, Settings, World, addresses,
    epochs::SeatAt,
    instructions,
    refusals::Call,
    send::compute_budget,
    settings::{ATH, parameters},
    stage::{Stage, perfect},
};
use solana_signer::Signer;

use crate::court::{PRICE, patch_ticket};

/// Twenty ones less one.
const NINETEEN: u64 = (1 << 19) - 1;

#[track_caller]
fn leave(world: &mut World, checker: &Checker, slots: &[u32]) {
    let instruction = instructions::leave_tickets(checker, slots);
    world.must(&[instruction], &[&checker.owner]);
    world.check_books();
}

#[track_caller]
fn buy(world: &mut World, checker: &Checker, count: u16) {
    let instruction = instructions::register_tickets(world, checker, count);
    world.must(&[instruction], &[&checker.owner]);
}

fn order(world: &World) -> Vec<u32> {
    let live = world.set().live as usize;
    world.tickets()[..live].iter().map(|t| t.order).collect()
}

fn statuses(world: &World, slots: impl IntoIterator<Item = u32>) -> Vec<u8> {
    let tickets = world.tickets();
    slots.into_iter().map(|s| tickets[s as usize].status).collect()
}

/// One checker's tickets, all in the order, in epoch 0 before its draw.
fn seated(count: u16) -> (World, Checker) {
    let mut world = World::new();
    let checker = world.checker_with(count, 0);
    world.advance(0);
    world.churn(0);
    (world, checker)
}

#[test]
fn a_seated_ticket_stays_until_the_boundary() {
    let (mut world, checker) = seated(6);
    world.draw(0);
    leave(&mut world, &checker, &[1, 3]);
    let tickets = world.tickets();
    assert_eq!(statuses(&world, 0..6), [2, 3, 2, 3, 2, 2]);
    assert_eq!((order(&world), world.set().leaving), (vec![0, 1, 2, 3, 4, 5], 2));
    assert_eq!((tickets[1].next, tickets[3].next), (3, NONE));
    // The time in force when it asked: 720 s.
    assert!([1, 3].iter().all(|s| i64::from(tickets[*s].unlocks_at) == world.now() + 720));
    assert_eq!((world.checker(0).tickets, world.checker(0).staked), (6, 6 * PRICE), "the stake stays");

    world.advance(1);
    assert_eq!((world.epoch(1).leavers, world.epoch(1).retirements, world.epoch(1).entrants), (2, 0, 0));
    world.wait_until(world.start_of(1) + 6);
    world.refused(instructions::draw(1), &[], "ChurnPending");
    // A pause stops no churn.
    world.set_paused(true);
    world.churn(1);
    world.set_paused(false);
    world.check_books();
    // The last one's place closes each gap.
    assert_eq!(order(&world), [0, 5, 2, 4]);
    let gone = world.tickets()[1];
    assert_eq!((gone.status, gone.position, gone.removed, gone.price), (Ticket::REMOVED, NONE, 1, PRICE));
    world.draw(1);
    assert_eq!(world.epoch(1).tickets, 4);
}

#[test]
fn one_that_waits_is_dropped_when_its_turn_comes() {
    let (mut world, checker) = seated(3);
    buy(&mut world, &checker, 3);
    leave(&mut world, &checker, &[4]);
    assert_eq!(
        (statuses(&world, 3..6), world.set().pending),
        (vec![Ticket::WAITING; 3], 3),
        "it keeps its place in the queue"
    );
    world.draw(0);
    world.advance(1);
    world.churn(1);
    world.check_books();
    assert_eq!(order(&world), [0, 1, 2, 3, 5]);
    let dropped = world.tickets()[4];
    assert_eq!((dropped.status, dropped.removed, dropped.position, world.epoch(1).churned), (Ticket::REMOVED, 1, NONE, 3));
}

/// Attack: let a ticket's turn come, and drop it once the seed of both orders can be told.
#[test]
fn one_that_asks_after_the_advance_enters_first() {
    let (mut world, checker) = seated(3);
    buy(&mut world, &checker, 2);
    world.draw(0);
    world.advance(1);
    world.wait_until(world.start_of(1) + 6);
    leave(&mut world, &checker, &[3]);
    world.churn(1);
    world.check_books();
    assert_eq!((order(&world), statuses(&world, [3, 4])), (vec![0, 1, 2, 3, 4], vec![Ticket::LEAVING, Ticket::LIVE]));
    assert_eq!(world.tickets()[3].removed, NONE);
    world.draw(1);
    world.advance(2);
    world.churn(2);
    assert_eq!((order(&world), statuses(&world, [3])), (vec![0, 1, 2, 4], vec![Ticket::REMOVED]));
    world.check_books();
}

#[test]
fn retirements_then_leavers_then_entrants_and_32_in_all() {
    // 40 tickets of one checker and 20 of another that waits; one of the first is to be retired.
    let mut stage = Stage::new(3, 1);
    let first = stage.checkers[0].clone();
    buy(&mut stage.world, &first, 40);
    for epoch in 1..=3 {
        stage.pass(epoch, &perfect());
    }
    assert_eq!(stage.world.set().live, 43, "32 at the first boundary, eight at the second");
    let bad = stage.world.seats(3, 0)[0];
    patch_ticket(&mut stage.world, bad.slot, |t| t.record = NINETEEN);
    let silent = move |at: SeatAt| if (at.epoch, at.seat) == (3, bad.seat) { None } else { perfect()(at) };
    let slots: Vec<u32> = (3..43).filter(|s| *s != bad.slot).take(20).collect();
    stage.pass(4, &silent);
    assert_eq!((stage.world.set().retiring, statuses(&stage.world, [bad.slot])), (1, vec![Ticket::RETIRING]));
    leave(&mut stage.world, &first, &slots);
    let late = stage.world.checker_with(20, 0);

    stage.world.open(5);
    let epoch = stage.world.epoch(5);
    assert_eq!((epoch.retirements, epoch.leavers, epoch.entrants, epoch.churned), (1, 20, 20, CHURN_LIMIT));
    assert_eq!((epoch.tickets, stage.world.set().pending), (43 - 21 + 11, 9));
    assert_eq!(statuses(&stage.world, [bad.slot]), [Ticket::RETIRED]);
    assert!(statuses(&stage.world, slots).iter().all(|s| *s == Ticket::REMOVED));
    // First in, first out.
    let entered: Vec<u32> = order(&stage.world).into_iter().filter(|s| *s >= 43).collect();
    assert_eq!(entered, (43..54).collect::<Vec<_>>());
    assert_eq!(stage.world.tickets()[43].checker, late.id);
    stage.world.check_books();
    stage.world.open(6);
    assert_eq!((stage.world.epoch(6).tickets, stage.world.set().pending, stage.world.epoch(6).churned), (42, 0, 9));
    stage.world.check_books();
}

#[test]
fn leavers_that_find_no_room_go_at_the_next_boundary() {
    let (mut world, checker) = seated(32);
    buy(&mut world, &checker, 8);
    world.draw(0);
    world.advance(1);
    world.churn(1);
    leave(&mut world, &checker, &(0..35).collect::<Vec<_>>());
    world.draw(1);
    world.advance(2);
    world.churn(2);
    assert_eq!((world.set().live, world.set().leaving, world.epoch(2).churned), (8, 3, CHURN_LIMIT));
    world.refused(instructions::churn(2), &[], "NothingToChurn");
    world.draw(2);
    assert_eq!(world.epoch(2).tickets, 8, "those that wait still sit");
    world.advance(3);
    world.churn(3);
    assert_eq!((world.set().live, world.set().leaving), (5, 0));
    world.check_books();
}

/// What somebody does once the draw slot has passed, when the seed of every n can be told.
type Attack = fn(&mut Stage);

/// Attack: with a sum of tickets in all three queues, choose n after the seed can be told.
#[test]
fn nobody_who_can_tell_the_seed_changes_n() {
    // Tallies may begin before the draw is over.
    let parameters = Parameters { reveal_window: 5, ..parameters() };
    let mut stage = Stage::of(Settings { parameters, ..Settings::default() }, 12, 1);
    let (first, second) = (stage.checkers[0].clone(), stage.checkers[1].clone());
    buy(&mut stage.world, &first, 4);
    for epoch in 1..=3 {
        stage.pass(epoch, &perfect());
    }
    let bad = stage.world.seats(3, 0)[1];
    patch_ticket(&mut stage.world, bad.slot, |t| t.record = NINETEEN);
    leave(&mut stage.world, &first, &[0, 12]);
    buy(&mut stage.world, &second, 3);
    let silent = move |at: SeatAt| if at == bad { None } else { perfect()(at) };
    stage.world.reveal_all(&stage.checkers.clone(), 3, &silent);
    stage.world.advance(4);
    stage.world.wait_until(stage.world.start_of(4) + 6);
    assert!(stage.world.slot() > stage.world.epoch(4).draw_slot, "anybody can tell the seed of every n");

    let drawn = |attack: Attack, early: bool| -> (u32, [u8; 32], Vec<u32>, Vec<SeatAt>) {
        let mut stage = stage.clone();
        if early {
            attack(&mut stage);
            stage.world.churn(4);
        } else {
            stage.world.churn(4);
            attack(&mut stage);
        }
        stage.world.draw(4);
        stage.world.seat(4, 0);
        stage.world.check_books();
        let epoch: Epoch = stage.world.epoch(4);
        (epoch.tickets, epoch.seed, order(&stage.world), stage.world.seats(4, 0))
    };
    let untouched = drawn(|_| {}, true);
    assert_eq!(untouched.0, 16 - 2 + 3);
    let attacks: [(&str, Attack); 5] = [
        ("seated ones ask to leave", |s| {
            let own = s.checkers[0].clone();
            leave(&mut s.world, &own, &[13, 14, 15]);
        }),
        ("an entrant asks to leave", |s| {
            let own = s.checkers[1].clone();
            leave(&mut s.world, &own, &[17]);
        }),
        ("all entrants ask to leave", |s| {
            let own = s.checkers[1].clone();
            leave(&mut s.world, &own, &[18, 16, 17]);
        }),
        ("more are bought", |s| {
            let own = s.checkers[2].clone();
            buy(&mut s.world, &own, 9);
        }),
        ("a record becomes too bad to stay", |s| {
            let tally = instructions::tally_block(&s.world, 3, 0, 256);
            s.world.must(&[compute_budget(1_400_000)[0].clone(), tally], &[]);
            assert_eq!(s.world.set().retiring, 1);
        }),
    ];
    for (what, attack) in attacks {
        for early in [true, false] {
            assert_eq!(drawn(attack, early), untouched, "{what}, before the churn: {early}");
        }
    }
}

#[test]
fn a_removed_ticket_takes_the_pay_and_the_marks_of_its_last_epochs() {
    let mut stage = Stage::new(6, 1).pass_to(3, &perfect());
    let seats = stage.world.seats(3, 0);
    let (good, silent) = (seats[0], seats[1]);
    for at in [good, silent] {
        let checker = stage.checkers[at.checker as usize].clone();
        leave(&mut stage.world, &checker, &[at.slot]);
    }
    let votes = move |at: SeatAt| if at == silent { None } else { perfect()(at) };
    stage.world.reveal_all(&stage.checkers.clone(), 3, &votes);
    stage.world.open(4);
    assert_eq!((stage.world.set().live, statuses(&stage.world, [good.slot])), (4, vec![Ticket::REMOVED]));
    assert!(stage.world.seats(4, 0).iter().all(|at| ![good.slot, silent.slot].contains(&at.slot)));
    stage.world.tally_all(3);
    stage.world.check_books();
    let tickets = stage.world.tickets();
    assert_eq!((tickets[good.slot as usize].accrued, tickets[good.slot as usize].record & 1), (40 * ATH, 0));
    assert_eq!((tickets[silent.slot as usize].accrued, tickets[silent.slot as usize].record & 1), (0, 1));
}

#[test]
fn leave_tickets_refuses() {
    let (mut world, checker) = seated(4);
    let other = world.checker_with(1, 0);
    world.draw(0);
    let owner = &checker.owner;
    let with = |slots: &[u32]| instructions::leave_tickets(&checker, slots);
    world.refused(with(&[]), &[owner], "BadTicketCount");
    world.refused(with(&(0..151).collect::<Vec<_>>()), &[owner], "BadTicketCount");
    let mut odd = with(&[0]);
    let length = odd.data.len();
    // A length of 3 bytes behind the instruction's number, and the bytes.
    odd.data.truncate(length - 1);
    odd.data[length - 8..length - 4].copy_from_slice(&3u32.to_le_bytes());
    world.refused(odd, &[owner], "BadTicketCount");
    world.refused(with(&[4]), &[owner], "NotYourTicket");
    world.refused(with(&[0, 4]), &[owner], "NotYourTicket");
    world.refused(with(&[99]), &[owner], "NotYourTicket");
    world.refused(with(&[u32::MAX]), &[owner], "NotYourTicket");
    world.refused(with(&[2, 2]), &[owner], "AlreadyLeaving");
    // Another's, with that one's signature or with one's own.
    let mut wrong = with(&[0]);
    wrong.accounts[2].pubkey = addresses::checker(other.id);
    world.refused(wrong, &[owner], "Unauthorized");
    let mut wrong = with(&[0]);
    wrong.accounts[0].pubkey = checker.operator.pubkey();
    world.refused(wrong, &[&checker.operator], "Unauthorized");

    let mut gone = world.clone();
    leave(&mut gone, &checker, &[0]);
    gone.refused(with(&[0]), &[owner], "AlreadyLeaving");
    gone.advance(1);
    gone.churn(1);
    gone.refused(with(&[0]), &[owner], "AlreadyLeaving");
    patch_ticket(&mut gone, 1, |t| t.status = Ticket::RETIRING);
    gone.refused(with(&[1]), &[owner], "TicketNotInOrder");
    // Before 2106 a time fits 32 bits; later nothing wraps.
    let mut later = world.clone();
    later.set_time(i64::from(u32::MAX) - 719);
    later.refused(with(&[0]), &[owner], "Overflow");
    later.set_time(i64::from(u32::MAX) - 720);
    later.must(&[with(&[0])], &[owner]);

    // A pause keeps nobody in.
    let mut paused = world.clone();
    paused.set_paused(true);
    paused.must(&[with(&[0, 1, 2, 3])], &[owner]);
    Call::new(world, with(&[3, 0]), &[owner]).check();
}

#[test]
fn the_most_slots_of_a_call_leave_together() {
    let mut world = World::new();
    let checker = world.checker_with(150, 0);
    let slots: Vec<u32> = (0..150).rev().collect();
    leave(&mut world, &checker, &slots);
    for epoch in 1..=5 {
        world.advance(epoch);
        world.churn(epoch);
        world.check_books();
    }
    assert_eq!((world.set().live, world.set().pending), (0, 0));
    assert!(world.tickets().iter().all(|t| t.status == Ticket::REMOVED));
}

#[test]
fn churn_of_three_queues_refuses() {
    let mut stage = Stage::new(10, 1).pass_to(3, &perfect());
    let first = stage.checkers[0].clone();
    leave(&mut stage.world, &first, &[0]);
    buy(&mut stage.world, &first, 1);
    stage.world.advance(4);
    Call::new(stage.world.clone(), instructions::churn(4), &[]).check();
    stage.world.refused(instructions::churn(3), &[], "CurrentEpochRequired");
    stage.world.churn(4);
    stage.world.refused(instructions::churn(4), &[], "NothingToChurn");
    stage.world.draw(4);
    stage.world.refused(instructions::churn(4), &[], "AlreadyDrawn");
}
