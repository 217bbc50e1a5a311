//! `open_case`, `close_case`, `release_row`: from the first dishonest verdict to the end of its window.

use datagalax::{
    constants::NONE,
    state::{Case, Container, Parameters, Row, Ticket},
};
use datagalax_program_tests::{
    Report, Settings, World, accounts,
    actors::fingerprint,
    addresses::{self, Vault},
    epochs::SeatAt,
    instructions,
    refusals::Call,
    settings::{ATH, parameters},
    stage::Stage,
};
use solana_instruction::Instruction;
use solana_signer::Signer;

use crate::court::{CONDEMNING, FULL, STAKE, WINDOW, accusing, address, container, leased, pass_to, row, salted};

/// The first condemned epoch of these tests, and the first in which its case may be closed.
const FIRST: u32 = 4;
const CLOSES: u32 = FIRST + WINDOW + 1;
/// What one of two rows earns in an epoch.
const HALF: u64 = FULL / 2;

fn opening(stage: &Stage, number: u32, epoch: u32) -> Instruction {
    instructions::open_case(&stage.world, &stage.world.payer.pubkey(), &address(&stage.provider, number), epoch)
}

fn closing(stage: &Stage, number: u32, epoch: u32) -> Instruction {
    instructions::close_case(&stage.world, &address(&stage.provider, number), epoch)
}

fn case(stage: &Stage, number: u32, epoch: u32) -> Case {
    stage.world.read(&addresses::case(&address(&stage.provider, number), epoch, Case::DISHONEST))
}

fn claim(stage: &mut Stage, rows: &[usize]) -> Result<(), String> {
    let instruction = instructions::claim_rewards(&stage.provider, 0, &accounts::rows(rows.iter().copied()));
    let operator = stage.provider.operator.clone();
    stage.world.send(&[instruction], &[&operator]).map(|_| ()).map_err(|f| f.name)
}

/// Two rows, of which row 0 is condemned in these epochs; its case is opened in the one after the first.
fn accused(checkers: u32, epochs: &[u32]) -> Stage {
    let votes = accusing(epochs, &[0], CONDEMNING);
    let mut stage = Stage::new(checkers, 2).pass_to(FIRST + 1, &votes);
    let open = opening(&stage, 0, FIRST);
    stage.world.run(open);
    stage.world.check_books();
    stage
}

/// [`accused`], at the first second in which the case may be closed; the last tallied epoch is `FIRST + WINDOW - 1`.
fn heard(checkers: u32, epochs: &[u32]) -> Stage {
    let mut stage = accused(checkers, epochs);
    pass_to(&mut stage, CLOSES - 1, &accusing(epochs, &[0], CONDEMNING));
    stage.world.set_time(stage.world.start_of(CLOSES));
    stage
}

#[test]
fn the_first_verdict_freezes_the_accrual() {
    // In epoch 5 all are heard, or too few.
    for (heard, clean, accrued) in [(5, 1, 2 * HALF), (2, 0, HALF)] {
        let votes = move |at: SeatAt| match at.epoch {
            5 if at.seat >= heard => None,
            _ => accusing(&[FIRST], &[0], CONDEMNING)(at),
        };
        let mut stage = Stage::new(15, 2).pass_to(FIRST, &votes);
        assert!(!row(&stage.world, 0).is_accused());
        stage.pass(5, &votes);
        let accused = row(&stage.world, 0);
        assert_eq!((accused.first_condemned, accused.case_until), (FIRST, FIRST + WINDOW - 1));
        assert_eq!((accused.condemned, accused.clean, accused.status), (1, 0, Row::LIVE));
        assert_eq!((accused.accrued, row(&stage.world, 1).accrued), (HALF, 2 * HALF), "the condemned epoch pays nothing");

        // A claim of both takes the neighbour's alone; of the frozen one, nothing.
        assert_eq!(claim(&mut stage, &[0, 1]), Ok(()));
        assert_eq!((stage.world.provider(0).claimed, row(&stage.world, 0).accrued), (2 * HALF, HALF));
        assert_eq!(claim(&mut stage, &[0]), Err("NothingToPay".into()));
        stage.world.check_books();

        // It accrues on, frozen. Each quorate tally counts, condemned or clean; an epoch without a quorum does not.
        stage.pass(6, &votes);
        let accused = row(&stage.world, 0);
        assert_eq!((accused.condemned, accused.clean, accused.accrued), (1, clean, accrued), "{heard} are heard");
        assert_eq!(claim(&mut stage, &[0]), Err("NothingToPay".into()));
    }
}

