//! `withdraw_tickets`, and what becomes of the slots.

use datagalax::{
    constants::NONE,
    state::{Network, Ticket},
};
use datagalax_program_tests::{
    Checker, World,
    addresses::{self, Vault},
    epochs::SeatAt,
    instructions,
    refusals::Call,
    settings::ATH,
    stage::{Stage, perfect},
};
use solana_instruction::Instruction;
use solana_signer::Signer;

use crate::court::{CONDEMNING, PRICE, accusing, address, pass_to, patch_ticket, row};

#[track_caller]
fn leave(world: &mut World, checker: &Checker, slots: &[u32]) {
    let instruction = instructions::leave_tickets(checker, slots);
    world.must(&[instruction], &[&checker.owner]);
}

fn withdraw(world: &World, checker: &Checker, slots: &[u32]) -> Instruction {
    instructions::withdraw_tickets(world, checker, slots)
}

/// Three tickets of a checker out of four asked to leave in epoch 0 and were removed in 1; in epoch 1, not drawn.
fn removed() -> (World, Checker, i64) {
    let mut world = World::new();
    let checker = world.checker_with(4, 0);
    world.advance(0);
    world.churn(0);
    leave(&mut world, &checker, &[0, 1, 3]);
    let asked = world.now();
    world.advance(1);
    world.churn(1);
    (world, checker, asked)
}

#[test]
fn after_the_unbonding_time_to_the_second() {
    let (mut world, checker, asked) = removed();
    let instruction = withdraw(&world, &checker, &[3, 0]);
    for instant in [world.now(), asked + 719] {
        world.set_time(instant);
        world.refused(instruction.clone(), &[], "TicketResting");
    }
    world.set_time(asked + 720);
    // Anybody may, and a pause holds back nothing that has matured.
    world.set_paused(true);
    world.run(instruction.clone());
    world.set_paused(false);
    world.check_books();
    assert_eq!(world.balance(&checker.to), 2 * PRICE);
    assert_eq!((world.checker(0).tickets, world.checker(0).staked, world.checker(0).retired), (2, 2 * PRICE, 0));
    let ledger = world.ledger(Vault::Stake);
    assert_eq!((ledger.balance, ledger.liabilities), (2 * PRICE, 2 * PRICE));
    // Twice is refused, in two calls or in one.
    world.refused(instruction, &[], "NotYourTicket");
    let twice = withdraw(&world, &checker, &[1, 1]);
    world.refused(twice, &[], "NotYourTicket");
    let set = world.set();
    assert_eq!((set.free, set.free_head, world.tickets()[0].next, world.tickets()[3].next), (2, 0, 3, NONE));
}

#[test]
fn freed_slots_are_used_again_and_those_that_rest_are_not() {
    let (mut world, checker, asked) = removed();
    let other = world.checker_with(0, 0);
    let buy = instructions::register_tickets(&world, &other, 1);
    world.must(&[buy], &[&other.owner]);
    assert_eq!((world.set().slots, world.tickets()[4].checker), (5, other.id), "no slot is free yet: a new one");
    world.set_time(asked + 720);
    let instruction = withdraw(&world, &checker, &[0, 1, 3]);
    world.run(instruction);
    // The last freed first, then new ones.
    let buy = instructions::register_tickets(&world, &other, 4);
    world.must(&[buy], &[&other.owner]);
    world.check_books();
    let tickets = world.tickets();
    assert_eq!((world.set().slots, world.set().free, world.set().free_head), (6, 0, NONE));
    for slot in [0, 1, 3, 5] {
        let expected = Ticket { order: tickets[slot].order, next: tickets[slot].next, ..Ticket::waiting(other.id, PRICE) };
        assert_eq!(tickets[slot], expected, "slot {slot} is as new");
    }
    assert_eq!(world.set().pending_head, 4);
    assert_eq!([4usize, 3, 1, 0].map(|s| tickets[s].next), [3, 1, 0, 5], "in the order in which they were bought");
    // They enter and sit like any other.
    let epoch = world.network().epoch_at(world.now()).expect("an epoch") + 1;
    world.advance(epoch);
    world.churn(epoch);
    world.draw(epoch);
    assert_eq!(world.epoch(epoch).tickets, 1 + 5);
    world.check_books();
}

