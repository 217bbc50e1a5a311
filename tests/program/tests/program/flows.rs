//! Money and life cycle over many epochs, with everything that can be late, missing or out of order.

use datagalax::{
    constants::{ROWS, VOID},
    state::{Epoch, Row},
};
use datagalax_program_tests::{
    Report, World,
    accounts::rows,
    addresses::{self, Vault},
    epochs::{SeatAt, all},
    instructions,
    settings::ATH,
};

use datagalax_program_tests::stage::{Stage, perfect};

const FULL: u64 = 750 * ATH;

#[test]
fn registered_in_0_checked_in_1_tallied_in_2_live_from_3_credited_in_4_and_claimed() {
    let mut stage = Stage::new(3, 1);
    let state = |stage: &Stage| {
        let block = stage.world.block(0);
        (block.rows[0].status, block.live, block.rows[0].accrued)
    };
    stage.pass(1, &perfect());
    assert_eq!(state(&stage), (Row::CHECKING, 0, 0), "being checked");
    assert_eq!(stage.world.seats(1, 0).len(), 3);
    stage.pass(2, &perfect());
    assert_eq!(state(&stage), (Row::LIVE, 1, 0), "tallied");
    assert_eq!(stage.world.block(0).rows[0].live_from, 3);
    assert_eq!((stage.world.epoch(2).nominal, stage.world.epoch(2).nominal_added), (0, 1_000_000));
    stage.pass(3, &perfect());
    assert_eq!(state(&stage), (Row::LIVE, 1, 0), "the tally of 2 pays nothing");
    assert_eq!(stage.world.epoch(3).nominal, 1_000_000);
    stage.pass(4, &perfect());
    assert_eq!(state(&stage), (Row::LIVE, 1, FULL), "credited");
    // No seat was judged before there was a live row.
    assert_eq!([1, 2, 3].map(|e| stage.world.epoch(e).checker_credited), [0, 0, 200 * ATH / 3 * 3]);

    let (world, provider) = (&mut stage.world, &stage.provider);
    let claim = instructions::claim_rewards(provider, 0, &rows([0]));
    world.must(&[claim], &[&provider.operator]);
    assert_eq!((world.balance(&provider.to), world.provider(0).claimed), (0, FULL), "granted");
    let withdraw = instructions::withdraw(world, &addresses::provider(0), Vault::Rewards, &provider.to);
    world.run(withdraw);
    assert_eq!(world.balance(&provider.to), FULL * 3 / 10, "30 percent at once");
    for checker in &stage.checkers {
        let slot = world.tickets().iter().position(|t| t.checker == checker.id).expect("a ticket") as u32;
        let claim = instructions::claim_seat_pay(world, checker, &[slot]);
        world.run(claim);
        assert_eq!(world.balance(&checker.to), 200 * ATH / 3);
    }
    world.check_books();
    assert_eq!(world.books().held, 0);
    // And the rest in 180 days.
    world.set_time(world.now() + 180 * 86_400);
    let withdraw = instructions::withdraw(world, &addresses::provider(0), Vault::Rewards, &provider.to);
    world.run(withdraw);
    assert_eq!(world.balance(&provider.to), FULL);
    assert_eq!(world.books().granted, 0);
    world.check_books();
}

#[test]
fn what_nobody_earned_goes_back_when_its_tally_is_over() {
    let mut stage = Stage::new(3, 1).pass_to(4, &perfect());
    let (before, credited) = (stage.world.ledger(Vault::Rewards).liabilities, stage.world.epoch(3).credited());
    let treasury = stage.world.network().treasury_due;
    assert_eq!((stage.world.epoch(3).released, stage.world.epoch(2).released), (0, 1));
    stage.world.advance(5);
    // 5 takes its own pool; 3 gives back what it did not credit, less the treasury's 5 percent, which nobody else earned.
    let after = stage.world.ledger(Vault::Rewards).liabilities;
    assert_eq!(after, before + 1_000 * ATH - (1_000 * ATH - credited - 50 * ATH));
    assert_eq!(stage.world.network().treasury_due, treasury + 50 * ATH);
    assert_eq!(stage.world.epoch(3).released, 1);
    stage.world.check_books();
}