/// Four of five condemn. A minority, or even three, can neither freeze nor ban: they cost nobody anything.
#[test]
fn three_votes_pay_four_condemn() {
    for seats in 0..=5 {
        let votes = accusing(&[FIRST], &[0], seats);
        let stage = Stage::new(15, 2).pass_to(FIRST + 1, &votes);
        let condemned = seats >= CONDEMNING;
        assert_eq!(row(&stage.world, 0).is_accused(), condemned, "{seats} votes");
        assert_eq!(row(&stage.world, 0).accrued, if condemned { HALF } else { 2 * HALF }, "{seats} votes");
        assert_eq!(container(&stage, 0).status, 0);
    }
    // Two in every epoch, whatever else they say of it.
    let lie = |at: SeatAt| {
        let report = Report::perfect();
        salted(if at.epoch >= FIRST && at.seat < 2 { report.row(0, 0, 0, 1).dishonest(0) } else { report }, at)
    };
    let stage = Stage::new(15, 2).pass_to(FIRST + 10, &lie);
    assert_eq!((row(&stage.world, 0).is_accused(), row(&stage.world, 0).accrued), (false, 11 * HALF));
    assert_eq!(row(&stage.world, 0).bad_epochs, 0);
}

/// With committees of three and four the same two thirds are needed.
#[test]
fn small_committees_need_two_thirds() {
    for (tickets, needed) in [(3, 2), (4, 3)] {
        for seats in [needed - 1, needed] {
            let votes = accusing(&[FIRST], &[0], seats);
            let stage = Stage::new(tickets, 2).pass_to(FIRST + 1, &votes);
            assert_eq!(row(&stage.world, 0).is_accused(), seats == needed, "{seats} of {tickets}");
        }
    }
}

#[test]
fn a_case_keeps_the_votes_and_the_evidence() {
    let stage = accused(15, &[FIRST]);
    let case = case(&stage, 0, FIRST);
    assert_eq!((case.kind, case.status, case.epoch, case.until), (Case::DISHONEST, Case::OPEN, FIRST, FIRST + WINDOW - 1));
    assert_eq!((case.container, case.rent_payer), (address(&stage.provider, 0), stage.world.payer.pubkey()));
    assert_eq!((case.block, case.row, case.opened, case.closed), (0, 0, stage.world.now(), 0));
    let seats = stage.world.seats(FIRST, 0);
    for (accuser, at) in case.seats.iter().zip(&seats) {
        assert_eq!((accuser.slot, accuser.checker), (at.slot, at.checker));
        assert_eq!(accuser.accused, u8::from(at.seat < CONDEMNING));
        assert_eq!(accuser.evidence_root, Report::perfect().evidence_root);
    }
}

