use anchor_lang::prelude::*;
use bytemuck::{Pod, Zeroable};

use super::{VERSION, assert_size};
use crate::{
    constants::{MARKS_TO_RETIRE, NONE},
    error::DatagalaxError,
};

/// Head of the one growable array of all tickets, seeds `["checkers"]`.
///
/// Slots are stable; the permutation runs over `order[0..live]`, which the entries also carry. Three queues of tickets, linked
/// through the entries, wait for `churn`: those to be retired, those that leave, those that enter; each first in, first out.
#[account]
pub struct CheckerSetHeader {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// Reserved, zero.
    pub reserved_flags: [u8; 2],
    /// Entries that follow.
    pub slots: u32,
    /// Tickets in the order, n.
    pub live: u32,
    /// Tickets waiting to enter.
    pub pending: u32,
    /// Slot of the first of them, [`NONE`] when none.
    pub pending_head: u32,
    /// Slot of the last of them, [`NONE`] when none.
    pub pending_tail: u32,
    /// Tickets that asked to leave the order.
    pub leaving: u32,
    /// Slot of the first of them, [`NONE`] when none.
    pub leaving_head: u32,
    /// Slot of the last of them, [`NONE`] when none.
    pub leaving_tail: u32,
    /// Tickets to be retired for their record.
    pub retiring: u32,
    /// Slot of the first of them, [`NONE`] when none.
    pub retiring_head: u32,
    /// Slot of the last of them, [`NONE`] when none.
    pub retiring_tail: u32,
    /// Slots free for reuse.
    pub free: u32,
    /// First of them, [`NONE`] when none.
    pub free_head: u32,
    /// Reserved, zero.
    pub reserved: [u8; 40],
}

/// Entry i: the ticket in slot i, and the slot at position i of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, IdlType)]
#[repr(C)]
pub struct Ticket {
    /// Id of the checker that holds it, [`NONE`] for a free slot.
    pub checker: u32,
    /// `order[i]`, a slot; meaningful for i below `live`.
    pub order: u32,
    /// Position of this slot in the order, [`NONE`] when it is not in it.
    pub position: u32,
    /// Next slot of the queue it is in, [`NONE`] at its end.
    pub next: u32,
    /// One bit an epoch with a seat, newest in bit 0: 1 when most of its seats were marked.
    pub record: u64,
    /// Seat pay earned and not claimed, base units.
    pub accrued: u64,
    /// What it was bought for, base units.
    pub price: u64,
    /// When its price may be withdrawn, seconds since 1970; 0 before anybody asked.
    pub unlocks_at: u32,
    /// Epoch the counts are of, [`NONE`] before the first seat.
    pub epoch: u32,
    /// Seats tallied in that epoch.
    pub seats: u16,
    /// Of those, marked.
    pub marked: u16,
    /// Epoch it was removed in, [`NONE`] before; for one that waits to enter, the epoch in which it asked to leave.
    pub removed: u32,
    /// Last epoch it took a mark in for an accusation that no other committee confirmed, [`NONE`] when never.
    pub refuted: u32,
    /// [`Ticket::FREE`] to [`Ticket::RETIRED`].
    pub status: u8,
    /// Epochs before `refuted` it took such a mark in, bit i for the one i + 1 before (little-endian).
    pub refuted_before: [u8; 3],
}

assert_size!(CheckerSetHeader, 4 + 13 * 4 + 40);
assert_size!(Ticket, 64);

impl Ticket {
    /// No ticket.
    pub const FREE: u8 = 0;
    /// Waiting to enter the order.
    pub const WAITING: u8 = 1;
    /// In the order.
    pub const LIVE: u8 = 2;
    /// In the order, and queued to leave it.
    pub const LEAVING: u8 = 3;
    /// In the order, and queued to be retired.
    pub const RETIRING: u8 = 4;
    /// Out of the order; still takes pay and marks of its last epochs.
    pub const REMOVED: u8 = 5;
    /// The same, for its record: a tenth of its price is lost.
    pub const RETIRED: u8 = 6;

    /// A ticket that waits to enter.
    pub fn waiting(checker: u32, price: u64) -> Self {
        Self {
            checker,
            position: NONE,
            next: NONE,
            price,
            epoch: NONE,
            removed: NONE,
            refuted: NONE,
            status: Self::WAITING,
            ..Zeroable::zeroed()
        }
    }

    /// Whether it is in the order.
    #[inline]
    pub const fn is_seated(&self) -> bool {
        matches!(self.status, Self::LIVE | Self::LEAVING | Self::RETIRING)
    }

