//! Hosts that look like one another: the same card UUIDs, fingerprints or endpoints, or answers that share their timing.
//!
//! None of it is a verdict. UUIDs and fingerprints are a host's own word, and anybody can claim another's; an endpoint may
//! be a relay's; timing may be shared for an innocent reason. What decides is that everybody is challenged at the same
//! instant: one card behind two registrations answers one. Each finding carries what it was found in, so that it can be
//! shown and looked into.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display, Formatter},
};

use datagalax_protocol::{Digest, GpuMetrics};
use sha2::{Digest as _, Sha256};

/// A container's address.
pub type Container = [u8; 32];

/// Fewest beacons that two containers must have answered both for their timing to be compared.
pub const FEWEST_SHARED: usize = 20;
/// Correlation of timing from which it is a finding, in either direction: two hosts behind one card slow each other down, or
/// take turns. In 16 beacons it came to this by chance for 6 pairs in 10^8, 2 committees in 1,000 (`tests/likeness.rs`), which is
/// why [`FEWEST_SHARED`] is more: each further beacon makes it some three times as rare.
pub const STRONG: f64 = 0.95;
/// Without the beacons that speak most for it, [`LOUDEST`] of them, the correlation must still be this: two steady hosts that were
/// both held up once or twice at the same beacon, by chance, share nothing.
pub const STEADY: f64 = 0.9;
/// See [`STEADY`].
pub const LOUDEST: usize = 2;
/// Least relative spread of times that can be compared, in parts of the median: below it they are all the same time, and
/// what is left is the clock.
const LEAST_SPREAD: f64 = 0.01;
/// Most containers whose timing is compared pair by pair in one call; a checker has 256 a block.
pub const MOST_COMPARED: usize = 1_024;

/// What a checker knows of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// The container.
    pub container: Container,
    /// The fingerprint it is registered with.
    pub fingerprint: Digest,
    /// The UUIDs of its signed metrics.
    pub uuids: Vec<String>,
    /// Host and port of its endpoint, without scheme and path.
    pub endpoint: String,
    /// Microseconds from a beacon's slot to the root, by slot; only answered ones.
    pub times_us: BTreeMap<u64, u64>,
}

impl Observation {
    /// Takes the UUIDs from signed metrics.
    pub fn with_cards(self, gpus: &[GpuMetrics]) -> Self {
        Self { uuids: gpus.iter().map(|gpu| gpu.uuid.clone()).collect(), ..self }
    }

    /// What nobody else should have: its cards (one that it reported twice is in here twice), its fingerprint and, if it has one,
    /// its endpoint.
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        let uuids = self.uuids.iter().cloned().map(Mark::Uuid);
        let endpoint = self.endpoint.to_ascii_lowercase();
        uuids.chain([Mark::Fingerprint(self.fingerprint)]).chain((!endpoint.is_empty()).then_some(Mark::Endpoint(endpoint)))
    }
}

/// Something that one container has and no other should have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// UUID of a card.
    Uuid(String),
    /// The fingerprint of a registration.
    Fingerprint(Digest),
    /// Host and port at which a container answers, in lower case.
    Endpoint(String),
}

impl Mark {
    /// SHA-256 of it, another for each kind: what an index finds it by, however long a stranger made it.
    pub fn digest(&self) -> Digest {
        let (kind, bytes): (u8, &[u8]) = match self {
            Self::Uuid(uuid) => (0, uuid.as_bytes()),
            Self::Fingerprint(fingerprint) => (1, fingerprint),
            Self::Endpoint(endpoint) => (2, endpoint.as_bytes()),
        };
        Sha256::new_with_prefix([kind]).chain_update(bytes).finalize().into()
    }
}

/// As in "also seen", with what a stranger wrote escaped.
impl Display for Mark {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => write!(f, "card {}", uuid.escape_debug()),
            Self::Fingerprint(fingerprint) => {
                f.write_str("fingerprint ")?;
                fingerprint.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Endpoint(endpoint) => write!(f, "endpoint {}", endpoint.escape_debug()),
        }
    }
}

/// Something that containers have in common and should not.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// A mark of several containers, or a card twice in one.
    Shared {
        /// The mark.
        mark: Mark,
        /// Who has it, ascending; a container that reported a card twice is in here twice.
        containers: Vec<Container>,
    },
    /// Two containers whose answers are slow and fast together, or by turns.
    Timing {
        /// The two, ascending.
        containers: [Container; 2],
        /// Pearson's correlation of their deviations, -1 to 1.
        correlation: f64,
        /// The evidence: slot, and both times in microseconds, of every beacon that both answered.
        times_us: Vec<(u64, u64, u64)>,
    },
}