/// Attack: ask early, be removed late, and free the slot while a lane still names it; a stranger's ticket would take the late pay or
/// the late marks.
#[test]
fn late_pay_and_marks_never_reach_the_next_holder() {
    let mut stage = Stage::new(6, 1).pass_to(3, &perfect());
    let at = stage.world.seats(3, 0)[0];
    let holder = stage.checkers[at.checker as usize].clone();
    // It asked so long ago that its price has unlocked, and leaves the order only now.
    leave(&mut stage.world, &holder, &[at.slot]);
    let now = u32::try_from(stage.world.now()).expect("before 2106");
    patch_ticket(&mut stage.world, at.slot, |t| t.unlocks_at = now);
    let pay = instructions::claim_seat_pay(&stage.world, &holder, &[at.slot]);
    let accrued = stage.world.tickets()[at.slot as usize].accrued;
    if accrued > 0 {
        stage.world.run(pay.clone());
    }
    stage.world.reveal_all(&stage.checkers.clone(), 3, &perfect());
    stage.world.open(4);
    let instruction = withdraw(&stage.world, &holder, &[at.slot]);
    assert_eq!(stage.world.tickets()[at.slot as usize].removed, 4);
    stage.world.refused(instruction.clone(), &[], "TicketResting");
    stage.world.tally_all(3);
    assert_eq!(stage.world.tickets()[at.slot as usize].accrued, 40 * ATH, "epoch 3 is tallied after it left");
    stage.world.commit_all(&stage.checkers.clone(), 4, &perfect());
    for epoch in 5..=6 {
        stage.pass(epoch, &perfect());
        stage.world.refused(instruction.clone(), &[], "TicketResting");
    }
    stage.world.set_time(stage.world.start_of(7) - 1);
    stage.world.run(pay);
    stage.world.refused(instruction.clone(), &[], "TicketResting");
    stage.world.set_time(stage.world.start_of(7));
    // Three epochs have passed: no lane that names it can be tallied any more.
    let tally = instructions::tally_block(&stage.world, 3, 0, 256);
    stage.world.run(instruction);
    stage.world.refused(tally, &[], "OutsideTallyWindow");
    stage.world.check_books();
}

#[test]
fn the_pay_is_claimed_first() {
    let mut stage = Stage::new(6, 1).pass_to(4, &perfect());
    let at = stage.world.seats(3, 0)[0];
    let holder = stage.checkers[at.checker as usize].clone();
    leave(&mut stage.world, &holder, &[at.slot]);
    pass_to(&mut stage, 5, &perfect());
    let owed = stage.world.tickets()[at.slot as usize].accrued;
    assert!(owed >= 40 * ATH);
    stage.world.set_time(stage.world.start_of(20));
    let instruction = withdraw(&stage.world, &holder, &[at.slot]);
    stage.world.refused(instruction.clone(), &[], "TicketResting");
    let claim = instructions::claim_seat_pay(&stage.world, &holder, &[at.slot]);
    stage.world.must(&[claim, instruction], &[]);
    stage.world.check_books();
    assert_eq!(stage.world.balance(&holder.to), owed + PRICE);
    assert_eq!((stage.world.checker(holder.id).tickets, stage.world.checker(holder.id).staked), (0, 0));
}

/// A retired ticket loses a tenth; anybody may sweep it to the rewards, nobody who marked or judged it gets any.
#[test]
fn retired_ones_lose_a_tenth_to_the_rewards() {
    let (mut world, checker, asked) = removed();
    // Odd prices: a tenth is rounded down, ticket by ticket.
    for (slot, status, odd) in [(0, Ticket::RETIRED, 19), (1, Ticket::RETIRED, 5), (3, Ticket::REMOVED, 0)] {
        patch_ticket(&mut world, slot, |t| (t.status, t.price) = (status, PRICE + odd));
    }
    world.patch_as::<datagalax::state::Checker>(&addresses::checker(0), |c| c.staked += 24);
    let more = world.provider_with(24);
    world.patch_as::<datagalax::state::Provider>(&addresses::provider(more.id), |p| p.staked -= 24);
    world.check_books();

    world.set_time(asked + 720);
    let instruction = withdraw(&world, &checker, &[0, 1, 3]);
    world.run(instruction);
    world.check_books();
    let penalty = (PRICE + 19) / 10 + (PRICE + 5) / 10;
    assert_eq!(penalty, 20 * ATH + 1);
    assert_eq!(world.balance(&checker.to), 3 * PRICE + 24 - penalty);
    assert_eq!((world.checker(0).retired, world.checker(0).staked, world.checker(0).tickets), (2, PRICE, 1));
    let ledger = world.ledger(Vault::Stake);
    assert_eq!(ledger.balance - ledger.liabilities, penalty);
    let before = world.ledger(Vault::Rewards);
    let sweep = instructions::sweep_vault(&world, Vault::Stake);
    world.run(sweep.clone());
    let after = world.ledger(Vault::Rewards);
    assert_eq!((after.balance - before.balance, after.liabilities), (penalty, before.liabilities));
    assert_eq!(world.balance(&addresses::vault(Vault::Stake)), PRICE);
    world.refused(sweep, &[], "NothingToPay");
    world.check_books();
}

#[test]
fn one_that_never_entered_is_paid_back_whole() {
    let mut world = World::new();
    let checker = world.checker_with(2, 0);
    leave(&mut world, &checker, &[1]);
    let asked = world.now();
    // Before its turn came it is still in the queue, however long that takes.
    world.advance(12);
    world.wait_until(asked + 720);
    let instruction = withdraw(&world, &checker, &[1]);
    world.refused(instruction.clone(), &[], "TicketNotInOrder");
    world.run(instructions::churn(12));
    assert_eq!((world.tickets()[1].status, world.tickets()[1].removed), (Ticket::REMOVED, 12));
    // Its price has unlocked; its slot rests for three epochs as any other.
    world.set_time(world.start_of(15) - 1);
    world.refused(instruction.clone(), &[], "TicketResting");
    world.set_time(world.start_of(15));
    world.run(instruction);
    assert_eq!((world.balance(&checker.to), world.set().free, world.checker(0).retired), (PRICE, 1, 0));
    world.check_books();
}

