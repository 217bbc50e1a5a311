//! Whether the host is fit for tenants, with memory: what was seen once is not forgotten at the next look, nor by a restart.

use std::{collections::BTreeMap, time::Duration};

use datagalax_gpu::ProbeError;
use datagalax_protocol::Inspection;
use serde::{Deserialize, Serialize};

use super::{Expected, Fault, seen};

/// Degrees Celsius below the limit at which a card that was too hot has cooled down.
pub const COOLER: u16 = 8;
/// A boot whose time differs by no more than this many seconds is the same one: both clocks are whole seconds, and the host's
/// may be set.
const SAME_BOOT: i64 = 120;
/// Most faults remembered. A host has 64 cards at most, and one that has this many faults is unfit by any of them.
const MOST: usize = 256;

/// Who lets tenants in again after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Return {
    /// The agent, once the fault has been gone for a while.
    Automatic,
    /// The operator, by starting the agent with --clear-faults.
    Operator,
}

/// How long faults count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a fault must have been gone before tenants are let in again.
    pub quiet: Duration,
    /// Who lets them in.
    pub back: Return,
    /// Degrees Celsius from which a card is too hot.
    pub hottest: u16,
}

/// What is remembered of one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// When it was seen first, unix seconds.
    first: i64,
    /// When it was seen last.
    last: i64,
    /// The boot it was seen in: when the host started, unix seconds.
    boot: i64,
}

/// What is kept on disk over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    faults: Vec<(Fault, Memory)>,
}

/// The state of health.
#[derive(Clone, Debug)]
pub struct Fitness {
    policy: Policy,
    faults: BTreeMap<Fault, Memory>,
    /// When the host started as it was read last, unix seconds.
    boot: i64,
}

impl Fitness {
    /// Goes on from what was recorded.
    pub fn new(policy: Policy, record: Record) -> Self {
        Self { policy, faults: record.faults.into_iter().collect(), boot: 0 }
    }

    /// What to keep on disk.
    pub fn record(&self) -> Record {
        Record { faults: self.faults.iter().map(|(fault, memory)| (fault.clone(), *memory)).collect() }
    }

    /// Takes a look at the hardware. `gpus` is the number of cards registered (0 for processors), `now` unix seconds by the
    /// host's clock. Says whether there are other faults than before.
    pub fn look(&mut self, inspection: Result<&Inspection, &ProbeError>, gpus: u8, now: i64) -> bool {
        let before: Vec<Fault> = self.faults.keys().cloned().collect();
        match inspection {
            Ok(inspection) => {
                let uptime = i64::try_from(inspection.metrics.host.uptime).unwrap_or(i64::MAX);
                self.boot = now.saturating_sub(uptime);
                // What was noted before the first look was noted in this boot.
                for memory in self.faults.values_mut().filter(|memory| memory.boot == 0) {
                    memory.boot = self.boot;
                }
                let hottest = self.policy.hottest;
                let mut found = seen(inspection, &Expected { gpus, hottest }, now);
                // A card that was too hot is so until it has cooled down well below the limit.
                let warm = seen(inspection, &Expected { gpus, hottest: hottest.saturating_sub(COOLER) }, now);
                let still = |fault: &Fault| matches!(fault, Fault::Hot { .. }) && self.faults.contains_key(fault);
                found.extend(warm.into_iter().filter(|(fault, _)| still(fault)));
                for (fault, at) in found {
                    // The driver's log keeps old Xids for the life of the process.
                    if self.policy.back == Return::Operator || fault.lasts() || !self.is_over(at, now) {
                        self.note(fault, at, now);
                    }
                }
            }
            Err(_) => self.note(Fault::Unreadable, now, now),
        }
        if self.policy.back == Return::Automatic {
            let kept = |fault: &Fault, memory: &Memory| {
                let rebooted = self.boot.saturating_sub(memory.boot) > SAME_BOOT;
                !self.is_over(memory.last, now) || fault.lasts() && !rebooted
            };
            let over: Vec<Fault> = self.faults.iter().filter(|(f, m)| !kept(f, m)).map(|(f, _)| f.clone()).collect();
            for fault in over {
                tracing::info!(%fault, "this fault is over");
                self.faults.remove(&fault);
            }
        }
        self.faults.keys().ne(&before)
    }

