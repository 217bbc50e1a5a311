use core::ops::{Deref, DerefMut};

use anchor_lang::{IdlAccountType, prelude::*};

use super::{
    Kind,
    account::{FINE, Finding, READ_ONLY, code, settle, tag_of},
};
use crate::{
    constants::{MIN_TICKETS_TO_RETIRE, NONE},
    error::DatagalaxError,
    state::{CheckerSetHeader, Queue, Ticket},
};

/// The one account of all tickets: head, then as many [`Ticket`]s as the head counts.
pub struct CheckerSet {
    view: AccountView,
}

/// Bytes before the first ticket.
const HEAD: usize = CheckerSetHeader::SPACE;
const TICKET: usize = core::mem::size_of::<Ticket>();

#[inline(never)]
fn check(view: &AccountView, writable: bool) -> Finding {
    if writable && !view.is_writable() {
        READ_ONLY
    } else if !view.owned_by(&crate::ID) {
        code(DatagalaxError::ForeignAccount)
    } else if tag_of(view) != Some(CheckerSetHeader::TAG) {
        code(DatagalaxError::WrongAccountKind)
    } else if view.data_len() < HEAD || (CheckerSet { view: *view }).slots as usize * TICKET != view.data_len() - HEAD {
        code(DatagalaxError::WrongAccountLength)
    } else {
        FINE
    }
}

impl CheckerSet {
    /// The account's address.
    #[inline(always)]
    pub fn address(&self) -> &Address {
        self.view.address()
    }

    /// All tickets by slot.
    #[inline(always)]
    pub fn tickets(&self) -> &[Ticket] {
        // SAFETY: the length was checked when the account was loaded, and `append` keeps count and length in step.
        unsafe { core::slice::from_raw_parts(self.view.data_ptr().add(HEAD).cast(), self.slots as usize) }
    }

    /// All tickets by slot, to change them.
    #[inline(always)]
    pub fn tickets_mut(&mut self) -> &mut [Ticket] {
        // SAFETY: as above; the derive refuses a second name of a mutable account.
        unsafe { core::slice::from_raw_parts_mut(self.view.data_mut_ptr().add(HEAD).cast(), self.slots as usize) }
    }

    /// The ticket in a slot.
    ///
    /// # Errors
    /// [`DatagalaxError::NotYourTicket`] when there is no such slot.
    #[inline(always)]
    pub fn ticket_mut(&mut self, slot: u32) -> Result<&mut Ticket> {
        self.tickets_mut().get_mut(slot as usize).ok_or_else(|| DatagalaxError::NotYourTicket.into())
    }

    /// Puts the ticket in a slot at the end of a queue.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when a link leads nowhere.
    #[inline(never)]
    pub fn enqueue(&mut self, queue: Queue, slot: u32) -> Result<()> {
        let (head, tickets) = self.parts();
        head.enqueue(tickets, queue, slot)
    }

    /// Takes the first ticket out of a queue.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when there is none.
    #[inline(never)]
    pub fn dequeue(&mut self, queue: Queue) -> Result<u32> {
        let (head, tickets) = self.parts();
        head.dequeue(tickets, queue)
    }

    /// Queues the ticket in a slot to be retired, if it sits and its record is bad enough. One that just left is retired on the
    /// spot, while there are tickets enough: its last epochs are tallied after the boundary.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when there is no such slot.
    #[inline(never)]
    pub fn retire_if_disgraced(&mut self, slot: u32) -> Result<()> {
        let enough = self.live > MIN_TICKETS_TO_RETIRE;
        let ticket = self.tickets_mut().get_mut(slot as usize).ok_or(DatagalaxError::InvariantViolated)?;
        if !ticket.is_disgraced() {
            return Ok(());
        }
        match ticket.status {
            Ticket::LIVE => {
                ticket.status = Ticket::RETIRING;
                return self.enqueue(Queue::Retiring, slot);
            }
            // Attack: leave with nineteen marks, and take the twentieth and the whole price along.
            Ticket::REMOVED if enough => ticket.status = Ticket::RETIRED,
            _ => {}
        }
        Ok(())
    }

    /// Gives the ticket in a slot the mark for an accusation in `epoch` that no second committee confirmed, if the checker that made
    /// it still holds the slot.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when there is no such slot.
    #[inline(never)]
    pub fn mark_refuted(&mut self, slot: u32, checker: u32, epoch: u32) -> Result<()> {
        let ticket = self.tickets_mut().get_mut(slot as usize).ok_or(DatagalaxError::InvariantViolated)?;
        if ticket.status == Ticket::FREE || ticket.checker != checker || !ticket.mark_refuted(epoch) {
            return Ok(());
        }
        self.retire_if_disgraced(slot)
    }