/// All findings among these containers, in a fixed order. Timing is compared among the first [`MOST_COMPARED`].
pub fn findings(observations: &[Observation]) -> Vec<Finding> {
    let mut found = shared_marks(observations);
    found.extend(shared_timing(&observations[..observations.len().min(MOST_COMPARED)]));
    found
}

fn shared_marks(observations: &[Observation]) -> Vec<Finding> {
    let mut by_mark: BTreeMap<Mark, Vec<Container>> = BTreeMap::new();
    for observation in observations {
        for mark in observation.marks() {
            by_mark.entry(mark).or_default().push(observation.container);
        }
    }
    let shared = by_mark.into_iter().filter(|(_, containers)| containers.len() > 1);
    shared
        .map(|(mark, mut containers)| {
            containers.sort_unstable();
            Finding::Shared { mark, containers }
        })
        .collect()
}

/// A beacon's place among all, and the deviations of two containers there.
type Pair = (usize, f64, f64);

fn shared_timing(observations: &[Observation]) -> Vec<Finding> {
    let (slots, deviations) = deviations(observations);
    let mut found = Vec::new();
    let mut both: Vec<Pair> = Vec::with_capacity(slots.len());
    for (i, (a, a_times)) in observations.iter().zip(&deviations).enumerate() {
        for (b, b_times) in observations.iter().zip(&deviations).skip(i + 1) {
            both.clear();
            let pairs = a_times.iter().zip(b_times).enumerate();
            both.extend(pairs.filter_map(|(slot, (a, b))| Some((slot, (*a)?, (*b)?))));
            if both.len() < FEWEST_SHARED {
                continue;
            }
            let varies = spread(&both, |pair| pair.1).min(spread(&both, |pair| pair.2)) >= LEAST_SPREAD;
            let correlation = correlation(&both);
            // What is not a number is not strong.
            let strong = correlation.abs() >= STRONG;
            if !varies || !strong {
                continue;
            }
            let times = both.iter().map(|(slot, ..)| slots[*slot]);
            let (a, b) = if a.container <= b.container { (a, b) } else { (b, a) };
            let times_us = times.map(|slot| (slot, a.times_us[&slot], b.times_us[&slot])).collect();
            if is_steady(&mut both, correlation) {
                found.push(Finding::Timing { containers: [a.container, b.container], correlation, times_us });
            }
        }
    }
    found
}

/// Whether a correlation holds without the beacons that speak most for it.
fn is_steady(pairs: &mut Vec<Pair>, found: f64) -> bool {
    let (mean_a, mean_b) = (mean(pairs, |p| p.1), mean(pairs, |p| p.2));
    let loudness = |pair: &Pair| (pair.1 - mean_a) * (pair.2 - mean_b) * found.signum();
    pairs.sort_by(|x, y| loudness(x).total_cmp(&loudness(y)));
    pairs.truncate(pairs.len().saturating_sub(LOUDEST));
    correlation(pairs) * found.signum() >= STEADY
}

/// Deviations of one container, by beacon; `None` where it has none.
type Deviations = Vec<Option<f64>>;