    /// Whether it is out of the order and its price waits to be withdrawn.
    #[inline]
    pub const fn is_out(&self) -> bool {
        matches!(self.status, Self::REMOVED | Self::RETIRED)
    }

    /// Whether its record is bad enough to be retired: twenty ones among 64.
    #[inline]
    pub const fn is_disgraced(&self) -> bool {
        // Each step clears the lowest one; the chain has no instruction that counts them.
        let (mut bits, mut ones) = (self.record, 0);
        while bits != 0 && ones < MARKS_TO_RETIRE {
            bits &= bits.wrapping_sub(1);
            ones += 1;
        }
        ones >= MARKS_TO_RETIRE
    }

    /// Counts a tallied seat of an epoch and keeps the record's newest bit true to the counts so far: one bit an epoch, 1
    /// when most of the seats were marked. Blocks tally in any order, so the bit is rewritten, never appended twice; a
    /// seat of an epoch older than the counted one (a block tallied late) moves nothing.
    pub fn count_seat(&mut self, epoch: u32, marked: bool) {
        if self.epoch == NONE || epoch > self.epoch {
            self.record <<= 1;
            self.epoch = epoch;
            self.seats = 0;
            self.marked = 0;
        } else if epoch < self.epoch {
            return;
        }
        self.seats = self.seats.saturating_add(1);
        self.marked = self.marked.saturating_add(u16::from(marked));
        let most = u64::from(u32::from(self.marked) * 2 > u32::from(self.seats));
        self.record = (self.record & !1) | most;
    }

    /// Takes one mark for an accusation made in `epoch` that no second committee confirmed; at most one an epoch, however many
    /// rows were accused and in whatever order their cases are closed. Says whether it took it: not for an epoch more than 24
    /// before the newest such one, of which nothing is known any more.
    pub fn mark_refuted(&mut self, epoch: u32) -> bool {
        let [a, b, c] = self.refuted_before;
        let mut before = u32::from_le_bytes([a, b, c, 0]);
        if self.refuted == NONE {
            self.refuted = epoch;
        } else if self.refuted < epoch {
            let passed = epoch - self.refuted;
            before = ((before << 1) | 1).checked_shl(passed - 1).unwrap_or(0);
            self.refuted = epoch;
        } else if self.refuted == epoch {
            return false;
        } else {
            let bit = 1u32.checked_shl(self.refuted - epoch - 1).unwrap_or(0) & 0xff_ffff;
            if bit == 0 || before & bit != 0 {
                return false;
            }
            before |= bit;
        }
        let [a, b, c, _] = before.to_le_bytes();
        self.refuted_before = [a, b, c];
        // Behind bit 0, which belongs to the epoch that is being counted.
        self.record = ((self.record & !1) << 1) | 0b10 | (self.record & 1);
        true
    }
}

/// A queue of tickets in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// To be retired.
    Retiring,
    /// To leave.
    Leaving,
    /// To enter.
    Entering,
}

impl CheckerSetHeader {
    /// A head without tickets.
    pub fn clear(&mut self, bump: u8) {
        self.version = VERSION;
        self.bump = bump;
        for end in [
            &mut self.pending_head,
            &mut self.pending_tail,
            &mut self.leaving_head,
            &mut self.leaving_tail,
            &mut self.retiring_head,
            &mut self.retiring_tail,
            &mut self.free_head,
        ] {
            *end = NONE;
        }
    }

    fn ends(&mut self, queue: Queue) -> (&mut u32, &mut u32, &mut u32) {
        match queue {
            Queue::Retiring => (&mut self.retiring, &mut self.retiring_head, &mut self.retiring_tail),
            Queue::Leaving => (&mut self.leaving, &mut self.leaving_head, &mut self.leaving_tail),
            Queue::Entering => (&mut self.pending, &mut self.pending_head, &mut self.pending_tail),
        }
    }

    /// Puts the ticket in a slot at the end of a queue.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when a link leads nowhere.
    pub fn enqueue(&mut self, tickets: &mut [Ticket], queue: Queue, slot: u32) -> Result<()> {
        let (count, head, tail) = self.ends(queue);
        tickets.get_mut(slot as usize).ok_or(DatagalaxError::InvariantViolated)?.next = NONE;
        if *tail == NONE {
            *head = slot;
        } else {
            tickets.get_mut(*tail as usize).ok_or(DatagalaxError::InvariantViolated)?.next = slot;
        }
        *tail = slot;
        // A count that went around is more than there are slots: the invariant sees it.
        *count = count.wrapping_add(1);
        Ok(())
    }