/// Attack: a case names slots. Who got a slot afterwards would take the mark of the one who accused.
#[test]
fn a_mark_for_an_accusation_never_reaches_the_next_holder() {
    let votes = accusing(&[4], &[0], CONDEMNING);
    let mut stage = Stage::new(8, 2).pass_to(4, &votes);
    let accusers: Vec<SeatAt> = stage.world.seats(4, 0).into_iter().filter(|at| at.seat < CONDEMNING).collect();
    pass_to(&mut stage, 5, &votes);
    let open = instructions::open_case(&stage.world, &stage.world.payer.pubkey(), &address(&stage.provider, 0), 4);
    stage.world.run(open);
    let (gone, stays) = (accusers[0], accusers[1]);
    let holder = stage.checkers[gone.checker as usize].clone();
    leave(&mut stage.world, &holder, &[gone.slot]);
    pass_to(&mut stage, 13, &votes);
    stage.world.set_time(stage.world.start_of(19));
    let claim = instructions::claim_seat_pay(&stage.world, &holder, &[gone.slot]);
    let instruction = withdraw(&stage.world, &holder, &[gone.slot]);
    stage.world.must(&[claim, instruction], &[]);
    let next = stage.world.checker_with(1, 0);
    assert_eq!(stage.world.tickets()[gone.slot as usize].checker, next.id, "the slot is used again");

    let before = stage.world.tickets();
    let close = instructions::close_case(&stage.world, &address(&stage.provider, 0), 4);
    stage.world.run(close);
    let after = stage.world.tickets();
    assert_eq!(after[gone.slot as usize], before[gone.slot as usize]);
    let ones = |t: &Ticket| t.record.count_ones();
    assert_eq!(ones(&after[stays.slot as usize]), ones(&before[stays.slot as usize]) + 1);
    assert!(!row(&stage.world, 0).is_accused());
    stage.world.check_books();
}

#[test]
fn withdraw_tickets_refuses() {
    let (mut world, checker, asked) = removed();
    let other = world.checker_with(1, 0);
    world.set_time(asked + 720);
    let with = |world: &World, slots: &[u32]| withdraw(world, &checker, slots);
    let refusals: [(&[u32], &str); 6] = [
        (&[], "BadTicketCount"),
        (&[2], "TicketNotInOrder"),
        (&[0, 2], "TicketNotInOrder"),
        (&[4], "NotYourTicket"),
        (&[5], "NotYourTicket"),
        (&[u32::MAX], "NotYourTicket"),
    ];
    for (slots, name) in refusals {
        let instruction = with(&world, slots);
        world.refused(instruction, &[], name);
    }
    let instruction = with(&world, &(0..151).collect::<Vec<_>>());
    world.refused(instruction, &[], "BadTicketCount");
    // One that waits, one that leaves, one that is to be retired.
    for status in [Ticket::WAITING, Ticket::LEAVING, Ticket::RETIRING] {
        let mut early = world.clone();
        patch_ticket(&mut early, 0, |t| t.status = status);
        let instruction = with(&early, &[0]);
        early.refused(instruction, &[], "TicketNotInOrder");
    }
    let valid = with(&world, &[0, 1]);
    // Tokens go home and nowhere else.
    let stranger = world.actor("stranger");
    let mint = world.mint;
    let theirs = world.put_token_account(&mint, &stranger.pubkey(), 0, "");
    let odd = world.put_token_account(&mint, &checker.payout, 0, "odd");
    for to in [theirs, odd, other.to] {
        let mut wrong = valid.clone();
        wrong.accounts.iter_mut().filter(|m| m.pubkey == checker.to).for_each(|m| m.pubkey = to);
        world.refused(wrong, &[], "WrongAccount");
    }
    // Out of another vault.
    let mut wrong = valid.clone();
    for meta in &mut wrong.accounts {
        if meta.pubkey == addresses::ledger(Vault::Stake) {
            meta.pubkey = addresses::ledger(Vault::Rewards);
        } else if meta.pubkey == addresses::vault(Vault::Stake) {
            meta.pubkey = addresses::vault(Vault::Rewards);
        }
    }
    world.refused(wrong, &[], "WrongAccount");

    // The circuit breaker: all or nothing, so name fewer.
    let mut tight = world.clone();
    // The day's inflow is room as well.
    tight.set_time(asked + 2 * 86_400);
    tight.patch_as::<Network>(&addresses::network(), |n| n.parameters.breaker_limits[0] = 2 * PRICE - 1);
    tight.refused(valid.clone(), &[], "BreakerOpen");
    let one = with(&tight, &[1]);
    tight.must(&[one], &[]);
    let one = with(&tight, &[0]);
    tight.refused(one.clone(), &[], "BreakerOpen");
    tight.set_time(tight.now() + 25 * 3_600);
    tight.must(&[one], &[]);
    tight.check_books();
    Call::new(world, valid, &[]).check();
}