#[test]
fn guilty_takes_the_whole_stake_and_the_frozen_accrual() {
    let mut stage = heard(15, &[FIRST, 6]);
    // 3, 5, 7 to 11: the condemned ones paid nothing.
    let frozen = 7 * HALF;
    assert_eq!((row(&stage.world, 0).accrued, row(&stage.world, 0).condemned, row(&stage.world, 0).clean), (frozen, 2, 5));
    // Who drives it gets the set fee of any action out of the epoch's treasury share, and no more for a guilty one.
    let wallet = stage.world.actor("keeper").pubkey();
    let register = instructions::register_keeper(&stage.world.payer.pubkey(), &wallet);
    stage.world.run(register);
    stage.world.patch_as::<datagalax::state::Epoch>(&addresses::epoch(CLOSES - 1), |e| e.keeper_fee = 3 * ATH);
    stage.world.keeper = Some(wallet);

    let close = closing(&stage, 0, FIRST);
    let (provider, tickets) = (stage.world.provider(0), stage.world.tickets());
    let (stake, rewards) = (stage.world.ledger(Vault::Stake), stage.world.ledger(Vault::Rewards));
    let purses: Vec<u64> =
        stage.checkers.iter().flat_map(|c| [c.to, c.from, c.operator_account]).map(|a| stage.world.balance(&a)).collect();
    // A pause stops no case.
    stage.world.set_paused(true);
    stage.world.run(close.clone());
    stage.world.set_paused(false);
    stage.world.check_books();

    let case = case(&stage, 0, FIRST);
    assert_eq!((case.status, case.condemned, case.closed), (Case::UPHELD, 2, stage.world.now()));
    assert_eq!((case.stake_taken, case.grants_taken, case.accrual_taken, case.compensation), (STAKE, 0, frozen, 0));
    let halted = container(&stage, 0);
    assert_eq!((halted.status, halted.halt_reason, halted.locked_stake), (1, Container::HALT_DISHONEST, 0));
    let after = stage.world.provider(0);
    assert_eq!((provider.staked - after.staked, provider.locked - after.locked), (STAKE, STAKE));
    let taken = row(&stage.world, 0);
    assert_eq!((taken.accrued, taken.is_accused(), taken.first_condemned), (0, false, NONE));
    assert_eq!((taken.status, taken.flags), (Row::CHECKING, Row::HALTED | Row::PROBATION));
    assert_eq!(stage.world.epoch(CLOSES - 1).nominal_removed, 1_000_000);

    // Nobody who judged, accused or drove it is paid from it: all of it belongs to the rewards.
    assert_eq!(stage.world.tickets(), tickets, "no ticket gains or loses");
    let same: Vec<u64> =
        stage.checkers.iter().flat_map(|c| [c.to, c.from, c.operator_account]).map(|a| stage.world.balance(&a)).collect();
    assert_eq!(same, purses);
    assert_eq!(stage.world.read::<datagalax::state::Keeper>(&addresses::keeper(&wallet)).due, 3 * ATH);
    let (stake_after, rewards_after) = (stage.world.ledger(Vault::Stake), stage.world.ledger(Vault::Rewards));
    assert_eq!((stake_after.balance, stake.liabilities - stake_after.liabilities), (stake.balance, STAKE));
    assert_eq!((rewards_after.balance, rewards.liabilities - rewards_after.liabilities), (rewards.balance, frozen));
    let sweep = instructions::sweep_vault(&stage.world, Vault::Stake);
    stage.world.run(sweep);
    assert_eq!(stage.world.ledger(Vault::Rewards).balance, rewards.balance + STAKE);
    stage.world.refused(close, &[], "CaseClosed");

    // The case's account goes back to who paid for it, and the case cannot be opened again.
    let payer = stage.world.payer.pubkey();
    let end =
        instructions::close_account(&payer, &addresses::case(&address(&stage.provider, 0), FIRST, Case::DISHONEST), &payer);
    stage.world.run(end);
    let again = opening(&stage, 0, FIRST);
    stage.world.refused(again, &[], "NotAccused");
}

#[test]
fn what_an_earlier_slash_left_too_little_of_comes_out_of_unvested_grants() {
    let votes = accusing(&[FIRST, 6], &[0], CONDEMNING);
    let mut stage = Stage::new(15, 2).pass_to(3, &votes);
    // The host closes a lease early: that costs an epoch's price, 2 ATH an hour for 60 s.
    let (_, lease) = leased(&mut stage, 0);
    let operator = stage.world.container_operator(&fingerprint(0));
    let end = instructions::close_lease(&stage.world, &operator.pubkey(), &lease, false, 0);
    stage.world.must(&[end], &[&operator]);
    let before = 2 * ATH / 60;
    assert_eq!(container(&stage, 0).locked_stake, STAKE - before);
    pass_to(&mut stage, 5, &votes);
    let open = opening(&stage, 0, FIRST);
    stage.world.run(open);
    pass_to(&mut stage, CLOSES, &votes);
    // The neighbour's pay was granted: 30 percent of it has vested.
    assert_eq!(claim(&mut stage, &[1]), Ok(()));
    let provider = stage.world.provider(0);
    let close = closing(&stage, 0, FIRST);
    stage.world.run(close);
    stage.world.check_books();
    let case = case(&stage, 0, FIRST);
    assert_eq!((case.stake_taken, case.grants_taken), (STAKE - before, before));
    let after = stage.world.provider(0);
    assert_eq!((after.taken, after.claimed, container(&stage, 0).locked_stake), (before, provider.claimed, 0));
    let today = u32::try_from(stage.world.now() / 86_400).expect("a day");
    assert_eq!(after.grants[today as usize % 180].taken, before);
    // What had vested stays.
    let terms = stage.world.network().vesting_terms;
    assert_eq!(after.vested(today, &terms), provider.vested(today, &terms));
}

