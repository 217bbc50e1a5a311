//! What a lease came to, epoch by epoch: the program's own settlement, run again on what the chain shows.

use anyhow::{Context as _, Result};
use datagalax::{
    settlement::{self, Amounts},
    state::{Block, Lease, Network},
};

use super::history;

/// Percent of one.
const PERCENT: u64 = 100;

/// What is known of the availability of a part of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// A whole epoch, by its committee: percent.
    Measured(u8),
    /// A whole epoch without a verdict: it is billed at that of the one before, percent.
    NoVerdict(u8),
    /// The part of an epoch at the lease's start or end: it is billed in full.
    Partial,
    /// Settled at what the block's ring does not hold any more.
    Forgotten,
    /// Not over, or its committee's word is not there yet.
    Awaited,
}

/// A stretch of a lease within one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The epoch; `None` for a stretch of several whose history is gone, or is still to come.
    pub epoch: Option<u32>,
    /// From, seconds of the chain's clock.
    pub from: i64,
    /// Until.
    pub to: i64,
    /// What was delivered of it.
    pub availability: Availability,
    /// Whether the chain has settled it.
    pub settled: bool,
}

impl Part {
    /// Its length, seconds.
    pub fn seconds(&self) -> u64 {
        seconds(self.from, self.to)
    }
}

/// What a lease came to.
pub struct Bill {
    /// The lease as the chain shows it.
    pub lease: Box<Lease>,
    /// Its stretches in order, from the start to the end or to now.
    pub parts: Vec<Part>,
    /// Seconds that are settled.
    pub settled_seconds: u64,
    /// Base units that are neither paid, taken as fee nor given back.
    pub held: u64,
    /// Whether paid, fee, refunded and held are what was escrowed, and are what the settled seconds come to.
    pub adds_up: bool,
    /// Whether some of it can be settled now.
    pub can_settle: bool,
    /// What everything until the end comes to when all that is not settled yet is delivered in full.
    pub at_most: Amounts,
    /// When the last of it can be settled at the latest, seconds; `None` when it is settled, or has not started.
    pub settled_by: Option<i64>,
}

impl Bill {
    /// The bill of a lease at an instant. `block` is the lease's while its container still stands in the lease's row.
    ///
    /// # Errors
    /// The lease's own figures cannot be (arithmetic that leaves its range).
    pub fn new(lease: &Lease, network: &Network, block: Option<&Block>, now: i64) -> Result<Self> {
        let held = lease.held().ok().context("more was handed out than put in")?;
        let parts = if lease.started == 0 { Vec::new() } else { parts(lease, network, block, now)? };
        let settled_seconds = seconds(lease.started, lease.settled_until);
        let total = seconds(lease.started, if lease.started == 0 { 0 } else { lease.end() });
        let rest = total.saturating_sub(settled_seconds);
        let delivered = lease.delivered.saturating_add(rest.saturating_mul(PERCENT));
        let at_most = amounts(lease, total, delivered)?;
        let can_settle = parts.iter().any(|part| !part.settled && part.availability != Availability::Awaited);
        let settled_by =
            (lease.started != 0 && lease.status != Lease::SETTLED).then(|| settled_by(lease, network)).flatten();
        Ok(Self {
            lease: Box::new(*lease),
            parts,
            settled_seconds,
            held,
            adds_up: adds_up(lease, held, settled_seconds)?,
            can_settle,
            at_most,
            settled_by,
        })
    }

    /// Seconds that were delivered of those settled, rounded down.
    pub const fn delivered_seconds(&self) -> u64 {
        self.lease.delivered / PERCENT
    }

    /// What may still be paid, fee included, base units.
    pub const fn still_due(&self) -> u64 {
        let most = self.at_most.paid.saturating_add(self.at_most.fee);
        most.saturating_sub(self.lease.paid.saturating_add(self.lease.fee))
    }

    /// Whether nothing of it changes any more.
    pub const fn is_final(&self) -> bool {
        self.lease.status == Lease::SETTLED
    }
}

fn seconds(from: i64, to: i64) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(0)
}

fn amounts(lease: &Lease, seconds: u64, delivered: u64) -> Result<Amounts> {
    lease.bill().amounts(seconds, delivered).ok().context("the lease's figures leave their range")
}

/// Conservation law 3, and that the figures are what the program makes of the settled seconds.
fn adds_up(lease: &Lease, held: u64, settled_seconds: u64) -> Result<bool> {
    let all = [lease.paid, lease.fee, lease.refunded, held].into_iter().try_fold(0u64, u64::checked_add);
    let due = amounts(lease, settled_seconds, lease.delivered)?;
    let same = (lease.paid, lease.fee, lease.indexer_fee) == (due.paid, due.fee, due.indexer_fee);
    // At the end what rounding kept and what was never used goes back too.
    let back = if lease.status == Lease::SETTLED { held == 0 } else { lease.refunded == due.refunded };
    Ok(all == Some(lease.escrowed) && same && back)
}

