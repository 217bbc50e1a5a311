//! Epochs: what is fixed at the advance, the draw, committees, reports, the tally.

use datagalax::{
    committee,
    constants::{NONE, ROWS},
    state::Thresholds,
};
use datagalax_program_tests::{Report, time::slot_hash};
use sha2::{Digest, Sha256};
use solana_pubkey::Pubkey;

use super::{
    Answer, Model, Money,
    money::REWARDS,
    need,
    rows::{Block, Lane, Seat},
};

/// Slots whose hashes the chain keeps.
const KEPT: u64 = 512;

/// An epoch that was advanced to.
#[derive(Clone, Debug)]
pub struct Epoch {
    pub number: u32,
    pub drawn: bool,
    pub released: bool,
    pub draw_slot: u64,
    pub tickets: u32,
    pub churned: u32,
    pub retirements: u32,
    pub leavers: u32,
    pub entrants: u32,
    pub blocks: u32,
    pub blocks_tallied: u32,
    pub case_epochs: u32,
    pub capacity_epochs: u32,
    pub seed: [u8; 32],
    pub last_seed: [u8; 32],
    pub entropy_before: [u8; 32],
    pub entropy: [u8; 32],
    pub nominal: Money,
    /// Base units a unit of weight, times 2^64.
    pub rate: u128,
    pub seat_pay: Money,
    pub max_seat_pay: Money,
    pub keeper_fee: Money,
    pub pool: Money,
    pub container_pool: Money,
    pub checker_pool: Money,
    pub treasury_pool: Money,
    pub container_credited: Money,
    pub checker_credited: Money,
    pub keeper_credited: Money,
    pub nominal_added: Money,
    pub nominal_removed: Money,
    pub blocks_added: u32,
    pub blocks_removed: u32,
    pub thresholds: Thresholds,
}

impl Epoch {
    /// Tickets that still may move at this boundary.
    pub fn churn_left(&self) -> u32 {
        (self.retirements + self.leavers + self.entrants).min(32) - self.churned
    }
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

fn mix(into: &mut [u8; 32], what: &[u8; 32]) {
    into.iter_mut().zip(what).for_each(|(a, b)| *a ^= b);
}

impl Model {
    /// Gives back what an epoch reserved and nobody earned.
    fn release(&mut self, number: u32) -> Answer {
        let epoch = self.epochs.get_mut(&number).ok_or("no epoch")?;
        let treasury = if epoch.drawn { epoch.treasury_pool - epoch.keeper_credited } else { 0 };
        let earned = epoch.container_credited + epoch.checker_credited + epoch.keeper_credited + treasury;
        epoch.released = true;
        self.treasury_due += treasury;
        self.vaults[REWARDS].liabilities -= epoch.pool - earned;
        Ok(())
    }

    /// The fee of one action, as far as the treasury's share of the epoch lasts.
    pub(super) fn pay_keeper(&mut self, number: u32, keeper: Option<Pubkey>) -> Answer {
        let Some(wallet) = keeper else { return Ok(()) };
        let epoch = self.epochs.get_mut(&number).ok_or("no epoch")?;
        let left = if epoch.released { 0 } else { epoch.treasury_pool - epoch.keeper_credited };
        let fee = epoch.keeper_fee.min(left);
        epoch.keeper_credited += fee;
        let keeper = self.keepers.get_mut(&wallet).ok_or("no keeper")?;
        keeper.due += fee;
        keeper.earned += fee;
        keeper.actions += 1;
        Ok(())
    }

