//! An epoch's phases, each at a time at which it is allowed, and whole epochs.
//!
//! With the default settings (60 s, reveals 15 s): 1 s reveals of the epoch before, advance, churn; 6 s draw and seats; 16 s
//! tally of the epoch before; 30 s commits.

use datagalax::{
    constants::{ROWS, SEATS},
    state::Epoch,
};
use solana_signer::Signer;

use crate::{Checker, Outcome, Report, World, instructions};

/// When an epoch's phases take place, seconds from its start.
const ADVANCE_AT: i64 = 1;
const DRAW_AT: i64 = 6;
const TALLY_AT: i64 = 16;
const COMMIT_AT: i64 = 30;

/// A filled seat of a block's committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatAt {
    /// Epoch.
    pub epoch: u32,
    /// Block.
    pub block: u32,
    /// Seat, 0 to 4.
    pub seat: u8,
    /// Checker's id.
    pub checker: u32,
    /// Ticket's slot.
    pub slot: u32,
}

/// What each seat reports; `None` leaves the seat silent.
pub type Votes<'a> = &'a dyn Fn(SeatAt) -> Option<Report>;

/// Everybody reports the same.
pub fn all(report: Report) -> impl Fn(SeatAt) -> Option<Report> {
    move |at| Some(report.salted(at.epoch, at.block, at.seat))
}

impl World {
    /// Advances to an epoch, one second into it if it is not later already.
    #[track_caller]
    pub fn advance(&mut self, epoch: u32) -> Outcome {
        self.wait_until(self.start_of(epoch) + ADVANCE_AT);
        let instruction = instructions::advance_epoch(self, &self.payer.pubkey(), epoch);
        self.run(instruction)
    }

    /// Lets in all waiting tickets that may enter at this boundary.
    #[track_caller]
    pub fn churn(&mut self, epoch: u32) {
        if self.epoch(epoch).churn_left() > 0 {
            self.run(instructions::churn(epoch));
        }
    }

    /// Draws an epoch's seed.
    #[track_caller]
    pub fn draw(&mut self, epoch: u32) -> Outcome {
        self.wait_until(self.start_of(epoch) + DRAW_AT);
        let outcome = self.run(instructions::draw(epoch));
        assert_eq!(self.epoch(epoch).status, Epoch::DRAWN);
        outcome
    }

    /// Writes a block's committee.
    #[track_caller]
    pub fn seat(&mut self, epoch: u32, block: u32) -> Outcome {
        self.run(instructions::seat_block(epoch, block))
    }

    /// Blocks that have a row and may be seated in an epoch.
    pub fn seatable(&self, epoch: u32) -> Vec<u32> {
        (0..self.network().blocks)
            .filter(|b| self.is_full(*b))
            .filter(|b| {
                let block = self.block(*b);
                block.occupied > 0 && block.seated_from <= epoch
            })
            .collect()
    }

    /// Blocks that have a committee for an epoch and are not tallied.
    pub fn untallied(&self, epoch: u32) -> Vec<u32> {
        (0..self.network().blocks)
            .filter(|b| self.is_full(*b))
            .filter(|b| self.block(*b).lane(epoch).is_ok_and(|lane| lane.tallied == 0))
            .collect()
    }

    /// The filled seats of a block's committee.
    pub fn seats(&self, epoch: u32, block: u32) -> Vec<SeatAt> {
        let account = self.block(block);
        let Ok(lane) = account.lane(epoch) else { return vec![] };
        (0..SEATS as u8)
            .filter_map(|seat| {
                let filled = &lane.committee[usize::from(seat)];
                filled.is_filled().then_some(SeatAt { epoch, block, seat, checker: filled.checker, slot: filled.slot })
            })
            .collect()
    }

    /// Commits a seat to a report.
    #[track_caller]
    pub fn commit(&mut self, checkers: &[Checker], at: SeatAt, report: &Report) -> Outcome {
        let operator = checkers[at.checker as usize].operator.clone();
        let commitment = report.commitment(at.epoch, at.block, at.seat, at.checker);
        let instruction =
            instructions::commit_report(&operator.pubkey(), at.block, Some(at.checker), at.epoch, at.seat, commitment);
        self.must(&[instruction], &[&operator])
    }