    /// Takes the ticket in a slot out of the order, which the last one's place in it then closes.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when it is not in it.
    #[inline(never)]
    pub fn remove(&mut self, slot: u32, epoch: u32, retired: bool, unlocks_at: u32) -> Result<()> {
        let (head, tickets) = self.parts();
        let bad = || Error::from(DatagalaxError::InvariantViolated);
        let ticket = tickets.get_mut(slot as usize).ok_or_else(bad)?;
        let position = ticket.position;
        ticket.position = NONE;
        ticket.status = if retired { Ticket::RETIRED } else { Ticket::REMOVED };
        ticket.removed = epoch;
        if ticket.unlocks_at == 0 {
            ticket.unlocks_at = unlocks_at;
        }
        let last = head.live.checked_sub(1).ok_or_else(bad)?;
        let moved = tickets.get(last as usize).ok_or_else(bad)?.order;
        if position != last {
            tickets.get_mut(position as usize).ok_or_else(bad)?.order = moved;
            tickets.get_mut(moved as usize).ok_or_else(bad)?.position = position;
        }
        head.live = last;
        Ok(())
    }

    /// Puts the ticket in a slot at the end of the order.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`] when there is no such slot.
    #[inline(never)]
    pub fn admit(&mut self, slot: u32) -> Result<()> {
        let (head, tickets) = self.parts();
        let bad = || Error::from(DatagalaxError::InvariantViolated);
        let position = head.live;
        let ticket = tickets.get_mut(slot as usize).ok_or_else(bad)?;
        ticket.status = Ticket::LIVE;
        ticket.position = position;
        tickets.get_mut(position as usize).ok_or_else(bad)?.order = slot;
        head.live += 1;
        Ok(())
    }

    /// Head and tickets, to change both.
    #[inline(always)]
    pub fn parts(&mut self) -> (&mut CheckerSetHeader, &mut [Ticket]) {
        let slots = self.slots as usize;
        // SAFETY: as in `deref_mut` and `tickets_mut`; the head ends where the tickets begin.
        unsafe {
            let data = self.view.data_mut_ptr();
            (&mut *data.add(super::DISCRIMINATOR_LEN).cast(), core::slice::from_raw_parts_mut(data.add(HEAD).cast(), slots))
        }
    }

    /// Adds `count` slots at the end, zeroed, and pays their rent from `payer`.
    ///
    /// # Errors
    /// The runtime's, when it grows by more than 10,240 bytes.
    pub fn append(&mut self, count: u32, payer: &AccountView) -> Result<()> {
        let length = self.view.data_len() + count as usize * TICKET;
        let mut view = self.view;
        // Growing zeroes by one call of the runtime; to ask for it again would do so byte by byte.
        anchor_lang::realloc_account(&mut view, length, payer, false)?;
        self.slots += count;
        Ok(())
    }
}

impl Deref for CheckerSet {
    type Target = CheckerSetHeader;

    #[inline(always)]
    fn deref(&self) -> &CheckerSetHeader {
        // SAFETY: length and discriminator were checked when the account was loaded.
        unsafe { &*self.view.data_ptr().add(super::DISCRIMINATOR_LEN).cast() }
    }
}

impl DerefMut for CheckerSet {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut CheckerSetHeader {
        // SAFETY: as above; the derive refuses a second name of a mutable account.
        unsafe { &mut *self.view.data_mut_ptr().add(super::DISCRIMINATOR_LEN).cast() }
    }
}

impl AnchorAccount for CheckerSet {
    type Data = CheckerSetHeader;

    const MIN_DATA_LEN: usize = HEAD;

    #[inline(always)]
    fn load(view: AccountView) -> Result<Self> {
        settle(check(&view, false))?;
        Ok(Self { view })
    }

    #[inline(always)]
    unsafe fn load_mut(view: AccountView) -> Result<Self> {
        settle(check(&view, true))?;
        Ok(Self { view })
    }

    #[inline(always)]
    fn account(&self) -> &AccountView {
        &self.view
    }
}

#[cfg(not(feature = "idl-build"))]
impl IdlAccountType for CheckerSet {}

#[cfg(feature = "idl-build")]
impl IdlAccountType for CheckerSet {
    const __IDL_ACCOUNT_ENTRY: Option<&'static str> = <CheckerSetHeader as IdlAccountType>::__IDL_ACCOUNT_ENTRY;
    const __IDL_TYPE_DEF: Option<&'static str> = <CheckerSetHeader as IdlAccountType>::__IDL_TYPE_DEF;

    fn __idl_account_entry() -> Option<&'static str> {
        CheckerSetHeader::__idl_account_entry()
    }

    fn __idl_type_def() -> Option<&'static str> {
        CheckerSetHeader::__idl_type_def()
    }

    fn __register_idl_deps(accounts: &mut alloc::vec::Vec<&'static str>, types: &mut alloc::vec::Vec<&'static str>) {
        CheckerSetHeader::__register_idl_deps(accounts, types);
    }
}
