//! Blocks, their rows, and the judgement of one row.

use std::collections::BTreeMap;

use datagalax::constants::{NO_VOTE, ROWS};
use datagalax_program_tests::Report;
use solana_pubkey::Pubkey;

use super::{Answer, ContainerId, Model, Money, epochs::Epoch};

/// Where a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowState {
    Checking,
    Live,
    Leaving,
}

/// What the committees found since a row was condemned.
#[derive(Clone, Copy, Debug)]
pub struct Accusation {
    pub since: u32,
    pub until: u32,
    pub condemned: u32,
    pub clean: u32,
}

/// A lease's claim on a row: the epochs it touches and the most the row earns in each of them.
#[derive(Clone, Copy, Debug)]
pub struct Cap {
    pub from: u32,
    pub until: u32,
    /// In the first epoch, of which it covers only a part.
    pub head: Money,
    /// In the last.
    pub tail: Money,
    /// In a whole one.
    pub cap: Money,
}

impl Cap {
    fn of(&self, epoch: u32) -> Money {
        let last = if epoch == self.until { self.tail } else { self.cap };
        if epoch == self.from { self.head.min(last) } else { last }
    }
}

/// An occupied row.
#[derive(Clone, Debug)]
pub struct Row {
    pub container: ContainerId,
    pub class: u16,
    pub weight: u16,
    pub gpus: u8,
    pub state: RowState,
    pub live_from: Option<u32>,
    pub until: Option<u32>,
    pub probation: bool,
    /// Newest last; good ones are false.
    pub bad: Vec<bool>,
    pub accused: Option<Accusation>,
    pub accrued: Money,
    /// The last unleased median of capacity and its epoch.
    pub full: Option<(u8, u32)>,
    /// Of all leases ever.
    pub caps: Vec<Cap>,
    /// Availability and breach of every epoch that had a verdict.
    pub history: BTreeMap<u32, (u8, bool)>,
    pub epochs_live: u32,
    /// Three leases were missed in a row: it earns up to the epoch before `until`.
    pub falling: bool,
    /// The epoch in which its container was halted.
    pub halted_in: Option<u32>,
    pub availability_sum: u32,
}

/// A filled seat.
#[derive(Clone, Debug)]
pub struct Seat {
    pub slot: u32,
    pub checker: u32,
    pub operator: Option<Pubkey>,
    pub committed: Option<Box<Report>>,
    pub revealed: bool,
    pub judged: u32,
    pub right: u32,
}

/// A committee at work.
#[derive(Clone, Debug)]
pub struct Lane {
    pub epoch: u32,
    pub seats: Vec<Option<Seat>>,
    pub cursor: usize,
    pub tallied: bool,
    pub entropy: [u8; 32],
}

/// A block.
#[derive(Clone, Debug)]
pub struct Block {
    /// How often it grew; four times make it whole.
    pub grown: u32,
    pub rows: BTreeMap<u8, Row>,
    pub seated_from: Option<u32>,
    pub last_tallied: Option<u32>,
    pub lanes: [Option<Lane>; 2],
}

/// A vote.
#[derive(Clone, Copy, Debug)]
pub struct Vote {
    pub availability: u8,
    pub capacity: u8,
    pub token: u8,
    pub dishonest: bool,
}

fn median(mut values: Vec<u8>) -> u8 {
    values.sort_unstable();
    values[(values.len() - 1) / 2]
}

impl Seat {
    /// Its vote on a row: none without a report, with 127, or with anything above 100.
    pub fn vote(&self, row: u8) -> Option<Vote> {
        let values = &self.committed.as_ref().filter(|_| self.revealed)?.values;
        let [a, capacity, token] = [0, 1, 2].map(|column| values[column * ROWS + usize::from(row)]);
        let availability = a % 128;
        (availability != NO_VOTE && availability <= 100 && capacity <= 100).then_some(Vote {
            availability,
            capacity,
            token,
            dishonest: a >= 128,
        })
    }
}

impl Block {
    pub fn is_full(&self) -> bool {
        self.grown == 4
    }

    /// The committee of an epoch.
    pub fn lane(&self, epoch: u32) -> Option<&Lane> {
        self.lanes[epoch as usize % 2].as_ref().filter(|l| l.epoch == epoch)
    }

    pub(super) fn lane_mut(&mut self, epoch: u32) -> Result<&mut Lane, &'static str> {
        self.lanes[epoch as usize % 2].as_mut().filter(|l| l.epoch == epoch).ok_or("not seated")
    }
}

/// What a tally of one row changed beyond it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged {
    pub credited: Money,
    pub gone_live: bool,
    pub fallen_back: bool,
}

impl Row {
    pub fn new(container: ContainerId, class: u16, weight: u16, gpus: u8, first: u32) -> Self {
        Self {
            container,
            class,
            weight,
            gpus,
            state: RowState::Checking,
            live_from: Some(first),
            until: None,
            probation: false,
            bad: vec![],
            accused: None,
            accrued: 0,
            full: None,
            caps: vec![],
            history: BTreeMap::new(),
            falling: false,
            halted_in: None,
            epochs_live: 0,
            availability_sum: 0,
        }
    }

    /// Weight as if up and capable in full.
    pub fn nominal(&self) -> Money {
        Money::from(self.weight) * Money::from(self.gpus) * 10_000
    }

    /// The least cap of the leases that touch an epoch.
    pub fn cap(&self, epoch: u32) -> Option<Money> {
        self.caps.iter().filter(|c| c.from <= epoch && epoch <= c.until).map(|c| c.of(epoch)).min()
    }