/// Rows and committees one after the other, for comparing whole states.
fn state(world: &World, blocks: u32, epochs: u32) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = (0..blocks).map(|b| world.account(&addresses::block(b)).data).collect();
    all.extend((0..=epochs).filter(|e| world.has_epoch(*e)).map(|e| world.account(&addresses::epoch(e)).data));
    all.push(world.account(&addresses::checker_set()).data);
    all
}

/// Reports that differ by row, seat and epoch; every kind of verdict occurs.
fn varied(at: SeatAt) -> Option<Report> {
    let mut report = Report::perfect().salted(at.epoch, at.block, at.seat);
    for row in 0..ROWS {
        let mix = row as u32 * 7 + at.epoch * 13 + at.block;
        let (a, c) = (100 - (mix % 24) as u8, 100 - (mix % 60) as u8);
        let stray = (row + usize::from(at.seat)).is_multiple_of(9);
        report = report.row(row, if stray { 3 } else { a }, c, if mix.is_multiple_of(5) { at.seat } else { 9 });
        if mix.is_multiple_of(11) && at.seat < 4 {
            report = report.dishonest(row);
        }
    }
    (at.epoch < 3 || !(at.epoch + u32::from(at.seat)).is_multiple_of(7)).then_some(report)
}

#[test]
fn a_tally_in_parts_is_the_whole_tally() {
    let votes = |at: SeatAt| if at.epoch < 3 { perfect()(at) } else { varied(at) };
    let mut stage = Stage::new(6, 100).pass_to(3, &votes);
    stage.world.reveal_all(&stage.checkers, 3, &votes);
    stage.world.enter(4, 20);
    let of = |rows: u16| {
        let mut world = stage.world.clone();
        world.tally_in_parts(3, 0, rows);
        world.check_books();
        state(&world, 1, 3)
    };
    let whole = of(256);
    assert_ne!(whole, state(&stage.world, 1, 3));
    for rows in [1, 7, 100, 128, 255] {
        assert!(of(rows) == whole, "in parts of {rows}");
    }
    // More rows than there are is the same as all.
    let mut world = stage.world.clone();
    world.tally_in_parts(3, 0, u16::MAX);
    assert!(state(&world, 1, 3) == whole);
}

#[test]
fn an_advance_in_the_middle_of_a_tally_loses_nothing() {
    // Rows go live in both halves; the first half is counted in epoch 1, the second in epoch 2: live from 3 either way.
    let mut stage = Stage::new(3, 200).pass_to(1, &perfect());
    stage.world.reveal_all(&stage.checkers, 1, &perfect());
    stage.world.enter(2, 16);
    let budget = datagalax_program_tests::send::compute_budget(400_000);
    let half = |world: &World| instructions::tally_block(world, 1, 0, 128);
    let first = half(&stage.world);
    stage.world.must(&[budget[0].clone(), first], &[]);
    assert_eq!(stage.world.epoch(1).nominal_added, 128 * 1_000_000);
    stage.world.check_books();
    stage.world.advance(2);
    let second = half(&stage.world);
    stage.world.must(&[budget[0].clone(), second], &[]);
    stage.world.check_books();
    assert_eq!((stage.world.epoch(2).nominal, stage.world.epoch(2).nominal_added), (128 * 1_000_000, 72 * 1_000_000));
    stage.world.advance(3);
    assert_eq!(stage.world.epoch(3).nominal, 200 * 1_000_000);
    assert!(stage.world.block(0).rows[..200].iter().all(|r| r.status == Row::LIVE && r.live_from == 3));
}

/// Eight blocks with rows, nine or more checkers, in epoch 0.
fn many_blocks(checkers: u32, rows: u32) -> Stage {
    let mut stage = Stage::new(checkers, rows);
    for _ in 1..8 {
        let block = stage.world.grown_block_regardless();
        stage.world.containers(&stage.provider.clone(), 0, block, 1_000 * block, rows);
    }
    stage.world.check_books();
    stage
}

