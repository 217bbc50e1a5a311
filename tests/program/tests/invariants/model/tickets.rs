//! Tickets: the order as a list, the queues as queues, free slots as a stack.

use std::collections::{BTreeSet, VecDeque};

use solana_pubkey::Pubkey;

use super::{Answer, Model, Money, money::STAKE, need};

/// What a ticket's slot is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketState {
    Free,
    Waiting,
    Live,
    Leaving,
    Retiring,
    Removed,
    Retired,
}

/// A slot.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub checker: u32,
    pub state: TicketState,
    pub price: Money,
    pub accrued: Money,
    pub unlocks: Option<i64>,
    pub removed: Option<u32>,
    /// By epoch, newest last: seats and marks in it; or a mark for an accusation that came to nothing.
    pub record: u64,
    pub counted: Option<u32>,
    pub seats: u32,
    pub marked: u32,
    /// Epochs of accusations that nobody confirmed.
    pub refuted: BTreeSet<u32>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Tickets {
    pub slots: Vec<Ticket>,
    pub order: Vec<u32>,
    pub waiting: VecDeque<u32>,
    pub leaving: VecDeque<u32>,
    pub retiring: VecDeque<u32>,
    pub free: Vec<u32>,
}

impl Tickets {
    /// A checker's ticket.
    pub fn of(&mut self, checker: u32, slot: u32) -> Result<&mut Ticket, &'static str> {
        let own = |t: &&mut Ticket| t.state != TicketState::Free && t.checker == checker;
        self.slots.get_mut(slot as usize).filter(own).ok_or("not your ticket")
    }

    fn is_disgraced(&self, slot: u32) -> bool {
        self.slots[slot as usize].record.count_ones() >= 20
    }

    /// Queues a seated ticket of bad record to be retired; one that left is retired at once, if there are tickets enough.
    pub fn retire_if_disgraced(&mut self, slot: u32) {
        if !self.is_disgraced(slot) {
            return;
        }
        let ticket = &mut self.slots[slot as usize];
        match ticket.state {
            TicketState::Live => {
                ticket.state = TicketState::Retiring;
                self.retiring.push_back(slot);
            }
            TicketState::Removed if self.order.len() > 8 => ticket.state = TicketState::Retired,
            _ => {}
        }
    }

    /// Counts a seat in an epoch.
    pub fn count(&mut self, slot: u32, epoch: u32, marked: bool) {
        let ticket = &mut self.slots[slot as usize];
        match ticket.counted {
            Some(counted) if epoch < counted => return,
            Some(counted) if epoch == counted => {}
            _ => {
                ticket.record <<= 1;
                (ticket.counted, ticket.seats, ticket.marked) = (Some(epoch), 0, 0);
            }
        }
        ticket.seats += 1;
        ticket.marked += u32::from(marked);
        ticket.record = ticket.record >> 1 << 1 | u64::from(2 * ticket.marked > ticket.seats);
        if marked {
            self.retire_if_disgraced(slot);
        }
    }

    /// Marks an accuser, at most once an epoch: a one is put in behind the running epoch's bit.
    pub fn refute(&mut self, slot: u32, checker: u32, epoch: u32) {
        let Ok(ticket) = self.of(checker, slot) else { return };
        // What lies more than 24 epochs before the newest is forgotten, and not marked.
        let newest = ticket.refuted.last().copied().unwrap_or(epoch);
        if epoch + 24 < newest || !ticket.refuted.insert(epoch) {
            return;
        }
        let running = ticket.record & 1;
        ticket.record = (ticket.record >> 1 << 2) | 2 | running;
        self.retire_if_disgraced(slot);
    }

    fn remove(&mut self, slot: u32, epoch: u32, retired: bool, unlocks: i64) {
        let place = self.order.iter().position(|s| *s == slot).expect("a seated ticket is in the order");
        self.order.swap_remove(place);
        let ticket = &mut self.slots[slot as usize];
        ticket.state = if retired { TicketState::Retired } else { TicketState::Removed };
        ticket.removed = Some(epoch);
        ticket.unlocks.get_or_insert(unlocks);
    }
}

impl Model {
    pub(super) fn register_tickets(&mut self, by: Pubkey, id: u32, count: u16) -> Answer {
        self.running()?;
        need(self.checkers.get(&id).ok_or("no checker")?.keys.owner == by, "not the owner")?;
        need((1..=150).contains(&count), "bad count")?;
        let price = Money::from(self.parameters.ticket_price);
        self.deposit(STAKE, by, price * Money::from(count), true)?;
        let checker = self.checkers.get_mut(&id).ok_or("no checker")?;
        checker.staked += price * Money::from(count);
        checker.tickets += u32::from(count);
        for _ in 0..count {
            let ticket = Ticket {
                checker: id,
                state: TicketState::Waiting,
                price,
                accrued: 0,
                unlocks: None,
                removed: None,
                record: 0,
                counted: None,
                seats: 0,
                marked: 0,
                refuted: BTreeSet::new(),
            };
            let tickets = &mut self.tickets;
            let slot = match tickets.free.pop() {
                Some(slot) => {
                    tickets.slots[slot as usize] = ticket;
                    slot
                }
                None => {
                    tickets.slots.push(ticket);
                    tickets.slots.len() as u32 - 1
                }
            };
            tickets.waiting.push_back(slot);
        }
        Ok(())
    }

