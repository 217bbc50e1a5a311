//! `tally_block`: its windows, its refusals, and what each kind of vote leads to.

use datagalax::{
    constants::{NO_VOTE, NONE, ROWS, VOID},
    state::{Block, Container, Parameters, Row, Ticket},
};
use datagalax_program_tests::{
    Report, Settings, addresses,
    epochs::{SeatAt, all},
    instructions,
    settings::{ATH, parameters},
};

use datagalax_program_tests::{
    refusals::Call,
    stage::{Stage, perfect},
};

/// What one live row earns when it is alone and perfect: the containers' share of the emission.
const FULL: u64 = 750 * ATH;

/// In epoch 3, committed by `votes`; one row (or more) is live from 3.
fn live(checkers: u32, rows: u32, votes: &dyn Fn(SeatAt) -> Option<Report>) -> Stage {
    let mut stage = Stage::new(checkers, rows).pass_to(2, &perfect());
    stage.pass(3, &|at| if at.epoch < 3 { perfect()(at) } else { votes(at) });
    assert_eq!(stage.world.block(stage.block).live, rows as u16);
    stage
}

/// The stage after the reveals and the tally of epoch 3.
fn judged(checkers: u32, rows: u32, votes: &dyn Fn(SeatAt) -> Option<Report>) -> Stage {
    let mut stage = live(checkers, rows, votes);
    stage.world.finish(&stage.checkers, 3, votes);
    stage
}

fn row(stage: &Stage, row: usize) -> Row {
    stage.world.block(stage.block).rows[row]
}

fn history(stage: &Stage, index: usize, epoch: u32) -> u8 {
    row(stage, index).history[(epoch % 32) as usize]
}

/// The tickets in the order of the seats they had.
fn seated_tickets(stage: &Stage, epoch: u32) -> Vec<Ticket> {
    let tickets = stage.world.tickets();
    stage.world.seats(epoch, stage.block).iter().map(|s| tickets[s.slot as usize]).collect()
}

#[test]
fn a_live_row_and_honest_seats_are_paid() {
    let stage = judged(5, 1, &perfect());
    let epoch = stage.world.epoch(3);
    assert_eq!((row(&stage, 0).accrued, epoch.container_credited), (FULL, FULL));
    assert_eq!((epoch.seat_pay, epoch.checker_credited), (40 * ATH, 200 * ATH));
    assert_eq!((epoch.blocks_tallied, epoch.entropy != [0; 32]), (1, true));
    assert!(seated_tickets(&stage, 3).iter().all(|t| t.accrued == 40 * ATH && t.record == 0 && t.epoch == 3));
    let block = stage.world.block(stage.block);
    assert_eq!((block.last_tallied, block.lanes[1].tallied, block.lanes[1].cursor), (3, 1, ROWS as u16));
    assert_eq!((history(&stage, 0, 3), row(&stage, 0).full_capacity, row(&stage, 0).full_capacity_epoch), (100, 100, 3));
    assert_eq!(block.lanes[1].committee.map(|s| (s.judged, s.right)), [(1, 1); 5]);
}

#[test]
fn the_windows_go_by_the_clock_to_the_second() {
    let mut stage = live(3, 1, &perfect());
    stage.world.reveal_all(&stage.checkers, 3, &perfect());
    let tally = |stage: &Stage| instructions::tally_block(&stage.world, 3, stage.block, 256);
    for (epoch, second) in [(3, 59), (4, 0), (4, 14)] {
        stage.world.enter(epoch, second);
        let early = tally(&stage);
        stage.world.refused(early, &[], "OutsideTallyWindow");
    }
    stage.world.enter(5, 0);
    let late = tally(&stage);
    stage.world.refused(late, &[], "OutsideTallyWindow");
    for (epoch, second) in [(4, 15), (4, 59)] {
        let mut world = stage.world.clone();
        world.enter(epoch, second);
        // Nobody advanced to epoch 4: the tally does not wait for it.
        let budget = datagalax_program_tests::send::compute_budget(400_000);
        world.must(&[budget[0].clone(), tally(&stage)], &[]);
        world.check_books();
        assert_eq!(world.accrued(stage.block), FULL);
    }
}

