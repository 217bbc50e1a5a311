//! What is paid: the price of a compute unit from what others pay, within bounds, and what a transaction is charged.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::Settings;
use crate::{Address, rpc::Rpc};

/// Lamports for each signature.
const SIGNATURE: u64 = 5_000;
/// Micro-lamports in a lamport.
const MICRO: u128 = 1_000_000;
/// How long a price is believed.
const AGE: Duration = Duration::from_secs(10);
/// Most sets of accounts whose price is remembered.
const REMEMBERED: usize = 256;
/// What a price rises by at least when a transaction is signed anew: it must rise from nothing too.
const LEAST_RISE: u64 = 1_000;

/// Prices asked for lately, by the accounts they are for.
#[derive(Default)]
pub(super) struct Prices(Mutex<BTreeMap<Vec<Address>, (u64, Instant)>>);

impl Prices {
    /// The price for transactions that write these accounts. A node that does not say is no reason not to send: then it is the
    /// last price known, or the floor.
    pub async fn of(&self, rpc: &dyn Rpc, settings: &Settings, mut writable: Vec<Address>) -> u64 {
        if settings.max_priority_fee == 0 {
            return 0;
        }
        writable.sort();
        writable.dedup();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&writable).copied();
        if let Some((price, at)) = known
            && at.elapsed() < AGE
        {
            return settings.bounded(price);
        }
        match rpc.recent_fees(&writable).await {
            Ok(fees) => {
                let price = percentile(fees, settings.fee_percentile);
                self.remember(writable, price);
                settings.bounded(price)
            }
            Err(error) => {
                tracing::warn!(%error, "recent fees are not known; the last known or the least is paid");
                settings.bounded(known.map_or(0, |(price, _)| price))
            }
        }
    }

    fn remember(&self, writable: Vec<Address>, price: u64) {
        let mut prices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if prices.len() >= REMEMBERED {
            prices.retain(|_, (_, at)| at.elapsed() < AGE);
        }
        if prices.len() < REMEMBERED {
            prices.insert(writable, (price, Instant::now()));
        }
    }
}

impl Settings {
    fn bounded(&self, price: u64) -> u64 {
        price.max(self.priority_fee).min(self.max_priority_fee)
    }

    /// The price after a transaction at this price did not land.
    pub(super) fn risen(&self, price: u64) -> u64 {
        let more = u128::from(price) * u128::from(self.fee_rise) / 100;
        let more = u64::try_from(more).unwrap_or(u64::MAX).max(if self.fee_rise == 0 { 0 } else { LEAST_RISE });
        price.saturating_add(more).min(self.max_priority_fee)
    }
}

/// The least value that this share of all (percent) does not exceed; 0 of none.
fn percentile(mut values: Vec<u64>, percent: u8) -> u64 {
    values.sort_unstable();
    let rank = (values.len() * usize::from(percent.min(100))).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// Lamports that a transaction with so many signatures is charged, whether it succeeds or fails.
pub(super) fn charged(signatures: usize, limit: u32, price: u64) -> u64 {
    let priority = (u128::from(limit) * u128::from(price)).div_ceil(MICRO);
    SIGNATURE.saturating_mul(signatures as u64).saturating_add(u64::try_from(priority).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_is_a_percentile_within_bounds_and_rises_to_the_bound() {
        assert_eq!(percentile(vec![], 75), 0);
        assert_eq!(percentile(vec![9, 0, 0, 5], 75), 5);
        assert_eq!(percentile(vec![9, 0, 0, 5], 76), 9);
        assert_eq!((percentile(vec![3, 1], 0), percentile(vec![3, 1], 255)), (1, 3));
        let settings = Settings { priority_fee: 10, max_priority_fee: 5_000, fee_rise: 50, ..Settings::default() };
        assert_eq!([0, 100, 9_000].map(|price| settings.bounded(price)), [10, 100, 5_000]);
        assert_eq!([0, 2_000, 4_000, u64::MAX].map(|price| settings.risen(price)), [1_000, 3_000, 5_000, 5_000]);
        // The bound is hard, whatever the floor says.
        assert_eq!(Settings { max_priority_fee: 5, ..settings }.bounded(0), 5);
        assert_eq!(Settings { fee_rise: 0, ..settings }.risen(7), 7);
    }

    #[test]
    fn what_is_charged_is_rounded_up() {
        assert_eq!(charged(2, 200_000, 0), 10_000);
        assert_eq!(charged(1, 200_000, 1), 5_001);
        assert_eq!(charged(1, 1_400_000, 1_000_000), 1_405_000);
        assert_eq!(charged(1, u32::MAX, u64::MAX), u64::MAX);
    }
}
