//! Leases: prices, what is owed for what was delivered, and how they end.

use solana_pubkey::Pubkey;

use super::{
    Answer, ContainerId, LeaseId, Matched, Model, Money, day,
    money::ESCROW,
    need,
    rows::{Cap, RowState},
};

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    Open,
    Started,
    Ended,
    Settled,
}

/// Why a lease ended, as the program numbers it.
pub const BY_USER: u8 = 1;
pub const NOT_SERVED: u8 = 2;
pub const BY_PROVIDER: u8 = 3;
pub const EXHAUSTED: u8 = 4;
pub const REJECTED: u8 = 5;
pub const TIMED_OUT: u8 = 6;

/// A lease.
#[derive(Clone, Debug)]
pub struct Lease {
    pub state: LeaseState,
    pub reason: u8,
    pub container: ContainerId,
    pub block: u32,
    pub row: u8,
    pub indexer: Option<u32>,
    pub price: Money,
    pub fee_bps: Money,
    pub share_bps: Money,
    pub seconds: i64,
    pub minimum: i64,
    pub escrowed: Money,
    pub paid: Money,
    pub fee: Money,
    pub indexer_fee: Money,
    pub refunded: Money,
    pub withdrawn: Money,
    pub compensation: Money,
    pub compensated: Money,
    pub opened: i64,
    pub start_by: i64,
    pub started: i64,
    pub ended: i64,
    pub settled: i64,
    /// When the host let go; 0 before.
    pub closed: i64,
    /// Seconds times percent.
    pub delivered: Money,
    pub last: u8,
    pub usage: u64,
}

impl Lease {
    pub fn held(&self) -> Money {
        self.escrowed - self.paid - self.fee - self.refunded
    }

    pub fn end(&self) -> i64 {
        if self.ended != 0 { self.ended } else { self.started + self.seconds }
    }

    /// The price of seconds times percent, rounded down.
    fn worth(&self, units: Money) -> Money {
        self.price * units / 360_000
    }

    fn fee_on(&self, amount: Money) -> Money {
        amount * self.fee_bps / 10_000
    }

    /// What is put in: the price rounded up, and the fee on it.
    fn escrow(&self, seconds: i64) -> Money {
        let price = (self.price * seconds as Money * 100).div_ceil(360_000);
        price + self.fee_on(price)
    }

    /// Price of an epoch.
    pub fn epoch_price(&self, length: i64) -> Money {
        self.worth(length as Money * 100)
    }

    /// What the protocol keeps of the fee of so many seconds.
    fn cap(&self, length: i64) -> Money {
        self.fee_on(self.epoch_price(length)) * (10_000 - self.share_bps) / 10_000
    }

    fn refund(&mut self, reason: u8, now: i64) {
        self.refunded += self.held();
        (self.state, self.reason, self.ended) = (LeaseState::Settled, reason, now);
    }
}

