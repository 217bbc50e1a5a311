//! Where a host can be, by the time that light takes.
//!
//! A signed answer to a fresh nonce cannot arrive before light has gone to the host and back. Light in fibre travels at about
//! two thirds of its speed in vacuum (a refractive index of 1.468 makes 0.68; fibre never lies along the great circle, which
//! makes up for more than that). So a host whose fastest answer took a round trip `t` is within
//!
//! `reach = t / 2 x (2/3 c) x 1.05 + 60 km`
//!
//! of the checker, along the great circle. The factor covers the index and the Earth's flattening (a sphere is off by at
//! most 0.6 percent), the constant the rounding of positions to 1/100 degree and hosts that are in a city rather than at its
//! centre. A claim further away than the reach is **outside**.
//!
//! This refutes a host that claims to be far and is near. One that claims to be near and is far is not refuted: a slow
//! answer may have many causes, and an honest host behind a slow line must not lose its pay. What gives such a host away is
//! a checker close to where it really is. Delaying answers helps only against that one: it can never make a reach smaller.
//! A host that reports an answer from a machine at the claimed place, and computes elsewhere, is where its answers are from.
//!
//! Floating point is fine here: nothing of it goes on chain but "capacity 0", and the margins are nine orders of magnitude
//! above its errors. Checkers' positions are their own word, so that being outside never means dishonest.

use std::time::Duration;

use thiserror::Error;

/// Mean radius of the Earth in km (IUGG).
const EARTH_RADIUS_KM: f64 = 6_371.008_8;
/// Two thirds of the speed of light in vacuum (299,792.458 km/s), in km/s.
const FIBRE_KM_PER_S: f64 = 299_792.458 * 2.0 / 3.0;
/// What the speed and the sphere may be off.
const SPEED_MARGIN: f64 = 1.05;
/// What positions may be off, in km.
const POSITION_MARGIN_KM: f64 = 60.0;
/// Fewest round trips to judge by: the fastest of a few says little about the line.
pub const FEWEST: usize = 8;

/// A place on Earth in 1/100 degree, as on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    latitude: i16,
    longitude: i16,
}

/// Numbers that are no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{latitude}, {longitude} (in 1/100 degree) is not a place on Earth")]
pub struct NoSuchPlace {
    /// As given.
    pub latitude: i16,
    /// As given.
    pub longitude: i16,
}

impl Position {
    /// A place; latitude -9,000 (south) to 9,000, longitude -18,000 (west) to 18,000.
    ///
    /// # Errors
    /// Out of those ranges.
    pub const fn new(latitude: i16, longitude: i16) -> Result<Self, NoSuchPlace> {
        if latitude.unsigned_abs() > 9_000 || longitude.unsigned_abs() > 18_000 {
            return Err(NoSuchPlace { latitude, longitude });
        }
        Ok(Self { latitude, longitude })
    }

    /// Along the great circle in km, by the haversine formula; 0 to 20,016.
    pub fn distance_km(&self, other: &Self) -> f64 {
        let radians = |hundredths: i16| (f64::from(hundredths) / 100.0).to_radians();
        let (lat1, lat2) = (radians(self.latitude), radians(other.latitude));
        let (dlat, dlon) = (lat2 - lat1, radians(other.longitude) - radians(self.longitude));
        let h = (dlat / 2.0).sin().powi(2) + lat1.cos() * lat2.cos() * (dlon / 2.0).sin().powi(2);
        2.0 * EARTH_RADIUS_KM * h.clamp(0.0, 1.0).sqrt().asin()
    }
}

/// How far away a host can be that answered within this round trip, in km.
pub fn reach_km(round_trip: Duration) -> f64 {
    round_trip.as_secs_f64() / 2.0 * FIBRE_KM_PER_S * SPEED_MARGIN + POSITION_MARGIN_KM
}

/// The shortest round trip over this distance that the bound allows: the inverse of [`reach_km`].
pub fn shortest_round_trip(distance_km: f64) -> Duration {
    let seconds = (distance_km - POSITION_MARGIN_KM).max(0.0) * 2.0 / (FIBRE_KM_PER_S * SPEED_MARGIN);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// What the round trips of one checker say about a claim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Location {
    /// Too few answers to say.
    Unknown,
    /// The host can be where it claims to be.
    Possible,
    /// It cannot: its capacity is 0, and that is all.
    Outside {
        /// From the checker to the claimed place, in km.
        distance_km: f64,
        /// How far away the host can be, in km.
        reach_km: f64,
    },
}