    pub(super) fn advance(&mut self, number: u32, keeper: Option<Pubkey>) -> Answer {
        need(self.epoch_at(self.now)? == number, "not now")?;
        need(self.current.is_none_or(|c| c < number), "advanced")?;
        let (mut nominal, mut blocks, mut seed, mut entropy) = (0, 0, [0; 32], [0; 32]);
        for old in [self.previous, self.current].into_iter().flatten() {
            let epoch = &self.epochs[&old];
            if old + 2 == number {
                entropy = epoch.entropy;
            }
            nominal = epoch.nominal + epoch.nominal_added - epoch.nominal_removed;
            blocks = epoch.blocks + epoch.blocks_added - epoch.blocks_removed;
            seed = if epoch.drawn { epoch.seed } else { epoch.last_seed };
            if old + 2 <= number {
                self.release(old)?;
            }
        }
        self.previous = self.current.filter(|c| c + 2 > number);
        self.current = Some(number);

        let emission = &mut self.emission;
        let mut decays = 0;
        while emission.decay_every > 0 && emission.next_decay <= number && decays < 64 {
            emission.amount = (u128::from(emission.amount) * u128::from(10_000 - emission.decay_bps) / 10_000) as u64;
            emission.next_decay += emission.decay_every;
            decays += 1;
        }
        let vault = &mut self.vaults[REWARDS];
        let pool = Money::from(self.emission.amount).min(vault.balance - vault.liabilities);
        vault.liabilities += pool;
        let p = &self.parameters;
        let share = |bps: u16| pool * Money::from(bps) / 10_000;
        let max_rate = (u128::from(p.max_rate.hi) << 64) + u128::from(p.max_rate.lo);
        let rate =
            if nominal > 0 && blocks > 0 { ((share(p.container_share_bps) << 64) / nominal).min(max_rate) } else { 0 };
        let length = self.grid_of(number).length as u32;
        let epoch = Epoch {
            number,
            drawn: false,
            released: false,
            draw_slot: self.slot + u64::from(p.draw_delay),
            tickets: 0,
            churned: 0,
            retirements: self.tickets.retiring.len() as u32,
            leavers: self.tickets.leaving.len() as u32,
            entrants: self.tickets.waiting.len() as u32,
            blocks,
            blocks_tallied: 0,
            case_epochs: p.case_window.div_ceil(length),
            capacity_epochs: 7 * 86_400 / length,
            seed: [0; 32],
            last_seed: seed,
            entropy_before: entropy,
            entropy: [0; 32],
            nominal,
            rate,
            seat_pay: 0,
            max_seat_pay: Money::from(p.max_seat_pay),
            keeper_fee: Money::from(p.keeper_fee),
            pool,
            container_pool: share(p.container_share_bps),
            checker_pool: share(p.checker_share_bps),
            treasury_pool: share(p.treasury_share_bps),
            container_credited: 0,
            checker_credited: 0,
            keeper_credited: 0,
            nominal_added: 0,
            nominal_removed: 0,
            blocks_added: 0,
            blocks_removed: 0,
            thresholds: Thresholds {
                availability: p.availability_threshold,
                capacity: p.capacity_threshold,
                breach: p.breach_threshold,
                tolerance: p.tolerance,
                tokens_required: p.tokens_required,
                reserved: [0; 3],
            },
        };
        self.epochs.insert(number, epoch);
        self.pay_keeper(number, keeper)
    }

    pub(super) fn draw(&mut self, keeper: Option<Pubkey>) -> Answer {
        need(keeper.is_none_or(|k| self.keepers.contains_key(&k)), "no keeper")?;
        let number = self.current.ok_or("no epoch")?;
        let (start, end) = self.bounds(number);
        let (now, slot, live) = (self.now, self.slot, self.tickets.order.len() as u32);
        let delay = u64::from(self.parameters.draw_delay);
        let epoch = self.current()?;
        need(!epoch.drawn, "drawn")?;
        need(now < start + (end - start) / 4, "void")?;
        need(epoch.churn_left() == 0, "churn first")?;
        need(epoch.draw_slot < slot, "too early")?;
        if epoch.draw_slot + KEPT < slot {
            // Nobody can tell any more: armed again.
            epoch.draw_slot = slot + delay;
            return Ok(());
        }
        let drawn = slot_hash(epoch.draw_slot);
        epoch.seed = hash(&[b"datagalax:seed:v1", &epoch.last_seed, &epoch.entropy_before, &drawn, &number.to_le_bytes()]);
        (epoch.drawn, epoch.tickets) = (true, live);
        if live < 3 {
            epoch.rate = 0;
        } else if epoch.blocks > 0 {
            let seats = Money::from(live.min(5)) * Money::from(epoch.blocks);
            epoch.seat_pay = (epoch.checker_pool / seats).min(epoch.max_seat_pay);
        }
        self.pay_keeper(number, keeper)
    }

    pub(super) fn create_block(&mut self, block: u32) -> Answer {
        need(block as usize == self.blocks.len(), "not the next")?;
        self.running()?;
        need(self.blocks.iter().all(|b| b.is_full()), "the newest is not grown")?;
        need(self.blocks.iter().all(|b| b.rows.len() == ROWS), "free rows left")?;
        let lanes = [None, None];
        self.blocks.push(Block { grown: 0, rows: Default::default(), seated_from: None, last_tallied: None, lanes });
        Ok(())
    }

    pub(super) fn grow_block(&mut self, block: u32) -> Answer {
        let block = self.blocks.get_mut(block as usize).ok_or("no block")?;
        need(!block.is_full(), "full")?;
        // The length that four growths of 10,240 bytes reach after the first 10,240.
        block.grown += 1;
        Ok(())
    }

    pub(super) fn seat_block(&mut self, number: u32, block: u32) -> Answer {
        let epoch = self.epochs.get(&number).ok_or("no epoch")?;
        need(epoch.drawn, "not drawn")?;
        need(self.epoch_at(self.now)? == number, "not now")?;
        let place = self.blocks.get(block as usize).filter(|b| b.is_full()).ok_or("no block")?;
        need(!place.rows.is_empty() && place.seated_from.is_some_and(|f| f <= number), "empty")?;
        let lane = &place.lanes[number as usize % 2];
        need(lane.as_ref().is_none_or(|l| l.epoch < number), "seated")?;
        let tickets = &self.tickets;
        let seats = committee::positions(&epoch.seed, block, epoch.tickets)
            .iter()
            .take(epoch.tickets.min(5) as usize)
            .map(|position| {
                (*position != NONE).then(|| {
                    let slot = tickets.order[*position as usize];
                    let checker = tickets.slots[slot as usize].checker;
                    Seat { slot, checker, operator: None, committed: None, revealed: false, judged: 0, right: 0 }
                })
            })
            .collect();
        let lane = Lane { epoch: number, seats, cursor: 0, tallied: false, entropy: [0; 32] };
        self.blocks[block as usize].lanes[number as usize % 2] = Some(lane);
        Ok(())
    }

