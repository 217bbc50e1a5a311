//! Beacons (protocol section 5): which slots challenge every container at once, with what, and what an epoch's answers come
//! to. Pure: slots and times are arguments.
//!
//! A slot is a beacon when it is later than the epoch's draw slot, `sha256(slot hash) mod N = 0` (the digest as one
//! little-endian number), and its block time is at most the **latest** one: `end - commit_lead`, less the answer time and
//! the time of 32 slots that finality takes. When none came before the last 120 s up to that line (a tenth of the epoch where
//! that is shorter), the first slot in those is one too: it is decided when it is seen, so a drawn beacon after it changes
//! nothing about it.

use std::{num::NonZeroU64, time::Duration};

use datagalax_protocol::Digest;
use sha2::{Digest as _, Sha256};

/// Longest time before the latest moment in which an epoch without a beacon gets one, in seconds.
const FALLBACK_SPAN: i64 = 120;
/// It is at most this part of an epoch.
const FALLBACK_PART: i64 = 10;

/// A slot that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub number: u64,
    /// Its hash, as in SlotHashes.
    pub hash: Digest,
    /// Its block time, unix seconds.
    pub time: i64,
}

/// When beacons of an epoch can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The slot from which the epoch's committees were drawn; beacons come after it.
    pub draw_slot: u64,
    /// The epoch's end, unix seconds.
    pub end: i64,
    /// The epoch's length in seconds.
    pub length: i64,
    /// Measuring ends so many seconds before the end.
    pub commit_lead: i64,
    /// How long the slowest answer that counts may take ([`crate::capacity::Schedule::deadline`] of the largest class).
    pub answer: Duration,
    /// How long 32 slots take: nobody votes on a slot that is not final.
    pub finality: Duration,
}

impl Window {
    /// The latest block time of a beacon, unix seconds. Fractions of a second are taken off.
    pub fn latest(&self) -> i64 {
        let nanos = self.answer.saturating_add(self.finality).as_nanos();
        let answered = i64::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(i64::MAX);
        self.end.saturating_sub(self.commit_lead).saturating_sub(answered)
    }

    /// From this block time on an epoch without a beacon takes the next slot.
    pub fn fallback_from(&self) -> i64 {
        self.latest().saturating_sub(FALLBACK_SPAN.min(self.length.max(0) / FALLBACK_PART))
    }
}

/// How a slot became a beacon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By its hash.
    Drawn,
    /// Because there was none yet.
    Fallback,
}

/// Whether a hash makes a beacon: `sha256(slot hash) mod modulus = 0`.
pub fn is_drawn(hash: &Digest, modulus: NonZeroU64) -> bool {
    let digest: Digest = Sha256::digest(hash).into();
    let modulus = u128::from(modulus.get());
    let fold = |rest: u128, byte: &u8| (rest << 8 | u128::from(*byte)) % modulus;
    digest.iter().rev().fold(0, fold) == 0
}

/// Finds an epoch's beacons as its slots come in.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    window: Window,
    modulus: NonZeroU64,
    last: Option<u64>,
    any: bool,
}

impl Watch {
    /// Watches one epoch. `modulus` is the parameter N.
    pub const fn new(window: Window, modulus: NonZeroU64) -> Self {
        Self { window, modulus, last: None, any: false }
    }

    /// Takes the next slot; slots must come in ascending order, others are not looked at.
    pub fn observe(&mut self, slot: &Slot) -> Option<Kind> {
        if slot.number <= self.last.unwrap_or(self.window.draw_slot).max(self.window.draw_slot) {
            return None;
        }
        self.last = Some(slot.number);
        if slot.time > self.window.latest() {
            return None;
        }
        let kind = if is_drawn(&slot.hash, self.modulus) {
            Kind::Drawn
        } else if !self.any && slot.time >= self.window.fallback_from() {
            Kind::Fallback
        } else {
            return None;
        };
        self.any = true;
        Some(kind)
    }
}

/// An epoch's beacons among its slots, ascending: what [`Watch`] finds.
pub fn of_epoch<'a>(
    slots: impl IntoIterator<Item = &'a Slot>,
    window: Window,
    modulus: NonZeroU64,
) -> impl Iterator<Item = (&'a Slot, Kind)> {
    let mut watch = Watch::new(window, modulus);
    slots.into_iter().filter_map(move |slot| watch.observe(slot).map(|kind| (slot, kind)))
}

/// The challenge of a beacon to one container: `sha256(slot hash, container's address)`.
pub fn challenge(slot_hash: &Digest, container: &[u8; 32]) -> Digest {
    Sha256::new().chain_update(slot_hash).chain_update(container).finalize().into()
}

/// The vote's token of the root that was signed at the epoch's last beacon: `1 + root[0] mod 255`; 0 when there is none.
pub fn token(root: Option<&Digest>) -> u8 {
    root.map_or(0, |root| 1 + root[0] % 255)
}

