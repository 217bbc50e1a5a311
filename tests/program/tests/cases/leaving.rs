//! `deregister_container`, `vacate_row`.

use datagalax::{
    constants::{NONE, ROWS, VOID},
    state::{Container, Row},
};
use datagalax_program_tests::{
    World, accounts,
    actors::{container_args, fingerprint},
    addresses,
    epochs::Votes,
    instructions,
    refusals::Call,
    settings::ATH,
    stage::{Stage, perfect},
};
use solana_instruction::Instruction;
use solana_signer::Signer;

use crate::court::{CONDEMNING, FULL, STAKE, accusing, address, container, leased, open, pass_to, row};

fn deregister(stage: &Stage, number: u32) -> Instruction {
    instructions::deregister_container(&stage.world, &stage.provider, &fingerprint(number))
}

fn vacate(stage: &Stage, number: u32) -> Instruction {
    instructions::vacate_row(&stage.world, stage.provider.id, &fingerprint(number))
}

#[track_caller]
fn leave(stage: &mut Stage, number: u32) {
    let instruction = deregister(stage, number);
    let owner = stage.provider.owner.clone();
    stage.world.must(&[instruction], &[&owner]);
    stage.world.check_books();
}

/// In epoch 3, everything live from it on.
fn live(checkers: u32, rows: u32) -> Stage {
    Stage::new(checkers, rows).pass_to(3, &perfect())
}

/// [`live`], and then container 0 leaves in `epoch`, before the epoch before it is tallied.
fn leaving_in(epoch: u32, rows: u32, votes: Votes) -> Stage {
    let mut stage = live(5, rows);
    pass_to(&mut stage, epoch - 1, votes);
    stage.world.reveal_all(&stage.checkers.clone(), epoch - 1, votes);
    stage.world.open(epoch);
    leave(&mut stage, 0);
    stage.world.tally_all(epoch - 1);
    stage.world.commit_all(&stage.checkers.clone(), epoch, votes);
    stage.world.check_books();
    stage
}

#[test]
fn it_is_still_judged_and_paid_for_this_epoch_and_the_one_before() {
    let mut stage = leaving_in(4, 2, &perfect());
    let left = row(&stage.world, 0);
    assert_eq!((left.status, left.until, left.live_from), (Row::LEAVING, 5, 3));
    assert_eq!((left.accrued, container(&stage, 0).accepting), (FULL / 2, 0), "epoch 3");
    assert_eq!((stage.world.block(0).live, stage.world.block(0).occupied), (1, 2));
    assert_eq!((stage.world.epoch(4).nominal_removed, stage.world.epoch(4).nominal), (1_000_000, 2_000_000));

    stage.pass(5, &perfect());
    assert_eq!(row(&stage.world, 0).accrued, FULL, "epoch 4");
    assert_eq!(row(&stage.world, 0).history[4], 100);
    assert_eq!(stage.world.epoch(5).nominal, 1_000_000, "what it leaves behind is shared by those who stay");
    let seated = row(&stage.world, 0);
    stage.pass(6, &perfect());
    assert_eq!(
        (row(&stage.world, 0).accrued, row(&stage.world, 0).epochs_live),
        (FULL, seated.epochs_live),
        "nothing for 5"
    );
    assert_eq!(row(&stage.world, 1).accrued, FULL + FULL, "two halves and a whole");
}

#[test]
fn vacating_moves_the_accrual_into_vesting_and_frees_stake_row_and_account() {
    let mut stage = leaving_in(4, 2, &perfect());
    stage.pass(5, &perfect());
    // One second before epoch 6 its last tally may still run.
    stage.world.set_time(stage.world.start_of(6) - 1);
    let instruction = vacate(&stage, 0);
    stage.world.refused(instruction.clone(), &[], "NotLeaving");
    stage.world.set_time(stage.world.start_of(6));

    let owner = stage.provider.owner.pubkey();
    let (rent, before) = (stage.world.account(&address(&stage.provider, 0)).lamports, stage.world.account(&owner).lamports);
    let provider = stage.world.provider(0);
    // Anybody may, and a pause stops nobody from getting out.
    stage.world.set_paused(true);
    stage.world.must(&[instruction], &[]);
    stage.world.set_paused(false);
    stage.world.check_books();
    assert!(stage.world.try_account(&address(&stage.provider, 0)).is_none(), "the account is closed");
    assert_eq!(stage.world.account(&owner).lamports - before, rent, "its rent went to who paid it");
    let after = stage.world.provider(0);
    let today = u32::try_from(stage.world.now() / 86_400).expect("a day");
    let grant = after.grants[today as usize % 180];
    assert_eq!((grant.amount, grant.day, after.claimed), (FULL, today, FULL));
    assert_eq!((provider.locked - after.locked, after.staked), (STAKE, provider.staked));
    assert_eq!((after.containers, after.containers_ever), (1, 2));
    let block = stage.world.block(0);
    assert_eq!((block.occupied, block.live, block.is_occupied(0), block.seated_from), (1, 1, false, 1));
    let free: Row = bytemuck::Zeroable::zeroed();
    assert_eq!(block.rows[0], free);
    assert_eq!(stage.world.network().free_rows as usize, ROWS - 1);

    // The row is the lowest free one, so the next container gets it, with nothing of the old one.
    stage.world.open(6);
    stage.world.containers(&stage.provider.clone(), 0, 0, 9, 1);
    let again = row(&stage.world, 0);
    assert_eq!(container(&stage, 9).row, 0);
    assert_eq!((again.status, again.live_from, again.accrued, again.history), (Row::CHECKING, 7, 0, [VOID; 32]));
    stage.world.commit_all(&stage.checkers.clone(), 6, &perfect());
    pass_to(&mut stage, 9, &perfect());
    assert_eq!((row(&stage.world, 0).status, row(&stage.world, 0).live_from), (Row::LIVE, 9));
}