impl Model {
    fn lease(&mut self, id: LeaseId) -> Result<&mut Lease, &'static str> {
        self.leases.get_mut(&id).ok_or("no lease")
    }

    /// A lease and its container, for the container's operator.
    fn hosted(&mut self, by: Pubkey, id: LeaseId) -> Result<(&mut Lease, &mut super::Container), &'static str> {
        let lease = self.leases.get_mut(&id).ok_or("no lease")?;
        let container = self.containers.get_mut(&lease.container).ok_or("no container")?;
        need(container.operator == by, "not the operator")?;
        Ok((lease, container))
    }

    pub(super) fn open_lease(
        &mut self,
        by: Pubkey,
        id: ContainerId,
        nonce: u64,
        seconds: u32,
        most: u64,
        matched: Option<Matched>,
    ) -> Answer {
        self.running()?;
        let container = self.containers.get(&id).ok_or("no container")?.clone();
        let row = self.row(container.block, container.row).clone();
        need(row.state == RowState::Live && !row.falling, "not live")?;
        need(container.halted == 0, "halted")?;
        need(container.accepting, "not accepting")?;
        need(container.lease.is_none(), "leased")?;
        need(row.accused.is_none_or(|a| a.clean >= 2), "accused")?;
        need(container.price <= most, "too dear")?;
        need(seconds >= container.minimum.max(600) && seconds <= 366 * 86_400, "bad duration")?;
        need(!self.leases.contains_key(&(by, nonce)), "there is one")?;
        if let Some(Matched { indexer, signed_by, expires }) = matched {
            need(self.now <= expires && expires <= self.now + 3_600, "the match is over")?;
            let indexer = self.indexers.get_mut(&indexer).ok_or("no indexer")?;
            need(indexer.unlocks.is_none(), "leaving")?;
            need(indexer.keys.operator == signed_by, "not the indexer's signature")?;
            indexer.open += 1;
            indexer.matched += 1;
        }
        let mut lease = Lease {
            state: LeaseState::Open,
            reason: 0,
            container: id,
            block: container.block,
            row: container.row,
            indexer: matched.map(|m| m.indexer),
            price: Money::from(container.price),
            fee_bps: Money::from(self.parameters.lease_fee_bps),
            share_bps: Money::from(if matched.is_some() { self.parameters.indexer_share_bps } else { 0 }),
            seconds: i64::from(seconds),
            minimum: i64::from(container.minimum.max(600)),
            escrowed: 0,
            paid: 0,
            fee: 0,
            indexer_fee: 0,
            refunded: 0,
            withdrawn: 0,
            compensation: 0,
            compensated: 0,
            opened: self.now,
            start_by: self.now + i64::from(self.parameters.start_timeout),
            started: 0,
            ended: 0,
            settled: 0,
            closed: 0,
            delivered: 0,
            last: 100,
            usage: 0,
        };
        lease.escrowed = lease.escrow(lease.seconds);
        if lease.escrowed > 0 {
            self.deposit(ESCROW, by, lease.escrowed, true)?;
        }
        self.leases.insert((by, nonce), lease);
        self.containers.get_mut(&id).ok_or("no container")?.lease = Some((by, nonce));
        Ok(())
    }

    pub(super) fn start_lease(&mut self, by: Pubkey, id: LeaseId) -> Answer {
        let now = self.now;
        let (lease, container) = self.hosted(by, id)?;
        need(lease.state == LeaseState::Open, "not open")?;
        need(now <= lease.start_by, "timed out")?;
        (lease.state, lease.started, lease.settled) = (LeaseState::Started, now, now);
        container.misses = 0;
        let lease = lease.clone();
        let from = self.epoch_at(now)?;
        let head = lease.cap(self.bounds(from).1.min(lease.end()) - now);
        let cap = lease.cap(self.grid_of(from).length);
        let (until, tail) = self.last_touched(now, lease.end(), cap)?;
        self.row(lease.block, lease.row).caps.push(Cap { from, until, head, tail, cap });
        Ok(())
    }

    /// The last epoch of a lease, and what of `cap` the part that it covers comes to (in whole bps of the epoch).
    fn last_touched(&self, started: i64, end: i64, cap: Money) -> Result<(u32, Money), &'static str> {
        let epoch = self.epoch_at(started.max(end - 1))?;
        let (start, close) = self.bounds(epoch);
        let covered = (end.min(close) - started.max(start)).max(0);
        let bps = (covered * 10_000 / (close - start)) as Money;
        Ok((epoch, cap * bps / 10_000))
    }

    fn settled_to_its_end(&mut self, indexer: Option<u32>) {
        if let Some(indexer) = indexer.and_then(|id| self.indexers.get_mut(&id)) {
            indexer.open -= 1;
        }
    }

    pub(super) fn reject_lease(&mut self, by: Pubkey, id: LeaseId) -> Answer {
        let now = self.now;
        let (lease, container) = self.hosted(by, id)?;
        need(lease.state == LeaseState::Open, "not open")?;
        lease.refund(REJECTED, now);
        container.lease = None;
        container.rejections += 1;
        let indexer = lease.indexer;
        self.settled_to_its_end(indexer);
        Ok(())
    }

    pub(super) fn cancel_lease(&mut self, id: LeaseId) -> Answer {
        let now = self.now;
        self.current()?;
        let lease = self.lease(id)?;
        need(lease.state == LeaseState::Open, "not open")?;
        need(now > lease.start_by, "not timed out")?;
        lease.refund(TIMED_OUT, now);
        let (indexer, container) = (lease.indexer, lease.container);
        self.settled_to_its_end(indexer);
        let container = self.containers.get_mut(&container).ok_or("no container")?;
        container.lease = None;
        container.misses += 1;
        let (block, row) = (container.block, container.row);
        if container.misses >= 3 {
            container.misses = 0;
            self.cease_after(block, row)?;
        }
        Ok(())
    }

    pub(super) fn top_up(&mut self, by: Pubkey, id: LeaseId, seconds: u32) -> Answer {
        self.running()?;
        let now = self.now;
        let lease = self.lease(id)?;
        need(by == id.0, "not the user")?;
        need(lease.state == LeaseState::Started && now < lease.end(), "not running")?;
        let total = lease.seconds + i64::from(seconds);
        need(seconds > 0 && total <= 366 * 86_400, "bad duration")?;
        let more = lease.escrow(total) - lease.escrowed;
        (lease.seconds, lease.escrowed) = (total, lease.escrowed + more);
        let lease = lease.clone();
        if more > 0 {
            self.deposit(ESCROW, by, more, true)?;
        }
        self.end_cap(&lease, lease.end())
    }

    /// The running lease's claim on its row lasts to `end`.
    fn end_cap(&mut self, lease: &Lease, end: i64) -> Answer {
        let whole = self.row(lease.block, lease.row).caps.last().ok_or("no lease on the row")?.cap;
        let (until, tail) = self.last_touched(lease.started, end, whole)?;
        let cap = self.row(lease.block, lease.row).caps.last_mut().ok_or("no lease on the row")?;
        (cap.until, cap.tail) = (until, tail);
        Ok(())
    }

    pub(super) fn record_usage(&mut self, by: Pubkey, id: LeaseId, gpu_seconds: u64) -> Answer {
        let now = self.now;
        let (lease, container) = self.hosted(by, id)?;
        need(matches!(lease.state, LeaseState::Started | LeaseState::Ended), "not running")?;
        let passed = (now.min(lease.end()) - lease.started).max(0) as u64;
        need(gpu_seconds >= lease.usage && gpu_seconds <= passed * u64::from(container.gpus), "not so much")?;
        lease.usage = gpu_seconds;
        Ok(())
    }

    /// The availability of a whole epoch, as far as it is known: `Err` when it still may be; `None` without a verdict.
    fn delivered(&self, block: u32, row: u8, epoch: u32) -> Result<Option<u8>, ()> {
        let place = &self.blocks[block as usize];
        let Some(last) = place.last_tallied.filter(|l| *l >= epoch) else {
            let now = self.epoch_at(self.now).map_err(|_| ())?;
            return if now < epoch + 2 { Err(()) } else { Ok(None) };
        };
        let history = &place.rows[&row].history;
        let last = self.newest(block, row).unwrap_or(last);
        if last - epoch < 32 {
            return Ok(history.get(&epoch).map(|(a, _)| *a));
        }
        Ok(self.lowest(block, row))
    }

    /// The newest epoch that a row's history tells of: a tally in parts may be past the row already.
    pub(super) fn newest(&self, block: u32, row: u8) -> Option<u32> {
        let place = &self.blocks[block as usize];
        let past = place.lanes.iter().flatten().filter(|l| l.cursor > usize::from(row)).map(|l| l.epoch);
        past.chain(place.last_tallied).max()
    }

    /// The lowest verdict of the last 32 epochs that a row's history tells of.
    fn lowest(&self, block: u32, row: u8) -> Option<u8> {
        let last = self.newest(block, row)?;
        let history = &self.blocks[block as usize].rows[&row].history;
        history.range(last.saturating_sub(31)..=last).map(|(_, (a, _))| *a).min()
    }

    pub(super) fn settle_lease(&mut self, id: LeaseId) -> Answer {
        let mut lease = self.lease(id)?.clone();
        need(matches!(lease.state, LeaseState::Started | LeaseState::Ended), "not running")?;
        need(self.containers.contains_key(&lease.container), "no container")?;
        let (before, end) = (lease.clone(), lease.end());
        let mut epochs = 0;
        // Bounds of epochs are known back to the grid before the newest; what is older settles in one at the lowest verdict.
        let known = self.grids[self.grids.len().saturating_sub(2)].start;
        while lease.settled < end && epochs < 64 {
            if lease.settled < known {
                lease.last = self.lowest(lease.block, lease.row).unwrap_or(lease.last);
                let to = known.min(end);
                lease.delivered += (to - lease.settled) as Money * Money::from(lease.last);
                lease.settled = to;
                epochs += 1;
                continue;
            }
            let (start, close) = self.bounds(self.epoch_at(lease.settled)?);
            let to = close.min(end);
            if to > self.now {
                break;
            }
            let mut percent = 100;
            if lease.settled == start && to == close {
                match self.delivered(lease.block, lease.row, self.epoch_at(start)?) {
                    Err(()) => break,
                    Ok(verdict) => lease.last = verdict.unwrap_or(lease.last),
                }
                percent = lease.last;
            }
            lease.delivered += (to - lease.settled) as Money * Money::from(percent);
            lease.settled = to;
            epochs += 1;
        }
        need(lease.settled > before.settled || before.settled >= end, "nothing to settle")?;
        let whole = (lease.settled - lease.started).max(0) as Money * 100;
        let back = lease.worth(whole - lease.delivered);
        lease.paid = lease.worth(lease.delivered);
        lease.fee = lease.fee_on(lease.paid);
        lease.indexer_fee = lease.fee * lease.share_bps / 10_000;
        lease.refunded = back + lease.fee_on(back);
        let share = lease.indexer_fee - before.indexer_fee;
        self.providers.get_mut(&lease.container.0).ok_or("no provider")?.lease_due += lease.paid - before.paid;
        if let Some(indexer) = lease.indexer.and_then(|i| self.indexers.get_mut(&i)) {
            indexer.due += share;
            indexer.earned += share;
        }
        self.vaults[ESCROW].liabilities -= lease.fee - before.fee - share;
        if lease.state == LeaseState::Ended && lease.settled >= end {
            lease.refunded += lease.held();
            lease.state = LeaseState::Settled;
            self.settled_to_its_end(lease.indexer);
            self.containers.get_mut(&lease.container).ok_or("no container")?.unsettled -= 1;
        }
        self.leases.insert(id, lease);
        Ok(())
    }

    pub(super) fn close_lease(&mut self, by: Pubkey, id: LeaseId, not_served: bool) -> Answer {
        let now = self.now;
        let mut lease = self.lease(id)?.clone();
        need(lease.state == LeaseState::Started, "not running")?;
        let epoch = self.epoch_at(now)?;
        let length = self.grid_of(epoch).length;
        let container = self.containers.get_mut(&lease.container).ok_or("no container")?;
        let end = lease.end();
        if now >= end {
            (lease.ended, lease.reason) = (end, EXHAUSTED);
        } else if by == id.0 && not_served {
            need(now < lease.started + 300, "too late")?;
            need(container.not_served.insert((by, day(now))), "once a day")?;
            (lease.ended, lease.reason) = (now, NOT_SERVED);
        } else if by == id.0 {
            (lease.ended, lease.reason) = (now.max(lease.started + lease.minimum).min(end), BY_USER);
        } else {
            need(by == container.operator, "running")?;
            (lease.ended, lease.reason) = (now, BY_PROVIDER);
            if !container.is_excused(lease.opened, now, now + 1) {
                let credit = lease.epoch_price(length).min(container.locked);
                lease.compensation += credit;
                container.locked -= credit;
                if credit > 0 {
                    container.halted = 3;
                    let (block, row) = (container.block, container.row);
                    let current = self.current()?.number;
                    self.row(block, row).halted_in = Some(current);
                }
                self.providers.get_mut(&lease.container.0).ok_or("no provider")?.staked -= credit;
            }
        }
        let container = self.containers.get_mut(&lease.container).ok_or("no container")?;
        container.lease = None;
        container.unsettled += 1;
        container.served += 1;
        (lease.state, lease.closed) = (LeaseState::Ended, now.min(end));
        self.end_cap(&lease, lease.ended.min(now))?;
        self.leases.insert(id, lease);
        Ok(())
    }
}
