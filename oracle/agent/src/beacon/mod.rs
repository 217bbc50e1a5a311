//! The epoch's beacons as this host sees them. Pure: slots and epochs come in as arguments.
//!
//! Why a host never signs two roots for one beacon: a root is a function of the challenge (the slot's hash and the container)
//! and the workload, and of nothing else (all devices compute bit-exactly, `datagalax_gpu::backend`), so computing it again
//! after a restart gives it again. That is relied on only as far as the hardware can be: [`prover`] writes each root to the
//! disk before it is signed for the first time, and what differs from that later is never signed but is a fault of the hardware.

pub mod prover;

use std::collections::{BTreeMap, VecDeque};

use datagalax_gpu::beacon::{Kind, Watch};

use crate::chain::SeenSlot;

/// Slots that are remembered; nodes know 512.
const KEPT: usize = 1_024;
/// Most beacons of an epoch that are remembered, the latest: far more than there ever are with a sound modulus.
const MOST: usize = 64;

/// Watches for beacons.
#[derive(Debug, Default)]
pub struct Beacons {
    slots: VecDeque<SeenSlot>,
    epoch: Option<Epoch>,
    found: BTreeMap<u64, Kind>,
}

#[derive(Clone, Copy, Debug)]
struct Epoch {
    number: u32,
    /// As it was before any slot.
    fresh: Watch,
    watch: Watch,
}

/// What a slot is to this host.
#[derive(Clone, Copy, Debug)]
pub enum Known {
    /// A beacon of the present epoch.
    Beacon(SeenSlot),
    /// A slot, but no beacon.
    Slot(SeenSlot),
    /// It may come: it is later than any that was seen, or the epoch's beacons are not known yet.
    NotYet,
    /// Too long ago, or it never was.
    Never,
}

impl Beacons {
    /// Takes new slots, ascending. Returns the beacons among them.
    pub fn see(&mut self, slots: &[SeenSlot]) -> Vec<(SeenSlot, Kind)> {
        let mut found = Vec::new();
        for seen in slots {
            if self.slots.back().is_some_and(|last| last.slot.number >= seen.slot.number) {
                continue;
            }
            if self.slots.len() >= KEPT {
                self.slots.pop_front();
            }
            self.slots.push_back(*seen);
            let kind = self.epoch.as_mut().and_then(|epoch| epoch.watch.observe(&seen.slot));
            found.extend(kind.map(|kind| (*seen, kind)));
        }
        self.note(&found);
        found
    }

    /// Takes the present epoch's watch. When it is another epoch than before, the slots seen so far are looked through again:
    /// returns the beacons among them.
    pub fn enter(&mut self, epoch: u32, watch: Watch) -> Vec<(SeenSlot, Kind)> {
        if self.epoch.is_some_and(|known| known.number == epoch) {
            return Vec::new();
        }
        self.epoch = Some(Epoch { number: epoch, fresh: watch, watch });
        self.look_through()
    }

    /// Slots from this one on were undone. What they made beacons are none.
    pub fn undo(&mut self, from: u64) {
        self.slots.retain(|seen| seen.slot.number < from);
        self.look_through();
    }

    /// Looks through the slots with a fresh watch. A fallback beacon whose slot is remembered no more could come twice, but
    /// not within the minutes that slots are remembered for.
    fn look_through(&mut self) -> Vec<(SeenSlot, Kind)> {
        let Some(epoch) = &mut self.epoch else { return Vec::new() };
        epoch.watch = epoch.fresh;
        let observe = |seen: &SeenSlot| epoch.watch.observe(&seen.slot).map(|kind| (*seen, kind));
        let found: Vec<_> = self.slots.iter().filter_map(observe).collect();
        self.found.clear();
        self.note(&found);
        found
    }

    /// The latest slot.
    pub fn latest(&self) -> Option<&SeenSlot> {
        self.slots.back()
    }