#[test]
fn the_same_hardware_may_come_back() {
    let mut stage = leaving_in(4, 1, &perfect());
    stage.pass(5, &perfect());
    stage.world.open(6);
    let instruction = vacate(&stage, 0);
    stage.world.run(instruction.clone());
    stage.world.refused(instruction, &[], "ForeignAccount");
    stage.world.containers(&stage.provider.clone(), 0, 0, 0, 1);
    assert_eq!((container(&stage, 0).registered_at, container(&stage, 0).locked_stake), (stage.world.now(), STAKE));
    stage.world.check_books();
}

#[test]
fn what_is_only_being_checked_earns_nothing_on_its_way_out() {
    let mut stage = live(5, 1);
    let provider = stage.provider.clone();
    stage.world.containers(&provider, 0, 0, 1, 1);
    leave(&mut stage, 1);
    let left = row(&stage.world, 1);
    assert_eq!((left.status, left.live_from, left.until), (Row::LEAVING, NONE, 4));
    assert_eq!(stage.world.epoch(3).nominal_removed, 0);
    pass_to(&mut stage, 6, &perfect());
    let left = row(&stage.world, 1);
    assert_eq!((left.accrued, left.epochs_live, left.status), (0, 0, Row::LEAVING));
    assert_eq!(row(&stage.world, 0).accrued, 3 * FULL);
    let claimed = stage.world.provider(0).claimed;
    let instruction = vacate(&stage, 1);
    stage.world.run(instruction);
    assert_eq!(stage.world.provider(0).claimed, claimed, "nothing accrued, nothing granted");
    stage.world.check_books();
}

#[test]
fn what_became_live_a_moment_ago_and_leaves_is_paid_for_no_epoch_it_was_not_counted_in() {
    // Epoch 1 is tallied in 2: live from 3. It leaves in 2.
    let mut stage = Stage::new(5, 2).pass_to(2, &perfect());
    leave(&mut stage, 0);
    assert_eq!((row(&stage.world, 0).live_from, row(&stage.world, 0).until), (3, 3));
    pass_to(&mut stage, 5, &perfect());
    assert_eq!((row(&stage.world, 0).accrued, row(&stage.world, 1).accrued), (0, 2 * FULL));
    assert_eq!(stage.world.epoch(3).nominal, 1_000_000);
}

#[test]
fn a_block_without_rows_is_not_seated_until_it_has_one_again() {
    let mut stage = live(5, 2);
    leave(&mut stage, 0);
    leave(&mut stage, 1);
    pass_to(&mut stage, 5, &perfect());
    assert_eq!((stage.world.epoch(5).blocks, stage.world.epoch(5).nominal), (1, 0));
    let [first, second] = [vacate(&stage, 0), vacate(&stage, 1)];
    stage.world.run(first);
    assert_eq!((stage.world.block(0).seated_from, stage.world.epoch(5).blocks_removed), (1, 0));
    stage.world.run(second);
    assert_eq!((stage.world.block(0).seated_from, stage.world.epoch(5).blocks_removed), (NONE, 1));
    stage.world.check_books();
    // What was seated is judged to its end: nobody is right about nothing, and who was silent is marked all the same.
    stage.pass(6, &|_| None);
    assert_eq!((stage.world.epoch(6).blocks, stage.world.epoch(6).seat_pay), (0, 0));
    assert_eq!(stage.world.epoch(5).checker_credited, 0);
    stage.world.refused(instructions::seat_block(6, 0), &[], "BlockEmpty");
    assert_eq!(stage.world.network().free_rows as usize, ROWS);

    let provider = stage.provider.clone();
    stage.world.containers(&provider, 0, 0, 7, 1);
    assert_eq!((stage.world.block(0).seated_from, stage.world.epoch(6).blocks_added), (7, 1));
    stage.world.refused(instructions::seat_block(6, 0), &[], "BlockEmpty");
    pass_to(&mut stage, 10, &perfect());
    assert_eq!((stage.world.epoch(7).blocks, row(&stage.world, 0).accrued), (1, FULL));
}