#[test]
fn tally_refuses() {
    let mut stage = live(3, 1, &perfect());
    stage.world.reveal_all(&stage.checkers, 3, &perfect());
    stage.world.open(4);
    stage.world.enter(4, 20);
    let valid = instructions::tally_block(&stage.world, 3, stage.block, 100);
    let none = instructions::tally_block(&stage.world, 3, stage.block, 0);
    stage.world.refused(none, &[], "NoRows");
    // The epoch that takes the changes of nominal must be passed and be the current one.
    let mut wrong = valid.clone();
    wrong.accounts[2].pubkey = datagalax::ID;
    wrong.accounts[2].is_writable = false;
    stage.world.refused(wrong.clone(), &[], "CurrentEpochRequired");
    wrong.accounts[2].pubkey = addresses::epoch(2);
    wrong.accounts[2].is_writable = true;
    stage.world.refused(wrong, &[], "CurrentEpochRequired");
    // A block without a committee for the epoch.
    let empty = stage.world.grown_block_regardless();
    let unseated = instructions::tally_block(&stage.world, 3, empty, 256);
    stage.world.refused(unseated, &[], "NotSeated");

    // A pause stops no tally.
    stage.world.set_paused(true);
    Call::new(stage.world.clone(), valid, &[]).check();
    stage.world.tally_in_parts(3, stage.block, 256);
    let twice = instructions::tally_block(&stage.world, 3, stage.block, 256);
    stage.world.refused(twice, &[], "AlreadyTallied");
    // An epoch whose lane a later one took over.
    let mut late = stage.world.clone();
    late.open(5);
    late.enter(4, 20);
    let taken = instructions::tally_block(&late, 3, stage.block, 256);
    late.refused(taken, &[], "NotSeated");
}

#[test]
fn an_epoch_that_is_still_current_takes_no_second_account() {
    let mut stage = live(3, 1, &perfect());
    stage.world.reveal_all(&stage.checkers, 3, &perfect());
    stage.world.enter(4, 20);
    let mut tally = instructions::tally_block(&stage.world, 3, stage.block, 256);
    tally.accounts[2].pubkey = addresses::epoch(3);
    tally.accounts[2].is_writable = true;
    stage.world.refused(tally, &[], "ConstraintDuplicateMutableAccount");
}

#[test]
fn a_silent_seat_costs_nothing_but_its_vote() {
    for checkers in [3, 4, 5] {
        let absent = |at: SeatAt| (at.seat != 0).then(|| Report::perfect().salted(at.epoch, at.block, at.seat));
        let stage = judged(checkers, 1, &absent);
        assert_eq!(row(&stage, 0).accrued, FULL, "{checkers} checkers");
        let pay = stage.world.epoch(3).seat_pay;
        let tickets = seated_tickets(&stage, 3);
        assert_eq!((tickets[0].accrued, tickets[0].record & 1), (0, 1), "the silent seat is marked");
        assert!(tickets[1..].iter().all(|t| t.accrued == pay && t.record & 1 == 0), "the others are paid in full");
    }
}

#[test]
fn a_seat_that_committed_and_did_not_reveal_is_marked() {
    let mut stage = live(5, 1, &perfect());
    let seats = stage.world.seats(3, stage.block);
    stage.world.enter(4, 1);
    for at in &seats[1..] {
        stage.world.reveal(&stage.checkers, *at, &perfect()(*at).expect("a vote"));
    }
    stage.world.tally_all(3);
    stage.world.check_books();
    let tickets = seated_tickets(&stage, 3);
    assert_eq!((tickets[0].accrued, tickets[0].record & 1), (0, 1));
    assert_eq!(row(&stage, 0).accrued, FULL);
}

#[test]
fn without_a_quorum_the_epoch_is_void() {
    // M is 2 of 3, 3 of 4, 3 of 5; one vote fewer is void.
    for (checkers, votes) in [(3, 1), (4, 2), (5, 2)] {
        let few = move |at: SeatAt| (at.seat < votes).then(|| Report::perfect().salted(at.epoch, at.block, at.seat));
        let stage = judged(checkers, 1, &few);
        assert_eq!((row(&stage, 0).accrued, history(&stage, 0, 3)), (0, VOID), "{checkers} checkers");
        assert_eq!((row(&stage, 0).bad_epochs, row(&stage, 0).status), (0, Row::LIVE), "void counts for nothing");
        // Those who voted were judged on nothing: neither paid nor marked.
        let tickets = seated_tickets(&stage, 3);
        for (seat, ticket) in tickets.iter().enumerate() {
            assert_eq!((ticket.accrued, ticket.record & 1), (0, u64::from(seat >= usize::from(votes))));
        }
        let enough = move |at: SeatAt| (at.seat <= votes).then(|| Report::perfect().salted(at.epoch, at.block, at.seat));
        assert_eq!(row(&judged(checkers, 1, &enough), 0).accrued, FULL, "{checkers} checkers, one vote more");
    }
}