    /// What is known of a slot, asked about in this epoch.
    pub fn known(&self, epoch: u32, number: u64) -> Known {
        // An asker may know of an epoch, or of its draw, a moment earlier.
        let entered = self.epoch.is_some_and(|present| present.number >= epoch);
        if !entered || self.slots.back().is_none_or(|last| last.slot.number < number) {
            return Known::NotYet;
        }
        let at = self.slots.binary_search_by_key(&number, |seen| seen.slot.number);
        let Ok(seen) = at.map(|at| self.slots[at]) else { return Known::Never };
        let present = self.epoch.is_some_and(|present| present.number == epoch);
        if present && self.found.contains_key(&number) { Known::Beacon(seen) } else { Known::Slot(seen) }
    }

    fn note(&mut self, found: &[(SeenSlot, Kind)]) {
        self.found.extend(found.iter().map(|(seen, kind)| (seen.slot.number, *kind)));
        while self.found.len() > MOST {
            self.found.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, time::Duration};

    use datagalax_gpu::beacon::{Slot, Window};
    use tokio::time::Instant;

    use super::*;

    fn seen(number: u64) -> SeenSlot {
        SeenSlot { slot: Slot { number, hash: [number as u8; 32], time: number as i64 }, seen: Instant::now() }
    }

    fn watch(draw_slot: u64) -> Watch {
        let window = Window {
            draw_slot,
            end: 10_000,
            length: 10_000,
            commit_lead: 0,
            answer: Duration::ZERO,
            finality: Duration::ZERO,
        };
        Watch::new(window, NonZeroU64::MIN)
    }

    fn numbers(found: &[(SeenSlot, Kind)]) -> Vec<u64> {
        found.iter().map(|(seen, _)| seen.slot.number).collect()
    }

    #[test]
    fn slots_before_the_epoch_was_known_are_not_lost() {
        let mut beacons = Beacons::default();
        assert!(beacons.see(&(1..=5).map(seen).collect::<Vec<_>>()).is_empty());
        assert!(matches!(beacons.known(7, 4), Known::NotYet), "whether it is one is not known yet");
        assert_eq!(numbers(&beacons.enter(7, watch(3))), [4, 5]);
        assert!(beacons.enter(7, watch(0)).is_empty(), "once an epoch");
        assert_eq!(numbers(&beacons.see(&[seen(5), seen(6)])), [6], "each once");
        assert!(matches!(beacons.known(7, 6), Known::Beacon(_)) && matches!(beacons.known(7, 3), Known::Slot(_)));
        assert!(matches!(beacons.known(8, 6), Known::NotYet), "of an epoch that was not entered");
        assert!(matches!(beacons.known(7, 9), Known::NotYet) && matches!(beacons.known(7, 0), Known::Never));
        assert!(beacons.enter(8, watch(6)).is_empty());
        assert!(matches!(beacons.known(7, 6), Known::Slot(_)));
    }

    #[test]
    fn what_was_undone_is_no_beacon_and_what_took_its_place_is() {
        let mut beacons = Beacons::default();
        beacons.enter(7, watch(0));
        beacons.see(&[seen(1), seen(2), seen(3)]);
        beacons.undo(2);
        assert!(matches!(beacons.known(7, 3), Known::NotYet) && matches!(beacons.known(7, 1), Known::Beacon(_)));
        let other = SeenSlot { slot: Slot { hash: [99; 32], ..seen(2).slot }, ..seen(2) };
        assert_eq!(numbers(&beacons.see(&[other])), [2]);
        assert!(matches!(beacons.known(7, 2), Known::Beacon(found) if found.slot.hash == [99; 32]));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut beacons = Beacons::default();
        beacons.enter(7, watch(0));
        beacons.see(&(1..5_000).map(seen).collect::<Vec<_>>());
        assert_eq!((beacons.slots.len(), beacons.found.len()), (KEPT, MOST));
        assert!(matches!(beacons.known(7, 4_999), Known::Beacon(_)), "the latest are kept");
        assert_eq!(beacons.latest().unwrap().slot.number, 4_999);
    }
}