    /// Takes the first ticket out of a queue.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when there is none.
    pub fn dequeue(&mut self, tickets: &mut [Ticket], queue: Queue) -> Result<u32> {
        let (count, head, tail) = self.ends(queue);
        let slot = *head;
        let ticket = tickets.get_mut(slot as usize).ok_or(DatagalaxError::InvariantViolated)?;
        *head = ticket.next;
        ticket.next = NONE;
        if *head == NONE {
            *tail = NONE;
        }
        *count = count.wrapping_sub(1);
        Ok(slot)
    }

    /// What must hold of the header.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`].
    #[inline(always)]
    pub fn invariant(&self) -> Result<()> {
        require!(self.holds(), DatagalaxError::InvariantViolated);
        Ok(())
    }

    #[inline(never)]
    fn holds(&self) -> bool {
        let counted = u64::from(self.live) + u64::from(self.pending) + u64::from(self.free);
        self.version == VERSION
            && counted <= u64::from(self.slots)
            && u64::from(self.leaving) + u64::from(self.retiring) <= u64::from(self.live)
            && (self.pending == 0) == (self.pending_head == NONE)
            && (self.leaving == 0) == (self.leaving_head == NONE)
            && (self.retiring == 0) == (self.retiring_head == NONE)
            && (self.free == 0) == (self.free_head == NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_bit_an_epoch_says_whether_most_seats_were_marked() {
        let mut ticket = Ticket::waiting(1, 5);
        ticket.count_seat(3, true);
        assert_eq!(ticket.record, 0b1);
        ticket.count_seat(3, false);
        assert_eq!(ticket.record, 0b0, "one of two is not most");
        ticket.count_seat(3, true);
        assert_eq!(ticket.record, 0b1, "two of three are");
        ticket.count_seat(4, false);
        assert_eq!(ticket.record, 0b10);
        ticket.count_seat(3, true);
        assert_eq!(ticket.record, 0b10, "a late block of an older epoch moves nothing");
        ticket.count_seat(9, true);
        assert_eq!(ticket.record, 0b101, "epochs without a seat leave no bit");
    }

    #[test]
    fn a_refuted_accusation_is_one_mark_an_epoch_beside_the_seats() {
        let mut ticket = Ticket::waiting(1, 5);
        ticket.count_seat(3, false);
        assert!(ticket.mark_refuted(2));
        assert_eq!(ticket.record, 0b10);
        assert!(!ticket.mark_refuted(2), "another row accused in the same epoch");
        ticket.count_seat(3, false);
        ticket.count_seat(4, true);
        assert_eq!(ticket.record, 0b101);
        assert!(ticket.mark_refuted(3));
        assert_eq!(ticket.record, 0b1011);
    }

    proptest! {
        /// Cases are closed in any order: each epoch marks once, as far back as is remembered.
        #[test]
        fn refuted_accusations_mark_once_an_epoch(epochs in prop::collection::vec(100u32..160, 1..40)) {
            let mut ticket = Ticket::waiting(1, 5);
            let mut marked: Vec<u32> = vec![];
            for epoch in epochs {
                let newest = marked.iter().max().copied().unwrap_or(epoch);
                let expected = !marked.contains(&epoch) && epoch + 24 >= newest;
                prop_assert_eq!(ticket.mark_refuted(epoch), expected);
                if expected {
                    marked.push(epoch);
                }
            }
        }
    }

    #[test]
    fn twenty_ones_are_a_disgrace() {
        let mut ticket = Ticket::waiting(1, 5);
        ticket.record = (1 << 19) - 1;
        assert!(!ticket.is_disgraced());
        ticket.record |= 1 << 63;
        assert!(ticket.is_disgraced());
    }

    #[test]
    fn queues_are_first_in_first_out() {
        let mut head: CheckerSetHeader = Zeroable::zeroed();
        head.clear(1);
        let mut tickets = [Ticket::waiting(1, 5); 4];
        for queue in [Queue::Retiring, Queue::Leaving, Queue::Entering] {
            for slot in [2, 0, 3] {
                head.enqueue(&mut tickets, queue, slot).unwrap();
            }
            let out: Vec<u32> = (0..3).map(|_| head.dequeue(&mut tickets, queue).unwrap()).collect();
            assert_eq!(out, [2, 0, 3]);
            assert!(head.dequeue(&mut tickets, queue).is_err());
        }
    }
}
