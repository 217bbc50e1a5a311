//! Honest hosts over unsteady lines: how often one is judged wrongly.

mod simulation;

use std::time::Duration;

use datagalax_gpu::{
    beacon,
    capacity::Spread,
    location::{self, Location, Position},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use simulation::{Card, SEATS, THRESHOLD, committee, judge_by, normal, prove};

const ROUNDS: usize = 10_000;
/// An honest answer holds however much of it is opened; the time is what is at stake here.
const SPREAD: Spread = Spread { rows: 3, walks: 1 };

/// A host as it is out there: up to 3 percent slower or 5 faster than its class, somewhere on Earth.
struct Host {
    card: Card,
    place: Position,
    /// How many times as long as the great circle its line is.
    detour: f64,
}

impl Host {
    fn any(rng: &mut StdRng) -> Self {
        Self {
            card: Card { speed: rng.random_range(0.97..1.05), ..Card::REFERENCE },
            place: place(rng),
            detour: rng.random_range(1.1..2.5),
        }
    }

    /// Seconds for one challenge under load: a few percent of the processor goes elsewhere, clocks sink with heat, and once in
    /// a hundred times something holds everything up for up to two seconds.
    fn seconds(&self, rng: &mut StdRng) -> f64 {
        let load = 1.0 + 0.03 * normal(rng).abs();
        let stall = if rng.random_bool(0.01) { rng.random_range(0.0..2.0) } else { 0.0 };
        self.card.seconds() * load + stall
    }

    fn round_trip(&self, checker: &Position, rng: &mut StdRng) -> f64 {
        let light = 2.0 * self.place.distance_km(checker) * self.detour / 199_861.6;
        light + 0.002 + 0.02 * normal(rng).abs()
    }
}

fn place(rng: &mut StdRng) -> Position {
    Position::new(rng.random_range(-6_000..=7_000), rng.random_range(-18_000..=18_000)).unwrap()
}

/// How much later than the checker a host sees a slot, in seconds: both hear of it through their own nodes. Once in fifty
/// times one of the two nodes lags.
fn skew(rng: &mut StdRng) -> f64 {
    let lag = if rng.random_bool(0.02) { rng.random_range(-1.5..1.5) } else { 0.0 };
    0.15 * normal(rng) + lag
}

#[test]
fn fewer_than_one_honest_round_in_a_thousand_is_judged_wrongly() {
    let mut rng = StdRng::seed_from_u64(11);
    let (mut below, mut dishonest, mut outside, mut full) = (0, 0, 0, 0);
    let mut worst = 100;
    for _ in 0..ROUNDS {
        let host = Host::any(&mut rng);
        let challenge = beacon::challenge(&rng.random(), &rng.random());
        let proof = prove(&challenge);
        let computed = host.seconds(&mut rng);
        let judgements: Vec<_> = (0..SEATS)
            .map(|_| {
                let checker = place(&mut rng);
                let trips: Vec<_> = (0..8).map(|_| Duration::from_secs_f64(host.round_trip(&checker, &mut rng))).collect();
                let location = location::locate(&host.place, &checker, &trips);
                outside += usize::from(matches!(location, Location::Outside { .. }));
                // Once in a thousand times a segment of the answer is lost and sent again.
                let lost = if rng.random_bool(0.001) { 1.0 } else { 0.0 };
                let travel = host.round_trip(&checker, &mut rng) / 2.0 + lost;
                let elapsed = (computed + skew(&mut rng) + travel).max(0.0);
                judge_by(&SPREAD, &challenge, &proof, elapsed, location, &mut rng)
            })
            .collect();
        let (capacity, lies) = committee(&judgements);
        below += usize::from(capacity < THRESHOLD);
        dishonest += lies;
        full += usize::from(capacity >= 95);
        worst = worst.min(capacity);
    }
    println!(
        "{ROUNDS} honest rounds by {SEATS} checkers: {below} below {THRESHOLD} percent, {dishonest} dishonest, {outside} outside; \
         {full} at 95 percent or more, the worst at {worst}"
    );
    assert!(below * 1_000 < ROUNDS, "{below} of {ROUNDS} would not have been paid");
    assert_eq!((dishonest, outside), (0, 0));
    assert!(full * 100 > ROUNDS * 95, "{full} of {ROUNDS} at 95 percent or more");
}
