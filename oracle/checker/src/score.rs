//! From what was measured to the vote (protocol sections 5 and 12). Pure; judges only what was measured.

use borsh::{BorshDeserialize, BorshSerialize};
use datagalax_gpu::{beacon, location::Location};
use datagalax_protocol::{
    Digest, RowVote,
    evidence::{BeaconEvidence, Exchange, Outcome},
};

/// What one beacon came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum BeaconScore {
    /// A signed root came in time.
    Answered {
        /// Percent of the class's reference; `None` when this side could not take the time (it saw the slot too late, or it could
        /// not verify).
        capacity: Option<u8>,
        /// The token of the root.
        token: u8,
        /// Whether a lie was proved.
        dishonest: bool,
    },
    /// No signed root in time.
    Unanswered,
    /// Not asked, or not listened to long enough, for a reason on this side.
    NotAsked,
}

/// What one beacon came to for one container, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeaconResult {
    /// The slot's hash.
    pub hash: Digest,
    /// The score.
    pub score: BeaconScore,
    /// Microseconds from the slot's first sight to the signed root, if both were seen.
    pub elapsed_us: Option<u64>,
    /// When the root was there, unix milliseconds by this machine's clock.
    pub root_at_ms: Option<i64>,
}

impl BeaconResult {
    /// From the exchanges, of which the first is the one that the root was asked for in.
    pub fn of(score: BeaconScore, evidence: &BeaconEvidence) -> Self {
        let root = evidence.exchanges.first().filter(|root| matches!(root.outcome, Outcome::Answered(_)));
        let root_at_ms = root.map(Exchange::ended_at_ms);
        Self { hash: evidence.slot_hash, score, elapsed_us: evidence.elapsed_us, root_at_ms }
    }
}

/// What was measured of one row in one epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Liveness probes sent.
    pub asked: u32,
    /// Of those, answered validly and in time.
    pub answered: u32,
    /// The epoch's beacons that are final, by slot.
    pub beacons: Vec<BeaconScore>,
    /// What the round trips say.
    pub location: Location,
}

/// The vote on an occupied row; `None`, no vote, when this side did not measure it.
///
/// - Availability: the percentage of probes answered, rounded down.
/// - Capacity: the lower median over the beacons, an unanswered one counting 0; 0 for a host outside the place it claims.
/// - Token: that of the last beacon, 0 when it was not answered. Whoever did not ask at the last beacon has no vote.
/// - Dishonest: a lie was proved at any beacon. Whatever else went wrong is a failure.
pub fn vote(measured: &Measured) -> Option<RowVote> {
    let Measured { asked, answered, beacons, location } = measured;
    if *asked == 0 {
        return None;
    }
    let availability = u64::from(*answered.min(asked)) * 100 / u64::from(*asked);
    let token = match beacons.last()? {
        BeaconScore::Answered { token, .. } => *token,
        BeaconScore::Unanswered => 0,
        BeaconScore::NotAsked => return None,
    };
    let capacities: Vec<Option<u8>> = beacons
        .iter()
        .filter_map(|score| match score {
            BeaconScore::Answered { capacity, .. } => capacity.map(Some),
            BeaconScore::Unanswered => Some(None),
            BeaconScore::NotAsked => None,
        })
        .collect();
    let measured = beacon::capacity(&capacities)?;
    let capacity = if matches!(location, Location::Outside { .. }) { 0 } else { measured };
    let dishonest = beacons.iter().any(|score| matches!(score, BeaconScore::Answered { dishonest: true, .. }));
    Some(RowVote { availability: availability as u8, capacity, token, dishonest })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BeaconScore::*, *};

    const fn full(capacity: u8, token: u8) -> BeaconScore {
        Answered { capacity: Some(capacity), token, dishonest: false }
    }

    fn measured(asked: u32, answered: u32, beacons: &[BeaconScore]) -> Measured {
        Measured { asked, answered, beacons: beacons.to_vec(), location: Location::Unknown }
    }

    fn of(asked: u32, answered: u32, beacons: &[BeaconScore]) -> Option<(u8, u8, u8, bool)> {
        vote(&measured(asked, answered, beacons)).map(|v| (v.availability, v.capacity, v.token, v.dishonest))
    }

    #[test]
    fn votes_say_what_was_measured() {
        assert_eq!(of(8, 8, &[full(100, 7)]), Some((100, 100, 7, false)));
        assert_eq!(of(8, 7, &[full(90, 7), full(55, 8), full(80, 9)]), Some((87, 80, 9, false)), "the last one's token");
        assert_eq!(of(8, 0, &[Unanswered]), Some((0, 0, 0, false)), "silence is a vote of zero, no verdict");
        assert_eq!(of(8, 8, &[full(90, 7), Unanswered]), Some((100, 0, 0, false)), "of two the lower");
        assert_eq!(of(8, 8, &[full(90, 7), Unanswered, full(90, 9)]), Some((100, 90, 9, false)));
        let lie = Answered { capacity: Some(0), token: 5, dishonest: true };
        assert_eq!(of(8, 8, &[lie, full(100, 7), full(100, 8)]), Some((100, 100, 8, true)), "a lie at any beacon");
    }

    #[test]
    fn what_was_not_measured_is_no_vote() {
        assert_eq!(of(0, 0, &[full(100, 1)]), None);
        assert_eq!(of(8, 8, &[]), None, "no beacon: nobody may be blamed for that");
        assert_eq!(of(8, 8, &[full(100, 1), NotAsked]), None, "without the last beacon there is no token");
        assert_eq!(of(8, 8, &[NotAsked, full(70, 3)]), Some((100, 70, 3, false)), "an earlier one missed here costs nobody");
        let late = Answered { capacity: None, token: 9, dishonest: false };
        assert_eq!(of(8, 8, &[full(70, 3), late]), Some((100, 70, 9, false)), "its token counts, its time does not");
        assert_eq!(of(8, 8, &[late]), None);
    }

    #[test]
    fn outside_its_place_a_host_has_no_capacity_and_is_no_liar() {
        let location = Location::Outside { distance_km: 9_000.0, reach_km: 300.0 };
        let vote = vote(&Measured { location, ..measured(8, 8, &[full(100, 7)]) }).unwrap();
        assert_eq!((vote.availability, vote.capacity, vote.token, vote.dishonest), (100, 0, 7, false));
    }

    prop_compose! {
        fn score()(kind in 0u8..4, capacity: u8, token: u8, dishonest: bool) -> BeaconScore {
            match kind {
                0 => Unanswered,
                1 => NotAsked,
                2 => Answered { capacity: None, token, dishonest },
                _ => Answered { capacity: Some(capacity), token, dishonest },
            }
        }
    }

    proptest! {
        #[test]
        fn votes_are_always_percentages(asked: u32, answered: u32, beacons in proptest::collection::vec(score(), 0..9)) {
            if let Some(vote) = vote(&measured(asked, answered, &beacons)) {
                prop_assert!(vote.availability <= 100 && vote.capacity <= 100);
                let lied = |score: &BeaconScore| matches!(score, Answered { dishonest: true, .. });
                prop_assert_eq!(vote.dishonest, beacons.iter().any(lied));
            }
        }
    }
}
