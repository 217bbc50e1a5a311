//! Cases of dishonesty and of breach, and what they take.

use solana_pubkey::Pubkey;

use super::{
    Answer, Case, ContainerId, LeaseId, Model, Money, day,
    money::{REWARDS, STAKE},
    need,
};

/// Why a container is halted, as the program numbers it.
const HALT_DISHONEST: u16 = 1;
const HALT_BREACH: u16 = 2;

impl Model {
    pub(super) fn open_case(&mut self, id: ContainerId, epoch: u32) -> Answer {
        let container = self.containers.get(&id).ok_or("no container")?;
        let (block, r) = (container.block, container.row);
        let accused = self.row(block, r).accused.filter(|a| a.since == epoch).ok_or("not accused")?;
        need(!self.cases.contains_key(&(id, epoch, false)), "there is one")?;
        let mut case = Case { open: true, until: accused.until, ..Case::default() };
        if let Some(lane) = self.blocks[block as usize].lane(epoch) {
            case.seats = lane
                .seats
                .iter()
                .map(|seat| {
                    let seat = seat.as_ref().filter(|s| s.revealed)?;
                    Some((seat.slot, seat.checker, seat.vote(r).is_some_and(|v| v.dishonest)))
                })
                .collect();
        }
        self.cases.insert((id, epoch, false), case);
        Ok(())
    }

    /// Takes stake, then what has not vested, newest first, then accrual (all of it if so wanted); halts the container.
    fn slash(
        &mut self,
        id: ContainerId,
        amount: Money,
        all_accrual: bool,
        reason: u16,
    ) -> Result<(Money, Money, Money), &'static str> {
        let today = day(self.now);
        let current = self.current()?.number;
        let container = self.containers.get_mut(&id).ok_or("no container")?;
        let stake = amount.min(container.locked);
        container.locked -= stake;
        container.halted = reason;
        let (block, row) = (container.block, container.row);
        let provider = self.providers.get_mut(&id.0).ok_or("no provider")?;
        provider.staked -= stake;
        let grants = provider.slash(amount - stake, today);
        let row = self.row(block, row);
        row.halted_in = Some(current);
        let accrual = if all_accrual { row.accrued } else { row.accrued.min(amount - stake - grants) };
        row.accrued -= accrual;
        self.vaults[STAKE].liabilities -= stake;
        self.vaults[REWARDS].liabilities -= grants + accrual;
        Ok((stake, grants, accrual))
    }

    pub(super) fn close_case(&mut self, id: ContainerId, epoch: u32, keeper: Option<Pubkey>) -> Answer {
        need(keeper.is_none_or(|k| self.keepers.contains_key(&k)), "no keeper")?;
        self.current()?;
        let mut case = self.cases.get(&(id, epoch, false)).ok_or("no case")?.clone();
        need(case.open, "closed")?;
        need(self.epoch_at(self.now)? >= case.until + 2, "open")?;
        let container = self.containers.get(&id).ok_or("no container")?;
        let (block, row, original) = (container.block, container.row, container.original);
        let accused = self.row(block, row).accused.filter(|a| a.since == epoch).ok_or("not accused")?;
        (case.open, case.closed, case.condemned) = (false, self.now, accused.condemned);
        let needed = ((accused.until - accused.since + 1) / 6).max(2);
        if accused.condemned >= needed && self.tickets.order.len() >= 15 {
            (case.stake, case.grants, case.accrual) = self.slash(id, original, true, HALT_DISHONEST)?;
            case.upheld = true;
            self.row(block, row).accused = None;
            self.cease(block, row)?;
        } else {
            self.row(block, row).accused = None;
            if accused.condemned < 2 {
                for (slot, checker, accuses) in case.seats.iter().flatten() {
                    if *accuses {
                        self.tickets.refute(*slot, *checker, epoch);
                    }
                }
            }
        }
        self.cases.insert((id, epoch, false), case);
        self.pay_keeper(self.current.ok_or("no epoch")?, keeper)
    }

    pub(super) fn report_breach(&mut self, lease_id: LeaseId, epoch: u32) -> Answer {
        need(self.tickets.order.len() >= 15, "too few tickets")?;
        let lease = self.leases.get(&lease_id).ok_or("no lease")?.clone();
        let id = lease.container;
        let container = self.containers.get(&id).ok_or("no container")?.clone();
        let (start, _) = self.bounds(epoch);
        let (_, end) = self.bounds(epoch + 1);
        let served = if lease.closed == 0 { lease.end() } else { lease.closed };
        need(lease.started != 0 && lease.started <= start && end <= served, "not covered")?;
        let block = &self.blocks[container.block as usize];
        need(block.last_tallied.is_some_and(|l| l > epoch), "not recorded")?;
        need(self.newest(container.block, container.row).is_some_and(|l| l - epoch < 32), "too long ago")?;
        let history = &block.rows[&container.row].history;
        let low = |e: u32| history.get(&e).is_some_and(|(_, breached)| *breached);
        need(low(epoch) && low(epoch + 1), "no breach")?;
        need(!container.is_excused(lease.opened, start, end), "announced")?;
        if let Some((at, until)) = container.breached {
            need(epoch > until && self.now >= at + 86_400, "once a day")?;
        }
        let accused = self.row(container.block, container.row).accused.is_some();
        let (stake, grants, accrual) = self.slash(id, container.original / 3, false, HALT_BREACH)?;
        let price = lease.epoch_price(self.grid_of(epoch).length);
        let compensation = if accused { 0 } else { price.min(stake) };
        self.leases.get_mut(&lease_id).ok_or("no lease")?.compensation += compensation;
        self.vaults[STAKE].liabilities += compensation;
        let container = self.containers.get_mut(&id).ok_or("no container")?;
        container.breached = Some((self.now, epoch + 1));
        container.breaches += 1;
        need(!self.cases.contains_key(&(id, epoch, true)), "there is one")?;
        let case = Case {
            open: false,
            upheld: true,
            until: epoch + 1,
            closed: self.now,
            condemned: 2,
            stake,
            grants,
            accrual,
            compensation,
            seats: vec![],
        };
        self.cases.insert((id, epoch, true), case);
        Ok(())
    }

    pub(super) fn release_row(&mut self, id: ContainerId, epoch: u32) -> Answer {
        let container = self.containers.get(&id).ok_or("no container")?;
        let (block, row) = (container.block, container.row);
        let accused = self.row(block, row).accused.filter(|a| a.since == epoch).ok_or("not accused")?;
        need(self.epoch_at(self.now)? >= accused.until + 2, "open")?;
        need(!self.cases.contains_key(&(id, epoch, false)), "there is a case")?;
        self.row(block, row).accused = None;
        Ok(())
    }
}