    pub(super) fn commit(
        &mut self,
        by: Pubkey,
        block: u32,
        epoch: u32,
        seat: u8,
        named: Option<u32>,
        report: &Report,
    ) -> Answer {
        let checker = match named {
            Some(id) => Some((id, self.checkers.get(&id).ok_or("no checker")?.keys.operator)),
            None => None,
        };
        let (start, end) = self.bounds(epoch);
        let now = self.now;
        let place = self.blocks.get_mut(block as usize).filter(|b| b.is_full()).ok_or("no block")?;
        let lane = place.lane_mut(epoch)?;
        need(now >= start && now < end, "not now")?;
        let seat = lane.seats.get_mut(usize::from(seat)).and_then(Option::as_mut).ok_or("no seat")?;
        match seat.operator {
            Some(operator) => need(operator == by, "not the operator")?,
            None => need(checker.is_some_and(|(id, operator)| id == seat.checker && operator == by), "not the operator")?,
        }
        (seat.operator, seat.committed) = (Some(by), Some(Box::new(*report)));
        Ok(())
    }

    pub(super) fn reveal(&mut self, by: Pubkey, block: u32, epoch: u32, seat: u8, report: &Report) -> Answer {
        let (_, end) = self.bounds(epoch);
        let closes = end + self.grid_of(epoch).reveal;
        need(self.now >= end && self.now < closes, "not now")?;
        let place = self.blocks.get_mut(block as usize).filter(|b| b.is_full()).ok_or("no block")?;
        let lane = place.lane_mut(epoch)?;
        let seat = lane.seats.get_mut(usize::from(seat)).and_then(Option::as_mut).ok_or("no seat")?;
        need(seat.operator == Some(by), "not the operator")?;
        need(!seat.revealed, "revealed")?;
        need(seat.committed.as_deref() == Some(report), "not what was committed to")?;
        seat.revealed = true;
        mix(&mut lane.entropy, &hash(&[&report.salt]));
        Ok(())
    }

    pub(super) fn tally(&mut self, number: u32, block: u32, rows: u16, keeper: Option<Pubkey>) -> Answer {
        need(keeper.is_none_or(|k| self.keepers.contains_key(&k)), "no keeper")?;
        let opens = self.bounds(number).1 + self.grid_of(number).reveal;
        let closes = self.bounds(number + 1).1;
        let mut epoch = self.epochs.get(&number).ok_or("no epoch")?.clone();
        need(self.now >= opens && self.now < closes, "not now")?;
        let place = self.blocks.get_mut(block as usize).filter(|b| b.is_full()).ok_or("no block")?;
        let mut lane = place.lane_mut(number)?.clone();
        need(!lane.tallied, "tallied")?;
        need(rows > 0, "no rows")?;
        let end = (lane.cursor + usize::from(rows)).min(ROWS);
        let (mut added, mut removed) = (0, 0);
        for r in lane.cursor..end {
            let r = r as u8;
            let Some(row) = place.rows.get_mut(&r) else { continue };
            let votes: Vec<_> = lane.seats.iter().map(|s| s.as_ref().and_then(|s| s.vote(r))).collect();
            let judged = row.judge(&epoch, &votes, &mut lane.seats);
            epoch.container_credited += judged.credited;
            added += if judged.gone_live { row.nominal() } else { 0 };
            removed += if judged.fallen_back { row.nominal() } else { 0 };
        }
        lane.cursor = end;
        if end == ROWS {
            lane.tallied = true;
            place.last_tallied = Some(number);
            epoch.blocks_tallied += 1;
            mix(&mut epoch.entropy, &lane.entropy);
            for seat in lane.seats.iter().flatten() {
                let broad = epoch.blocks >= 8 && seat.judged >= 32;
                let marked = match (seat.revealed, seat.judged) {
                    (false, _) => true,
                    (true, 0) => continue,
                    (true, judged) => {
                        let pay = epoch.seat_pay * Money::from(seat.right) / Money::from(judged);
                        self.tickets.slots[seat.slot as usize].accrued += pay;
                        epoch.checker_credited += pay;
                        broad && seat.right * 3 < judged * 2
                    }
                };
                self.tickets.count(seat.slot, number, marked);
            }
        }
        place.lanes[number as usize % 2] = Some(lane.clone());
        self.epochs.insert(number, epoch);
        // What ceased or began to be live counts from the epoch after the current one.
        let current = self.current()?;
        current.nominal_added += added;
        current.nominal_removed += removed;
        if lane.tallied { self.pay_keeper(number, keeper) } else { Ok(()) }
    }
}