/// A lease that is settled anew from its start.
fn from_the_start(lease: &Lease) -> Lease {
    Lease {
        status: if lease.ended == 0 { Lease::STARTED } else { Lease::ENDED },
        settled_until: lease.started,
        delivered: 0,
        last_availability: PERCENT as u8,
        paid: 0,
        fee: 0,
        indexer_fee: 0,
        refunded: 0,
        ..*lease
    }
}

/// The program's settlement, a step at a time.
fn parts(lease: &Lease, network: &Network, block: Option<&Block>, now: i64) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let end = lease.end();
    let mut replay = from_the_start(lease);
    while let Some(block) = block
        && replay.settled_until < end
    {
        let (from, before) = (replay.settled_until, replay.delivered);
        if settlement::settle(&mut replay, network, block, now, 1).is_err() {
            break;
        }
        let to = replay.settled_until;
        let epoch = network.epoch_at(from).ok();
        let percent = u8::try_from((replay.delivered - before) / seconds(from, to).max(1)).unwrap_or(u8::MAX);
        let settled = to <= lease.settled_until;
        let availability = match epoch {
            Some(epoch) if network.bounds(epoch) != (from, to) => Availability::Partial,
            Some(epoch) if history::holds(block, lease.row, epoch) => {
                match settlement::delivered(block, lease.row, epoch, u32::MAX) {
                    settlement::Delivered::Verdict(percent) => Availability::Measured(percent),
                    _ => Availability::NoVerdict(percent),
                }
            }
            // Never tallied: what it is billed at is known all the same.
            Some(epoch) if !block.is_tallied(epoch) => Availability::NoVerdict(percent),
            _ if settled => Availability::Forgotten,
            // Overwritten before anybody settled it: the lowest in the ring.
            _ => Availability::Measured(percent),
        };
        add(&mut parts, Part { epoch, from, to, availability, settled });
    }
    let mut from = replay.settled_until;
    if block.is_none() && lease.settled_until > from {
        // The container has left its row, and with it went the history.
        parts.push(Part {
            epoch: None,
            from,
            to: lease.settled_until,
            availability: Availability::Forgotten,
            settled: true,
        });
        from = lease.settled_until;
    }
    let until = if lease.ended == 0 { now.min(end) } else { end };
    while from < until {
        let Ok(epoch) = network.epoch_at(from) else { break };
        let to = network.bounds(epoch).1.min(until);
        add(&mut parts, Part { epoch: Some(epoch), from, to, availability: Availability::Awaited, settled: false });
        from = to;
    }
    Ok(parts)
}

/// Adds the next stretch. What says nothing of single epochs is one stretch, however many they are.
fn add(parts: &mut Vec<Part>, next: Part) {
    match parts.last_mut() {
        Some(last)
            if last.availability == next.availability
                && matches!(next.availability, Availability::Forgotten | Availability::Awaited) =>
        {
            (last.epoch, last.to) = (None, next.to);
        }
        _ => parts.push(next),
    }
}

