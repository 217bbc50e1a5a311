//! A change of the epochs' length: it takes effect at the next boundary, and the epochs before it keep their own windows.

use datagalax::state::Network;
use datagalax_program_tests::{
    Settings, World, addresses, instructions,
    stage::{Stage, perfect},
};
use solana_signer::Signer;

use crate::proposals::{apply, enact, propose, unchanged};

/// Epochs of 60 s become epochs of 100 s, reveals 15 s become 30 s, the lead 10 s becomes 5 s.
fn longer(proposal: &mut datagalax::state::Proposal) {
    proposal.epoch_length = 100;
    (proposal.parameters.reveal_window, proposal.parameters.commit_lead) = (30, 5);
    (proposal.parameters.case_window, proposal.parameters.unbonding) = (801, 1_201);
}

/// In epoch 3, committed, the change applied at 40 s of it; says when epoch 3 ends.
fn changed() -> (Stage, i64) {
    let mut stage = Stage::new(3, 2).pass_to(2, &perfect());
    let mut proposal = unchanged(&stage.world);
    longer(&mut proposal);
    propose(&mut stage.world, proposal);
    stage.pass(3, &perfect());
    let end = stage.world.start + 4 * 60;
    stage.world.set_time(end - 20);
    apply(&mut stage.world);
    (stage, end)
}

#[test]
fn the_epoch_under_way_keeps_its_length_and_the_next_has_the_new_one() {
    let (mut stage, end) = changed();
    let payer = stage.world.payer.pubkey();
    let world = &mut stage.world;
    let grids = world.network().grids;
    assert_eq!((grids[0].start, grids[0].first_epoch, grids[0].length), (end, 4, 100));
    assert_eq!((grids[1].length, grids[1].reveal_window, grids[1].commit_lead), (60, 15, 10));

    // Epoch 4 begins with the boundary as it was fixed, epoch 5 a hundred seconds later.
    let advance = |world: &World, number| instructions::advance_epoch(world, &payer, number);
    world.set_time(end - 1);
    let four = advance(world, 4);
    world.refused(four.clone(), &[], "WrongEpoch");
    world.set_time(end);
    world.run(four);
    assert_eq!(world.epoch(4).case_epochs, 9, "801 s are begun epochs of 100 s");
    world.set_time(end + 99);
    let five = advance(world, 5);
    world.refused(five.clone(), &[], "WrongEpoch");
    world.set_time(end + 100);
    world.run(five);
    world.check_books();
}

#[test]
fn an_epoch_of_the_new_length_is_void_after_its_own_first_quarter() {
    let (mut stage, end) = changed();
    let payer = stage.world.payer.pubkey();
    let world = &mut stage.world;
    world.set_time(end);
    let four = instructions::advance_epoch(world, &payer, 4);
    world.run(four);
    let mut late = world.clone();
    late.set_time(end + 25);
    late.refused(instructions::draw(4), &[], "EpochVoid");
    world.set_time(end + 24);
    world.run(instructions::draw(4));
}

#[test]
fn reveals_and_tally_of_the_old_epoch_go_by_the_old_grid() {
    let (stage, end) = changed();
    let at = stage.world.seats(3, 0)[0];
    let report = perfect()(at).expect("a report");
    let reveal = stage.world.reveal_of(&stage.checkers, at, &report);
    let operator = &stage.checkers[at.checker as usize].operator;
    // A second before the end and in the second at which the old window closes; the new one would be open until end + 30.
    for (time, name) in [(end - 1, "OutsideRevealWindow"), (end + 15, "OutsideRevealWindow")] {
        let mut world = stage.world.clone();
        world.set_time(time);
        world.refused(reveal.clone(), &[operator], name);
    }
    for time in [end, end + 14] {
        let mut world = stage.world.clone();
        world.set_time(time);
        world.must(std::slice::from_ref(&reveal), &[operator]);
    }

    // The tally opens with the old window's end and closes with the end of the next epoch, which is a long one.
    let mut world = stage.world.clone();
    world.reveal_all(&stage.checkers, 3, &perfect());
    let tally = instructions::tally_block(&world, 3, 0, 256);
    for (time, name) in
        [(end + 14, Some("OutsideTallyWindow")), (end + 15, None), (end + 99, None), (end + 100, Some("OutsideTallyWindow"))]
    {
        let mut world = world.clone();
        world.set_time(time);
        match name {
            Some(name) => world.refused(tally.clone(), &[], name),
            None => {
                world.run(tally.clone());
                world.check_books();
            }
        }
    }
}

