//! Which beacons the current epoch has had so far, as slots come in and after a restart.

use std::collections::VecDeque;

use datagalax_gpu::beacon::{Kind, Slot, Watch};
use tokio::time::Instant;

use crate::chain::SeenSlot;

/// Slots that are kept for an epoch whose draw is read later than its first slots are seen: what SlotHashes holds.
const KEPT: usize = 512;

/// A beacon of the current epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// Its slot.
    pub slot: Slot,
    /// When it was first seen here; `None` when another run of this program saw it. Then answers cannot be timed.
    pub seen: Option<Instant>,
    /// Whether it is a beacon for everybody. A fallback may not be one when slots before it were missed here: then silence
    /// proves nothing.
    pub certain: bool,
}

/// Finds the beacons of one epoch after the other.
#[derive(Debug, Default)]
pub struct Beacons {
    recent: VecDeque<SeenSlot>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    epoch: u32,
    fresh: Watch,
    watch: Watch,
    /// Every slot since the draw was looked at.
    complete: bool,
    last: Option<u64>,
    found: Vec<Beacon>,
}

impl Beacons {
    /// Begins a drawn epoch, unless that was done. `known` are beacons that an earlier run saw, ascending. Slots that were
    /// seen before are looked at now.
    pub fn begin(&mut self, epoch: u32, draw_slot: u64, watch: Watch, known: &[Slot]) {
        if self.current.as_ref().is_some_and(|current| current.epoch == epoch) {
            return;
        }
        let complete = self.recent.front().is_some_and(|first| first.slot.number <= draw_slot + 1);
        let mut current = Current { epoch, fresh: watch, watch, complete, last: None, found: Vec::new() };
        for slot in known {
            if current.watch.observe(slot).is_some() {
                current.found.push(Beacon { slot: *slot, seen: None, certain: true });
                current.last = Some(slot.number);
            }
        }
        for seen in &self.recent {
            current.observe(seen);
        }
        self.current = Some(current);
    }

    /// Takes slots as they come, ascending.
    pub fn observe(&mut self, slots: &[SeenSlot]) {
        for seen in slots {
            if self.recent.back().is_some_and(|last| seen.slot.number <= last.slot.number) {
                continue;
            }
            if self.recent.len() == KEPT {
                self.recent.pop_front();
            }
            self.recent.push_back(*seen);
            if let Some(current) = &mut self.current {
                current.observe(seen);
            }
        }
    }

    /// Slots passed unseen: a beacon may have been among them.
    pub fn missed(&mut self) {
        self.recent.clear();
        if let Some(current) = &mut self.current {
            current.complete = false;
        }
    }

    /// The slots from this number on are gone, and what was found at them.
    pub fn dropped(&mut self, number: u64) {
        self.recent.retain(|seen| seen.slot.number < number);
        if let Some(current) = &mut self.current {
            current.found.retain(|beacon| beacon.slot.number < number);
            current.watch = current.fresh;
            current.last = current.found.last().map(|beacon| beacon.slot.number);
            for beacon in &current.found {
                current.watch.observe(&beacon.slot);
            }
        }
    }

    /// The beacons of an epoch so far, ascending; none of another epoch than the one begun last.
    pub fn of(&self, epoch: u32) -> &[Beacon] {
        self.current.as_ref().filter(|current| current.epoch == epoch).map_or(&[], |current| &current.found)
    }
}