    /// Reveals a seat's report.
    #[track_caller]
    pub fn reveal(&mut self, checkers: &[Checker], at: SeatAt, report: &Report) -> Outcome {
        let operator = checkers[at.checker as usize].operator.clone();
        let instruction = self.reveal_of(checkers, at, report);
        self.must(&[instruction], &[&operator])
    }

    /// The instruction of [`Self::reveal`].
    pub fn reveal_of(&self, checkers: &[Checker], at: SeatAt, report: &Report) -> solana_instruction::Instruction {
        let operator = checkers[at.checker as usize].operator.pubkey();
        instructions::reveal_report(
            &operator,
            at.block,
            at.epoch,
            at.seat,
            &report.salt,
            &report.evidence_root,
            &report.values,
        )
    }

    /// Commits for every seat that votes.
    #[track_caller]
    pub fn commit_all(&mut self, checkers: &[Checker], epoch: u32, votes: Votes) {
        self.wait_until(self.start_of(epoch) + COMMIT_AT);
        for block in self.seatable(epoch) {
            for at in self.seats(epoch, block) {
                if let Some(report) = votes(at) {
                    self.commit(checkers, at, &report);
                }
            }
        }
    }

    /// Reveals for every seat that committed.
    #[track_caller]
    pub fn reveal_all(&mut self, checkers: &[Checker], epoch: u32, votes: Votes) {
        self.wait_until(self.start_of(epoch + 1) + ADVANCE_AT);
        for block in self.untallied(epoch) {
            for at in self.seats(epoch, block) {
                if let Some(report) = votes(at) {
                    self.reveal(checkers, at, &report);
                }
            }
        }
    }

    /// Tallies a block in parts of `rows`.
    #[track_caller]
    pub fn tally_in_parts(&mut self, epoch: u32, block: u32, rows: u16) {
        self.wait_until(self.start_of(epoch + 1) + TALLY_AT);
        for _ in 0..ROWS.div_ceil(usize::from(rows)) {
            let instruction = instructions::tally_block(self, epoch, block, rows);
            let budget = crate::send::compute_budget(1_400_000);
            self.must(&[budget[0].clone(), instruction], &[]);
        }
        assert_eq!(self.block(block).lane(epoch).map(|l| l.tallied), Ok(1));
    }

    /// Tallies every block of an epoch, each at once.
    #[track_caller]
    pub fn tally_all(&mut self, epoch: u32) {
        for block in self.untallied(epoch) {
            self.tally_in_parts(epoch, block, ROWS as u16);
        }
    }

    /// Advance, churn, draw and seats of an epoch.
    #[track_caller]
    pub fn open(&mut self, epoch: u32) {
        self.advance(epoch);
        self.churn(epoch);
        self.draw(epoch);
        for block in self.seatable(epoch) {
            self.seat(epoch, block);
        }
    }

    /// A whole epoch: everything due in it, the reveals and the tally of the epoch before included, the books checked after
    /// each step. `votes` speaks for this epoch's commits and for the reveals of the epoch before alike.
    #[track_caller]
    pub fn pass(&mut self, checkers: &[Checker], epoch: u32, votes: Votes) {
        self.wait_until(self.start_of(epoch) + ADVANCE_AT);
        if epoch > 0 {
            self.reveal_all(checkers, epoch - 1, votes);
        }
        self.open(epoch);
        self.check_books();
        if epoch > 0 {
            self.tally_all(epoch - 1);
            self.check_books();
        }
        self.commit_all(checkers, epoch, votes);
    }

    /// Everything due after an epoch's end, without touching the next one: reveals and tally.
    #[track_caller]
    pub fn finish(&mut self, checkers: &[Checker], epoch: u32, votes: Votes) {
        self.reveal_all(checkers, epoch, votes);
        self.tally_all(epoch);
        self.check_books();
    }
}
