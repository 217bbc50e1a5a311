//! Providers with stake and vesting, their containers, checkers, indexers, keepers, and the end of accounts.

use std::collections::BTreeSet;

use datagalax::state::VestingTerms;
use solana_pubkey::Pubkey;

use super::{
    Answer, ContainerId, LeaseId, Model, Money, Party, Target, day,
    money::{REWARDS, STAKE},
    need,
    rows::{Row, RowState},
};

/// Who may do what for a party.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    pub owner: Pubkey,
    /// The default address: nobody.
    pub pending: Pubkey,
    pub operator: Pubkey,
    pub payout: Pubkey,
    pub rent_payer: Pubkey,
}

impl Keys {
    fn new(owner: Pubkey, operator: Pubkey, payout: Pubkey) -> Self {
        Self { owner, pending: Pubkey::default(), operator, payout, rent_payer: owner }
    }
}

/// A grant of rewards.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    pub day: u32,
    pub amount: Money,
    pub taken: Money,
    pub terms: VestingTerms,
}

impl Grant {
    /// What has vested: both linear parts rounded down, the rest at once; a slash took of what had not.
    pub fn vested(&self, today: u32) -> Money {
        let age = Money::from(today - self.day);
        if age >= 180 {
            return self.amount - self.taken;
        }
        let part = |bps: u16| self.amount * Money::from(bps) / 10_000;
        let linear = |part: Money, days: u16| part * age.min(Money::from(days)) / Money::from(days);
        let (short, long) = (part(self.terms.short_bps), part(self.terms.long_bps));
        let by_terms =
            self.amount - short - long + linear(short, self.terms.short_days) + linear(long, self.terms.long_days);
        by_terms.min(self.amount - self.taken)
    }
}

/// A provider.
#[derive(Clone, Debug)]
pub struct Provider {
    pub keys: Keys,
    pub staked: Money,
    /// Asked back: how much, from when on.
    pub asked: [(Money, i64); 8],
    pub lease_due: Money,
    pub withdrawn: Money,
    /// Every grant there ever was.
    pub grants: Vec<Grant>,
    pub ever: u32,
}

impl Provider {
    /// What has vested, the withdrawn included.
    pub fn vested(&self, today: u32) -> Money {
        self.grants.iter().map(|g| g.vested(today)).sum()
    }

    /// Everything ever granted.
    pub fn claimed(&self) -> Money {
        self.grants.iter().map(|g| g.amount).sum()
    }

    /// Everything ever taken of it.
    pub fn taken(&self) -> Money {
        self.grants.iter().map(|g| g.taken).sum()
    }

    /// Waiting to be withdrawn.
    pub fn unbonding(&self) -> Money {
        self.asked.iter().map(|(a, _)| *a).sum()
    }

    fn grant(&mut self, amount: Money, day: u32, terms: VestingTerms) {
        match self.grants.iter_mut().find(|g| g.day == day) {
            Some(grant) => grant.amount += amount,
            None => self.grants.push(Grant { day, amount, taken: 0, terms }),
        }
    }

    /// Takes of what has not vested, newest first; says how much there was.
    pub fn slash(&mut self, amount: Money, today: u32) -> Money {
        let mut left = amount;
        for grant in self.grants.iter_mut().rev() {
            let take = left.min(grant.amount - grant.taken - grant.vested(today));
            grant.taken += take;
            left -= take;
        }
        amount - left
    }
}

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    pub operator: Pubkey,
    pub rent_payer: Pubkey,
    pub block: u32,
    pub row: u8,
    pub gpus: u8,
    pub class: u16,
    pub price: u64,
    pub minimum: u32,
    pub accepting: bool,
    pub locked: Money,
    pub original: Money,
    /// Why it is halted; 0: it is not.
    pub halted: u16,
    pub lease: Option<LeaseId>,
    pub misses: u8,
    pub unsettled: u32,
    pub served: u32,
    pub rejections: u32,
    pub breaches: u32,
    pub breached: Option<(i64, u32)>,
    /// Announced at, start, end.
    pub maintenance: (i64, i64, i64),
    /// The one before it, as far as it took place.
    pub past: (i64, i64, i64),
    /// Month and seconds of it used.
    pub maintenance_used: (u32, i64),
    /// Users who were not served, by day.
    pub not_served: BTreeSet<(Pubkey, u32)>,
}

