//! `commit_report`, `reveal_report`.

use datagalax::{constants::ROWS, report::entropy, state::Checker as CheckerAccount};
use datagalax_program_tests::{Report, addresses, epochs::SeatAt, instructions};
use solana_instruction::Instruction;
use solana_signer::Signer;

use datagalax_program_tests::{
    refusals::Call,
    stage::{Stage, perfect},
};

/// In epoch 1, seated, 30 seconds in; and the first seat.
fn seated(checkers: u32) -> (Stage, SeatAt) {
    let mut stage = Stage::new(checkers, 1).open_next();
    stage.world.enter(1, 30);
    let at = stage.world.seats(1, stage.block)[0];
    (stage, at)
}

fn commit_of(stage: &Stage, at: SeatAt, report: &Report) -> Instruction {
    let operator = stage.checkers[at.checker as usize].operator.pubkey();
    let commitment = report.commitment(at.epoch, at.block, at.seat, at.checker);
    instructions::commit_report(&operator, at.block, Some(at.checker), at.epoch, at.seat, commitment)
}

/// The same commit without the checker account.
fn again(stage: &Stage, at: SeatAt, report: &Report) -> Instruction {
    let operator = stage.checkers[at.checker as usize].operator.pubkey();
    let commitment = report.commitment(at.epoch, at.block, at.seat, at.checker);
    instructions::commit_report(&operator, at.block, None, at.epoch, at.seat, commitment)
}

#[test]
fn commit_writes_the_seat_and_nothing_else() {
    let (mut stage, at) = seated(3);
    let report = Report::perfect();
    let before = stage.world.block(at.block);
    stage.world.commit(&stage.checkers, at, &report);
    let mut expected = before;
    let operator = stage.checkers[at.checker as usize].operator.pubkey();
    let seat = &mut expected.lanes[1].committee[usize::from(at.seat)];
    (seat.operator, seat.commitment) = (operator, report.commitment(1, at.block, at.seat, at.checker));
    let after = stage.world.block(at.block);
    assert!(bytemuck::bytes_of(&*after) == bytemuck::bytes_of(&*expected), "only operator and commitment of the seat");
}

#[test]
fn a_commitment_may_be_replaced_until_the_end() {
    let (mut stage, at) = seated(3);
    stage.world.commit(&stage.checkers, at, &Report::empty());
    // The copy in the seat proves the operator from now on, also after the checker names another.
    stage.world.patch_as::<CheckerAccount>(&addresses::checker(at.checker), |c| c.operator = addresses::network());
    let replaced = again(&stage, at, &Report::perfect());
    let operator = stage.checkers[at.checker as usize].operator.clone();
    stage.world.enter(1, 59);
    stage.world.must(std::slice::from_ref(&replaced), &[&operator]);
    stage.world.enter(2, 0);
    stage.world.refused(replaced, &[&operator], "OutsideCommitWindow");
    stage.world.reveal(&stage.checkers, at, &Report::perfect());
}

#[test]
fn commit_refuses() {
    let (mut stage, at) = seated(4);
    let seats = stage.world.seats(1, stage.block);
    let (other, report) = (seats[1], Report::perfect());
    let operator = stage.checkers[at.checker as usize].operator.clone();
    let stranger = stage.checkers[other.checker as usize].operator.clone();
    let valid = commit_of(&stage, at, &report);

    // Another's seat, with one's own key and either checker account; the owner's key.
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = stranger.pubkey();
    stage.world.refused(wrong.clone(), &[&stranger], "Unauthorized");
    wrong.accounts[3].pubkey = addresses::checker(other.checker);
    stage.world.refused(wrong, &[&stranger], "WrongAccount");
    let owner = stage.checkers[at.checker as usize].owner.clone();
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = owner.pubkey();
    stage.world.refused(wrong, &[&owner], "Unauthorized");
    // The first commit without the checker.
    let bare = again(&stage, at, &report);
    stage.world.refused(bare, &[&operator], "CheckerRequired");

    // Seats that do not exist or are empty: four checkers fill four of five.
    let key = operator.pubkey();
    let commit =
        |epoch, seat, commitment| instructions::commit_report(&key, at.block, Some(at.checker), epoch, seat, commitment);
    for seat in [4, 5, 255] {
        stage.world.refused(commit(1, seat, [1; 32]), &[&operator], "NoSuchSeat");
    }
    stage.world.refused(commit(1, at.seat, [0; 32]), &[&operator], "EmptyCommitment");
    // Epochs without a committee: before, after, of the same parity, and the last number there is.
    for epoch in [0, 2, 3, u32::MAX] {
        stage.world.refused(commit(epoch, at.seat, [1; 32]), &[&operator], "NotSeated");
    }
    stage.world.enter(2, 0);
    stage.world.refused(valid.clone(), &[&operator], "OutsideCommitWindow");
    stage.world.enter(1, 30);

    // A pause stops no commit.
    stage.world.set_paused(true);
    Call::new(stage.world.clone(), valid.clone(), &[&operator]).check();
    stage.world.must(&[valid], &[&operator]);
    let mut theft = again(&stage, at, &report);
    theft.accounts[0].pubkey = stranger.pubkey();
    stage.world.refused(theft, &[&stranger], "Unauthorized");
}