#[test]
fn values_that_are_no_vote_count_as_none() {
    for (availability, capacity) in [(NO_VOTE, 100), (101, 100), (100, 101), (255, 255), (0x80 | 101, 0)] {
        let votes = move |at: SeatAt| {
            let report = Report::perfect().salted(at.epoch, at.block, at.seat);
            Some(if at.seat == 0 { report.row(0, availability, capacity, 9) } else { report })
        };
        let stage = judged(3, 2, &votes);
        let (block, pay) = (stage.world.block(stage.block), stage.world.epoch(3).seat_pay);
        let committee = &block.lanes[1].committee;
        assert_eq!((committee[0].judged, committee[0].right, committee[1].right), (2, 1, 2), "{availability} {capacity}");
        assert_eq!(seated_tickets(&stage, 3)[0].accrued, pay / 2);
        assert_eq!((row(&stage, 0).accrued, row(&stage, 1).accrued), (FULL / 2, FULL / 2));
    }
}

#[test]
fn medians_pay_and_outliers_do_not_move_them() {
    // Five votes on availability and capacity; the medians are 90 and 70.
    let values = [(100, 100), (90, 70), (91, 71), (0, 0), (85, 65)];
    let votes = move |at: SeatAt| {
        let (a, c) = values[usize::from(at.seat)];
        Some(Report::flat(a, c, 9).salted(at.epoch, at.block, at.seat))
    };
    let stage = judged(5, 1, &votes);
    // rate x weight: 750 base units for each of 100 x 90 x 70.
    assert_eq!(row(&stage, 0).accrued, 750 * 100 * 90 * 70);
    assert_eq!((history(&stage, 0, 3), row(&stage, 0).full_capacity), (90, 70));
    // Right is both values within 5 points: the three in the middle.
    let right: Vec<u16> = stage.world.block(stage.block).lanes[1].committee.iter().map(|s| s.right).collect();
    assert_eq!(right, [0, 1, 1, 0, 1]);
}

#[test]
fn below_a_threshold_nothing_is_paid() {
    for (availability, capacity, paid) in [(80, 50, true), (79, 100, false), (100, 49, false), (0, 0, false)] {
        let stage = judged(3, 1, &all(Report::flat(availability, capacity, 9)));
        let expected = if paid { 750 * 100 * u64::from(availability) * u64::from(capacity) } else { 0 };
        assert_eq!((row(&stage, 0).accrued, row(&stage, 0).bad_epochs), (expected, u16::from(!paid)));
        assert_eq!(row(&stage, 0).status, Row::LIVE, "one bad epoch costs its pay");
        // The seats measured rightly.
        assert!(seated_tickets(&stage, 3).iter().all(|t| t.accrued == stage.world.epoch(3).seat_pay));
    }
}

#[test]
fn a_breach_is_noted_when_enough_saw_it() {
    // Q is 4 of 5.
    for (low, marked) in [(5, true), (4, true), (3, false)] {
        let votes = move |at: SeatAt| {
            let availability = if at.seat < low { 49 } else { 50 };
            Some(Report::flat(availability, 100, 9).salted(at.epoch, at.block, at.seat))
        };
        let stage = judged(5, 1, &votes);
        assert_eq!(history(&stage, 0, 3), 49 | if marked { 0x80 } else { 0 }, "{low} votes");
    }
}

#[test]
fn a_row_counts_the_epochs_it_was_live_in_and_their_availability() {
    // Live from 3: 100, 90, void, 60.
    let votes = |at: SeatAt| {
        let availability = [100, 100, 100, 100, 90, 0, 60][at.epoch as usize];
        (at.epoch != 5).then(|| Report::flat(availability, 100, 9).salted(at.epoch, at.block, at.seat))
    };
    let mut stage = Stage::new(3, 1).pass_to(6, &votes);
    stage.world.finish(&stage.checkers, 6, &votes);
    assert_eq!((row(&stage, 0).epochs_live, row(&stage, 0).availability_sum), (3, 250));
    assert_eq!(row(&stage, 0).accrued, FULL + 750 * 100 * 90 * 100);
}