#[test]
fn emptied_and_filled_within_one_epoch_a_block_still_counts_once() {
    let mut stage = live(5, 1);
    leave(&mut stage, 0);
    pass_to(&mut stage, 5, &perfect());
    let instruction = vacate(&stage, 0);
    stage.world.run(instruction);
    stage.world.containers(&stage.provider.clone(), 0, 0, 7, 1);
    let epoch = stage.world.epoch(5);
    assert_eq!((epoch.blocks, epoch.blocks_added, epoch.blocks_removed), (1, 1, 1));
    assert_eq!(stage.world.block(0).seated_from, 6);
    stage.world.check_books();
    // Epoch 5 was seated before: its tally finds a row that nobody could measure in full.
    stage.pass(6, &perfect());
    assert_eq!((row(&stage.world, 0).status, row(&stage.world, 0).history), (Row::CHECKING, [VOID; 32]));
    assert_eq!(stage.world.epoch(6).blocks, 1);
}

/// Attack: leave while nobody has advanced to the epoch the clock is in. Its nominal would no longer count the row, its tally would
/// pay it: more than the pool, which the tally refuses; nobody in the block would be paid any more.
#[test]
fn who_leaves_before_the_advance_is_not_paid_for_an_epoch_it_is_not_counted_in() {
    let mut stage = live(5, 2);
    stage.world.set_time(stage.world.start_of(4));
    leave(&mut stage, 0);
    assert_eq!(row(&stage.world, 0).until, 4);
    stage.pass(4, &perfect());
    assert_eq!(stage.world.epoch(4).nominal, 1_000_000);
    stage.pass(5, &perfect());
    assert_eq!(stage.world.epoch(4).container_credited, FULL);
    assert_eq!((row(&stage.world, 0).accrued, row(&stage.world, 1).accrued), (FULL / 2, FULL / 2 + FULL));
    let instruction = vacate(&stage, 0);
    stage.world.run(instruction);
    stage.world.check_books();
}