/// When the last of a lease can be settled at the latest: at its end, and when its last whole epoch has a verdict or can have none
/// any more.
fn settled_by(lease: &Lease, network: &Network) -> Option<i64> {
    let end = lease.end();
    let last = network.epoch_at(end.saturating_sub(1)).ok()?;
    let whole = if network.bounds(last).1 == end { Some(last) } else { last.checked_sub(1) };
    let whole = whole.filter(|epoch| network.bounds(*epoch).0 >= lease.started);
    let verdict = whole.map_or(end, |epoch| network.bounds(epoch.saturating_add(1)).1);
    Some(verdict.max(end))
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use datagalax::{
        constants::{HISTORY, NONE, VOID},
        state::Grid,
    };
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_000;

    fn network(length: u32) -> Box<Network> {
        let mut network = bytemuck::allocation::zeroed_box::<Network>();
        let grid = Grid { start: START, first_epoch: 0, length, reveal_window: length / 3, commit_lead: length / 6 };
        network.grids = [grid, grid];
        network
    }

    /// A block whose row 0 was tallied for these epochs, the first being 0.
    fn tallied(availability: &[Option<u8>]) -> Box<Block> {
        let mut block = bytemuck::allocation::zeroed_box::<Block>();
        block.lanes.iter_mut().for_each(|lane| lane.epoch = NONE);
        block.last_tallied = (availability.len() as u32).checked_sub(1).unwrap_or(NONE);
        block.rows[0].history = [VOID; 32];
        for (epoch, percent) in availability.iter().enumerate() {
            block.rows[0].history[epoch % HISTORY as usize] = percent.unwrap_or(VOID);
        }
        block
    }

    fn lease(started: i64, max_seconds: u32, price: u64) -> Lease {
        let mut lease = Lease::zeroed();
        lease.version = datagalax::state::VERSION;
        lease.status = Lease::STARTED;
        (lease.started, lease.settled_until, lease.max_seconds) = (started, started, max_seconds);
        (lease.price_per_hour, lease.fee_bps, lease.last_availability) = (price, 2_000, 100);
        lease.escrowed = lease.bill().escrow(max_seconds).unwrap();
        lease
    }

    #[test]
    fn a_lease_that_never_started_owes_nothing() {
        let mut never = lease(0, 600, 7_000);
        (never.status, never.settled_until) = (Lease::OPEN, 0);
        let bill = Bill::new(&never, &network(60), None, 5_000).unwrap();
        assert_eq!((bill.held, bill.still_due(), bill.settled_by), (never.escrowed, 0, None));
        assert!(bill.parts.is_empty() && bill.adds_up && !bill.can_settle);
        never.refund_all(Lease::REASON_REJECTED, 2_000).unwrap();
        let bill = Bill::new(&never, &network(60), None, 5_000).unwrap();
        assert!(bill.is_final() && bill.adds_up);
        assert_eq!((bill.lease.refunded, bill.held), (never.escrowed, 0));
    }

    #[test]
    fn partial_epochs_are_whole_and_whole_ones_are_as_measured() {
        let (network, block) = (network(60), tallied(&[Some(100), Some(50), None]));
        // From the middle of epoch 0 to the middle of epoch 4, epoch 3 not tallied yet.
        let running = lease(START + 30, 240, 3_600_000_000);
        let bill = Bill::new(&running, &network, Some(&block), START + 260).unwrap();
        let seen: Vec<_> = bill.parts.iter().map(|p| (p.epoch, p.seconds(), p.availability, p.settled)).collect();
        assert_eq!(
            seen,
            [
                (Some(0), 30, Availability::Partial, false),
                (Some(1), 60, Availability::Measured(50), false),
                (Some(2), 60, Availability::NoVerdict(50), false),
                (None, 80, Availability::Awaited, false),
            ]
        );
        assert!(bill.can_settle && bill.adds_up);
        // The verdict on epoch 3 comes by the end of epoch 4; the lease ends at half of it.
        assert_eq!(bill.settled_by, Some(START + 300));
        assert_eq!(bill.still_due(), 240_000_000 + 48_000_000);
    }

    #[test]
    fn figures_that_do_not_belong_together_are_seen() {
        let mut forged = lease(START, 600, 3_600_000);
        (forged.settled_until, forged.delivered) = (START + 60, 6_000);
        (forged.paid, forged.fee) = (60_000, 12_000);
        let of = |lease: &Lease| Bill::new(lease, &network(60), None, START + 70).unwrap();
        assert!(of(&forged).adds_up);
        forged.paid += 1;
        assert!(!of(&forged).adds_up);
        forged.paid = forged.escrowed + 1;
        assert!(Bill::new(&forged, &network(60), None, START + 70).is_err());
    }

    proptest! {
        /// Whatever was measured and whenever somebody settled: it adds up, the parts are the lease's time without a gap, and what
        /// they deliver is what the chain counted.
        #[test]
        fn it_always_adds_up(
            offset in 0i64..120,
            length in prop::sample::select(vec![20u32, 60]),
            max_seconds in 600u32..2_000,
            price in 0u64..1 << 40,
            measured in prop::collection::vec(prop::option::weighted(0.8, 0u8..=100), 0..30),
            looks in prop::collection::vec(0i64..3_000, 1..12),
            close_at in prop::option::of(0i64..2_000),
        ) {
            let network = network(length);
            let mut lease = lease(START + offset, max_seconds, price);
            lease.minimum_seconds = 600;
            let mut looks = looks;
            looks.sort_unstable();
            let mut closed = false;
            for look in looks {
                let now = lease.started + look;
                if let Some(at) = close_at.filter(|at| !closed && *at <= look) {
                    // As `close_lease` by the user does.
                    lease.ended = (lease.started + at.max(600)).min(lease.end());
                    lease.status = Lease::ENDED;
                    closed = true;
                }
                // What the chain can have tallied by now.
                let over = usize::try_from((now - START) / i64::from(length)).unwrap();
                let block = tallied(&measured[..measured.len().min(over)]);
                if lease.status != Lease::SETTLED {
                    let before = Bill::new(&lease, &network, Some(&block), now).unwrap();
                    let went = settlement::settle(&mut lease, &network, &block, now, 1_000).is_ok();
                    prop_assert!(!before.can_settle || went);
                }
                let bill = Bill::new(&lease, &network, Some(&block), now).unwrap();
                prop_assert!(bill.adds_up);
                prop_assert_eq!(lease.paid + lease.fee + lease.refunded + bill.held, lease.escrowed);
                prop_assert!(!bill.can_settle);
                let mut at = lease.started;
                let mut delivered = 0;
                for part in &bill.parts {
                    prop_assert_eq!(part.from, at);
                    prop_assert_eq!(part.settled, part.to <= lease.settled_until);
                    at = part.to;
                    delivered += part.seconds() * match part.availability {
                        Availability::Measured(percent) | Availability::NoVerdict(percent) => u64::from(percent),
                        Availability::Partial => 100,
                        Availability::Forgotten | Availability::Awaited => 0,
                    };
                }
                prop_assert_eq!(delivered, lease.delivered);
                prop_assert!(at >= lease.settled_until && at <= lease.end());
                prop_assert!(bill.at_most.paid + bill.at_most.fee <= lease.escrowed);
                if bill.is_final() {
                    prop_assert_eq!(bill.still_due(), 0);
                }
            }
        }
    }
}