    /// Judges the row in an epoch by the votes of its committee's seats (`None`: no vote); notes in `seats` who is right.
    pub fn judge(&mut self, epoch: &Epoch, votes: &[Option<Vote>], seats: &mut [Option<Seat>]) -> Judged {
        let (e, mut judged) = (epoch.number, Judged::default());
        let t = epoch.thresholds;
        let heard: Vec<Vote> = votes.iter().flatten().copied().collect();
        let (quorum, verdict) = (votes.len() / 2 + 1, (2 * votes.len()).div_ceil(3));
        let present = self.live_from.is_some_and(|f| f <= e) && self.until.is_none_or(|u| e < u);
        if heard.len() < quorum || (self.state == RowState::Checking && !present) {
            return judged;
        }
        let availability = median(heard.iter().map(|v| v.availability).collect());
        let mut capacity = median(heard.iter().map(|v| v.capacity).collect());
        let measured = capacity;
        let accusers = heard.iter().filter(|v| v.dishonest).count();
        let condemned = accusers >= verdict;
        let breached = heard.iter().filter(|v| v.availability < t.breach).count() >= verdict;
        self.history.insert(e, (availability, breached));

        // Cases: the window's later tallies count; the first verdict opens it.
        match &mut self.accused {
            Some(case) if case.since < e && e <= case.until => {
                let hides = case.condemned >= 2 && availability < t.availability;
                if condemned || hides {
                    (case.condemned, case.clean) = (case.condemned + 1, 0);
                } else {
                    case.clean += 1;
                }
            }
            Some(_) => {}
            None if condemned => {
                self.accused = Some(Accusation { since: e, until: e + epoch.case_epochs - 1, condemned: 1, clean: 0 });
            }
            None => {}
        }

        // A tenant has the GPUs: the last measurement without one counts, and the lease bounds the pay.
        let mut most = None;
        if let Some(cap) = self.cap(e) {
            let fresh = self.full.is_some_and(|(_, at)| e - at <= epoch.capacity_epochs);
            capacity = self.full.map_or(0, |(c, _)| c);
            most = Some(if fresh { cap * Money::from(availability) / 100 } else { 0 });
        } else {
            self.full = Some((capacity, e));
        }
        if self.halted_in.is_some_and(|since| since < e) {
            most = Some(0);
        }

        let agreed = heard.iter().map(|v| v.token).find(|token| {
            heard.iter().filter(|v| v.token == *token).count() >= quorum && (*token != 0 || t.tokens_required == 0)
        });
        if let Some(token) = agreed.filter(|_| present && self.state != RowState::Checking) {
            for (seat, vote) in seats.iter_mut().zip(votes) {
                let Some(seat) = seat else { continue };
                seat.judged += 1;
                let near = |a: u8, b: u8| a.abs_diff(b) <= t.tolerance;
                let contested = accusers > 0 && !condemned;
                seat.right += u32::from(vote.is_some_and(|v| {
                    near(v.availability, availability)
                        && near(v.capacity, measured)
                        && v.token == token
                        && (contested || v.dishonest == condemned)
                }));
            }
        }

        let good = availability >= t.availability && capacity >= t.capacity && !condemned;
        self.bad.push(!good);
        let recent = |n: usize| self.bad.iter().rev().take(n).filter(|b| **b).count();
        match self.state {
            RowState::Checking => {
                // A row that fell back needs four good epochs in a row.
                let cleared = !self.probation || (self.bad.len() >= 4 && recent(4) == 0);
                if good && agreed.is_some() && cleared {
                    (self.state, self.live_from, self.probation) = (RowState::Live, Some(e + 2), false);
                    self.bad.clear();
                    judged.gone_live = true;
                }
            }
            RowState::Live | RowState::Leaving if present => {
                self.epochs_live += 1;
                self.availability_sum += u32::from(availability);
                if good {
                    let weight = Money::from(self.weight)
                        * Money::from(self.gpus)
                        * Money::from(availability)
                        * Money::from(capacity);
                    let (hi, lo) = (epoch.rate >> 64, epoch.rate & u128::from(u64::MAX));
                    let pay = weight * hi + ((weight * lo) >> 64);
                    judged.credited = most.map_or(pay, |m| m.min(pay));
                    self.accrued += judged.credited;
                }
                if self.state == RowState::Live && !self.falling && recent(16) >= 4 {
                    (self.state, self.probation) = (RowState::Checking, true);
                    judged.fallen_back = true;
                }
            }
            _ => {}
        }
        if self.falling && self.until.is_some_and(|until| e + 1 >= until) {
            (self.state, self.probation, self.falling, self.until) = (RowState::Checking, true, false, None);
            self.bad = vec![true; 16];
        }
        judged
    }
}

impl Model {
    pub(super) fn row(&mut self, block: u32, row: u8) -> &mut Row {
        self.blocks[block as usize].rows.get_mut(&row).expect("a container has a row")
    }

    /// A live row must be checked again before it earns: nominal loses it from the next epoch on.
    pub(super) fn cease(&mut self, block: u32, row: u8) -> Answer {
        let row = self.row(block, row);
        if row.state == RowState::Live {
            let nominal = if row.falling { 0 } else { row.nominal() };
            if row.falling {
                (row.falling, row.until) = (false, None);
            }
            (row.state, row.probation) = (RowState::Checking, true);
            row.bad = vec![true; 16];
            self.current()?.nominal_removed += nominal;
        }
        Ok(())
    }

    /// A live row earns up to the current epoch; the tally of that one sends it back to checking.
    pub(super) fn cease_after(&mut self, block: u32, row: u8) -> Answer {
        let until = self.current()?.number + 1;
        let row = self.row(block, row);
        if row.state == RowState::Live && !row.falling {
            (row.falling, row.until) = (true, Some(until));
            let nominal = row.nominal();
            self.current()?.nominal_removed += nominal;
        }
        Ok(())
    }
}