/// All beacons, ascending, and how much slower each container was at each than it usually is, less what all containers had in
/// common there, as a part of its usual time.
///
/// When the checker itself saw the slot late, everybody looks quick by the same time, whatever its class takes.
fn deviations(observations: &[Observation]) -> (Vec<u64>, Vec<Deviations>) {
    let slots: BTreeSet<u64> = observations.iter().flat_map(|o| o.times_us.keys().copied()).collect();
    let slots: Vec<u64> = slots.into_iter().collect();
    let usual: Vec<f64> = observations
        .iter()
        .map(|o| median(o.times_us.values().map(|time| *time as f64).collect()).unwrap_or(1.0).max(1.0))
        .collect();
    let mut deviations: Vec<Deviations> = observations
        .iter()
        .zip(&usual)
        .map(|(o, usual)| slots.iter().map(|slot| o.times_us.get(slot).map(|time| *time as f64 - usual)).collect())
        .collect();
    for slot in 0..slots.len() {
        let all: Vec<f64> = deviations.iter().filter_map(|times| times[slot]).collect();
        // With fewer the common part cannot be told from the two themselves.
        let common = if all.len() >= 8 { median(all).unwrap_or(0.0) } else { 0.0 };
        for (times, usual) in deviations.iter_mut().zip(&usual) {
            times[slot] = times[slot].map(|time| (time - common) / usual);
        }
    }
    (slots, deviations)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

fn mean(pairs: &[Pair], side: impl Fn(&Pair) -> f64) -> f64 {
    pairs.iter().map(side).sum::<f64>() / pairs.len().max(1) as f64
}

/// Standard deviation of one side.
fn spread(pairs: &[Pair], side: impl Fn(&Pair) -> f64) -> f64 {
    let middle = mean(pairs, &side);
    mean(pairs, |pair| (side(pair) - middle).powi(2)).sqrt()
}

/// Pearson's correlation; not a number when one side does not vary.
fn correlation(pairs: &[Pair]) -> f64 {
    let (mean_a, mean_b) = (mean(pairs, |p| p.1), mean(pairs, |p| p.2));
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (_, a, b) in pairs {
        let (a, b) = (a - mean_a, b - mean_b);
        (aa, bb, ab) = (aa + a * a, bb + b * b, ab + a * b);
    }
    ab / (aa * bb).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn observation(id: u8) -> Observation {
        Observation { container: [id; 32], fingerprint: [id; 32], endpoint: format!("host{id}:7070"), ..Default::default() }
    }

    #[test]
    fn what_is_shared_is_found_with_everybody_who_shares_it() {
        let mut all: Vec<_> = (0..6).map(observation).collect();
        assert!(findings(&all).is_empty());
        all[1].uuids = vec!["GPU-a".into(), "GPU-b".into()];
        all[4].uuids = vec!["GPU-b".into(), "GPU-c".into(), "GPU-c".into()];
        all[2].fingerprint = all[5].fingerprint;
        all[3].endpoint = "HOST0:7070".into();
        let expected = [
            (Mark::Uuid("GPU-b".into()), vec![[1; 32], [4; 32]]),
            (Mark::Uuid("GPU-c".into()), vec![[4; 32], [4; 32]]),
            (Mark::Fingerprint([5; 32]), vec![[2; 32], [5; 32]]),
            (Mark::Endpoint("host0:7070".into()), vec![[0; 32], [3; 32]]),
        ]
        .map(|(mark, containers)| Finding::Shared { mark, containers });
        assert_eq!(findings(&all), expected);
    }

    #[test]
    fn marks_of_another_kind_or_spelling_are_other_marks() {
        let text = String::from_utf8(vec![b'a'; 32]).unwrap();
        let digests =
            [Mark::Uuid(text.clone()), Mark::Fingerprint([b'a'; 32]), Mark::Endpoint(text)].map(|mark| mark.digest());
        assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
        assert_eq!(Mark::Uuid("GPU-\n".into()).to_string(), "card GPU-\\n", "what a stranger wrote is escaped");
    }

    #[test]
    fn hosts_that_take_turns_on_one_card_are_found() {
        // One of the two gets the card first and needs 8 s, the other waits for it and needs 16; who is first changes.
        let mut all: Vec<_> = (0..12).map(observation).collect();
        for slot in 0..24u64 {
            let first = slot * 7 % 5 % 2;
            for (i, observation) in all.iter_mut().enumerate() {
                let noise = (slot * 31 + i as u64 * 17) % 97 * 1_000;
                let time = match i {
                    2 => 8_000_000 * (1 + first),
                    9 => 8_000_000 * (2 - first),
                    _ => 8_000_000,
                };
                observation.times_us.insert(slot, time + noise);
            }
        }
        let found = findings(&all);
        let [Finding::Timing { containers, correlation, times_us }] = &found[..] else { panic!("{found:?}") };
        assert_eq!(*containers, [[2; 32], [9; 32]]);
        assert!(*correlation < -STRONG);
        assert_eq!(times_us.len(), 24);
        assert_eq!(times_us[0], (0, all[2].times_us[&0], all[9].times_us[&0]));
        // Too few beacons to say.
        for observation in &mut all {
            observation.times_us.retain(|slot, _| *slot < FEWEST_SHARED as u64 - 1);
        }
        assert!(findings(&all).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn honest_hosts_share_no_timing_even_when_the_checker_is_late(
            noise in proptest::collection::vec(proptest::collection::vec(0u64..900_000, 24), 12),
            late in proptest::collection::vec(0u64..2_000_000, 24),
        ) {
            let all: Vec<_> = noise.iter().enumerate().map(|(i, noise)| {
                let mut observation = observation(i as u8);
                observation.times_us =
                    (0..24).map(|slot| (slot as u64, 8_000_000 + noise[slot] - late[slot])).collect();
                observation
            }).collect();
            prop_assert_eq!(findings(&all), vec![]);
        }
    }
}
