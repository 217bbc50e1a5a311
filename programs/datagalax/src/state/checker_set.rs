use anchor_lang::{accounts::Slab, prelude::*};
use bytemuck::{Pod, Zeroable};

use super::{VERSION, assert_size};
use crate::{constants::NONE, error::DatagalaxError};

/// Head of the one growable array of all tickets, seeds `["checkers"]`.
///
/// Slots are stable; the permutation runs over `order[0..live]`, which the entries also carry. Entrants wait in a linked
/// list and are let in by `churn`, first in first out.
#[account]
pub struct CheckerSetHeader {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// Reserved, zero.
    pub reserved_flags: [u8; 2],
    /// Tickets in the order, n.
    pub live: u32,
    /// Tickets waiting to enter.
    pub pending: u32,
    /// Slot of the first of them, [`NONE`] when none.
    pub pending_head: u32,
    /// Slot of the last of them, [`NONE`] when none.
    pub pending_tail: u32,
    /// Slots free for reuse (three epochs after removal).
    pub free: u32,
    /// First of them, [`NONE`] when none.
    pub free_head: u32,
    /// Reserved, zero.
    pub reserved: [u8; 36],
}

/// Entry i: the ticket in slot i, and the slot at position i of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, IdlType)]
#[repr(C)]
pub struct Ticket {
    /// Id of the checker that holds it.
    pub checker: u32,
    /// `order[i]`, a slot; meaningful for i below `live`.
    pub order: u32,
    /// Position of this slot in the order, [`NONE`] when it is not in it.
    pub position: u32,
    /// Next slot of the waiting list, [`NONE`] at its end.
    pub next: u32,
    /// One bit an epoch with a seat, newest in bit 0: 1 when most of its seats were marked.
    pub record: u64,
    /// Seat pay earned and not claimed, base units.
    pub accrued: u64,
    /// Epoch the counts are of, [`NONE`] before the first seat.
    pub epoch: u32,
    /// Seats tallied in that epoch.
    pub seats: u16,
    /// Of those, marked.
    pub marked: u16,
    /// [`Ticket::WAITING`] or [`Ticket::LIVE`].
    pub status: u8,
    /// Reserved, zero.
    pub reserved: [u8; 3],
    /// Epoch it was removed in (its slot is reused three later).
    pub removed: u32,
}

assert_size!(CheckerSetHeader, 4 + 6 * 4 + 36);
assert_size!(Ticket, 48);

/// The account of all tickets.
pub type CheckerSet = Slab<CheckerSetHeader, Ticket>;

impl Ticket {
    /// Waiting to enter the order.
    pub const WAITING: u8 = 1;
    /// In the order.
    pub const LIVE: u8 = 2;

    /// A ticket that waits to enter.
    pub fn waiting(checker: u32) -> Self {
        Self { checker, position: NONE, next: NONE, epoch: NONE, removed: NONE, status: Self::WAITING, ..Zeroable::zeroed() }
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
}

impl CheckerSetHeader {
    /// What must hold of the header, given how many slots there are.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`].
    pub fn invariant(&self, slots: usize) -> Result<()> {
        let counted = u64::from(self.live) + u64::from(self.pending) + u64::from(self.free);
        require!(
            self.version == VERSION
                && counted <= slots as u64
                && (self.pending == 0) == (self.pending_head == NONE)
                && (self.pending == 0) == (self.pending_tail == NONE),
            DatagalaxError::InvariantViolated
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_an_epoch_says_whether_most_seats_were_marked() {
        let mut ticket = Ticket::waiting(1);
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
}