/// The epoch's capacity: the lower median `sorted[(m - 1) / 2]` over its beacons, an unanswered one counting as 0. `None`
/// when there was no beacon, which nobody may be blamed for.
pub fn capacity(answers: &[Option<u8>]) -> Option<u8> {
    let mut sorted: Vec<u8> = answers.iter().map(|answer| answer.unwrap_or(0).min(100)).collect();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window() -> Window {
        Window {
            draw_slot: 100,
            end: 3_600,
            length: 3_600,
            commit_lead: 300,
            answer: Duration::from_millis(17_500),
            finality: Duration::from_millis(12_800),
        }
    }

    /// One slot every 400 ms from 0 on, numbered from 0.
    fn slots(count: u64, salt: u8) -> Vec<Slot> {
        let hash = |number: u64| Sha256::new().chain_update([salt]).chain_update(number.to_le_bytes()).finalize().into();
        (0..count).map(|number| Slot { number, hash: hash(number), time: (number * 2 / 5) as i64 }).collect()
    }

    fn modulus(n: u64) -> NonZeroU64 {
        NonZeroU64::new(n).unwrap()
    }

    #[test]
    fn the_line_leaves_time_for_the_answer_and_finality() {
        assert_eq!(window().latest(), 3_600 - 300 - 31);
        assert_eq!(window().fallback_from(), 3_600 - 300 - 31 - 120);
        let short = Window { end: 60, length: 60, commit_lead: 10, ..window() };
        assert_eq!(short.latest() - short.fallback_from(), 6, "a tenth of a short epoch");
        let none = Window { answer: Duration::MAX, end: i64::MIN, ..window() };
        assert!(none.fallback_from() <= none.latest(), "saturates");
    }

    #[test]
    fn hashes_are_drawn_as_often_as_the_modulus_says() {
        let drawn = slots(20_000, 0).iter().filter(|slot| is_drawn(&slot.hash, modulus(50))).count();
        // 400 expected, standard deviation 19.8.
        assert!((300..500).contains(&drawn), "{drawn}");
        assert!(is_drawn(&[7; 32], modulus(1)));
        // The whole digest counts, as one little-endian number.
        let digest: Digest = Sha256::digest([7; 32]).into();
        assert_eq!(is_drawn(&[7; 32], modulus(2)), digest[0] & 1 == 0);
        assert_eq!(is_drawn(&[7; 32], modulus(255)), digest.iter().map(|b| u32::from(*b)).sum::<u32>() % 255 == 0);
    }

    #[test]
    fn an_epoch_without_a_beacon_gets_the_first_slot_of_its_last_minutes() {
        let slots = slots(9_000, 1);
        let found: Vec<_> = of_epoch(&slots, window(), modulus(u64::MAX)).collect();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.time, found[0].1), (window().fallback_from(), Kind::Fallback));
        // Slots that come late or out of order are not looked at.
        let mut watch = Watch::new(window(), modulus(1));
        assert_eq!(watch.observe(&slots[100]), None, "the draw slot itself");
        assert_eq!(watch.observe(&slots[101]), Some(Kind::Drawn));
        assert_eq!(watch.observe(&slots[101]), None);
        assert_eq!(watch.observe(&slots[8_999]), None, "too late");
    }

    #[test]
    fn capacities_are_lower_medians() {
        assert_eq!(capacity(&[]), None);
        assert_eq!(capacity(&[Some(90)]), Some(90));
        assert_eq!(capacity(&[Some(90), None]), Some(0), "of two the lower");
        assert_eq!(capacity(&[Some(90), None, Some(80)]), Some(80));
        assert_eq!(capacity(&[Some(255); 3]), Some(100));
    }

    #[test]
    fn tokens_are_never_zero_for_an_answer() {
        for byte in 0..=255 {
            assert!(token(Some(&[byte; 32])) != 0);
        }
        assert_eq!((token(None), token(Some(&[255; 32])), token(Some(&[254; 32]))), (0, 1, 255));
    }

    proptest! {
        #[test]
        fn beacons_are_within_the_window_and_there_is_always_one(salt: u8, n in 1u64..20_000) {
            let slots = slots(9_000, salt);
            let found: Vec<_> = of_epoch(&slots, window(), modulus(n)).collect();
            prop_assert!(!found.is_empty());
            for (slot, kind) in &found {
                prop_assert!(slot.number > 100 && slot.time <= window().latest());
                prop_assert_eq!(is_drawn(&slot.hash, modulus(n)), *kind == Kind::Drawn);
            }
            prop_assert!(found.iter().filter(|(_, kind)| *kind == Kind::Fallback).count() <= 1);
        }

        #[test]
        fn a_median_is_one_of_the_answers_and_half_are_no_lower(answers in proptest::collection::vec(proptest::option::of(0u8..=100), 1..9)) {
            let median = capacity(&answers).unwrap();
            let values: Vec<u8> = answers.iter().map(|answer| answer.unwrap_or(0)).collect();
            prop_assert!(values.contains(&median));
            prop_assert!(values.iter().filter(|value| **value >= median).count() * 2 >= values.len());
        }
    }
}
