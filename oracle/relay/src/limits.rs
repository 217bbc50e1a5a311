//! Every bound of a relay, and what keeps those that are shared.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What a relay lets strangers and hosts do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections of the public at a time.
    pub connections: usize,
    /// Most connections of the public to one host at a time.
    pub per_host: usize,
    /// Most connections of one address (IPv6: of one /64) at a time, on each of the two ports.
    pub per_source: usize,
    /// Most hosts connected at a time.
    pub hosts: usize,
    /// Bytes a second to and from one host together; a second's worth may come at once.
    pub bytes_per_second: u64,
    /// Longest time for a client to say whom it wants, and for a host to say who it is.
    pub hello_timeout: Duration,
    /// Longest time for a host to dial back.
    pub dial_back_timeout: Duration,
    /// Longest time in which nothing passes in either direction.
    pub idle_timeout: Duration,
    /// Longest life of a connection of the public.
    pub life: Duration,
    /// How often a host is asked whether it is still there; it is gone after three without an answer.
    pub ping: Duration,
    /// How often it is asked whether a host may still use the relay.
    pub readmit: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connections: 4_096,
            per_host: 64,
            per_source: 256,
            hosts: 4_096,
            bytes_per_second: 16 << 20,
            hello_timeout: seconds(5),
            dial_back_timeout: seconds(5),
            // Longer than the longest wait for a beacon's root, in which nothing passes (120 s).
            idle_timeout: seconds(180),
            life: seconds(3_600),
            ping: seconds(15),
            readmit: seconds(600),
        }
    }
}

/// Connections by where they come from. Holds an entry only for addresses that have a connection.
#[derive(Debug)]
pub(crate) struct Sources {
    limit: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

impl Sources {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, counts: Mutex::default() })
    }

    /// A place for one more connection, `None` when its address has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<SourcePlace> {
        let from = network(from);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(from).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(SourcePlace { sources: self.clone(), from })
    }
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct SourcePlace {
    sources: Arc<Sources>,
    from: IpAddr,
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        let mut counts = self.sources.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

/// What one owner usually has: an IPv4 address, an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Bytes a second, shared by all connections of a host.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: u64,
    /// When everything reserved so far has passed.
    free: Mutex<Instant>,
}

impl Rate {
    pub(crate) fn new(per_second: u64, now: Instant) -> Self {
        Self { per_second: per_second.max(1), free: Mutex::new(now) }
    }

    /// Reserves `bytes`; the time at which they may pass, `None` for at once (even the shortest sleep takes a millisecond). A
    /// second's worth passes at once after a quiet second.
    pub(crate) fn reserve(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let nanos = u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(1_000_000_000) / u128::from(self.per_second);
        *free = (*free).max(now) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        free.checked_sub(Duration::from_secs(1)).filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gives_them_back() {
        let sources = Sources::new(2);
        let of = |address: &str| sources.enter(address.parse().unwrap());
        let (first, second) = (of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(of("192.0.2.1").is_none(), "the mapped address is the same");
        assert!(of("192.0.2.2").is_some());
        drop(first);
        assert!(of("192.0.2.1").is_some());
        let (_a, _b) = (of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert!(of("2001:db8::3").is_none(), "one /64");
        assert!(of("2001:db8:0:1::3").is_some(), "another");
        drop((second, _a, _b));
        assert!(sources.counts.lock().unwrap().is_empty(), "nobody is remembered");
    }

    #[test]
    fn a_rate_holds_over_time_and_lets_a_second_pass_at_once() {
        let begun = Instant::now();
        let rate = Rate::new(1_000, begun);
        let after = |bytes, now: u64| {
            let at = rate.reserve(bytes, begun + Duration::from_millis(now));
            at.map(|at| (at - begun).as_millis())
        };
        assert_eq!(after(1_000, 0), None, "a second's worth passes at once");
        assert_eq!(after(500, 0), Some(500));
        assert_eq!(after(500, 0), Some(1_000));
        // Two seconds in all were reserved: at 2.5 s all of it has passed, and half a second is not saved up twice.
        assert_eq!(after(1_000, 2_500), None);
        assert_eq!(after(1, 2_500), Some(2_501));
        assert_eq!(after(1_000, 60_000), None);
        assert_eq!(after(1_000, 60_000), Some(61_000), "an idle minute is worth one second");
    }
}
