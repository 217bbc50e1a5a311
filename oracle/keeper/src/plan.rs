//! In which order what is due goes out. Pure.

use std::cmp::Reverse;

use crate::decide::Action;

/// An action that may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The action.
    pub action: Action,
    /// When it is too late, seconds of the chain's clock; `None` when it never is.
    pub deadline: Option<i64>,
    /// Since when it may be done, seconds of the chain's clock: of what has no deadline, the oldest goes first.
    pub since: i64,
    /// What hangs on it, of two with the same date: occupied rows of a block, base units of a lease or a stake.
    pub value: u64,
}

impl Due {
    /// What has a deadline goes by it, the rest by its age; then the one on which more hangs.
    fn order(&self) -> (bool, i64, Reverse<u64>, Action) {
        (self.deadline.is_none(), self.deadline.unwrap_or(self.since), Reverse(self.value), self.action)
    }
}

/// Puts what is due into the order in which it goes out.
pub fn in_order(due: &mut [Due]) {
    due.sort_unstable_by_key(Due::order);
}

/// How much goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Actions of one round, at least 1.
    pub actions: usize,
    /// Seconds that a round takes, at least 1.
    pub seconds: i64,
}

/// The actions of this round, of those due in their order.
///
/// Earliest deadline first: if any order at this pace keeps every deadline, this one does. What has none gets the rest of the
/// round, and up to an eighth of it even while more with a deadline is waiting than one round holds, unless that eighth is what a
/// deadline would be missed by: so that nothing waits for ever.
pub fn pick(due: &[Due], now: i64, pace: Pace) -> Vec<Due> {
    let (room, seconds) = (pace.actions.max(1), pace.seconds.max(1));
    let dated = due.partition_point(|due| due.deadline.is_some());
    let (dated, dateless) = due.split_at(dated);
    // Of the first i, those that the later rounds before the last one's deadline have no room for go now.
    let mut must = 0;
    for (i, due) in (1usize..).zip(dated) {
        let left = due.deadline.unwrap_or(i64::MAX).saturating_sub(now).saturating_sub(1).max(0);
        let later = usize::try_from(left / seconds).unwrap_or(usize::MAX).saturating_mul(room);
        must = must.max(i.saturating_sub(later));
    }
    let spare = room.saturating_sub(must).min(room.div_ceil(8)).max(room.saturating_sub(dated.len()));
    let dateless = &dateless[..spare.min(dateless.len())];
    let dated = &dated[..(room - dateless.len()).min(dated.len())];
    dated.iter().chain(dateless).copied().collect()
}

/// Actions as they are sent: each batch of one kind and no longer than that kind allows, in the order of their first.
pub fn batches(picked: &[Due]) -> Vec<Vec<Action>> {
    let mut batches: Vec<Vec<Action>> = Vec::new();
    for due in picked {
        let kind = due.action.kind();
        let open = batches.iter_mut().rev().find(|batch| batch.first().is_some_and(|first| first.kind() == kind));
        match open.filter(|batch| batch.len() < kind.batch()) {
            Some(batch) => batch.push(due.action),
            None => batches.push(vec![due.action]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seat(block: u32, deadline: Option<i64>, since: i64, value: u64) -> Due {
        Due { action: Action::SeatBlock { epoch: 1, block }, deadline, since, value }
    }

    #[test]
    fn by_deadline_then_by_value_and_the_dateless_by_age() {
        let mut due = [
            seat(1, None, 9, 50),
            seat(2, Some(30), 0, 1),
            seat(3, Some(30), 0, 2),
            seat(4, None, 8, 1),
            seat(5, Some(20), 0, 0),
        ];
        in_order(&mut due);
        let blocks: Vec<_> = due.iter().map(|d| d.action).collect();
        assert_eq!(blocks, [5, 3, 2, 4, 1].map(|block| Action::SeatBlock { epoch: 1, block }));
    }

    #[test]
    fn a_batch_is_of_one_kind_and_not_too_long() {
        let tally = |block| Due { action: Action::Tally { epoch: 0, block }, ..seat(0, Some(9), 0, 0) };
        let mut picked = vec![Due { action: Action::Advance(1), ..seat(0, Some(1), 0, 0) }];
        picked.extend((0..25).map(|block| seat(block, Some(5), 0, 0)));
        picked.extend((0..10).map(tally));
        let lengths: Vec<_> = batches(&picked).iter().map(|b| (b[0].kind().name(), b.len())).collect();
        assert_eq!(lengths, [("advance", 1), ("seat", 20), ("seat", 5), ("tally", 9), ("tally", 1)]);
    }

    proptest! {
        /// Rounds of this pace against Hall's condition: if any order keeps every deadline, this one does, whatever waits without.
        #[test]
        fn no_deadline_is_missed_that_another_order_keeps(
            deadlines in prop::collection::vec(1i64..60, 0..80),
            dateless in 0u32..40,
            actions in 1usize..6,
            seconds in 1i64..5,
        ) {
            let dated = (0u32..).zip(&deadlines).map(|(i, d)| seat(i, Some(*d), 0, 0));
            let mut due: Vec<Due> = dated.chain((1_000..1_000 + dateless).map(|i| seat(i, None, 0, 0))).collect();
            in_order(&mut due);
            // Rounds begin at 0, seconds, 2 seconds ...; an action of a round that begins before its deadline is in time.
            let rounds_before = |d: i64| (d - 1) / seconds + 1;
            let feasible = deadlines.iter().all(|d| {
                let until = deadlines.iter().filter(|other| *other <= d).count();
                until <= actions * usize::try_from(rounds_before(*d)).unwrap()
            });
            let mut late = 0;
            let mut now = 0;
            while !due.is_empty() {
                let picked = pick(&due, now, Pace { actions, seconds });
                prop_assert!(!picked.is_empty() && picked.len() <= actions, "a round is never idle nor overlong");
                let order: Vec<_> = picked.iter().filter_map(|d| d.deadline).collect();
                prop_assert!(order.is_sorted());
                late += picked.iter().filter(|d| d.deadline.is_some_and(|deadline| deadline <= now)).count();
                due.retain(|d| !picked.contains(d));
                now += seconds;
            }
            prop_assert!(!feasible || late == 0, "{late} late of {deadlines:?}");
        }

        /// What has no deadline moves on while dated work that is not pressing would fill every round.
        #[test]
        fn nothing_starves(backlog in 20usize..200, actions in 1usize..20) {
            let far = i64::from(u32::MAX);
            let mut due: Vec<Due> = (0u32..).take(backlog).map(|i| seat(i, Some(far), 0, 0)).collect();
            due.push(seat(9_999, None, 0, 0));
            in_order(&mut due);
            let picked = pick(&due, 0, Pace { actions, seconds: 1 });
            prop_assert!(picked.iter().any(|d| d.deadline.is_none()));
        }
    }
}
