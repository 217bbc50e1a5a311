//! Timing likeness: two registrations behind one card are found once enough beacons were shared, honest hosts are not.
//!
//! `DATAGALAX_LONG=1 cargo test -p datagalax-gpu --test likeness -- --nocapture` measures the rate of false findings
//! over many committees; docs/proof-of-capacity.md, section 8, has what it came to.

mod simulation;

use std::env;

use datagalax_gpu::uniqueness::{FEWEST_SHARED, Finding, MOST_COMPARED, Observation, findings};
use rand::{Rng, SeedableRng, rngs::StdRng};
use simulation::{Card, normal};

/// Containers of a block.
const HOSTS: usize = 256;
/// Beacons of the eight epochs that a checker keeps.
const BEACONS: u64 = 32;

/// How unsteady honest hosts are.
#[derive(Clone, Copy)]
struct Unsteady {
    /// Standard deviation of the load, as a part of the time.
    load: f64,
    /// How often something holds a host up, by up to two seconds.
    stalls: f64,
}

/// As in `tests/honest.rs`.
const USUAL: Unsteady = Unsteady { load: 0.03, stalls: 0.01 };
/// Cards that keep their time to half a percent, on hosts that stall often: what single coincidences look like most.
const STEADY: Unsteady = Unsteady { load: 0.005, stalls: 0.03 };

/// Who shares the card of host 0 with it, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sharing {
    Nobody,
    /// Host 1, one after the other, whoever comes first.
    InTurns,
    /// Host 1, at once, so that each slows the other down.
    AtOnce,
}

fn committee(unsteady: Unsteady, sharing: Sharing, beacons: u64, seed: u64) -> Vec<Observation> {
    let rng = &mut StdRng::seed_from_u64(seed);
    // Two classes in one block: every third host's challenge takes little more than half as long.
    let class = |id: usize| if id % 3 == 2 { 2.0 } else { 1.0 };
    let speeds: Vec<f64> = (0..HOSTS).map(|id| class(id) * rng.random_range(0.97..1.05)).collect();
    let mut hosts: Vec<Observation> = (0..HOSTS)
        .map(|id| {
            let mut container = [0; 32];
            container[..8].copy_from_slice(&(id as u64).to_be_bytes());
            Observation { container, fingerprint: container, ..Observation::default() }
        })
        .collect();
    for slot in 0..beacons {
        // When the checker itself sees the slot late, all look quick.
        let late = 0.15 * normal(rng) + if rng.random_bool(0.02) { rng.random_range(-1.5..1.5) } else { 0.0 };
        let computing = |speed: f64, rng: &mut StdRng| {
            let stall = if rng.random_bool(unsteady.stalls) { rng.random_range(0.0..2.0) } else { 0.0 };
            Card { speed, ..Card::REFERENCE }.seconds() * (1.0 + unsteady.load * normal(rng).abs()) + stall
        };
        let mut times: Vec<f64> = speeds.iter().map(|speed| computing(*speed, rng)).collect();
        // A card twice as fast as its class serves two and is in time for both.
        let (one, other) = (computing(2.0, rng), computing(2.0, rng));
        match sharing {
            Sharing::Nobody => {}
            Sharing::InTurns => {
                let first = usize::from(rng.random::<bool>());
                (times[first], times[1 - first]) = (one, one + other);
            }
            Sharing::AtOnce => (times[0], times[1]) = (one + other, one + other),
        }
        for (host, time) in hosts.iter_mut().zip(times) {
            let travel = 0.2 + 0.02 * normal(rng).abs();
            host.times_us.insert(slot, ((time + travel - late).max(0.0) * 1e6) as u64);
        }
    }
    hosts
}

/// Pairs that are found.
fn found(hosts: &[Observation]) -> Vec<[usize; 2]> {
    let id = |container: &[u8; 32]| container[7] as usize;
    let timing = findings(hosts).into_iter().filter_map(|finding| match finding {
        Finding::Timing { containers, .. } => Some(containers.each_ref().map(id)),
        _ => None,
    });
    timing.collect()
}

#[test]
fn two_registrations_behind_one_card_are_found_once_enough_beacons_were_shared() {
    const { assert!(HOSTS <= MOST_COMPARED) }
    for sharing in [Sharing::InTurns, Sharing::AtOnce] {
        for seed in 0..5 {
            let hosts = committee(USUAL, sharing, BEACONS, seed);
            assert_eq!(found(&hosts), [[0, 1]], "{sharing:?}, seed {seed}");
            let fewer = committee(USUAL, sharing, FEWEST_SHARED as u64 - 1, seed);
            assert_eq!(found(&fewer), [[0; 2]; 0], "{sharing:?}, seed {seed}: too few to say");
        }
    }
}

#[test]
fn at_most_one_honest_committee_in_a_thousand_has_a_pair_that_is_found() {
    let committees = if env::var_os("DATAGALAX_LONG").is_some() { 1_000 } else { 8 };
    for (name, unsteady) in [("usual", USUAL), ("steady with stalls", STEADY)] {
        for beacons in [FEWEST_SHARED as u64, BEACONS] {
            let wrong = (0..committees)
                .filter(|seed| !found(&committee(unsteady, Sharing::Nobody, beacons, 1_000 + seed)).is_empty())
                .count();
            println!("{name}, {beacons} beacons: {wrong} of {committees} committees of {HOSTS} honest hosts have a pair");
            assert!(wrong * 1_000 <= committees as usize, "{name}, {beacons} beacons: {wrong} of {committees}");
        }
    }
}