#[test]
fn not_guilty_releases_and_marks_who_accused_alone() {
    let mut stage = heard(15, &[FIRST]);
    let before = stage.world.tickets();
    let provider = stage.world.provider(0);
    let close = closing(&stage, 0, FIRST);
    stage.world.run(close.clone());
    stage.world.check_books();
    let case = case(&stage, 0, FIRST);
    assert_eq!((case.status, case.condemned, case.stake_taken, case.accrual_taken), (Case::REJECTED, 1, 0, 0));
    let free = row(&stage.world, 0);
    assert_eq!((free.is_accused(), free.first_condemned, free.condemned, free.clean), (false, NONE, 0, 0));
    assert_eq!((free.status, free.accrued, container(&stage, 0).status), (Row::LIVE, 8 * HALF, 0));
    assert_eq!((stage.world.provider(0).staked, stage.world.provider(0).locked), (provider.staked, provider.locked));
    assert_eq!(claim(&mut stage, &[0]), Ok(()));
    assert_eq!(stage.world.provider(0).claimed, 8 * HALF, "3, 5 to 11");

    let accusers: Vec<u32> = case.seats.iter().filter(|s| s.accused == 1).map(|s| s.slot).collect();
    assert_eq!(accusers.len(), usize::from(CONDEMNING));
    for (slot, (old, new)) in before.iter().zip(stage.world.tickets()).enumerate() {
        let marks = u32::from(accusers.contains(&(slot as u32)));
        assert_eq!(new.record.count_ones() - old.record.count_ones(), marks, "slot {slot}");
        assert_eq!((new.accrued, new.status), (old.accrued, old.status));
    }
    stage.world.refused(close, &[], "CaseClosed");
}

#[test]
fn a_second_committee_spares_the_accusers_even_where_it_is_not_enough() {
    // 48 epochs: eight must condemn.
    let mut stage = long_window(5, &[FIRST, 9], CONDEMNING);
    let before = stage.world.tickets();
    let close = closing(&stage, 0, FIRST);
    stage.world.run(close);
    assert_eq!((case(&stage, 0, FIRST).status, case(&stage, 0, FIRST).condemned), (Case::REJECTED, 2));
    assert_eq!(stage.world.tickets(), before);
    assert!(!row(&stage.world, 0).is_accused());
}

/// A window of 48 epochs, at its end; condemned by `seats` in these epochs.
fn long_window(checkers: u32, epochs: &[u32], seats: u8) -> Stage {
    let parameters = Parameters { case_window: 48 * 60, unbonding: 52 * 60, ..parameters() };
    let votes = accusing(epochs, &[0], seats);
    let mut stage = Stage::of(Settings { parameters, ..Settings::default() }, checkers, 2).pass_to(FIRST + 1, &votes);
    assert_eq!(row(&stage.world, 0).case_until, FIRST + 47);
    let open = opening(&stage, 0, FIRST);
    stage.world.run(open);
    pass_to(&mut stage, FIRST + 48, &votes);
    let early = closing(&stage, 0, FIRST);
    stage.world.refused(early, &[], "CaseOpen");
    stage.world.set_time(stage.world.start_of(FIRST + 49));
    stage
}