    /// Whether something that happened last at that time has been gone for long enough. A clock that was set back makes
    /// nothing eternal.
    fn is_over(&self, last: i64, now: i64) -> bool {
        let quiet = i64::try_from(self.policy.quiet.as_secs()).unwrap_or(i64::MAX);
        now.saturating_sub(last).saturating_abs() >= quiet
    }

    /// Notes a fault that happened at `at`, seen at `now` (unix seconds).
    pub fn note(&mut self, fault: Fault, at: i64, now: i64) {
        if !self.faults.contains_key(&fault) {
            if self.faults.len() >= MOST {
                return;
            }
            tracing::error!(%fault, "this host is unfit for tenants");
        }
        let boot = self.boot;
        let memory = self.faults.entry(fault).or_insert(Memory { first: now, last: at, boot });
        (memory.last, memory.boot) = (at.max(memory.last).min(now), boot);
    }

    /// The operator says that all is well: what was recorded is forgotten.
    pub fn clear(&mut self) {
        self.faults.clear();
    }

    /// Why no tenant may come, `None` when one may.
    pub fn unfit(&self) -> Option<String> {
        let mut faults = self.faults.keys();
        let first = faults.next()?.to_string();
        let rest = faults.count();
        Some(if rest == 0 { first } else { format!("{first} (and {rest} more faults)") })
    }

    /// The faults that count now.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.faults.keys()
    }
}

#[cfg(test)]
mod tests {
    use datagalax_gpu::{Probe, RecordedProbe, probe::Recording};

    use super::*;

    const NOW: i64 = 1_719_840_000;
    const QUIET: i64 = 1_800;