/// Judges a claim by the round trips that a checker at `checker` measured: signed answers to fresh nonces, from the first
/// byte sent to the last byte received.
pub fn locate(claimed: &Position, checker: &Position, round_trips: &[Duration]) -> Location {
    let Some(fastest) = round_trips.iter().min().filter(|_| round_trips.len() >= FEWEST) else {
        return Location::Unknown;
    };
    let (distance_km, reach_km) = (claimed.distance_km(checker), reach_km(*fastest));
    if distance_km > reach_km { Location::Outside { distance_km, reach_km } } else { Location::Possible }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(latitude: i16, longitude: i16) -> Position {
        Position::new(latitude, longitude).unwrap()
    }

    fn millis(n: u64) -> Vec<Duration> {
        // The fastest of many, wherever it stands among them.
        (0..12).map(|i| Duration::from_millis(n + (i * 7 + 5) % 12)).collect()
    }

    #[test]
    fn known_distances() {
        let (frankfurt, tokyo, new_york) = (at(5_011, 868), at(3_568, 13_969), at(4_071, -7_401));
        assert!((frankfurt.distance_km(&tokyo) - 9_330.0).abs() < 60.0, "{}", frankfurt.distance_km(&tokyo));
        assert!((frankfurt.distance_km(&new_york) - 6_200.0).abs() < 40.0, "{}", frankfurt.distance_km(&new_york));
        assert_eq!(frankfurt.distance_km(&frankfurt), 0.0);
        assert!((at(9_000, 0).distance_km(&at(-9_000, 0)) - 20_015.1).abs() < 0.1);
        assert!((at(0, -18_000).distance_km(&at(0, 18_000))).abs() < 1e-6, "one meridian, two names");
        assert!(
            Position::new(9_001, 0).is_err() && Position::new(0, -18_001).is_err() && Position::new(0, i16::MIN).is_err()
        );
    }

    #[test]
    fn a_host_next_door_is_not_in_tokyo() {
        let (frankfurt, tokyo) = (at(5_011, 868), at(3_568, 13_969));
        assert!(matches!(locate(&tokyo, &frankfurt, &millis(2)), Location::Outside { .. }));
        assert_eq!(locate(&tokyo, &frankfurt, &millis(230)), Location::Possible);
        assert_eq!(locate(&frankfurt, &frankfurt, &millis(2)), Location::Possible);
        assert_eq!(locate(&tokyo, &frankfurt, &millis(2)[..7]), Location::Unknown);
        assert_eq!(locate(&tokyo, &frankfurt, &[]), Location::Unknown);
    }

    prop_compose! {
        fn place()(latitude in -9_000i16..=9_000, longitude in -18_000i16..=18_000) -> Position { at(latitude, longitude) }
    }

    proptest! {
        #[test]
        fn distance_is_a_metric(a in place(), b in place(), c in place()) {
            let (ab, bc, ac) = (a.distance_km(&b), b.distance_km(&c), a.distance_km(&c));
            prop_assert!((0.0..=20_016.0).contains(&ab));
            prop_assert!((ab - b.distance_km(&a)).abs() < 1e-6);
            prop_assert!(ac <= ab + bc + 1e-3);
        }

        // Whatever detours and delays: an answer that went to the claimed place at the speed of light in fibre is never
        // outside.
        #[test]
        fn an_honest_host_is_never_outside(a in place(), b in place(), detour in 1.0f64..4.0, wait in 0u64..500, jitter in 0u64..100) {
            let seconds = 2.0 * a.distance_km(&b) * detour / (FIBRE_KM_PER_S * 1.03);
            let trip = Duration::from_secs_f64(seconds) + Duration::from_millis(wait);
            let trips: Vec<_> = (0..FEWEST as u64).map(|i| trip + Duration::from_millis(i * jitter)).collect();
            prop_assert_eq!(locate(&a, &b, &trips), Location::Possible);
        }

        // A host at `real` that claims `claimed` is outside as soon as its answers are faster than light could fetch them.
        #[test]
        fn an_answer_faster_than_light_refutes_the_claim(claimed in place(), real in place(), checker in place()) {
            let trip = Duration::from_secs_f64(2.0 * real.distance_km(&checker) / FIBRE_KM_PER_S);
            let found = locate(&claimed, &checker, &[trip; FEWEST]);
            let far = claimed.distance_km(&checker) > real.distance_km(&checker) * SPEED_MARGIN + POSITION_MARGIN_KM + 1e-3;
            prop_assert!(!far || matches!(found, Location::Outside { .. }), "{:?}", found);
        }

        #[test]
        fn delaying_never_shrinks_the_reach(a: u32, b: u32) {
            let (a, b) = (Duration::from_micros(a.into()), Duration::from_micros(b.into()));
            prop_assert!(reach_km(a + b) >= reach_km(a));
            let back = shortest_round_trip(reach_km(a));
            prop_assert!(back.abs_diff(a) < Duration::from_micros(1));
        }
    }
}
