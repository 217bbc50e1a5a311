//! From what was measured to the vote (protocol sections 5 and 12). Pure; judges only what was measured.

use datagalax_protocol::RowVote;

/// What the capacity challenge showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// Rows opened and recomputed: percent of the reference.
    Proved(u8),
    /// No answer in time, or one that proves nothing.
    Failed,
    /// A row under the signed root is not the product's.
    Lied,
    /// Not challenged, for a reason on this side.
    NotAsked,
}

/// What was measured of one row in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Liveness probes sent.
    pub asked: u32,
    /// Of those, answered validly and in time.
    pub answered: u32,
    /// The challenge.
    pub capacity: Capacity,
}

/// The vote on an occupied row; `None`, no vote, when this side did not measure it.
///
/// Availability is the percentage of probes answered, rounded down. Token 0: there are no beacons yet to take it from.
/// Only a row opened wrongly under a signed root is a dishonest verdict; whatever else went wrong is a failure.
pub fn vote(measured: &Measured) -> Option<RowVote> {
    let Measured { asked, answered, capacity } = *measured;
    if asked == 0 {
        return None;
    }
    let availability = u64::from(answered.min(asked)) * 100 / u64::from(asked);
    let (capacity, dishonest) = match capacity {
        Capacity::Proved(percent) => (percent.min(100), false),
        Capacity::Failed => (0, false),
        Capacity::Lied => (0, true),
        Capacity::NotAsked => return None,
    };
    Some(RowVote { availability: availability as u8, capacity, token: 0, dishonest })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(asked: u32, answered: u32, capacity: Capacity) -> Option<(u8, u8, bool)> {
        vote(&Measured { asked, answered, capacity }).map(|vote| (vote.availability, vote.capacity, vote.dishonest))
    }

    #[test]
    fn votes_say_what_was_measured() {
        assert_eq!(of(8, 8, Capacity::Proved(100)), Some((100, 100, false)));
        assert_eq!(of(8, 7, Capacity::Proved(55)), Some((87, 55, false)), "rounded down");
        assert_eq!(of(8, 0, Capacity::Failed), Some((0, 0, false)), "silence is a vote of zero, no verdict");
        assert_eq!(of(8, 8, Capacity::Lied), Some((100, 0, true)), "a signed lie is");
    }

    #[test]
    fn what_was_not_measured_is_no_vote() {
        assert_eq!(of(0, 0, Capacity::Proved(100)), None);
        assert_eq!(of(8, 8, Capacity::NotAsked), None);
    }

    proptest! {
        #[test]
        fn votes_are_always_percentages(asked: u32, answered: u32, percent: u8) {
            if let Some((availability, capacity, _)) = of(asked, answered, Capacity::Proved(percent)) {
                prop_assert!(availability <= 100 && capacity <= 100);
            }
        }
    }
}
