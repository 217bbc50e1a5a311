//! What a lease used: metering. Pure; [`super::life`] reads the clocks.

use std::time::Duration;

use datagalax_protocol::lease::Usage;
use serde::{Deserialize, Serialize};

/// Longest time between two looks at a running workload that is believed: more was no running but a host asleep.
const LONGEST_STEP: Duration = Duration::from_secs(60);

/// A meter, as it is kept on disk. Nothing in it falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    running_ms: u64,
    millijoules: u64,
    /// Bytes of earlier runs of the workload.
    earlier_bytes: u64,
    /// Bytes of this run.
    bytes: u64,
    /// When it was last seen running, unix seconds of this host; 0: never.
    seen: i64,
}

impl Meter {
    /// It ran for so long until `now` (unix seconds), while the host's cards drew so many watts.
    pub fn ran(&mut self, elapsed: Duration, watts: f64, now: i64) {
        let elapsed = elapsed.min(LONGEST_STEP);
        let whole = |value: f64| if value.is_finite() && value > 0.0 { value as u64 } else { 0 };
        self.running_ms = self.running_ms.saturating_add(whole(elapsed.as_secs_f64() * 1_000.0));
        self.millijoules = self.millijoules.saturating_add(whole(elapsed.as_secs_f64() * watts * 1_000.0));
        self.seen = now.max(self.seen);
    }

    /// It was found running after a restart of this agent: it ran meanwhile.
    pub fn found_running(&mut self, now: i64) {
        if self.seen > 0 {
            let meanwhile = u64::try_from(now.saturating_sub(self.seen)).unwrap_or(0);
            self.running_ms = self.running_ms.saturating_add(meanwhile.saturating_mul(1_000));
        }
        self.seen = now.max(self.seen);
    }

    /// The run's bytes so far. Less than before is another run.
    pub fn traffic(&mut self, bytes: u64) {
        if bytes < self.bytes {
            self.earlier_bytes = self.earlier_bytes.saturating_add(self.bytes);
        }
        self.bytes = bytes;
    }

    /// What was used, of a container with so many units, in a lease that began and has come so far (unix seconds).
    pub fn usage(&self, units: u8, started: i64, until: i64) -> Usage {
        let passed = u64::try_from(until.saturating_sub(started)).unwrap_or(0);
        Usage {
            gpu_seconds: (self.running_ms / 1_000).min(passed).saturating_mul(u64::from(units)),
            joules: self.millijoules / 1_000,
            bytes: self.earlier_bytes.saturating_add(self.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 10_000;

    #[test]
    fn running_time_counts_for_each_unit_and_never_more_than_passed() {
        let mut meter = Meter::default();
        for second in 0..100 {
            meter.ran(Duration::from_millis(1_000), 250.5, NOW + second);
        }
        let usage = meter.usage(4, NOW, NOW + 200);
        assert_eq!((usage.gpu_seconds, usage.joules), (400, 25_050));
        assert_eq!(meter.usage(4, NOW, NOW + 60).gpu_seconds, 240);
        assert_eq!(meter.usage(4, NOW, NOW - 60).gpu_seconds, 0, "clocks that disagree");
        let before = meter;
        meter.ran(Duration::from_secs(1), f64::NAN, NOW);
        assert_eq!(meter.millijoules, before.millijoules);
        meter.ran(Duration::from_secs(100_000), 0.0, NOW + 200);
        assert_eq!(meter.running_ms, before.running_ms + 61_000);
    }

    #[test]
    fn a_restart_of_the_agent_loses_no_time_and_one_of_the_workload_no_bytes() {
        let mut meter = Meter::default();
        meter.found_running(NOW);
        meter.ran(Duration::from_secs(10), 0.0, NOW + 10);
        meter.traffic(100);
        let mut kept: Meter = serde_json::from_str(&serde_json::to_string(&meter).unwrap()).unwrap();
        kept.found_running(NOW + 40);
        kept.traffic(150);
        assert_eq!(kept.usage(1, NOW, NOW + 40), Usage { gpu_seconds: 40, joules: 0, bytes: 150 });
        kept.traffic(30);
        kept.traffic(30);
        assert_eq!(kept.usage(1, NOW, NOW + 40).bytes, 180);
        kept.found_running(NOW - 500);
        assert_eq!(kept.usage(1, NOW, NOW + 4_000).gpu_seconds, 40, "a clock set back takes nothing away");
    }
}