#[test]
fn a_leased_row_earns_its_fees_at_most_and_only_on_a_fresh_measurement() {
    let seven_days = 7 * 86_400 / 60;
    for (fees, measured, expected) in [
        // The fee is the lesser, the emission is; both at an availability of 90.
        (100 * ATH, 2, 90 * ATH),
        (u64::MAX / 2, 2, 750 * 100 * 90 * 80),
        (100 * ATH, NONE, 0),
    ] {
        let mut stage = live(3, 1, &all(Report::flat(90, 30, 9)));
        let block = addresses::block(stage.block);
        stage.world.patch_as::<Block>(&block, |b| {
            b.rows[0].note_lease(3, fees, fees);
            b.rows[0].end_lease(5, 10_000);
            (b.rows[0].full_capacity, b.rows[0].full_capacity_epoch) = (80, measured);
        });
        stage.world.finish(&stage.checkers, 3, &all(Report::flat(90, 30, 9)));
        // The light challenge's 30 percent are below the threshold, and are not what counts.
        assert_eq!((row(&stage, 0).accrued, row(&stage, 0).bad_epochs), (expected, 0), "{fees} {measured}");
        assert_eq!((row(&stage, 0).full_capacity, row(&stage, 0).full_capacity_epoch), (80, measured));
        assert_eq!(row(&stage, 0).flags & Row::LEASED, Row::LEASED, "it lasts on");
        assert_eq!(stage.world.epoch(3).capacity_epochs, seven_days);
    }
}

#[test]
fn a_halted_row_earns_nothing_and_is_measured_on() {
    let mut stage = live(3, 1, &perfect());
    let container = addresses::container(0, &datagalax_program_tests::actors::fingerprint(0));
    stage.world.patch_as::<Container>(&container, |c| (c.status, c.halt_reason) = (1, Container::HALT_BREACH));
    stage.world.patch_as::<Block>(&addresses::block(stage.block), |b| b.rows[0].flags |= Row::HALTED);
    stage.world.finish(&stage.checkers, 3, &perfect());
    assert_eq!((row(&stage, 0).accrued, row(&stage, 0).bad_epochs, history(&stage, 0, 3)), (0, 0, 100));
    assert_eq!((row(&stage, 0).epochs_live, row(&stage, 0).full_capacity_epoch), (1, 3));
    assert!(seated_tickets(&stage, 3).iter().all(|t| t.accrued == stage.world.epoch(3).seat_pay));
}

#[test]
fn four_of_five_condemn_and_fewer_contest() {
    for dishonest in 0..=5u8 {
        let votes = move |at: SeatAt| {
            let report = Report::perfect().salted(at.epoch, at.block, at.seat);
            Some(if at.seat < dishonest { report.dishonest(0) } else { report })
        };
        let stage = judged(5, 1, &votes);
        let condemned = dishonest >= 4;
        assert_eq!(row(&stage, 0).accrued, if condemned { 0 } else { FULL }, "{dishonest} votes");
        assert_eq!(row(&stage, 0).bad_epochs, u16::from(condemned));
        // The first verdict freezes what the row has, and opens a window of 480 s: epochs 3 to 10.
        let case = (row(&stage, 0).is_accused(), row(&stage, 0).first_condemned, row(&stage, 0).condemned);
        assert_eq!(case, if condemned { (true, 3, 1) } else { (false, NONE, 0) }, "{dishonest} votes");
        assert!(!condemned || row(&stage, 0).case_until == 10);
        assert_eq!(history(&stage, 0, 3), 100, "the medians are judged either way");
        // Contested: nobody is wrong. Condemned: who did not say so is.
        let right: Vec<u16> = stage.world.block(stage.block).lanes[1].committee.iter().map(|s| s.right).collect();
        let expected: Vec<u16> = (0..5).map(|seat| u16::from(!condemned || seat < dishonest)).collect();
        assert_eq!(right, expected, "{dishonest} votes");
    }
}

#[test]
fn tokens_must_be_agreed_to_judge_and_to_go_live() {
    // In epoch 1 no three of five agree on the token: the row stays in checking, and nobody is judged on it.
    let split = |at: SeatAt| {
        let token = if at.epoch == 1 { at.seat / 2 + 1 } else { 9 };
        Some(Report::flat(100, 100, token).salted(at.epoch, at.block, at.seat))
    };
    let mut stage = Stage::new(5, 1).pass_to(2, &split);
    assert_eq!((row(&stage, 0).status, history(&stage, 0, 1)), (Row::CHECKING, 100));
    stage.pass(3, &split);
    assert_eq!((row(&stage, 0).status, row(&stage, 0).live_from), (Row::LIVE, 4));

    // A live row without an agreed token is paid, but is nobody's exam.
    let stage = judged(5, 1, &|at| Some(Report::flat(100, 100, at.seat + 1).salted(at.epoch, at.block, at.seat)));
    assert_eq!(row(&stage, 0).accrued, FULL);
    assert_eq!(stage.world.epoch(3).checker_credited, 0);
    // Three agree: those are right, the others are not.
    let stage = judged(5, 1, &|at| {
        let token = if at.seat < 3 { 9 } else { at.seat };
        Some(Report::flat(100, 100, token).salted(at.epoch, at.block, at.seat))
    });
    let right: Vec<u16> = stage.world.block(stage.block).lanes[1].committee.iter().map(|s| s.right).collect();
    assert_eq!(right, [1, 1, 1, 0, 0]);
}