#[test]
fn eight_of_48_are_a_sixth_of_the_window() {
    for (last, status) in [(50, Case::REJECTED), (FIRST + 47, Case::UPHELD)] {
        // The last one of the window counts, as all do; one more after it does not.
        let mut epochs = vec![FIRST, 5, 10, 20, 30, 40, 49];
        if status == Case::UPHELD {
            epochs.push(last);
        }
        let mut stage = long_window(15, &epochs, CONDEMNING);
        assert_eq!(usize::from(row(&stage.world, 0).condemned), epochs.len());
        let close = closing(&stage, 0, FIRST);
        stage.world.run(close);
        assert_eq!(case(&stage, 0, FIRST).status, status, "{} condemned", epochs.len());
        assert_eq!(container(&stage, 0).locked_stake, if status == Case::UPHELD { 0 } else { STAKE });
        stage.world.check_books();
    }
}

/// Voids are part of the window, and part of nothing else.
#[test]
fn voids_count_in_the_window_and_convict_nobody() {
    let mut stage = accused(15, &[FIRST]);
    // Nobody advances, seats or reports any more.
    stage.world.set_time(stage.world.start_of(CLOSES));
    assert_eq!((row(&stage.world, 0).condemned, row(&stage.world, 0).clean), (1, 0));
    let close = closing(&stage, 0, FIRST);
    stage.world.run(close);
    assert_eq!(case(&stage, 0, FIRST).status, Case::REJECTED);
    stage.world.check_books();
}

/// Attack: once two committees have seen it, hide from those that follow.
#[test]
fn hiding_counts_like_a_verdict_once_two_condemned() {
    let votes = |at: SeatAt| {
        let report = Report::perfect();
        let report = match at.epoch {
            // Before the second verdict an absence is only an absence.
            4 | 6 if at.seat < CONDEMNING => report.dishonest(0),
            5 | 8 => report.row(0, 79, 100, 9),
            7 => report.row(0, 80, 100, 9),
            _ => report,
        };
        salted(report, at)
    };
    let mut stage = Stage::new(15, 2).pass_to(5, &votes);
    let seen = |stage: &Stage| (row(&stage.world, 0).condemned, row(&stage.world, 0).clean);
    for (epoch, expected) in [(6, (1, 1)), (7, (2, 0)), (8, (2, 1)), (9, (3, 0)), (10, (3, 1))] {
        pass_to(&mut stage, epoch, &votes);
        assert_eq!(seen(&stage), expected, "epoch {} is tallied", epoch - 1);
    }
}

#[test]
fn nothing_is_taken_while_there_are_fewer_than_15_tickets() {
    let mut stage = heard(14, &[FIRST, 6]);
    let tickets = stage.world.tickets();
    let provider = stage.world.provider(0);
    let close = closing(&stage, 0, FIRST);
    stage.world.run(close);
    stage.world.check_books();
    let case = case(&stage, 0, FIRST);
    assert_eq!((case.status, case.condemned, case.stake_taken, case.accrual_taken), (Case::REJECTED, 2, 0, 0));
    assert_eq!((row(&stage.world, 0).accrued, row(&stage.world, 0).status), (7 * HALF, Row::LIVE));
    assert_eq!((stage.world.provider(0).staked, container(&stage, 0).status), (provider.staked, 0));
    assert_eq!(stage.world.tickets(), tickets, "two committees condemned: no accuser is marked");
    assert_eq!(claim(&mut stage, &[0]), Ok(()));
}

#[test]
fn opened_late_it_knows_no_accusers() {
    let votes = accusing(&[FIRST], &[0], CONDEMNING);
    let mut stage = Stage::new(15, 2).pass_to(6, &votes);
    // The lane of 4 was seated again for 6.
    let open = opening(&stage, 0, FIRST);
    stage.world.run(open);
    let known = case(&stage, 0, FIRST);
    assert!(known.seats.iter().all(|s| s.slot == NONE && s.accused == 0 && s.evidence_root == [0; 32]));
    assert_eq!(known.until, FIRST + WINDOW - 1, "the window is the row's");
    pass_to(&mut stage, CLOSES, &votes);
    let before = stage.world.tickets();
    let close = closing(&stage, 0, FIRST);
    stage.world.run(close);
    assert_eq!((stage.world.tickets(), case(&stage, 0, FIRST).status), (before, Case::REJECTED));
    assert!(!row(&stage.world, 0).is_accused());
}