#[test]
fn several_commits_fit_a_transaction() {
    let (mut stage, _) = seated(3);
    let seats = stage.world.seats(1, stage.block);
    let operators: Vec<_> = seats.iter().map(|s| stage.checkers[s.checker as usize].operator.clone()).collect();
    let all: Vec<_> = seats.iter().map(|at| commit_of(&stage, *at, &Report::perfect())).collect();
    stage.world.must(&all, &operators.iter().map(|k| &**k).collect::<Vec<_>>());
    assert!(stage.world.block(stage.block).lanes[1].committee[..3].iter().all(|s| s.has_committed()));
}

#[test]
fn reveal_copies_the_report_keeps_the_root_and_adds_entropy() {
    let (mut stage, _) = seated(3);
    let seats = stage.world.seats(1, stage.block);
    let report = |at: SeatAt| {
        let mut report = Report::perfect().salted(1, at.block, at.seat);
        for row in 0..ROWS {
            report = report.row(row, row as u8, (row as u8).wrapping_mul(3), (row as u8).wrapping_mul(7) ^ at.seat);
        }
        report
    };
    for at in &seats {
        stage.world.commit(&stage.checkers, *at, &report(*at));
    }
    stage.world.enter(2, 1);
    let mut sum = [0; 32];
    for at in &seats {
        stage.world.reveal(&stage.checkers, *at, &report(*at));
        sum.iter_mut().zip(entropy(&report(*at).salt)).for_each(|(s, e)| *s ^= e);
    }
    let block = stage.world.block(stage.block);
    for at in &seats {
        let (seat, expected) = (&block.lanes[1].committee[usize::from(at.seat)], report(*at));
        assert_eq!((seat.revealed, seat.commitment), (1, expected.evidence_root));
        assert_eq!(seat.availability, expected.values[..ROWS]);
        assert_eq!(seat.capacity, expected.values[ROWS..2 * ROWS]);
        assert_eq!(seat.token, expected.values[2 * ROWS..]);
    }
    assert_eq!(block.lanes[1].entropy, sum);
    assert_ne!(sum, [0; 32]);
}

#[test]
fn reveal_refuses_any_other_report() {
    let (mut stage, at) = seated(3);
    let report = Report::perfect().salted(1, at.block, at.seat);
    stage.world.commit(&stage.checkers, at, &report);
    stage.world.enter(2, 1);
    let operator = stage.checkers[at.checker as usize].operator.clone();
    for byte in [0, ROWS - 1, ROWS, 2 * ROWS, 3 * ROWS - 1] {
        let mut other = report;
        other.values[byte] ^= 1;
        let wrong = stage.world.reveal_of(&stage.checkers, at, &other);
        stage.world.refused(wrong, &[&operator], "CommitmentMismatch");
    }
    let salted = Report { salt: [1; 32], ..report };
    let rooted = Report { evidence_root: [1; 32], ..report };
    for other in [salted, rooted] {
        let wrong = stage.world.reveal_of(&stage.checkers, at, &other);
        stage.world.refused(wrong, &[&operator], "CommitmentMismatch");
    }
    stage.world.reveal(&stage.checkers, at, &report);
}