    fn recording(name: &str) -> Recording {
        let path = format!("{}/../gpu/tests/recordings/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn policy(back: Return) -> Policy {
        Policy { quiet: Duration::from_secs(QUIET as u64), back, hottest: 90 }
    }

    fn inspection(name: &str, now: i64, change: impl FnOnce(&mut Recording)) -> Inspection {
        let mut recording = recording(name);
        change(&mut recording);
        RecordedProbe::new(recording, "test").unwrap().inspect(now).unwrap()
    }

    /// A look `after` seconds at a machine that booted at NOW - 1,000.
    fn look(fitness: &mut Fitness, name: &str, gpus: u8, after: i64, change: impl FnOnce(&mut Recording)) -> bool {
        let seen = inspection(name, NOW + after, |recording| {
            recording.host.uptime = (1_000 + after) as u64;
            change(recording);
        });
        fitness.look(Ok(&seen), gpus, NOW + after)
    }

    #[test]
    fn sound_machines_are_fit() {
        for (name, gpus) in [("cpu", 0), ("consumer", 1), ("hgx-h100", 8), ("virtual-a100", 2)] {
            let mut fitness = Fitness::new(policy(Return::Automatic), Record::default());
            assert!(!look(&mut fitness, name, gpus, 0, |_| {}), "{name}");
            assert_eq!(fitness.unfit(), None, "{name}");
        }
    }

    #[test]
    fn the_faulty_machine_is_unfit_by_each_of_its_faults() {
        let mut fitness = Fitness::new(policy(Return::Automatic), Record::default());
        assert!(look(&mut fitness, "faulty", 2, 0, |_| {}));
        let faults: Vec<_> = fitness.faults().cloned().collect();
        let (broken, lost) = ("GPU-4be9a7c2-06f1-4d35-8c97-fe210b84d6a9", "GPU-b02d61f8-e473-4a9c-b5d1-73c8f6e0a924");
        let expected = [
            Fault::Xid { uuid: broken.into(), code: 48 },
            Fault::Xid { uuid: lost.into(), code: 79 },
            Fault::Uncorrected { uuid: broken.into() },
            Fault::Lost { uuid: lost.into() },
            Fault::Missing { registered: 2, found: 1 },
        ];
        // Xid 94 of the recording was 9,889 s ago and has been quiet since.
        assert_eq!(faults, expected);
        assert!(fitness.unfit().unwrap().contains("and 4 more"), "{:?}", fitness.unfit());
        assert!(!look(&mut fitness, "faulty", 2, 5, |_| {}), "nothing new");
    }

    fn xid(code: u64, at: i64) -> impl Fn(&mut Recording) {
        move |r| r.gpus[0].details.xids = vec![datagalax_protocol::inspection::Xid { code, seen_at: at }]
    }

    #[test]
    fn an_xid_that_lasts_is_over_with_a_reboot_and_not_by_waiting_or_a_restart_of_the_agent() {
        let mut fitness = Fitness::new(policy(Return::Automatic), Record::default());
        assert!(look(&mut fitness, "consumer", 1, 0, xid(119, NOW)));
        assert!(!look(&mut fitness, "consumer", 1, 100_000, xid(119, NOW)));
        // Restarted: the driver's log is empty, the record is not.
        let record = serde_json::from_str(&serde_json::to_string(&fitness.record()).unwrap()).unwrap();
        let mut fitness = Fitness::new(policy(Return::Automatic), record);
        assert!(!look(&mut fitness, "consumer", 1, 200_000, |_| {}));
        assert!(fitness.unfit().unwrap().contains("GSP"));
        // Rebooted, and quiet for long enough.
        assert!(look(&mut fitness, "consumer", 1, 200_100, |r| r.host.uptime = 30));
        assert_eq!(fitness.unfit(), None);
    }

    #[test]
    fn an_xid_that_may_pass_counts_from_its_own_time_and_a_programs_not_at_all() {
        let mut fitness = Fitness::new(policy(Return::Automatic), Record::default());
        look(&mut fitness, "consumer", 1, 0, xid(94, NOW - 100));
        assert!(fitness.unfit().is_some());
        assert!(!look(&mut fitness, "consumer", 1, QUIET - 101, xid(94, NOW - 100)));
        assert!(look(&mut fitness, "consumer", 1, QUIET - 100, xid(94, NOW - 100)));
        assert_eq!(fitness.unfit(), None);
        assert!(!look(&mut fitness, "consumer", 1, QUIET, xid(13, NOW + QUIET)));
        assert!(!look(&mut fitness, "consumer", 1, QUIET, xid(9_999, NOW + QUIET)));
    }

    #[test]
    fn heat_has_two_limits_and_a_pause() {
        let mut fitness = Fitness::new(policy(Return::Automatic), Record::default());
        let at = |degrees| move |r: &mut Recording| r.gpus[0].metrics.temperature = Some(degrees);
        assert!(!look(&mut fitness, "consumer", 1, 0, at(89)));
        assert!(look(&mut fitness, "consumer", 1, 5, at(90)));
        // Below the limit, but not cool: it counts as hot still.
        look(&mut fitness, "consumer", 1, 2_000, at(85));
        look(&mut fitness, "consumer", 1, 3_000, at(81));
        assert!(fitness.unfit().is_some(), "cool for 1,000 s only");
        look(&mut fitness, "consumer", 1, 3_800, at(81));
        assert_eq!(fitness.unfit(), None);
        look(&mut fitness, "consumer", 1, 3_805, at(85));
        assert_eq!(fitness.unfit(), None, "warm was not hot");
    }

    #[test]
    fn a_probe_that_fails_is_a_fault_for_a_while() {
        let mut fitness = Fitness::new(policy(Return::Automatic), Record::default());
        assert!(fitness.look(Err(&ProbeError::HardwareChanged), 1, NOW));
        assert_eq!(fitness.faults().collect::<Vec<_>>(), [&Fault::Unreadable]);
        look(&mut fitness, "consumer", 1, QUIET - 1, |_| {});
        assert!(fitness.unfit().is_some());
        look(&mut fitness, "consumer", 1, QUIET, |_| {});
        assert_eq!(fitness.unfit(), None);
    }

    #[test]
    fn by_the_operator_alone_when_so_set() {
        let mut fitness = Fitness::new(policy(Return::Operator), Record::default());
        look(&mut fitness, "consumer", 2, 0, |_| {});
        look(&mut fitness, "consumer", 2, 1_000_000, |r| r.gpus.push(r.gpus[0].clone()));
        assert!(fitness.unfit().unwrap().contains("1 cards where 2 are registered"));
        fitness.clear();
        assert_eq!(fitness.unfit(), None);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_fault_eternal() {
        let mut fitness = Fitness::new(policy(Return::Automatic), Record::default());
        fitness.look(Err(&ProbeError::HardwareChanged), 0, NOW + 1_000_000);
        look(&mut fitness, "cpu", 0, 0, |_| {});
        assert_eq!(fitness.unfit(), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut fitness = Fitness::new(policy(Return::Automatic), Record::default());
        for n in 0..2_000 {
            fitness.note(Fault::Lost { uuid: format!("GPU-{n}") }, NOW, NOW);
        }
        assert_eq!(fitness.faults().count(), MOST);
    }
}
