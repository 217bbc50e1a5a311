//! What a lease owes for what was delivered (protocol section 8). Pure, shared with the off-chain crates.

use anchor_lang::prelude::Result;

use crate::{
    constants::{BPS, BREACHED, HISTORY, VOID},
    error::DatagalaxError,
    math::{mul_div, mul_ratio},
    state::{Block, Lease, Network},
};

/// Seconds of an hour, the unit of prices.
const HOUR: u64 = 3_600;
/// Percent of one.
const PERCENT: u64 = 100;

/// The prices a lease is billed by, fixed when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill {
    /// Base units.
    pub price_per_hour: u64,
    /// Protocol fee on what is paid.
    pub fee_bps: u16,
    /// Indexer's share of the fee.
    pub indexer_share_bps: u16,
}

/// What a lease's seconds come to, base units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// To the provider.
    pub paid: u64,
    /// Fee on that, the indexer's share included.
    pub fee: u64,
    /// Of the fee, the indexer's.
    pub indexer_fee: u64,
    /// Back to the user, fee included.
    pub refunded: u64,
}

impl Bill {
    /// Price of `units` (seconds times percent), rounded down.
    fn price(&self, units: u64) -> Result<u64> {
        mul_div(self.price_per_hour, units, HOUR * PERCENT).ok_or_else(|| DatagalaxError::Overflow.into())
    }

    /// The fee on an amount, rounded down.
    fn fee(&self, amount: u64) -> Result<u64> {
        mul_ratio(amount, u64::from(self.fee_bps), BPS).ok_or_else(|| DatagalaxError::Overflow.into())
    }

    fn indexer_fee(&self, fee: u64) -> Result<u64> {
        mul_ratio(fee, u64::from(self.indexer_share_bps), BPS).ok_or_else(|| DatagalaxError::Overflow.into())
    }

    /// What a user puts in for so many seconds: the price, rounded up, and the fee on it. Never less than what can be paid out.
    ///
    /// # Errors
    /// [`DatagalaxError::Overflow`] above 64 bits.
    pub fn escrow(&self, seconds: u32) -> Result<u64> {
        let units = u64::from(seconds) * PERCENT;
        let whole = HOUR * PERCENT;
        // Below 2^51: both factors were brought under the divisor.
        let rest = (self.price_per_hour % whole) * (units % whole) % whole;
        let price = self.price(units)?.checked_add(u64::from(rest > 0)).ok_or(DatagalaxError::Overflow)?;
        price.checked_add(self.fee(price)?).ok_or_else(|| DatagalaxError::Overflow.into())
    }

    /// What so many settled seconds, with so much delivered (seconds times percent), come to in all: each figure of the whole
    /// so far, rounded down, so that no order of settling gains or loses anything.
    ///
    /// # Errors
    /// [`DatagalaxError::Overflow`] above 64 bits; [`DatagalaxError::InvariantViolated`] when more was delivered than there was.
    pub fn amounts(&self, seconds: u64, delivered: u64) -> Result<Amounts> {
        let whole = seconds.checked_mul(PERCENT).ok_or(DatagalaxError::Overflow)?;
        let paid = self.price(delivered)?;
        let back = self.price(whole.checked_sub(delivered).ok_or(DatagalaxError::InvariantViolated)?)?;
        let fee = self.fee(paid)?;
        let refunded = back.checked_add(self.fee(back)?).ok_or(DatagalaxError::Overflow)?;
        Ok(Amounts { paid, fee, indexer_fee: self.indexer_fee(fee)?, refunded })
    }

    /// The fee of so many seconds less the indexer's share, base units, rounded down: the most that the leased row may earn in the
    /// epoch that they lie in (`lease_cap`), so that leasing from oneself never pays.
    ///
    /// # Errors
    /// [`DatagalaxError::Overflow`] above 64 bits.
    pub fn cap(&self, length: u32) -> Result<u64> {
        let fee = self.fee(self.price(u64::from(length) * PERCENT)?)?;
        // The complement rounded down as well, so that the caps of many epochs never exceed the protocol's part of all of them.
        let kept = BPS.saturating_sub(u64::from(self.indexer_share_bps));
        mul_ratio(fee, kept, BPS).ok_or_else(|| DatagalaxError::Overflow.into())
    }

    /// Price of an epoch of `length` seconds, base units, rounded down.
    ///
    /// # Errors
    /// [`DatagalaxError::Overflow`] above 64 bits.
    pub fn epoch_price(&self, length: u32) -> Result<u64> {
        self.price(u64::from(length) * PERCENT)
    }
}

/// What is known of a whole epoch's availability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Not tallied yet, and it still can be.
    Unknown,
    /// Percent.
    Verdict(u8),
    /// Void, or nobody tallied it in time.
    NoVerdict,
}

/// Percent of a history byte, `None` when it is void.
fn percent_of(byte: u8) -> Option<u8> {
    (byte != VOID).then_some(byte & !BREACHED)
}

/// The lowest verdict in a ring.
fn lowest(history: &[u8]) -> Option<u8> {
    history.iter().filter_map(|byte| percent_of(*byte)).min()
}

