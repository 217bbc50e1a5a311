//! The chain against the model, field by field, and the laws that need no model.

use datagalax::{
    constants::{NONE, VOID},
    state::{
        self, Case, Checker, CheckerSetHeader, Container, GpuClass, Indexer, Keeper, Lease, Network, Provider, VestingTerms,
    },
};
use datagalax_program_tests::{
    World,
    accounts::BLOCK_SPACE,
    addresses::{self, Vault},
};

use crate::{
    calls,
    model::{LeaseState, Model, Money, Row, RowState, TicketState},
    people::People,
};

/// Asserts that pairs of values are equal, and names the one that is not.
macro_rules! same {
    ($what:expr; $($name:literal: $chain:expr, $model:expr;)*) => {
        $({
            let (chain, model) = (&$chain, &$model);
            assert!(chain == model, "{}, {}: the chain says {chain:?}, the model {model:?}", $what, $name);
        })*
    };
}

fn money(amount: u64) -> Money {
    Money::from(amount)
}

fn number(epoch: Option<u32>) -> u32 {
    epoch.unwrap_or(NONE)
}

/// What is compared.
pub struct Compare<'a> {
    pub world: &'a World,
    pub model: &'a Model,
    pub people: &'a People,
}

impl Compare<'_> {
    /// Everything.
    pub fn all(&self) {
        self.network();
        self.vaults();
        self.epochs();
        self.tickets();
        self.blocks();
        self.parties();
        self.containers();
        self.leases();
        self.cases();
    }

    fn network(&self) {
        let (chain, model): (Network, _) = (self.world.network(), self.model);
        let grids = [0, 1].map(|back| model.grids[model.grids.len().saturating_sub(1 + back)]);
        let free: usize = model.blocks.iter().filter(|b| b.is_full()).map(|b| 256 - b.rows.len()).sum();
        let pending = model.pending.as_ref();
        same!("network";
            "authority": chain.authority, model.authority;
            "pending authority": chain.pending_authority, model.pending_authority;
            "guardian": chain.guardian, model.guardian;
            "treasury": chain.treasury, model.treasury;
            "treasury due": money(chain.treasury_due), model.treasury_due;
            "parameters": chain.parameters, model.parameters;
            "emission": chain.emission, model.emission;
            "pending at": chain.pending_at, pending.map_or(0, |p| p.0);
            "terms": chain.vesting_terms.map(|t| (t != VestingTerms::default()).then_some(t)), model.terms;
            "paused until": chain.paused_until, model.paused_until;
            "guardian paused": chain.guardian_paused_at, model.guardian_paused.unwrap_or(0);
            "current": chain.current_epoch, number(model.current);
            "previous": chain.previous_epoch, number(model.previous);
            "ids": [chain.providers, chain.checkers, chain.indexers], model.ids;
            "blocks": chain.blocks as usize, model.blocks.len();
            "free rows": chain.free_rows as usize, free;
            "growing": chain.growing == 1, model.blocks.iter().any(|b| !b.is_full());
            "largest class": (u128::from(chain.largest_class_weight), u128::from(chain.largest_class_throughput)),
                model.largest.unwrap_or_default();
        );
        for (chain, model) in chain.grids.iter().zip(grids) {
            let own = (chain.start, chain.first_epoch, chain.length, chain.reveal_window, chain.commit_lead);
            let (length, reveal, lead) = (model.length as u32, model.reveal as u32, model.lead as u32);
            same!("network"; "grid": own, (model.start, model.first, length, reveal, lead););
        }
        for (id, class) in &model.classes {
            let chain: GpuClass = self.world.class(*id);
            same!(format!("class {id}");
                "terms": chain.terms, class.terms;
                "pending": (chain.pending_at, chain.pending), class.pending.unwrap_or((0, chain.pending));
            );
        }
        same!("network"; "classes": chain.classes as usize, model.classes.len(););
    }

    /// Law 1 and law 4: the vaults hold what the books say, and no token appears or is lost.
    fn vaults(&self) {
        let mut sum = 0;
        for (kind, name) in Vault::ALL.into_iter().enumerate() {
            let (chain, model) = (self.world.ledger(name), &self.model.vaults[kind]);
            let held = money(self.world.balance(&addresses::vault(name)));
            same!(format!("{name:?} vault");
                "balance": money(chain.balance), model.balance;
                "liabilities": money(chain.liabilities), model.liabilities;
                "in": money(chain.total_in), model.total_in;
                "out": money(chain.total_out), model.total_out;
                "held": held, model.balance;
            );
            assert!(model.liabilities <= model.balance, "{name:?} vault promises more than it holds");
            sum += held;
        }
        for (wallet, held) in &self.model.wallets {
            let chain = money(self.world.balance(&self.people.purse(wallet)));
            same!(format!("purse of {wallet}"); "tokens": chain, *held;);
            sum += chain;
        }
        assert_eq!(sum, self.people.tokens, "tokens appeared or were lost");
    }

    fn epochs(&self) {
        let chain = self.world.all::<state::Epoch>();
        same!("epochs"; "count": chain.len(), self.model.epochs.len(););
        for (_, chain) in chain {
            let what = format!("epoch {}", chain.number);
            let model = self.model.epochs.get(&chain.number).unwrap_or_else(|| panic!("{what} is not in the model"));
            let rate = (u128::from(chain.rate.hi) << 64) + u128::from(chain.rate.lo);
            same!(what;
                "drawn": chain.status == state::Epoch::DRAWN, model.drawn;
                "released": chain.released == 1, model.released;
                "draw slot": chain.draw_slot, model.draw_slot;
                "tickets": chain.tickets, model.tickets;
                "churned": chain.churned, model.churned;
                "queues": [chain.retirements, chain.leavers, chain.entrants],
                    [model.retirements, model.leavers, model.entrants];
                "blocks": [chain.blocks, chain.blocks_tallied], [model.blocks, model.blocks_tallied];
                "changes of blocks": [chain.blocks_added, chain.blocks_removed], [model.blocks_added, model.blocks_removed];
                "windows": [chain.case_epochs, chain.capacity_epochs], [model.case_epochs, model.capacity_epochs];
                "seed": chain.seed, model.seed;
                "last seed": chain.last_seed, model.last_seed;
                "entropy before": chain.entropy_before, model.entropy_before;
                "entropy": chain.entropy, model.entropy;
                "nominal": money(chain.nominal), model.nominal;
                "rate": rate, model.rate;
                "seat pay": money(chain.seat_pay), model.seat_pay;
                "pools": [chain.pool, chain.container_pool, chain.checker_pool, chain.treasury_pool].map(money),
                    [model.pool, model.container_pool, model.checker_pool, model.treasury_pool];
                "credited": [chain.container_credited, chain.checker_credited, chain.keeper_credited].map(money),
                    [model.container_credited, model.checker_credited, model.keeper_credited];
                "changes of nominal": [chain.nominal_added, chain.nominal_removed].map(money),
                    [model.nominal_added, model.nominal_removed];
                "thresholds": chain.thresholds, model.thresholds;
            );
            // Law 2.
            assert!(model.container_credited <= model.container_pool, "{what} credits rows beyond their share");
            assert!(model.checker_credited <= model.checker_pool, "{what} credits seats beyond their share");
            assert!(model.keeper_credited <= model.treasury_pool, "{what} credits keepers beyond the treasury's share");
        }
    }

    fn tickets(&self) {
        let (set, slots): (CheckerSetHeader, _) = (self.world.set(), self.world.tickets());
        let model = &self.model.tickets;
        let order: Vec<u32> = slots[..set.live as usize].iter().map(|t| t.order).collect();
        same!("tickets";
            "slots": slots.len(), model.slots.len();
            "order": order, model.order;
        );
        for (name, head, queue) in [
            ("waiting", set.pending_head, model.waiting.iter().copied().collect::<Vec<_>>()),
            ("leaving", set.leaving_head, model.leaving.iter().copied().collect()),
            ("retiring", set.retiring_head, model.retiring.iter().copied().collect()),
            ("free", set.free_head, model.free.iter().rev().copied().collect()),
        ] {
            let (mut chain, mut slot) = (vec![], head);
            while slot != NONE {
                chain.push(slot);
                slot = slots[slot as usize].next;
            }
            same!(format!("tickets, {name}"); "queue": chain, queue;);
        }
        for (slot, (chain, model)) in slots.iter().zip(&model.slots).enumerate() {
            let status = match model.state {
                TicketState::Free => 0,
                TicketState::Waiting => 1,
                TicketState::Live => 2,
                TicketState::Leaving => 3,
                TicketState::Retiring => 4,
                TicketState::Removed => 5,
                TicketState::Retired => 6,
            };
            same!(format!("ticket {slot}"); "status": chain.status, status;);
            if model.state == TicketState::Free {
                continue;
            }
            same!(format!("ticket {slot}");
                "checker": chain.checker, model.checker;
                "price": money(chain.price), model.price;
                "accrued": money(chain.accrued), model.accrued;
                "unlocks": i64::from(chain.unlocks_at), model.unlocks.unwrap_or(0);
                "removed": chain.removed, number(model.removed);
                "record": chain.record, model.record;
                "seats": (chain.epoch, u32::from(chain.seats), u32::from(chain.marked)),
                    (number(model.counted), model.seats, model.marked);
            );
        }
    }

    fn blocks(&self) {
        for (index, model) in self.model.blocks.iter().enumerate() {
            let account = self.world.account(&addresses::block(index as u32));
            let full = account.data.len() == BLOCK_SPACE;
            same!(format!("block {index}"); "full": full, model.is_full(););
            if !full {
                continue;
            }
            let chain: &state::Block = bytemuck::from_bytes(&account.data[8..]);
            same!(format!("block {index}");
                "seated from": chain.seated_from, number(model.seated_from);
                "last tallied": chain.last_tallied, number(model.last_tallied);
                "occupied": usize::from(chain.occupied), model.rows.len();
                "live": usize::from(chain.live), model.rows.values().filter(|r| r.state == RowState::Live).count();
            );
            for (lane, model) in chain.lanes.iter().zip(&model.lanes) {
                let what = format!("block {index}, lane of epoch {}", lane.epoch);
                same!(what; "epoch": lane.epoch, number(model.as_ref().map(|l| l.epoch)););
                let Some(model) = model else { continue };
                same!(what;
                    "cursor": usize::from(lane.cursor), model.cursor;
                    "seats": usize::from(lane.seats), model.seats.len();
                    "tallied": lane.tallied == 1, model.tallied;
                    "entropy": lane.entropy, model.entropy;
                );
                for (seat, filled) in lane.committee.iter().zip(model.seats.iter().chain(std::iter::repeat(&None))) {
                    same!(what; "slot": seat.slot, number(filled.as_ref().map(|s| s.slot)););
                    let Some(filled) = filled else { continue };
                    same!(what;
                        "checker": seat.checker, filled.checker;
                        "operator": seat.operator, filled.operator.unwrap_or_default();
                        "committed": seat.commitment != [0; 32], filled.committed.is_some();
                        "revealed": seat.revealed == 1, filled.revealed;
                        "judged": u32::from(seat.judged), filled.judged;
                        "right": u32::from(seat.right), filled.right;
                    );
                }
            }
            for (r, chain) in chain.rows.iter().enumerate() {
                match model.rows.get(&(r as u8)) {
                    Some(row) => self.row(&format!("block {index}, row {r}"), chain, row),
                    None => same!(format!("block {index}, row {r}"); "status": chain.status, state::Row::FREE;),
                }
            }
        }
    }

    fn row(&self, what: &str, chain: &state::Row, model: &Row) {
        let status = match model.state {
            RowState::Checking => state::Row::CHECKING,
            RowState::Live => state::Row::LIVE,
            RowState::Leaving => state::Row::LEAVING,
        };
        let halted = self.model.containers[&model.container].halted != 0;
        let accused = model.accused;
        same!(what;
            "status": chain.status, status;
            "provider": chain.provider, model.container.0;
            "weight": (chain.class, chain.unit_weight, chain.gpus), (model.class, model.weight, model.gpus);
            "live from": chain.live_from, number(model.live_from);
            "until": chain.until, number(model.until);
            "probation": chain.flags & state::Row::PROBATION != 0, model.probation;
            "halted": chain.flags & state::Row::HALTED != 0, halted;
            "accused": chain.flags & state::Row::ACCUSED != 0, accused.is_some();
            "first condemned": chain.first_condemned, number(accused.map(|a| a.since));
            "condemned": u32::from(chain.condemned), accused.map_or(0, |a| a.condemned);
            "clean": u32::from(chain.clean), accused.map_or(0, |a| a.clean);
            "accrued": money(chain.accrued), model.accrued;
            "full capacity": (chain.full_capacity, chain.full_capacity_epoch),
                (model.full.map_or(0, |f| f.0), number(model.full.map(|f| f.1)));
            "epochs live": (chain.epochs_live, chain.availability_sum), (model.epochs_live, model.availability_sum);
        );
        let bits = model.bad.iter().fold(0u16, |bits, bad| bits << 1 | u16::from(*bad));
        same!(what; "bad epochs": chain.bad_epochs, bits;);
        // The ring holds the last 32 epochs that a tally went through.
        if let Some((newest, (availability, breached))) = model.history.last_key_value() {
            let byte = availability | if *breached { 128 } else { 0 };
            let kept = chain.history[*newest as usize % 32];
            assert!(kept == byte || kept == VOID, "{what}: epoch {newest} reads {kept}, not {byte}");
        }
    }

    fn parties(&self) {
        let (providers, checkers) = (self.world.all::<Provider>(), self.world.all::<Checker>());
        same!("parties";
            "providers": providers.len(), self.model.providers.len();
            "checkers": checkers.len(), self.model.checkers.len();
        );
        for (_, chain) in providers {
            let model = &self.model.providers[&chain.id];
            let keys = &model.keys;
            let asked =
                chain.unbonding_entries.map(|e| if e.amount == 0 { (0, 0) } else { (money(e.amount), e.unlocks_at) });
            same!(format!("provider {}", chain.id);
                "keys": [chain.owner, chain.pending_owner, chain.operator, chain.payout],
                    [keys.owner, keys.pending, keys.operator, keys.payout];
                "staked": money(chain.staked), model.staked;
                "locked": money(chain.locked), self.model.locked(chain.id);
                "unbonding": money(chain.unbonding), model.unbonding();
                "asked": asked, model.asked.map(|(a, at)| if a == 0 { (0, 0) } else { (a, at) });
                "lease due": money(chain.lease_due), model.lease_due;
                "claimed": money(chain.claimed), model.claimed();
                "withdrawn": money(chain.withdrawn), model.withdrawn;
                "taken": money(chain.taken), model.taken();
                "containers ever": chain.containers_ever, model.ever;
            );
            // Law 4: nothing is locked or asked back that is not there.
            assert!(self.model.locked(chain.id) + model.unbonding() <= model.staked);
            for grant in chain.grants.iter().filter(|g| g.amount > 0) {
                let own = model.grants.iter().find(|g| g.day == grant.day).map(|g| (g.amount, g.taken, g.terms.id));
                same!(format!("provider {}, grant of day {}", chain.id, grant.day);
                    "grant": Some((money(grant.amount), money(grant.taken), grant.terms)), own;
                );
            }
        }
        for (_, chain) in checkers {
            let model = &self.model.checkers[&chain.id];
            let keys = &model.keys;
            same!(format!("checker {}", chain.id);
                "keys": [chain.owner, chain.pending_owner, chain.operator, chain.payout],
                    [keys.owner, keys.pending, keys.operator, keys.payout];
                "commission": chain.commission_bps, model.commission;
                "money": [chain.staked, chain.claimed].map(money), [model.staked, model.claimed];
                "tickets": [chain.tickets, chain.retired], [model.tickets, model.retired];
            );
        }
        let indexers = self.world.all::<Indexer>();
        same!("parties"; "indexers": indexers.len(), self.model.indexers.len(););
        for (_, chain) in indexers {
            let model = &self.model.indexers[&chain.id];
            let keys = &model.keys;
            same!(format!("indexer {}", chain.id);
                "keys": [chain.owner, chain.pending_owner, chain.operator, chain.payout],
                    [keys.owner, keys.pending, keys.operator, keys.payout];
                "leaving": (chain.status == Indexer::LEAVING, chain.unlocks_at),
                    (model.unlocks.is_some(), model.unlocks.unwrap_or(0));
                "money": [chain.staked, chain.due, chain.earned].map(money), [model.staked, model.due, model.earned];
                "leases": [chain.open_leases, chain.matched], [model.open, model.matched];
            );
        }
        let keepers = self.world.all::<Keeper>();
        same!("parties"; "keepers": keepers.len(), self.model.keepers.len(););
        for (_, chain) in keepers {
            let model = &self.model.keepers[&chain.wallet];
            same!(format!("keeper {}", chain.wallet);
                "money": [chain.due, chain.earned].map(money), [model.due, model.earned];
                "actions": chain.actions, model.actions;
            );
        }
    }

    fn containers(&self) {
        same!("containers"; "count": self.world.all::<Container>().len(), self.model.containers.len(););
        for (id, model) in &self.model.containers {
            let chain: Container = self.world.read(&calls::container(*id));
            same!(format!("container {id:?}");
                "place": (chain.provider, chain.block, chain.row), (id.0, model.block, model.row);
                "operator": chain.operator, model.operator;
                "rent payer": chain.rent_payer, model.rent_payer;
                "what": (chain.class, chain.gpus), (model.class, model.gpus);
                "offer": (chain.price_per_hour, chain.minimum_lease, chain.accepting == 1),
                    (model.price, model.minimum, model.accepting);
                "stake": [chain.locked_stake, chain.original_locked_stake].map(money), [model.locked, model.original];
                "halted": (chain.status == 1, chain.halt_reason), (model.halted != 0, model.halted);
                "lease": chain.lease, model.lease.map(calls::lease).unwrap_or_default();
                "misses": chain.misses, model.misses;
                "counters": [chain.unsettled, chain.leases_served, chain.rejections, chain.breaches],
                    [model.unsettled, model.served, model.rejections, model.breaches];
                "breached": (chain.breached_at, chain.breached_epoch), model.breached.unwrap_or((0, NONE));
                "maintenance": (chain.maintenance_announced, chain.maintenance_start, chain.maintenance_end),
                    model.maintenance;
                "maintenance before": (chain.past_announced, chain.past_start, chain.past_end), model.past;
            );
        }
    }

    fn leases(&self) {
        same!("leases"; "count": self.world.all::<Lease>().len(), self.model.leases.len(););
        for (id, model) in &self.model.leases {
            let chain: Lease = self.world.read(&calls::lease(*id));
            let status = match model.state {
                LeaseState::Open => Lease::OPEN,
                LeaseState::Started => Lease::STARTED,
                LeaseState::Ended => Lease::ENDED,
                LeaseState::Settled => Lease::SETTLED,
            };
            let held = chain.escrowed.checked_sub(chain.paid + chain.fee + chain.refunded);
            same!(format!("lease {id:?}");
                "status": (chain.status, chain.reason), (status, model.reason);
                "terms": [chain.price_per_hour, u64::from(chain.fee_bps), u64::from(chain.indexer_share_bps)].map(money),
                    [model.price, model.fee_bps, model.share_bps];
                "seconds": [chain.max_seconds, chain.minimum_seconds].map(i64::from), [model.seconds, model.minimum];
                "escrowed": money(chain.escrowed), model.escrowed;
                "paid": money(chain.paid), model.paid;
                "fee": [chain.fee, chain.indexer_fee].map(money), [model.fee, model.indexer_fee];
                "refunded": [chain.refunded, chain.withdrawn].map(money), [model.refunded, model.withdrawn];
                // Law 3: escrowed = paid + fee + refunded + held.
                "held": held.map(money), Some(model.held());
                "compensation": [chain.compensation, chain.compensation_withdrawn].map(money),
                    [model.compensation, model.compensated];
                "times": [chain.opened, chain.start_by, chain.started, chain.ended, chain.settled_until],
                    [model.opened, model.start_by, model.started, model.ended, model.settled];
                "closed": chain.closed, model.closed;
                "delivered": (money(chain.delivered), chain.last_availability), (model.delivered, model.last);
                "usage": chain.usage_gpu_seconds, model.usage;
            );
        }
    }

    fn cases(&self) {
        same!("cases"; "count": self.world.all::<Case>().len(), self.model.cases.len(););
        for (id, model) in &self.model.cases {
            let chain: Case = self.world.read(&calls::case(*id));
            let status = match (model.open, model.upheld) {
                (true, _) => Case::OPEN,
                (false, true) => Case::UPHELD,
                (false, false) => Case::REJECTED,
            };
            same!(format!("case {id:?}");
                "status": chain.status, status;
                "until": chain.until, model.until;
                "closed": chain.closed, model.closed;
                "condemned": chain.condemned, model.condemned;
                "taken": [chain.stake_taken, chain.grants_taken, chain.accrual_taken, chain.compensation].map(money),
                    [model.stake, model.grants, model.accrual, model.compensation];
            );
            for (place, seat) in chain.seats.iter().enumerate() {
                let own = model.seats.get(place).copied().flatten();
                let chain = (seat.slot != NONE).then_some((seat.slot, seat.checker, seat.accused == 1));
                same!(format!("case {id:?}, seat {place}"); "seat": chain, own;);
            }
        }
    }
}