    pub(super) fn leave_tickets(&mut self, by: Pubkey, id: u32, slots: &[u32]) -> Answer {
        need(self.checkers.get(&id).ok_or("no checker")?.keys.owner == by, "not the owner")?;
        need(!slots.is_empty() && slots.len() <= 150, "bad count")?;
        let unlocks = self.now + i64::from(self.parameters.unbonding);
        let current = self.current.unwrap_or(0);
        for slot in slots {
            let ticket = self.tickets.of(id, *slot)?;
            need(ticket.unlocks.is_none(), "leaving already")?;
            match ticket.state {
                TicketState::Live => {
                    (ticket.unlocks, ticket.state) = (Some(unlocks), TicketState::Leaving);
                    self.tickets.leaving.push_back(*slot);
                }
                TicketState::Waiting => (ticket.unlocks, ticket.removed) = (Some(unlocks), Some(current)),
                _ => return Err("not in the order"),
            }
        }
        Ok(())
    }

    pub(super) fn withdraw_tickets(&mut self, id: u32, slots: &[u32]) -> Answer {
        let epoch = self.epoch_at(self.now)?;
        let payout = self.checkers.get(&id).ok_or("no checker")?.keys.payout;
        need(!slots.is_empty() && slots.len() <= 150, "bad count")?;
        let (mut sum, mut penalty, mut retired) = (0, 0, 0);
        for slot in slots {
            let now = self.now;
            let ticket = self.tickets.of(id, *slot)?;
            need(matches!(ticket.state, TicketState::Removed | TicketState::Retired), "not out")?;
            let rested = ticket.removed.is_some_and(|r| epoch >= r + 3) && ticket.unlocks.is_some_and(|u| now >= u);
            need(rested && ticket.accrued == 0, "resting")?;
            sum += ticket.price;
            if ticket.state == TicketState::Retired {
                penalty += ticket.price / 10;
                retired += 1;
            }
            ticket.state = TicketState::Free;
            self.tickets.free.push(*slot);
        }
        need(self.fits(STAKE, sum - penalty) == sum - penalty && sum > penalty, "breaker")?;
        self.vaults[STAKE].liabilities -= penalty;
        self.pay_out(STAKE, payout, sum - penalty);
        let checker = self.checkers.get_mut(&id).ok_or("no checker")?;
        checker.staked -= sum;
        checker.tickets -= slots.len() as u32;
        checker.retired += retired;
        Ok(())
    }

    /// The tickets that waited at the advance move: retirements, leavers, entrants, 32 in all.
    pub(super) fn churn(&mut self) -> Answer {
        let unlocks = self.now + i64::from(self.parameters.unbonding);
        let number = self.current.ok_or("no epoch")?;
        let epoch = self.epochs.get_mut(&number).ok_or("no epoch")?;
        need(!epoch.drawn, "drawn")?;
        need(epoch.churn_left() > 0, "nothing to churn")?;
        let tickets = &mut self.tickets;
        while epoch.churn_left() > 0 {
            let done = epoch.churned;
            epoch.churned += 1;
            let small = tickets.order.len() <= 8;
            if done < epoch.retirements {
                let slot = tickets.retiring.pop_front().ok_or("no retirement")?;
                if small {
                    tickets.slots[slot as usize].state = TicketState::Live;
                } else {
                    tickets.remove(slot, number, true, unlocks);
                }
            } else if done < epoch.retirements + epoch.leavers {
                let slot = tickets.leaving.pop_front().ok_or("no leaver")?;
                let disgraced = tickets.is_disgraced(slot);
                tickets.remove(slot, number, disgraced && !small, unlocks);
            } else {
                let slot = tickets.waiting.pop_front().ok_or("no entrant")?;
                let asked = tickets.slots[slot as usize].removed.take();
                if asked.is_some_and(|a| a < number) {
                    tickets.slots[slot as usize].state = TicketState::Removed;
                    tickets.slots[slot as usize].removed = Some(number);
                    continue;
                }
                tickets.order.push(slot);
                let late = asked == Some(number);
                tickets.slots[slot as usize].state = if late { TicketState::Leaving } else { TicketState::Live };
                if late {
                    tickets.leaving.push_back(slot);
                }
            }
        }
        Ok(())
    }
}