#[test]
fn the_new_epochs_are_reported_and_paid_on_the_new_grid() {
    let (mut stage, end) = changed();
    let world = &mut stage.world;
    // The world's own clock of epochs follows: epoch 4 starts at `end`, a hundred seconds each.
    world.start = end - 400;
    world.settings.epoch_length = 100;
    stage.pass(4, &perfect());
    let world = &mut stage.world;
    let rows: Vec<u64> = world.block(0).rows[..2].iter().map(|r| r.accrued).collect();
    assert_eq!(rows, [375_000_000; 2], "half of 750 ATH each for epoch 3");
    let at = world.seats(4, 0)[0];
    let report = perfect()(at).expect("a report");
    let reveal = world.reveal_of(&stage.checkers, at, &report);
    let operator = stage.checkers[at.checker as usize].operator.clone();
    let mut late = world.clone();
    late.set_time(end + 130);
    late.refused(reveal.clone(), &[&operator], "OutsideRevealWindow");
    world.set_time(end + 129);
    world.must(&[reveal], &[&operator]);
    stage.world.check_books();
}

#[test]
fn commits_of_the_old_epoch_end_with_it() {
    let (stage, end) = changed();
    let at = stage.world.seats(3, 0)[0];
    let operator = stage.checkers[at.checker as usize].operator.clone();
    let commit = instructions::commit_report(&operator.pubkey(), 0, Some(at.checker), 3, at.seat, [9; 32]);
    let mut world = stage.world.clone();
    world.set_time(end);
    world.refused(commit.clone(), &[&operator], "OutsideCommitWindow");
    world.set_time(end - 1);
    world.must(&[commit], &[&operator]);
}

#[test]
fn a_second_change_waits_until_nobody_reports_on_the_oldest_grid() {
    let (mut stage, end) = changed();
    let world = &mut stage.world;
    // Without a lock, so that only the grid stands in the way.
    world.patch_as::<Network>(&addresses::network(), |n| n.parameters.time_lock = 0);
    let mut proposal = unchanged(world);
    proposal.epoch_length = 90;
    propose(world, proposal);
    let apply_it = instructions::apply_proposal(&proposal.treasury);
    // Before the boundary, in the first new epoch (3 is reported), in the second (3 is tallied until it begins, but the tally of 4
    // still asks for the old grid's epoch 3), and in the last second of it.
    for time in [end - 1, end, end + 99, end + 100, end + 199] {
        let mut world = world.clone();
        world.set_time(time);
        world.refused(apply_it.clone(), &[], "GridChangePending");
        assert_eq!(world.network().pending, proposal, "it stays pending");
    }
    world.set_time(end + 200);
    world.run(apply_it);
    let grids = world.network().grids;
    assert_eq!((grids[0].start, grids[0].first_epoch, grids[0].length), (end + 300, 7, 90));
    assert_eq!((grids[1].start, grids[1].first_epoch, grids[1].length), (end, 4, 100));
}

#[test]
fn other_parameters_need_not_wait_for_the_grid() {
    let (mut stage, _) = changed();
    let grids = stage.world.network().grids;
    enact(&mut stage.world, |p| p.parameters.tolerance = 6);
    assert_eq!((stage.world.network().parameters.tolerance, stage.world.network().grids), (6, grids));
}

#[test]
fn before_the_first_epoch_the_grid_changes_where_it_starts() {
    let mut world = World::with(Settings { start_in: 500, ..Settings::default() });
    let start = world.start;
    enact(&mut world, longer);
    let grids = world.network().grids;
    assert_eq!(grids[0], grids[1]);
    assert_eq!((grids[0].start, grids[0].first_epoch, grids[0].length, grids[0].reveal_window), (start, 0, 100, 30));
    // And once more, which has nothing to wait for.
    enact(&mut world, |p| (p.epoch_length, p.parameters.reveal_window) = (60, 15));
    assert_eq!((world.network().grids[0].start, world.network().grids[0].length), (start, 60));
    let payer = world.payer.pubkey();
    world.set_time(start - 1);
    let advance = instructions::advance_epoch(&world, &payer, 0);
    world.refused(advance.clone(), &[], "NotStarted");
    world.set_time(start);
    world.run(advance);
}
