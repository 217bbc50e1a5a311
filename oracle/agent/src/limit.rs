//! Token buckets: how much of something a key, an address or everybody together may ask. Pure: the instant is an argument.

use std::{collections::HashMap, hash::Hash, time::Duration};

use tokio::time::Instant;

/// How much is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Most at once, at least 1.
    pub burst: u32,
    /// How long it takes until one more is let through.
    pub every: Duration,
}

impl Rate {
    /// So many at once, and so many a second on the average (at least 1).
    pub const fn per_second(burst: u32, per_second: u32) -> Self {
        let per_second = if per_second == 0 { 1 } else { per_second };
        Self { burst, every: Duration::from_nanos(1_000_000_000 / per_second as u64) }
    }
}

/// One bucket: full at first.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: Rate,
    /// When it is full again. A taken token moves this on by the rate's interval.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, full_at: now }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + self.rate.every;
        let most = self.rate.every * self.rate.burst.max(1);
        let owed = full_at - now;
        if owed > most {
            return Err(owed - most);
        }
        self.full_at = full_at;
        Ok(())
    }

    /// Whether it is full, so that forgetting it changes nothing.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

/// Buckets by key, a bounded number of them.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    most: usize,
    buckets: HashMap<K, Bucket>,
}

impl<K: Eq + Hash> Buckets<K> {
    /// At most `most` keys are told apart; full buckets are forgotten to make room.
    pub fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, buckets: HashMap::new() }
    }

    /// Takes one token of a key. When no more keys can be told apart, new ones wait until others have calmed down.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if !self.buckets.contains_key(&key) && self.buckets.len() >= self.most {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            if self.buckets.len() >= self.most {
                return Err(self.rate.every);
            }
        }
        self.buckets.entry(key).or_insert_with(|| Bucket::new(self.rate, now)).take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate::per_second(3, 2);

    fn seconds(n: f64) -> Duration {
        Duration::from_secs_f64(n)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RATE, start);
        assert!((0..3).all(|_| bucket.take(start).is_ok()));
        assert_eq!(bucket.take(start), Err(seconds(0.5)), "says how long");
        assert_eq!(bucket.take(start + seconds(0.5)), Ok(()));
        assert!(bucket.take(start + seconds(0.6)).is_err());
        // However long it rests, the burst is all there is.
        let later = start + seconds(1_000.0);
        assert!(bucket.is_full(later));
        assert_eq!((0..10).filter(|_| bucket.take(later).is_ok()).count(), 3);
    }

    #[test]
    fn refused_attempts_cost_nothing_and_a_clock_that_stands_still_is_no_way_in() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RATE, start);
        let taken = (0..1_000).filter(|_| bucket.take(start).is_ok()).count();
        assert_eq!(taken, 3);
        assert_eq!(bucket.take(start + seconds(0.5)), Ok(()));
    }

    #[test]
    fn keys_do_not_take_from_each_other_and_their_number_is_bounded() {
        let start = Instant::now();
        let mut buckets = Buckets::new(RATE, 2);
        while buckets.take("a", start).is_ok() {}
        assert_eq!(buckets.take("b", start), Ok(()));
        assert!(buckets.take("c", start).is_err(), "no room for a third");
        assert_eq!(buckets.take("c", start + seconds(2.0)), Ok(()), "the others have calmed down");
        assert!(buckets.buckets.len() <= 2);
    }
}