#[test]
fn the_order_of_tallies_does_not_matter() {
    let votes = |at: SeatAt| if at.epoch < 3 { perfect()(at) } else { varied(at) };
    let mut stage = many_blocks(9, 4).pass_to(3, &votes);
    stage.world.reveal_all(&stage.checkers, 3, &votes);
    stage.world.enter(4, 20);
    let of = |order: &[u32]| {
        let mut world = stage.world.clone();
        order.iter().for_each(|block| world.tally_in_parts(3, *block, 256));
        world.check_books();
        state(&world, 8, 3)
    };
    let forwards = of(&[0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(of(&[7, 6, 5, 4, 3, 2, 1, 0]) == forwards);
    assert!(of(&[3, 0, 7, 1, 6, 2, 5, 4]) == forwards);
}

#[test]
fn eight_blocks_of_evidence_mark_a_bad_seat() {
    // One checker sees half of everything down. With nine tickets and eight blocks, some epochs give it several seats.
    let bad = 4;
    let votes = move |at: SeatAt| {
        let report = if at.epoch >= 3 && at.checker == bad { Report::flat(50, 100, 9) } else { Report::perfect() };
        Some(report.salted(at.epoch, at.block, at.seat))
    };
    let mut stage = many_blocks(9, 32).pass_to(5, &votes);
    stage.world.finish(&stage.checkers, 5, &votes);
    let tickets = stage.world.tickets();
    for ticket in &tickets {
        let expected = if ticket.checker == bad { 0b111 } else { 0 };
        assert_eq!(ticket.record & 0b111, expected, "three epochs of checker {}", ticket.checker);
    }
    let wrong = &tickets[tickets.iter().position(|t| t.checker == bad).expect("its ticket")];
    assert_eq!((wrong.accrued, wrong.marked), (0, wrong.seats));
    // Its lies moved no median: all rows earned all.
    let epoch = stage.world.epoch(5);
    assert_eq!(epoch.container_credited, epoch.rate.pay(1_000_000).expect("a pay") * 256);
    stage.world.check_books();
}

#[test]
fn seven_blocks_are_not_enough_evidence() {
    let votes = |at: SeatAt| {
        let report = if at.epoch >= 3 && at.checker == 0 { Report::flat(50, 100, 9) } else { Report::perfect() };
        Some(report.salted(at.epoch, at.block, at.seat))
    };
    let mut stage = Stage::new(5, 40).pass_to(3, &votes);
    stage.world.finish(&stage.checkers, 3, &votes);
    let ticket = stage.world.tickets().into_iter().find(|t| t.checker == 0).expect("its ticket");
    assert_eq!((ticket.accrued, ticket.record, ticket.seats), (0, 0, 1), "unpaid, not marked");
}

#[test]
fn forty_checkers_share_eight_blocks() {
    let mut stage = many_blocks(32, 2);
    stage.checkers.extend((0..8).map(|_| stage.world.checker_with(1, 0)).collect::<Vec<_>>());
    let mut stage = stage.pass_to(4, &perfect());
    stage.world.finish(&stage.checkers, 4, &perfect());
    assert_eq!((stage.world.set().live, stage.world.epoch(4).tickets), (40, 40));
    // 8 x 5 seats are one round: everybody sits exactly once.
    let mut seats: Vec<u32> = (0..8).flat_map(|b| stage.world.seats(4, b)).map(|s| s.checker).collect();
    seats.sort_unstable();
    assert_eq!(seats, (0..40).collect::<Vec<_>>());
    let epoch = stage.world.epoch(4);
    assert_eq!((epoch.seat_pay, epoch.checker_credited), (5 * ATH, 200 * ATH));
    assert_eq!(epoch.container_credited, 16 * epoch.rate.pay(1_000_000).expect("a pay"));
    stage.world.check_books();
}

#[test]
fn an_epoch_that_was_never_drawn_is_void() {
    let mut stage = Stage::new(3, 1).pass_to(3, &perfect());
    stage.world.finish(&stage.checkers, 3, &perfect());
    // Epoch 4 is advanced to, and nobody draws it in its first quarter.
    stage.world.advance(4);
    let seatless = instructions::seat_block(4, 0);
    stage.world.refused(seatless, &[], "NotDrawn");
    let (seed, entropy) = (stage.world.epoch(3).seed, stage.world.epoch(3).entropy);
    stage.world.open(5);
    let five = stage.world.epoch(5);
    assert_eq!((five.last_seed, five.entropy_before), (seed, entropy), "the last drawn seed, the entropy of 3");
    let nothing = instructions::tally_block(&stage.world, 4, 0, 256);
    stage.world.enter(5, 20);
    stage.world.refused(nothing, &[], "NotSeated");
    stage.world.commit_all(&stage.checkers, 5, &perfect());
    stage.pass(6, &perfect());
    let row = stage.world.block(0).rows[0];
    assert_eq!((row.history[3], row.history[4], row.history[5]), (100, VOID, 100));
    assert_eq!((row.accrued, row.bad_epochs), (2 * FULL, 0), "3 and 5 are paid, 4 is not and is not held against it");
    assert_eq!((stage.world.epoch(4).released, stage.world.epoch(4).credited()), (1, 0));
}

#[test]
fn skipped_epochs_are_void_and_release_everything() {
    let mut stage = Stage::new(3, 1).pass_to(3, &perfect());
    stage.world.finish(&stage.checkers, 3, &perfect());
    // Nobody does anything in 4 to 8.
    stage.world.open(9);
    assert_eq!(stage.world.epoch(9).entropy_before, [0; 32], "there was no epoch 7");
    stage.world.check_books();
    stage.world.commit_all(&stage.checkers, 9, &perfect());
    stage.pass(10, &perfect());
    let row = stage.world.block(0).rows[0];
    assert_eq!(row.history[3..10], [100, VOID, VOID, VOID, VOID, VOID, 100]);
    assert_eq!((row.accrued, row.status), (2 * FULL, Row::LIVE));
    assert_eq!(stage.world.books().reserved, 2 * 1_000 * ATH - stage.world.epoch(9).credited());
}

#[test]
fn a_long_sleep_voids_no_more_than_the_ring_holds() {
    let mut stage = Stage::new(3, 1).pass_to(3, &perfect());
    stage.world.finish(&stage.checkers, 3, &perfect());
    stage.world.open(100);
    stage.world.commit_all(&stage.checkers, 100, &perfect());
    stage.pass(101, &perfect());
    let row = stage.world.block(0).rows[0];
    let mut expected = [VOID; 32];
    expected[100 % 32] = 100;
    assert_eq!(row.history, expected);
}

#[test]
fn an_epoch_that_nobody_tallied_pays_nothing_and_strands_nothing() {
    let mut stage = Stage::new(3, 1).pass_to(3, &perfect());
    // Reveals of 3 happen, its tally does not, and 4 goes on as if.
    stage.world.reveal_all(&stage.checkers, 3, &perfect());
    stage.world.open(4);
    stage.world.commit_all(&stage.checkers, 4, &perfect());
    stage.pass(5, &perfect());
    assert_eq!((stage.world.epoch(3).credited(), stage.world.epoch(3).released), (0, 1));
    let row = stage.world.block(0).rows[0];
    assert_eq!((row.history[3], row.history[4], row.accrued), (VOID, 100, FULL));
    stage.pass(6, &perfect());
    assert_eq!(stage.world.block(0).rows[0].accrued, 2 * FULL);
}

#[test]
fn half_a_tally_pays_its_half() {
    let mut stage = Stage::new(3, 2).pass_to(3, &perfect());
    stage.world.reveal_all(&stage.checkers, 3, &perfect());
    stage.world.enter(4, 20);
    let part = instructions::tally_block(&stage.world, 3, 0, 1);
    stage.world.run(part);
    stage.world.check_books();
    // The window closes on the second row and on the seats.
    stage.world.advance(5);
    stage.world.check_books();
    let block = stage.world.block(0);
    assert_eq!((block.rows[0].accrued, block.rows[1].accrued, block.last_tallied), (FULL / 2, 0, 2));
    assert!(stage.world.tickets().iter().all(|t| t.accrued == 0));
    stage.world.draw(5);
    stage.world.seat(5, 0);
    stage.world.commit_all(&stage.checkers, 5, &perfect());
    stage.pass(6, &perfect());
    // The half that was never tallied reads as void; so does the half that was, since the epoch was not finished.
    let block = stage.world.block(0);
    for row in &block.rows[..2] {
        assert_eq!((row.history[3], row.history[4], row.history[5]), (VOID, VOID, 100));
    }
}

#[test]
fn reveal_and_tally_go_by_the_clock_when_nobody_advances() {
    let mut stage = Stage::new(3, 1).pass_to(1, &perfect());
    // Epoch 2 is never advanced to: 1 is revealed and tallied in it all the same, and its row goes live from 3.
    stage.world.finish(&stage.checkers, 1, &perfect());
    assert_eq!(stage.world.network().current_epoch, 1);
    assert_eq!(stage.world.epoch(1).nominal_added, 1_000_000);
    assert_eq!(stage.world.block(0).rows[0].live_from, 3);
    stage.pass(3, &perfect());
    assert_eq!(stage.world.epoch(3).nominal, 1_000_000);
    stage.world.finish(&stage.checkers, 3, &perfect());
    assert_eq!(stage.world.accrued(0), FULL);
}

#[test]
fn several_providers_and_classes_share_by_weight() {
    let mut stage = Stage::new(5, 1);
    stage.world.class_of(1, 50);
    let second = stage.world.provider_with(1_000 * ATH);
    let mut args = datagalax_program_tests::actors::container_args([9; 32], 4);
    args.endpoint = "http://second".into();
    let register = instructions::register_container(&stage.world, &second, 1, 0, args.clone());
    // A class that comes after the first epoch waits for the time lock.
    stage.world.refused(register, &[&second.owner], "ClassInactive");
    stage.pass(1, &perfect());
    stage.world.run(instructions::apply_class(1));
    let register = instructions::register_container(&stage.world, &second, 1, 0, args);
    stage.world.must(&[register], &[&second.owner]);
    let mut stage = stage.pass_to(4, &perfect());
    stage.world.finish(&stage.checkers, 4, &perfect());
    // Alone in 3; then 100 x 1 and 50 x 4 units.
    let block = stage.world.block(0);
    assert_eq!((block.rows[0].accrued, block.rows[1].accrued), (FULL + FULL / 3, FULL * 2 / 3));
    let claim = instructions::claim_rewards(&second, 0, &rows([1]));
    stage.world.must(&[claim], &[&second.operator]);
    assert_eq!(stage.world.provider(second.id).claimed, FULL * 2 / 3);
    let withdraw = instructions::withdraw(&stage.world, &addresses::provider(second.id), Vault::Rewards, &second.to);
    stage.world.run(withdraw);
    let paid = (stage.world.balance(&second.to), stage.world.balance(&stage.provider.to));
    assert_eq!(paid, (FULL * 2 / 3 * 3 / 10, 0));
    stage.world.check_books();
}

#[test]
fn nobody_s_failure_raises_anybody_s_pay() {
    let votes = |at: SeatAt| Some(Report::perfect().row(1, 0, 0, 9).salted(at.epoch, at.block, at.seat));
    let votes = move |at: SeatAt| if at.epoch < 3 { perfect()(at) } else { votes(at) };
    let mut stage = Stage::new(3, 2).pass_to(3, &votes);
    stage.world.finish(&stage.checkers, 3, &votes);
    let block = stage.world.block(0);
    assert_eq!((block.rows[0].accrued, block.rows[1].accrued), (FULL / 2, 0));
}

#[test]
fn a_short_treasury_pays_what_it_has_and_never_more() {
    let settings = datagalax_program_tests::Settings { funding: 2_500 * ATH, ..Default::default() };
    let mut stage = Stage::of(settings, 3, 1);
    for epoch in 1..=9 {
        stage.pass(epoch, &all(Report::perfect()));
        assert!(stage.world.epoch(epoch).status == Epoch::DRAWN);
    }
    stage.world.finish(&stage.checkers, 9, &all(Report::perfect()));
    let (books, ledger) = (stage.world.books(), stage.world.ledger(Vault::Rewards));
    assert!(books.credited <= 2_500 * ATH && books.credited > 2_000 * ATH, "{books:?}");
    assert_eq!(ledger.balance, 2_500 * ATH);
    // All of it is there when it has vested.
    let earned = stage.world.accrued(0);
    let claim = instructions::claim_rewards(&stage.provider, 0, &rows([0]));
    stage.world.must(&[claim], &[&stage.provider.operator]);
    stage.world.set_time(stage.world.now() + 180 * 86_400);
    let withdraw = instructions::withdraw(&stage.world, &addresses::provider(0), Vault::Rewards, &stage.provider.to);
    stage.world.run(withdraw);
    assert_eq!(stage.world.balance(&stage.provider.to), earned);
    stage.world.check_books();
}