#[test]
fn token_zero_proves_nothing_once_tokens_are_required() {
    let settings = Settings { parameters: Parameters { tokens_required: 1, ..parameters() }, ..Settings::default() };
    let zero = all(Report::flat(100, 100, 0));
    let stage = Stage::of(settings, 3, 1).pass_to(2, &zero);
    assert_eq!(row(&stage, 0).status, Row::CHECKING);
    let stage = Stage::new(3, 1).pass_to(2, &zero);
    assert_eq!(row(&stage, 0).status, Row::LIVE, "until then it counts as agreed");
}

#[test]
fn a_row_registered_in_mid_epoch_is_not_judged_in_it() {
    let mut stage = Stage::new(3, 1).open_next();
    stage.world.containers(&stage.provider.clone(), 0, stage.block, 1, 1);
    stage.world.commit_all(&stage.checkers, 1, &perfect());
    stage.pass(2, &perfect());
    assert_eq!((row(&stage, 0).status, row(&stage, 1).status), (Row::LIVE, Row::CHECKING));
    assert_eq!((row(&stage, 1).live_from, history(&stage, 1, 1)), (2, VOID));
    stage.pass(3, &perfect());
    assert_eq!((row(&stage, 1).status, row(&stage, 1).live_from), (Row::LIVE, 4));
}

#[test]
fn four_bad_epochs_send_a_row_to_probation_and_four_good_ones_back() {
    // Bad in 3, 5, 6 and 8; good after.
    let votes = |at: SeatAt| {
        let bad = [3, 5, 6, 8, 10].contains(&at.epoch);
        Some(Report::flat(if bad { 10 } else { 100 }, 100, 9).salted(at.epoch, at.block, at.seat))
    };
    let mut stage = Stage::new(3, 1).pass_to(8, &votes);
    assert_eq!((row(&stage, 0).status, row(&stage, 0).bad_epochs), (Row::LIVE, 0b1_0110));
    let nominal = stage.world.epoch(8).nominal;
    stage.pass(9, &votes);
    assert_eq!((row(&stage, 0).status, row(&stage, 0).flags & Row::PROBATION), (Row::CHECKING, Row::PROBATION));
    assert_eq!((stage.world.epoch(9).nominal_removed, stage.world.block(stage.block).live), (nominal, 0));
    let earned = row(&stage, 0).accrued;
    // 9 is good, 10 is bad, 11 to 14 are good: live again from 16, and nothing earned meanwhile.
    for epoch in 10..=14 {
        stage.pass(epoch, &votes);
        assert_eq!((row(&stage, 0).status, stage.world.epoch(epoch).nominal), (Row::CHECKING, 0), "epoch {epoch}");
    }
    stage.pass(15, &votes);
    let back = row(&stage, 0);
    assert_eq!((back.status, back.live_from, back.flags & Row::PROBATION, back.bad_epochs), (Row::LIVE, 16, 0, 0));
    assert_eq!(back.accrued, earned);
    stage.pass(16, &votes);
    stage.world.finish(&stage.checkers, 16, &votes);
    assert_eq!(row(&stage, 0).accrued, earned + FULL);
}

#[test]
fn below_three_tickets_rows_are_judged_and_nothing_is_paid() {
    for checkers in [1, 2] {
        let mut stage = Stage::new(checkers, 1).pass_to(4, &perfect());
        stage.world.finish(&stage.checkers, 4, &perfect());
        assert_eq!((row(&stage, 0).status, history(&stage, 0, 4)), (Row::LIVE, 100), "{checkers} checkers");
        assert_eq!(stage.world.books().credited, 0);
    }
    // Without any ticket there is a committee of none, and every epoch is void.
    let mut stage = Stage::new(0, 1).pass_to(4, &perfect());
    stage.world.finish(&stage.checkers, 4, &perfect());
    assert_eq!((row(&stage, 0).status, history(&stage, 0, 4)), (Row::CHECKING, VOID));
}

#[test]
fn a_free_row_is_left_alone() {
    let stage = judged(3, 2, &perfect());
    let block = stage.world.block(stage.block);
    assert!(block.rows[2..].iter().all(|r| bytemuck::bytes_of(r).iter().all(|b| *b == 0)));
}