#[test]
fn opened_on_the_last_day_it_still_convicts() {
    let votes = accusing(&[FIRST, 11], &[0], CONDEMNING);
    let mut stage = Stage::new(15, 2).pass_to(CLOSES + 3, &votes);
    let open = opening(&stage, 0, FIRST);
    let container_address = address(&stage.provider, 0);
    stage.world.run(open);
    let close = instructions::close_case(&stage.world, &container_address, FIRST);
    stage.world.run(close);
    assert_eq!((case(&stage, 0, FIRST).status, case(&stage, 0, FIRST).condemned), (Case::UPHELD, 2));
    stage.world.check_books();
}

#[test]
fn unopened_anybody_releases_it_after_the_window() {
    let votes = accusing(&[FIRST, 6], &[0], CONDEMNING);
    let mut stage = Stage::new(15, 2).pass_to(CLOSES - 1, &votes);
    let release = instructions::release_row(&stage.world, &address(&stage.provider, 0), FIRST);
    stage.world.set_time(stage.world.start_of(CLOSES) - 1);
    stage.world.refused(release.clone(), &[], "CaseOpen");
    stage.world.set_time(stage.world.start_of(CLOSES));
    let before = stage.world.tickets();
    stage.world.set_paused(true);
    stage.world.run(release.clone());
    stage.world.set_paused(false);
    let free = row(&stage.world, 0);
    assert_eq!((free.is_accused(), free.accrued, free.status), (false, 7 * HALF, Row::LIVE));
    assert_eq!((stage.world.tickets(), container(&stage, 0).locked_stake), (before, STAKE));
    stage.world.refused(release, &[], "NotAccused");
    let open = opening(&stage, 0, FIRST);
    stage.world.refused(open, &[], "NotAccused");
    assert_eq!(claim(&mut stage, &[0]), Ok(()));
    stage.world.check_books();

    // The next verdict is a case of its own.
    let votes = accusing(&[FIRST, 6, 13], &[0], CONDEMNING);
    pass_to(&mut stage, 14, &votes);
    assert_eq!((row(&stage.world, 0).first_condemned, row(&stage.world, 0).condemned), (13, 1));
}

/// Attack: release a row whose case is open; or one whose case is named wrongly.
#[test]
fn release_row_refuses() {
    let stage = heard(15, &[FIRST, 6]);
    let mut opened = stage.clone();
    let release = instructions::release_row(&opened.world, &address(&opened.provider, 0), FIRST);
    opened.world.refused(release.clone(), &[], "CaseExists");
    let mut wrong = release.clone();
    wrong.accounts[3].pubkey = addresses::case(&address(&opened.provider, 1), FIRST, Case::DISHONEST);
    opened.world.refused(wrong, &[], "WrongAccount");
    let mut wrong = release.clone();
    wrong.accounts[3].pubkey = addresses::case(&address(&opened.provider, 0), FIRST, Case::BREACH);
    opened.world.refused(wrong, &[], "WrongAccount");
    let neighbour = instructions::release_row(&opened.world, &address(&opened.provider, 1), FIRST);
    opened.world.refused(neighbour, &[], "NotAccused");
    let other = instructions::release_row(&opened.world, &address(&opened.provider, 0), 6);
    opened.world.refused(other, &[], "NotAccused");
    let second = opened.world.grown_block_regardless();
    let mut wrong = release;
    wrong.accounts[2].pubkey = addresses::block(second);
    opened.world.refused(wrong, &[], "WrongAccount");

    let votes = accusing(&[FIRST], &[0], CONDEMNING);
    let unopened = Stage::new(5, 2).pass_to(CLOSES, &votes);
    let release = instructions::release_row(&unopened.world, &address(&unopened.provider, 0), FIRST);
    Call::new(unopened.world, release, &[]).check();
}

