//! Retirement: twenty ones among a record's 64.

use datagalax::state::Ticket;
use datagalax_program_tests::{
    World,
    addresses::Vault,
    epochs::SeatAt,
    instructions,
    settings::ATH,
    stage::{Stage, perfect},
};

use crate::court::{PRICE, pass_to, patch_ticket};

const NINETEEN: u64 = (1 << 19) - 1;

fn ticket(world: &World, slot: u32) -> Ticket {
    world.tickets()[slot as usize]
}

/// In epoch 3 with so many tickets; the first seat's record holds `record`, and it stays silent from 3 on.
fn disgraced(tickets: u32, record: u64) -> (Stage, SeatAt) {
    let mut stage = Stage::new(tickets, 1).pass_to(3, &perfect());
    let at = stage.world.seats(3, 0)[0];
    patch_ticket(&mut stage.world, at.slot, |t| t.record = record);
    (stage, at)
}

fn silent(slot: u32, from: u32) -> impl Fn(SeatAt) -> Option<datagalax_program_tests::Report> {
    move |at| if at.slot == slot && at.epoch >= from { None } else { perfect()(at) }
}

#[test]
fn a_checker_that_never_reports_is_out_after_twenty_epochs_with_a_seat() {
    let mut stage = Stage::new(9, 1);
    let votes = silent(4, 0);
    let (mut seated, mut epoch) = (0, 0);
    while stage.world.set().retiring == 0 {
        epoch += 1;
        assert!(epoch < 60, "five seats for nine tickets: twenty come within some 36 epochs");
        stage.pass(epoch, &votes);
        // The tally of the epoch before was in this one.
        seated += u32::from(stage.world.seats(epoch - 1, 0).iter().any(|at| at.slot == 4));
        assert_eq!(ticket(&stage.world, 4).record, (1u64 << seated) - 1, "epochs without a seat leave no bit");
    }
    assert_eq!((seated, ticket(&stage.world, 4).status, stage.world.set().live), (20, Ticket::RETIRING, 9));
    let marked: u32 = (0..9).filter(|s| *s != 4).map(|s| ticket(&stage.world, s).record.count_ones()).sum();
    assert_eq!(marked, 0, "nobody else");
    stage.pass(epoch + 1, &votes);
    let out = ticket(&stage.world, 4);
    assert_eq!((out.status, out.removed, stage.world.epoch(epoch + 1).tickets), (Ticket::RETIRED, epoch + 1, 8));
    // Its time to wait begins with the retirement: the churn is a second into the epoch.
    assert_eq!(i64::from(out.unlocks_at), stage.world.start_of(epoch + 1) + 1 + 720);

    stage.world.set_time(i64::from(out.unlocks_at) - 1);
    let withdraw = instructions::withdraw_tickets(&stage.world, &stage.checkers[4], &[4]);
    stage.world.refused(withdraw.clone(), &[], "TicketResting");
    stage.world.set_time(i64::from(out.unlocks_at));
    stage.world.run(withdraw);
    assert_eq!(stage.world.balance(&stage.checkers[4].to), PRICE - PRICE / 10);
    let ledger = stage.world.ledger(Vault::Stake);
    assert_eq!(ledger.balance - ledger.liabilities, 10 * ATH);
    assert_eq!(stage.world.checker(4).retired, 1);
    stage.world.check_books();
}

#[test]
fn nineteen_do_not_and_twenty_do_wherever_they_are_among_the_64() {
    // The next bit pushes the oldest out: with it 19 are left, or 20.
    let oldest = 1 << 63;
    for (record, retires) in
        [(NINETEEN >> 1, false), (NINETEEN, true), (NINETEEN >> 1 | oldest, false), (NINETEEN << 43, true)]
    {
        let (mut stage, at) = disgraced(9, record);
        stage.pass(4, &silent(at.slot, 3));
        let now = ticket(&stage.world, at.slot);
        assert_eq!(now.record, record << 1 | 1);
        assert_eq!(now.status == Ticket::RETIRING, retires, "{record:b}");
        stage.pass(5, &silent(at.slot, 3));
        assert_eq!(ticket(&stage.world, at.slot).status == Ticket::RETIRED, retires);
        stage.world.check_books();
    }
}