#[test]
fn a_copied_commitment_cannot_be_revealed() {
    let (mut stage, honest) = seated(3);
    let copier = stage.world.seats(1, stage.block)[1];
    let report = Report::perfect().salted(1, honest.block, honest.seat);
    stage.world.commit(&stage.checkers, honest, &report);
    let operator = stage.checkers[copier.checker as usize].operator.clone();
    let stolen = stage.world.block(stage.block).lanes[1].committee[usize::from(honest.seat)].commitment;
    let copy = instructions::commit_report(&operator.pubkey(), copier.block, Some(copier.checker), 1, copier.seat, stolen);
    stage.world.must(&[copy], &[&operator]);
    stage.world.enter(2, 1);
    stage.world.reveal(&stage.checkers, honest, &report);
    let copied = stage.world.reveal_of(&stage.checkers, copier, &report);
    stage.world.refused(copied, &[&operator], "CommitmentMismatch");
}

#[test]
fn reveal_refuses() {
    let (mut stage, at) = seated(4);
    let seats = stage.world.seats(1, stage.block);
    let (silent, report) = (seats[1], Report::perfect());
    let operator = stage.checkers[at.checker as usize].operator.clone();
    stage.world.commit(&stage.checkers, at, &report);
    let valid = stage.world.reveal_of(&stage.checkers, at, &report);

    // Too early and too late, to the second; the window does not wait for an advance.
    stage.world.enter(1, 59);
    stage.world.refused(valid.clone(), &[&operator], "OutsideRevealWindow");
    stage.world.enter(2, 15);
    stage.world.refused(valid.clone(), &[&operator], "OutsideRevealWindow");
    stage.world.enter(2, 14);

    // A seat that committed nothing, another's seat, an empty seat, no seat, no committee.
    let unheard = stage.checkers[silent.checker as usize].operator.clone();
    let wrong = stage.world.reveal_of(&stage.checkers, silent, &report);
    stage.world.refused(wrong, &[&unheard], "NotCommitted");
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = unheard.pubkey();
    stage.world.refused(wrong, &[&unheard], "Unauthorized");
    for seat in [4, 5, 255] {
        let wrong = stage.world.reveal_of(&stage.checkers, SeatAt { seat, ..at }, &report);
        stage.world.refused(wrong, &[&operator], "NoSuchSeat");
    }
    for epoch in [0, 2, 3, u32::MAX] {
        let wrong = stage.world.reveal_of(&stage.checkers, SeatAt { epoch, ..at }, &report);
        let failure = stage.world.send(&[wrong], &[&operator]).expect_err("no committee");
        assert!(["OutsideRevealWindow", "NotSeated"].contains(&failure.name.as_str()), "{}", failure.name);
    }

    // A pause stops no reveal; twice is once.
    stage.world.set_paused(true);
    Call::new(stage.world.clone(), valid.clone(), &[&operator]).check();
    stage.world.must(std::slice::from_ref(&valid), &[&operator]);
    stage.world.refused(valid, &[&operator], "AlreadyRevealed");
}

#[test]
fn an_evidence_root_of_zeros_does_not_open_the_seat_again() {
    let (mut stage, at) = seated(3);
    let report = Report { evidence_root: [0; 32], ..Report::perfect() };
    stage.world.commit(&stage.checkers, at, &report);
    stage.world.enter(2, 1);
    let reveal = stage.world.reveal_of(&stage.checkers, at, &report);
    let operator = stage.checkers[at.checker as usize].operator.clone();
    stage.world.must(std::slice::from_ref(&reveal), &[&operator]);
    assert!(stage.world.send(&[reveal], &[&operator]).is_err());
    let late = commit_of(&stage, at, &Report::empty());
    stage.world.refused(late, &[&operator], "OutsideCommitWindow");
}

#[test]
fn a_lane_of_an_old_epoch_takes_no_report() {
    let mut stage = Stage::new(3, 1).pass_to(1, &perfect());
    let at = stage.world.seats(1, stage.block)[0];
    // Epoch 3 takes the lane over while nobody revealed or tallied epoch 1.
    stage.world.advance(2);
    stage.world.draw(2);
    stage.world.open(3);
    let operator = stage.checkers[at.checker as usize].operator.clone();
    let report = Report::perfect().salted(1, at.block, at.seat);
    stage.world.enter(2, 5);
    let late = stage.world.reveal_of(&stage.checkers, at, &report);
    stage.world.refused(late, &[&operator], "NotSeated");
    assert!(stage.world.block(stage.block).lanes[1].committee.iter().all(|s| s.revealed == 0));
}