impl Container {
    /// Whether maintenance that was announced before a lease was opened covers some of a time.
    pub fn is_excused(&self, opened: i64, from: i64, to: i64) -> bool {
        let covers = |(announced, start, end): &(i64, i64, i64)| *announced < opened && *start < to && from < *end;
        [self.past, self.maintenance].iter().any(covers)
    }
}

/// A checker.
#[derive(Clone, Debug)]
pub struct Checker {
    pub keys: Keys,
    pub commission: u16,
    pub staked: Money,
    pub claimed: Money,
    pub tickets: u32,
    pub retired: u32,
}

/// An indexer.
#[derive(Clone, Debug)]
pub struct Indexer {
    pub keys: Keys,
    pub staked: Money,
    /// Leaving, from when on the stake is free.
    pub unlocks: Option<i64>,
    pub due: Money,
    pub earned: Money,
    pub open: u32,
    pub matched: u32,
}

/// A keeper.
#[derive(Clone, Debug, Default)]
pub struct Keeper {
    pub due: Money,
    pub earned: Money,
    pub actions: u64,
}

impl Model {
    pub(super) fn keys(&mut self, party: Party) -> Result<&mut Keys, &'static str> {
        match party {
            Party::Provider(id) => self.providers.get_mut(&id).map(|p| &mut p.keys),
            Party::Checker(id) => self.checkers.get_mut(&id).map(|p| &mut p.keys),
            Party::Indexer(id) => self.indexers.get_mut(&id).map(|p| &mut p.keys),
        }
        .ok_or("no such party")
    }

    /// Locked by a provider's containers.
    pub fn locked(&self, provider: u32) -> Money {
        self.containers.iter().filter(|((p, _), _)| *p == provider).map(|(_, c)| c.locked).sum()
    }

    fn free_stake(&self, id: u32) -> Money {
        let provider = &self.providers[&id];
        provider.staked - self.locked(id) - provider.unbonding()
    }

    /// Gives the next id, if it is this one.
    fn give_id(&mut self, kind: usize, id: u32) -> Answer {
        need(id == self.ids[kind], "not the next id")?;
        self.ids[kind] += 1;
        Ok(())
    }

    pub(super) fn register_provider(&mut self, by: Pubkey, id: u32, operator: Pubkey, payout: Pubkey) -> Answer {
        self.running()?;
        let keys = Keys::new(by, operator, payout);
        self.give_id(0, id)?;
        self.providers.insert(
            id,
            Provider { keys, staked: 0, asked: [(0, 0); 8], lease_due: 0, withdrawn: 0, grants: vec![], ever: 0 },
        );
        Ok(())
    }

    pub(super) fn stake(&mut self, by: Pubkey, id: u32, amount: Money) -> Answer {
        self.running()?;
        need(self.providers.get(&id).ok_or("no provider")?.keys.owner == by, "not the owner")?;
        self.deposit(STAKE, by, amount, true)?;
        self.providers.get_mut(&id).ok_or("no provider")?.staked += amount;
        Ok(())
    }

    pub(super) fn request_unstake(&mut self, by: Pubkey, id: u32, amount: Money) -> Answer {
        need(self.providers.get(&id).ok_or("no provider")?.keys.owner == by, "not the owner")?;
        need(amount > 0 && amount <= self.free_stake(id), "not free")?;
        let unlocks = self.now + i64::from(self.parameters.unbonding);
        let asked = &mut self.providers.get_mut(&id).ok_or("no provider")?.asked;
        *asked.iter_mut().find(|(a, _)| *a == 0).ok_or("too many requests")? = (amount, unlocks);
        Ok(())
    }

    pub(super) fn restore_stake(&mut self, by: Pubkey, id: ContainerId) -> Answer {
        let free = self.providers.get(&id.0).map(|_| self.free_stake(id.0)).ok_or("no provider")?;
        let container = self.own_container(by, id)?;
        need(container.halted != 0, "not halted")?;
        need(container.original - container.locked <= free, "not free")?;
        container.locked = container.original;
        container.halted = 0;
        let (block, row) = (container.block, container.row);
        self.row(block, row).halted_in = None;
        Ok(())
    }

    /// A container, for its provider's owner.
    pub(super) fn own_container(&mut self, by: Pubkey, id: ContainerId) -> Result<&mut super::Container, &'static str> {
        need(self.providers.get(&id.0).ok_or("no provider")?.keys.owner == by, "not the owner")?;
        self.containers.get_mut(&id).ok_or("no container")
    }

    /// A container, for its provider's hot or cold key.
    fn operated(&mut self, by: Pubkey, id: ContainerId) -> Result<&mut super::Container, &'static str> {
        let keys = &self.providers.get(&id.0).ok_or("no provider")?.keys;
        need(keys.owner == by || keys.operator == by, "not the operator")?;
        self.containers.get_mut(&id).ok_or("no container")
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn register_container(
        &mut self,
        by: Pubkey,
        id: ContainerId,
        class: u16,
        block: u32,
        gpus: u8,
        operator: Pubkey,
        price: u64,
    ) -> Answer {
        self.running()?;
        need(self.providers.get(&id.0).ok_or("no provider")?.keys.owner == by, "not the owner")?;
        let terms = self.classes.get(&class).ok_or("no class")?.terms;
        need(terms.active == 1, "class inactive")?;
        need(gpus > 0, "no gpu")?;
        need(!self.containers.contains_key(&id), "there is one")?;
        let next = self.epoch_at(self.now)? + 1;
        self.current()?;
        let coefficient = Money::from(self.parameters.stake_coefficient_bps);
        let stake = Money::from(terms.stake_base) * Money::from(gpus) * coefficient / 10_000;
        need(stake <= self.free_stake(id.0), "not free")?;
        let place = self.blocks.get_mut(block as usize).filter(|b| b.is_full()).ok_or("no block")?;
        let row = (0..=255).find(|r| !place.rows.contains_key(r)).ok_or("no row")?;
        place.rows.insert(row, Row::new(id, class, terms.unit_weight, gpus, next));
        if place.seated_from.is_none() {
            place.seated_from = Some(next);
            self.current()?.blocks_added += 1;
        }
        self.providers.get_mut(&id.0).ok_or("no provider")?.ever += 1;
        let container = Container {
            operator,
            rent_payer: by,
            block,
            row,
            gpus,
            class,
            price,
            minimum: 600,
            accepting: true,
            locked: stake,
            original: stake,
            halted: 0,
            lease: None,
            misses: 0,
            unsettled: 0,
            served: 0,
            rejections: 0,
            breaches: 0,
            breached: None,
            maintenance: (0, 0, 0),
            past: (0, 0, 0),
            maintenance_used: (0, 0),
            not_served: BTreeSet::new(),
        };
        self.containers.insert(id, container);
        Ok(())
    }

    pub(super) fn update_container(
        &mut self,
        by: Pubkey,
        id: ContainerId,
        price: u64,
        minimum: u32,
        accepting: u8,
    ) -> Answer {
        let container = self.operated(by, id)?;
        need(minimum >= 600 && accepting <= 1, "out of range")?;
        (container.price, container.minimum, container.accepting) = (price, minimum, accepting == 1);
        Ok(())
    }

    pub(super) fn announce(&mut self, by: Pubkey, id: ContainerId, start: i64, end: i64) -> Answer {
        let now = self.now;
        let container = self.operated(by, id)?;
        let (_, before, until) = container.maintenance;
        need(start >= now + 86_400 && start <= now + 90 * 86_400, "no notice")?;
        need(end > start && end - start <= 8 * 3_600, "too long")?;
        need(now < before || now >= until, "under way")?;
        let month = (start / (30 * 86_400)) as u32;
        let (counted, mut used) = container.maintenance_used;
        need(month >= counted, "an earlier month")?;
        if counted != month {
            used = 0;
        } else if now < before && (before / (30 * 86_400)) as u32 == month {
            used -= until - before;
        }
        used += end - start;
        need(used <= 8 * 3_600, "too much in a month")?;
        if now >= until {
            container.past = container.maintenance;
        }
        (container.maintenance, container.maintenance_used) = ((now, start, end), (month, used));
        Ok(())
    }

    pub(super) fn deregister(&mut self, by: Pubkey, id: ContainerId) -> Answer {
        // The epoch last advanced to: a later one has its rate without it.
        let until = self.current()?.number + 1;
        let container = self.own_container(by, id)?;
        need(container.lease.is_none(), "leased")?;
        let (block, row) = (container.block, container.row);
        need(self.row(block, row).state != RowState::Leaving, "leaving already")?;
        let live = self.row(block, row).state == RowState::Live;
        // One that is falling back leaves no later than it falls.
        let until = self.row(block, row).until.map_or(until, |before| before.min(until));
        self.cease(block, row)?;
        let row = self.row(block, row);
        (row.state, row.until) = (RowState::Leaving, Some(until));
        if !live {
            row.live_from = None;
        }
        self.containers.get_mut(&id).ok_or("no container")?.accepting = false;
        Ok(())
    }

    pub(super) fn vacate(&mut self, id: ContainerId) -> Answer {
        self.current()?;
        let epoch = self.epoch_at(self.now)?;
        let container = self.containers.get(&id).ok_or("no container")?.clone();
        let row = self.row(container.block, container.row).clone();
        need(row.state == RowState::Leaving && row.until.is_some_and(|u| epoch > u), "not leaving")?;
        need(container.lease.is_none() && container.unsettled == 0, "leased")?;
        need(row.accused.is_none(), "accused")?;
        let today = day(self.now);
        let terms = self.terms_on(today);
        if row.accrued > 0 {
            self.providers.get_mut(&id.0).ok_or("no provider")?.grant(row.accrued, today, terms);
        }
        self.containers.remove(&id);
        let block = &mut self.blocks[container.block as usize];
        block.rows.remove(&container.row);
        if block.rows.is_empty() {
            block.seated_from = None;
            self.current()?.blocks_removed += 1;
        }
        Ok(())
    }

    pub(super) fn claim_rewards(&mut self, by: Pubkey, id: u32, block: u32, rows: &[u8]) -> Answer {
        self.running()?;
        let keys = &self.providers.get(&id).ok_or("no provider")?.keys;
        need(keys.owner == by || keys.operator == by, "not the operator")?;
        need(!rows.is_empty(), "no rows")?;
        let place = self.blocks.get_mut(block as usize).filter(|b| b.is_full()).ok_or("no block")?;
        let mut sum = 0;
        for r in rows {
            let row = place.rows.get_mut(r).filter(|row| row.container.0 == id).ok_or("not your row")?;
            if row.accused.is_none() {
                sum += std::mem::take(&mut row.accrued);
            }
        }
        need(sum > 0, "nothing to pay")?;
        let today = day(self.now);
        let terms = self.terms_on(today);
        self.providers.get_mut(&id).ok_or("no provider")?.grant(sum, today, terms);
        Ok(())
    }

    pub(super) fn register_checker(
        &mut self,
        by: Pubkey,
        id: u32,
        operator: Pubkey,
        payout: Pubkey,
        commission: u16,
    ) -> Answer {
        self.running()?;
        need(commission <= 10_000 && operator != Pubkey::default(), "out of bounds")?;
        self.give_id(1, id)?;
        let keys = Keys::new(by, operator, payout);
        self.checkers.insert(id, Checker { keys, commission, staked: 0, claimed: 0, tickets: 0, retired: 0 });
        Ok(())
    }

    pub(super) fn register_indexer(&mut self, by: Pubkey, id: u32, operator: Pubkey, payout: Pubkey) -> Answer {
        self.running()?;
        need(operator != Pubkey::default(), "nobody")?;
        let staked = Money::from(self.parameters.indexer_stake);
        if staked > 0 {
            self.deposit(STAKE, by, staked, true)?;
        }
        self.give_id(2, id)?;
        let keys = Keys::new(by, operator, payout);
        self.indexers.insert(id, Indexer { keys, staked, unlocks: None, due: 0, earned: 0, open: 0, matched: 0 });
        Ok(())
    }

    pub(super) fn leave_indexer(&mut self, by: Pubkey, id: u32) -> Answer {
        let unlocks = self.now + i64::from(self.parameters.unbonding);
        let indexer = self.indexers.get_mut(&id).ok_or("no indexer")?;
        need(indexer.keys.owner == by, "not the owner")?;
        need(indexer.unlocks.is_none(), "leaving already")?;
        indexer.unlocks = Some(unlocks);
        Ok(())
    }

    pub(super) fn claim_seat_pay(&mut self, id: u32, slots: &[u32]) -> Answer {
        let (keys, commission) = self.checkers.get(&id).map(|c| (c.keys, c.commission)).ok_or("no checker")?;
        need(!slots.is_empty() && slots.len() <= 150, "bad count")?;
        let mut sum = 0;
        for slot in slots {
            sum += std::mem::take(&mut self.tickets.of(id, *slot)?.accrued);
        }
        need(sum > 0, "nothing to pay")?;
        let paid = self.fits(REWARDS, sum);
        need(paid > 0, "breaker")?;
        self.tickets.of(id, slots[0])?.accrued = sum - paid;
        let commission = if keys.operator == keys.payout { 0 } else { paid * Money::from(commission) / 10_000 };
        self.pay_out(REWARDS, keys.operator, commission);
        self.pay_out(REWARDS, keys.payout, paid - commission);
        self.checkers.get_mut(&id).ok_or("no checker")?.claimed += paid;
        Ok(())
    }

    /// Refuses what still owes or is needed, and whoever may not close; the account is gone then.
    pub(super) fn close_account(&mut self, by: Pubkey, target: Target) -> Answer {
        match target {
            Target::Provider(id) => {
                let provider = self.providers.get(&id).ok_or("no provider")?;
                need(provider.keys.owner == by, "not the owner")?;
                let owed = provider.claimed() - provider.taken() - provider.withdrawn;
                let containers = self.containers.keys().any(|(p, _)| *p == id);
                need(provider.staked == 0 && !containers && provider.lease_due == 0 && owed == 0, "not done")?;
                self.providers.remove(&id);
            }
            Target::Checker(id) => {
                let checker = self.checkers.get(&id).ok_or("no checker")?;
                need(checker.keys.owner == by, "not the owner")?;
                need(checker.tickets == 0, "not done")?;
                self.checkers.remove(&id);
            }
            Target::Indexer(id) => {
                let indexer = self.indexers.get(&id).ok_or("no indexer")?;
                need(indexer.keys.owner == by, "not the owner")?;
                need(indexer.staked == 0 && indexer.due == 0 && indexer.open == 0, "not done")?;
                self.indexers.remove(&id);
            }
            Target::Keeper(wallet) => {
                let keeper = self.keepers.get(&wallet).ok_or("no keeper")?;
                need(wallet == by, "not the keeper")?;
                need(keeper.due == 0, "not done")?;
                self.keepers.remove(&wallet);
            }
            Target::Lease(id) => {
                let lease = self.leases.get(&id).ok_or("no lease")?;
                // Its account is what a breach is reported with: only its user may give that up early.
                need(by == id.0 || self.now >= lease.ended + 30 * 86_400, "not the user")?;
                let settled = lease.state == super::LeaseState::Settled;
                let taken = lease.withdrawn == lease.refunded && lease.compensated == lease.compensation;
                // Others later only: nobody takes away what a breach could still be reported of.
                need(by == id.0 || self.now >= lease.ended + 30 * 86_400, "not the user")?;
                need(settled && taken, "not done")?;
                self.leases.remove(&id);
            }
            Target::Case(id) => {
                let case = self.cases.get(&id).ok_or("no case")?;
                let late = self.now >= case.closed + 30 * 86_400;
                need(by == self.payer || late, "not the payer")?;
                need(!case.open, "not done")?;
                self.cases.remove(&id);
            }
            Target::Epoch(number) => {
                let released = self.epochs.get(&number).ok_or("no epoch")?.released;
                need(released && self.current.is_some_and(|c| number + 4 <= c), "not done")?;
                self.epochs.remove(&number);
            }
        }
        Ok(())
    }
}