/// What a block knows of a row in an epoch, seen from epoch `now`.
///
/// A verdict that later ones overwrote reads as the lowest in the ring: whoever settles late never gains by it.
pub fn delivered(block: &Block, row: u8, epoch: u32, now: u32) -> Delivered {
    if !block.is_tallied(epoch) {
        return if now < epoch.saturating_add(2) { Delivered::Unknown } else { Delivered::NoVerdict };
    }
    let history = &block.rows[usize::from(row)].history;
    let verdict = if block.newest_of(row).saturating_sub(epoch) < HISTORY {
        percent_of(history[(epoch % HISTORY) as usize])
    } else {
        lowest(history)
    };
    verdict.map_or(Delivered::NoVerdict, Delivered::Verdict)
}

/// Settles a started lease as far as is known: whole epochs at their availability, the partial ones at its start and end in
/// full, in order, at most `most` of them. Says whether it is settled to its end.
///
/// # Errors
/// [`DatagalaxError::NothingToSettle`] when nothing can be settled yet; [`DatagalaxError::Overflow`].
#[inline(never)]
pub fn settle(lease: &mut Lease, network: &Network, block: &Block, now: i64, most: u32) -> Result<bool> {
    let current = network.epoch_at(now)?;
    let end = lease.end();
    let before = lease.settled_until;
    for _ in 0..most {
        let from = lease.settled_until;
        if from >= end {
            break;
        }
        let Ok(epoch) = network.epoch_at(from) else {
            // Older than both grids that are kept: nobody knows its bounds any more. It is one of those that were overwritten.
            let to = network.grids[1].start.min(end);
            if let Some(percent) = lowest(&block.rows[usize::from(lease.row)].history) {
                lease.last_availability = percent;
            }
            deliver(lease, to, lease.last_availability)?;
            continue;
        };
        let (start, close) = network.bounds(epoch);
        let to = close.min(end);
        if to > now {
            break;
        }
        let mut availability = PERCENT as u8;
        if from == start && to == close {
            match delivered(block, lease.row, epoch, current) {
                Delivered::Unknown => break,
                Delivered::Verdict(percent) => lease.last_availability = percent,
                Delivered::NoVerdict => {}
            }
            availability = lease.last_availability;
        }
        deliver(lease, to, availability)?;
    }
    if lease.settled_until == before && before < end {
        return Err(DatagalaxError::NothingToSettle.into());
    }
    let seconds = lease.settled_until.saturating_sub(lease.started) as u64;
    let amounts = lease.bill().amounts(seconds, lease.delivered)?;
    lease.paid = amounts.paid;
    lease.fee = amounts.fee;
    lease.indexer_fee = amounts.indexer_fee;
    lease.refunded = amounts.refunded;
    let done = lease.status == Lease::ENDED && lease.settled_until >= end;
    if done {
        // What rounding kept, and the seconds that were never used.
        lease.refunded += lease.held()?;
        lease.status = Lease::SETTLED;
    }
    Ok(done)
}

/// Counts the seconds up to `to` as delivered at an availability.
fn deliver(lease: &mut Lease, to: i64, availability: u8) -> Result<()> {
    // A lease is settled forwards only, and none is longer than 2^32 seconds.
    let seconds = u32::try_from(to.saturating_sub(lease.settled_until)).map_err(|_| DatagalaxError::Overflow)?;
    let delivered = u64::from(seconds) * u64::from(availability);
    lease.delivered = lease.delivered.checked_add(delivered).ok_or(DatagalaxError::Overflow)?;
    lease.settled_until = to;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is delivered in whatever order: nothing shrinks, and what was put in covers it.
        #[test]
        fn the_escrow_covers_everything(price in 0u64..1 << 40, fee_bps in 0u16..=10_000, share in 0u16..=10_000, parts in prop::collection::vec((1u32..100_000, 0u64..=100), 1..40)) {
            let bill = Bill { price_per_hour: price, fee_bps, indexer_share_bps: share };
            let total: u32 = parts.iter().map(|(s, _)| *s).sum();
            let escrow = bill.escrow(total).unwrap();
            let (mut seconds, mut delivered, mut before) = (0u64, 0u64, Amounts::default());
            for (length, percent) in parts {
                seconds += u64::from(length);
                delivered += u64::from(length) * percent;
                let now = bill.amounts(seconds, delivered).unwrap();
                prop_assert!(now.paid >= before.paid && now.fee >= before.fee && now.refunded >= before.refunded);
                prop_assert!(now.indexer_fee >= before.indexer_fee && now.indexer_fee <= now.fee);
                prop_assert!(now.paid + now.fee + now.refunded <= escrow);
                before = now;
            }
            // At most the rounding of four divisions and of the price upwards, with its fee, is kept back.
            prop_assert!(escrow - (before.paid + before.fee + before.refunded) <= 6);
        }

        #[test]
        fn a_cap_is_what_the_protocol_keeps(price in 0u64..1 << 40, fee_bps in 0u16..=10_000, share in 0u16..=10_000, length in 20u32..=86_400) {
            let bill = Bill { price_per_hour: price, fee_bps, indexer_share_bps: share };
            let amounts = bill.amounts(u64::from(length), u64::from(length) * 100).unwrap();
            let kept = amounts.fee - amounts.indexer_fee;
            prop_assert!((kept.saturating_sub(1)..=kept).contains(&bill.cap(length).unwrap()));
        }
    }

    #[test]
    fn too_dear_is_refused() {
        let bill = Bill { price_per_hour: 1 << 56, fee_bps: 10_000, indexer_share_bps: 0 };
        assert_eq!(bill.escrow(366 * 86_400), Err(DatagalaxError::Overflow.into()));
    }
}