#[test]
fn open_case_refuses() {
    let votes = accusing(&[FIRST, 6], &[0], CONDEMNING);
    let mut stage = Stage::new(5, 2).pass_to(FIRST, &votes);
    let early = opening(&stage, 0, FIRST);
    stage.world.refused(early, &[], "NotAccused");
    pass_to(&mut stage, 7, &votes);
    let valid = opening(&stage, 0, FIRST);
    for (number, epoch) in [(0, 5), (0, 6), (0, NONE), (1, FIRST)] {
        let wrong = opening(&stage, number, epoch);
        stage.world.refused(wrong, &[], "NotAccused");
    }
    let mut wrong = valid.clone();
    wrong.accounts[3].pubkey = addresses::case(&address(&stage.provider, 0), FIRST, Case::BREACH);
    stage.world.refused(wrong, &[], "InvalidSeeds");
    let second = stage.world.grown_block_regardless();
    let mut wrong = valid.clone();
    wrong.accounts[2].pubkey = addresses::block(second);
    stage.world.refused(wrong, &[], "WrongAccount");
    let mut twice = stage.world.clone();
    twice.run(valid.clone());
    twice.refused(valid.clone(), &[], "AlreadyExists");
    let mut paused = stage.world.clone();
    paused.set_paused(true);
    paused.run(valid);
    // Somebody who is not the world's payer, so that its signature can be missing.
    let payer = stage.world.actor("plaintiff");
    let valid = instructions::open_case(&stage.world, &payer.pubkey(), &address(&stage.provider, 0), FIRST);
    Call::new(stage.world, valid, &[&payer]).check();
}

#[test]
fn close_case_refuses() {
    let mut stage = heard(15, &[FIRST, 6]);
    let other = stage.world.provider_with(0);
    let valid = closing(&stage, 0, FIRST);
    stage.world.set_time(stage.world.start_of(CLOSES) - 1);
    stage.world.refused(valid.clone(), &[], "CaseOpen");
    stage.world.set_time(stage.world.start_of(CLOSES));
    let second = stage.world.grown_block_regardless();
    let changes: [(usize, solana_pubkey::Pubkey, &str); 6] = [
        (2, address(&stage.provider, 1), "WrongAccount"),
        (3, addresses::provider(other.id), "WrongAccount"),
        (4, addresses::block(second), "WrongAccount"),
        (6, addresses::epoch(CLOSES - 2), "CurrentEpochRequired"),
        (7, addresses::ledger(Vault::Escrow), "WrongAccount"),
        (8, addresses::ledger(Vault::Escrow), "WrongAccount"),
    ];
    for (i, address, name) in changes {
        let mut wrong = valid.clone();
        wrong.accounts[i].pubkey = address;
        stage.world.refused(wrong, &[], name);
    }
    // A row that is accused of something else, which no order of calls leads to; a case of breach.
    let mut forged = stage.world.clone();
    forged.patch_as::<datagalax::state::Block>(&addresses::block(0), |b| b.rows[0].first_condemned = 6);
    forged.refused(valid.clone(), &[], "NotAccused");
    let mut forged = stage.world.clone();
    let case = addresses::case(&address(&stage.provider, 0), FIRST, Case::DISHONEST);
    forged.patch_as::<Case>(&case, |c| c.kind = Case::BREACH);
    forged.refused(valid.clone(), &[], "CaseClosed");
    Call::new(stage.world, valid, &[]).check();
}

fn ones(world: &World) -> Vec<u32> {
    world.tickets().iter().map(|t: &Ticket| t.record.count_ones()).collect()
}

/// However many rows were accused in an epoch, its accusers take one mark; and in whatever order the cases are closed.
#[test]
fn one_mark_an_epoch_however_many_rows_and_in_whatever_order() {
    // Everybody sits in every committee: seats say who accuses, tickets take the marks.
    let votes = |at: SeatAt| {
        let mut report = Report::perfect();
        if at.seat < CONDEMNING {
            match at.epoch {
                4 => report = report.dishonest(0).dishonest(1),
                5 => report = report.dishonest(2),
                6 => report = report.dishonest(3),
                _ => {}
            }
        }
        salted(report, at)
    };
    let cases = [(0, 4), (1, 4), (2, 5), (3, 6)];
    let mut stage = Stage::new(5, 5).pass_to(5, &votes);
    let mut accused = [0u32; 5];
    for epoch in 4..=6 {
        pass_to(&mut stage, epoch + 1, &votes);
        for (number, _) in cases.iter().filter(|(_, e)| *e == epoch) {
            let open = opening(&stage, *number, epoch);
            stage.world.run(open);
        }
        for at in stage.world.seats(epoch, 0).iter().filter(|at| at.seat < CONDEMNING) {
            accused[at.slot as usize] += 1;
        }
    }
    pass_to(&mut stage, 6 + WINDOW + 1, &votes);
    assert_eq!(ones(&stage.world), [0; 5]);
    for order in permutations(cases.len()) {
        let mut world = stage.world.clone();
        for i in &order {
            let (number, epoch) = cases[*i];
            let close = instructions::close_case(&world, &address(&stage.provider, number), epoch);
            world.run(close);
        }
        assert_eq!(ones(&world), accused, "closed in the order {order:?}");
        assert!(world.block(0).rows.iter().all(|r| !r.is_accused()));
        world.check_books();
    }
}