#[test]
fn nobody_is_retired_while_eight_tickets_or_fewer_are_left() {
    let (mut stage, at) = disgraced(8, NINETEEN);
    let votes = silent(at.slot, 3);
    stage.pass(4, &votes);
    assert_eq!(stage.world.set().retiring, 1);
    stage.world.reveal_all(&stage.checkers.clone(), 4, &votes);
    stage.world.open(5);
    let back = ticket(&stage.world, at.slot);
    assert_eq!((back.status, stage.world.set().live, stage.world.set().retiring), (Ticket::LIVE, 8, 0));
    assert!(back.is_disgraced(), "its record stays");
    stage.world.check_books();
    // And queues it again with the next mark, once there are more.
    stage.world.tally_all(4);
    stage.world.commit_all(&stage.checkers.clone(), 5, &votes);
    let more = stage.world.checker_with(3, 0);
    stage.checkers.push(more);
    let mut epoch = 5;
    while ticket(&stage.world, at.slot).status != Ticket::RETIRED {
        epoch += 1;
        assert!(epoch < 30, "it has a seat every other epoch");
        stage.pass(epoch, &votes);
    }
    assert_eq!(stage.world.set().live, 10);
    stage.world.check_books();
}

#[test]
fn two_bad_records_and_nine_tickets_one_stays() {
    let mut stage = Stage::new(9, 1).pass_to(3, &perfect());
    let seats = stage.world.seats(3, 0);
    for at in &seats[..2] {
        patch_ticket(&mut stage.world, at.slot, |t| t.record = NINETEEN);
    }
    let slots = [seats[0].slot, seats[1].slot];
    let votes = move |at: SeatAt| if slots.contains(&at.slot) && at.epoch >= 3 { None } else { perfect()(at) };
    stage.pass(4, &votes);
    assert_eq!(stage.world.set().retiring, 2);
    stage.pass(5, &votes);
    assert_eq!(stage.world.set().live, 8);
    let states = slots.map(|s| ticket(&stage.world, s).status);
    assert_eq!(states.iter().filter(|s| **s == Ticket::RETIRED).count(), 1);
}

/// Attack: leave before the boundary at which the record retires the ticket, and take the whole price along.
#[test]
fn leaving_does_not_escape_it() {
    let (mut stage, at) = disgraced(10, NINETEEN);
    let (holder, checkers) = (stage.checkers[at.checker as usize].clone(), stage.checkers.clone());
    let leave = instructions::leave_tickets(&holder, &[at.slot]);
    let votes = silent(at.slot, 3);
    stage.world.reveal_all(&checkers, 3, &votes);

    // It asks, the twentieth mark comes, then the boundary.
    let mut asked = stage.clone();
    asked.world.open(4);
    asked.world.must(std::slice::from_ref(&leave), &[&holder.owner]);
    asked.world.tally_all(3);
    assert_eq!(ticket(&asked.world, at.slot).status, Ticket::LEAVING);
    asked.world.open(5);
    assert_eq!(ticket(&asked.world, at.slot).status, Ticket::RETIRED);
    asked.world.check_books();

    // The mark comes first: it is queued already.
    let mut marked = stage.clone();
    marked.world.open(4);
    marked.world.tally_all(3);
    marked.world.refused(leave.clone(), &[&holder.owner], "TicketNotInOrder");

    // It asks, is out of the order, and only then its last epoch is tallied.
    stage.world.must(&[leave], &[&holder.owner]);
    stage.world.open(4);
    assert_eq!(ticket(&stage.world, at.slot).status, Ticket::REMOVED);
    stage.world.tally_all(3);
    assert_eq!((ticket(&stage.world, at.slot).status, stage.world.set().live), (Ticket::RETIRED, 9));
    stage.world.check_books();
    stage.world.set_time(stage.world.start_of(30));
    let pay = instructions::claim_seat_pay(&stage.world, &holder, &[at.slot]);
    if ticket(&stage.world, at.slot).accrued > 0 {
        stage.world.run(pay);
    }
    let before = stage.world.balance(&holder.to);
    let withdraw = instructions::withdraw_tickets(&stage.world, &holder, &[at.slot]);
    stage.world.run(withdraw);
    assert_eq!(stage.world.balance(&holder.to) - before, PRICE - PRICE / 10);
    stage.world.check_books();
}

#[test]
fn leaving_a_network_of_eight_costs_nothing() {
    let (mut stage, at) = disgraced(8, NINETEEN);
    let holder = stage.checkers[at.checker as usize].clone();
    let leave = instructions::leave_tickets(&holder, &[at.slot]);
    stage.world.must(&[leave], &[&holder.owner]);
    pass_to(&mut stage, 5, &silent(at.slot, 3));
    assert_eq!((ticket(&stage.world, at.slot).status, stage.world.set().live), (Ticket::REMOVED, 7));
}