#[test]
fn deregister_container_refuses() {
    let mut stage = live(3, 2);
    let other = stage.world.provider_with(0);
    let owner = stage.provider.owner.clone();
    let valid = deregister(&stage, 0);
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = stage.provider.operator.pubkey();
    let operator = stage.provider.operator.clone();
    stage.world.refused(wrong, &[&operator], "Unauthorized");
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = other.owner.pubkey();
    wrong.accounts[2].pubkey = addresses::provider(other.id);
    stage.world.refused(wrong, &[&other.owner], "WrongAccount");
    let second = stage.world.grown_block_regardless();
    let mut wrong = valid.clone();
    wrong.accounts[4].pubkey = addresses::block(second);
    stage.world.refused(wrong, &[&owner], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[5].pubkey = addresses::epoch(2);
    stage.world.refused(wrong, &[&owner], "CurrentEpochRequired");

    // Attack: take the money of a lease and vanish from the committees' eyes. Open or running, it must end first.
    let mut taken = stage.clone();
    let user = taken.world.user();
    open(&mut taken, &user, 0, 1);
    taken.world.refused(valid.clone(), &[&owner], "ContainerLeased");
    let mut taken = stage.clone();
    leased(&mut taken, 0);
    taken.world.refused(valid.clone(), &[&owner], "ContainerLeased");

    let mut gone = stage.clone();
    leave(&mut gone, 0);
    gone.world.refused(valid.clone(), &[&owner], "AlreadyLeaving");
    leave(&mut gone, 1);
    let mut paused = stage.clone();
    paused.world.set_paused(true);
    leave(&mut paused, 0);
    Call::new(stage.world, valid, &[&owner]).check();
}

#[test]
fn vacate_row_refuses() {
    let mut stage = live(5, 2);
    let instruction = vacate(&stage, 0);
    stage.world.refused(instruction, &[], "NotLeaving");
    leave(&mut stage, 0);
    for epoch in [4, 5] {
        let mut early = stage.clone();
        early.world.set_time(early.world.start_of(epoch) - 1);
        let instruction = vacate(&early, 0);
        early.world.refused(instruction, &[], "NotLeaving");
    }
    pass_to(&mut stage, 5, &perfect());
    let valid = vacate(&stage, 0);

    let stranger = stage.world.actor("stranger").pubkey();
    let mut wrong = valid.clone();
    wrong.accounts[5].pubkey = stranger;
    stage.world.refused(wrong, &[], "WrongAccount");
    let other = stage.world.provider_with(0);
    let mut wrong = valid.clone();
    wrong.accounts[1].pubkey = addresses::provider(other.id);
    stage.world.refused(wrong, &[], "WrongAccount");
    let second = stage.world.grown_block_regardless();
    let mut wrong = valid.clone();
    wrong.accounts[3].pubkey = addresses::block(second);
    stage.world.refused(wrong, &[], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[4].pubkey = addresses::epoch(4);
    stage.world.refused(wrong, &[], "CurrentEpochRequired");
    Call::new(stage.world, valid, &[]).check();
}

#[test]
fn not_before_its_leases_are_settled() {
    let mut stage = live(5, 1);
    let (user, lease) = leased(&mut stage, 0);
    let close = instructions::close_lease(&stage.world, &user.key.pubkey(), &lease, true, 0);
    stage.world.must(&[close], &[&user.key]);
    leave(&mut stage, 0);
    assert_eq!(container(&stage, 0).unsettled, 1);
    pass_to(&mut stage, 5, &perfect());
    let instruction = vacate(&stage, 0);
    stage.world.refused(instruction.clone(), &[], "ContainerLeased");
    let settle = instructions::settle_lease(&stage.world, &lease);
    stage.world.run(settle);
    stage.world.run(instruction);
    stage.world.check_books();
}

#[test]
fn not_while_it_is_accused_and_the_committees_still_see_it() {
    let votes = accusing(&[4], &[0], CONDEMNING);
    let mut stage = leaving_in(4, 2, &votes);
    // Condemned for its last epoch: it stays for the whole window, and its frozen accrual with it.
    pass_to(&mut stage, 6, &votes);
    let accused = row(&stage.world, 0);
    assert_eq!((accused.status, accused.first_condemned, accused.case_until), (Row::LEAVING, 4, 11));
    assert_eq!((accused.history[5], accused.clean, accused.accrued), (100, 1, FULL / 2), "epoch 5 is judged, and not paid");
    for epoch in [7, 12, 13] {
        pass_to(&mut stage, epoch, &votes);
        let instruction = vacate(&stage, 0);
        stage.world.refused(instruction, &[], "ContainerAccused");
    }
    let release = instructions::release_row(&stage.world, &address(&stage.provider, 0), 4);
    stage.world.run(release);
    let instruction = vacate(&stage, 0);
    stage.world.run(instruction);
    assert_eq!(stage.world.provider(0).claimed, FULL / 2, "epoch 3, and nothing for the condemned one");
    stage.world.check_books();
}

#[test]
fn a_neighbour_of_the_same_provider_is_untouched() {
    let mut stage = live(5, 3);
    leave(&mut stage, 1);
    pass_to(&mut stage, 5, &perfect());
    let before = (row(&stage.world, 0), row(&stage.world, 2), container(&stage, 0).row, container(&stage, 2).row);
    let instruction = vacate(&stage, 1);
    stage.world.run(instruction);
    assert_eq!((row(&stage.world, 0), row(&stage.world, 2), container(&stage, 0).row, container(&stage, 2).row), before);
    // A full set of registrations finds the gap first.
    let register = instructions::register_container(&stage.world, &stage.provider, 0, 0, container_args(fingerprint(8), 1));
    stage.world.must(&[register], &[&stage.provider.owner]);
    assert_eq!(container(&stage, 8).row, 1);
    stage.world.check_books();
}

/// What was earned may be claimed while it is leaving, and is then not granted twice.
#[test]
fn claimed_before_it_is_vacated() {
    let mut stage = leaving_in(4, 1, &perfect());
    stage.pass(5, &perfect());
    stage.pass(6, &perfect());
    let claim = instructions::claim_rewards(&stage.provider, 0, &accounts::rows([0]));
    stage.world.must(&[claim], &[&stage.provider.operator]);
    assert_eq!(stage.world.provider(0).claimed, 2 * FULL);
    let instruction = vacate(&stage, 0);
    stage.world.run(instruction);
    assert_eq!(stage.world.provider(0).claimed, 2 * FULL);
    let world: &World = &stage.world;
    assert_eq!((world.all::<Container>().len(), world.provider(0).locked), (0, 0));
    assert_eq!(world.provider(0).free_stake(), 100_000 * ATH);
    world.check_books();
}