impl Current {
    fn observe(&mut self, seen: &SeenSlot) {
        if self.last.is_some_and(|last| seen.slot.number <= last) {
            return;
        }
        let kind = self.watch.observe(&seen.slot);
        if let Some(kind) = kind {
            // A drawn beacon is one whatever came before; so is a fallback if nothing before it was missed.
            let certain = kind == Kind::Drawn || self.complete;
            self.found.push(Beacon { slot: seen.slot, seen: seen.seen, certain });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, time::Duration};

    use datagalax_gpu::beacon::{Window, is_drawn};

    use super::*;

    const MODULUS: NonZeroU64 = NonZeroU64::new(20).unwrap();

    fn watch() -> Watch {
        let window = Window {
            draw_slot: 10,
            end: 100,
            length: 100,
            commit_lead: 10,
            answer: Duration::from_secs(5),
            finality: Duration::from_secs(5),
        };
        Watch::new(window, MODULUS)
    }

    /// One slot a second from 0 on.
    fn slots(now: Instant) -> Vec<SeenSlot> {
        let slot = |number: u64| Slot { number, hash: [number as u8; 32], time: number as i64 };
        (0..100).map(|number| SeenSlot { slot: slot(number), seen: Some(now + Duration::from_secs(number)) }).collect()
    }

    fn drawn() -> Vec<u64> {
        // 80 is the latest that leaves time for an answer.
        (11..=80).filter(|number| is_drawn(&[*number as u8; 32], MODULUS)).collect()
    }

    fn numbers(beacons: &Beacons) -> Vec<u64> {
        beacons.of(4).iter().map(|beacon| beacon.slot.number).collect()
    }

    #[test]
    fn slots_seen_before_the_draw_was_read_count_too() {
        let slots = slots(Instant::now());
        let mut beacons = Beacons::default();
        assert_eq!(beacons.of(4), &[]);
        beacons.observe(&slots[..60]);
        beacons.begin(4, 10, watch(), &[]);
        beacons.observe(&slots[40..]);
        beacons.begin(4, 10, watch(), &[]);
        assert!(!drawn().is_empty());
        assert_eq!(numbers(&beacons), drawn(), "each once, none lost");
        assert!(beacons.of(4).iter().all(|beacon| beacon.certain && beacon.seen == slots[beacon.slot.number as usize].seen));
        beacons.begin(5, 200, watch(), &[]);
        assert_eq!(beacons.of(4), &[], "only the epoch begun last");
    }

    #[test]
    fn beacons_of_an_earlier_run_are_known_but_not_timed() {
        let slots = slots(Instant::now());
        let first = drawn()[0];
        let mut beacons = Beacons::default();
        beacons.begin(4, 10, watch(), &[slots[first as usize].slot]);
        beacons.observe(&slots[first as usize..]);
        assert_eq!(numbers(&beacons), drawn());
        assert_eq!(beacons.of(4)[0].seen, None);
        assert!(beacons.of(4)[1..].iter().all(|beacon| beacon.seen.is_some()));
    }

    #[test]
    fn a_fallback_after_a_gap_is_not_certain() {
        let last = *drawn().last().unwrap();
        let slots: Vec<SeenSlot> = slots(Instant::now()).into_iter().filter(|s| s.slot.number > last).collect();
        assert!(last < 80, "the test needs a slot after the last drawn one");
        let found = |from: usize, draw_slot| {
            let mut beacons = Beacons::default();
            beacons.observe(&slots[from..from + 1]);
            beacons.begin(4, draw_slot, watch(), &[]);
            beacons.observe(&slots[from..]);
            beacons.of(4).iter().map(|beacon| beacon.certain).collect::<Vec<_>>()
        };
        assert_eq!(found(0, 10), [false]);
        assert_eq!(found(0, last), [true], "nothing was missed since the draw");
    }

    #[test]
    fn what_the_cluster_drops_is_no_beacon_and_its_number_may_come_again() {
        let mut slots = slots(Instant::now());
        let (first, second) = (drawn()[0], drawn()[1]);
        let mut beacons = Beacons::default();
        beacons.observe(&slots[..=second as usize]);
        beacons.begin(4, 10, watch(), &[]);
        assert_eq!(numbers(&beacons), [first, second]);
        beacons.dropped(second);
        assert_eq!(numbers(&beacons), [first]);
        slots[second as usize].slot.hash = slots[first as usize].slot.hash;
        beacons.observe(&slots[second as usize..]);
        assert_eq!(numbers(&beacons), drawn());
        assert_eq!(beacons.of(4)[1].slot.hash, slots[first as usize].slot.hash);
    }
}