/// All orders of so many things.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for next in 0..count {
        all = all
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut longer = order.clone();
                    longer.insert(at, next);
                    longer
                })
            })
            .collect();
    }
    all
}

/// Twenty wrong accusations retire a ticket like twenty wrong reports.
#[test]
fn the_mark_that_is_one_too_many_retires() {
    let mut stage = heard(10, &[FIRST]);
    let slot = case(&stage, 0, FIRST).seats[0].slot;
    crate::court::patch_ticket(&mut stage.world, slot, |t| t.record = ((1 << 19) - 1) << 1);
    let close = closing(&stage, 0, FIRST);
    stage.world.run(close);
    assert_eq!((stage.world.tickets()[slot as usize].status, stage.world.set().retiring), (Ticket::RETIRING, 1));
    stage.world.check_books();
    stage.world.open(CLOSES);
    assert_eq!(stage.world.tickets()[slot as usize].status, Ticket::RETIRED);
    stage.world.check_books();
}

/// It leaves, and is judged all the same: the row stays, its stake with it.
#[test]
fn who_leaves_is_judged_all_the_same() {
    let votes = accusing(&[FIRST, 10], &[0], CONDEMNING);
    let mut stage = Stage::new(15, 2).pass_to(FIRST, &votes);
    let leave = instructions::deregister_container(&stage.world, &stage.provider, &fingerprint(0));
    stage.world.must(&[leave], &[&stage.provider.owner]);
    pass_to(&mut stage, FIRST + 1, &votes);
    let open = opening(&stage, 0, FIRST);
    stage.world.run(open);
    pass_to(&mut stage, CLOSES, &votes);
    let vacate = instructions::vacate_row(&stage.world, 0, &fingerprint(0));
    stage.world.refused(vacate.clone(), &[], "ContainerAccused");
    let close = closing(&stage, 0, FIRST);
    stage.world.run(close);
    stage.world.check_books();
    let case = case(&stage, 0, FIRST);
    assert_eq!((case.status, case.stake_taken, case.accrual_taken), (Case::UPHELD, STAKE, HALF), "epoch 3 was paid");
    assert_eq!(row(&stage.world, 0).status, Row::LEAVING);
    stage.world.run(vacate);
    let provider = stage.world.provider(0);
    assert_eq!((provider.staked, provider.locked, provider.claimed), (100_000 * ATH - STAKE, STAKE, 0));
    stage.world.check_books();
}

/// A row that is only being checked can be dishonest as well: it has stake, and nothing accrued.
#[test]
fn a_row_that_is_checked_is_judged_too() {
    let votes = |at: SeatAt| {
        let report = if at.seat < CONDEMNING && at.epoch <= 2 { Report::perfect().dishonest(0) } else { Report::perfect() };
        salted(report, at)
    };
    let mut stage = Stage::new(15, 2).pass_to(2, &votes);
    assert_eq!((row(&stage.world, 0).first_condemned, row(&stage.world, 0).status), (1, Row::CHECKING));
    let open = opening(&stage, 0, 1);
    stage.world.run(open);
    pass_to(&mut stage, WINDOW + 2, &votes);
    let close = closing(&stage, 0, 1);
    stage.world.run(close);
    stage.world.check_books();
    let case = case(&stage, 0, 1);
    assert_eq!((case.status, case.condemned, case.stake_taken), (Case::UPHELD, 2, STAKE));
    assert!(!row(&stage.world, 0).is_accused());
}
