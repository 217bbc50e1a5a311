//! Whose turn it is, of several keepers that do not talk to each other.
//!
//! For each action the keepers have an order of their own (rendezvous hashing: whoever's hash with it is least is first), so that
//! they share the work without a word. The first goes at once; each later one waits a step longer, and sends only what is still
//! undone then. A dead keeper costs its actions a step, not the network an epoch.

use std::time::Duration;

use datagalax_client::Address;
use sha2::{Digest, Sha256};

use crate::{
    decide::{Action, Kind},
    plan::Due,
};

/// Most keepers that one waits for: a stranger who opens keeper accounts by the hundred delays nobody for longer.
pub const MOST_BEFORE: u32 = 7;

/// How many of the others come before `me` at an action, at most [`MOST_BEFORE`].
pub fn rank(me: &Address, others: &[Address], action: &Action) -> u32 {
    // Its own pay and its own rent are nobody else's business.
    if matches!(action.kind(), Kind::Claim | Kind::Reclaim) {
        return 0;
    }
    let subject = action.subject();
    let hash = |keeper: &Address| -> [u8; 32] {
        Sha256::new()
            .chain_update(b"datagalax:turn:v1")
            .chain_update(keeper.as_ref())
            .chain_update(subject)
            .finalize()
            .into()
    };
    let mine = hash(me);
    let before = others.iter().filter(|other| *other != me && hash(other) < mine).count();
    u32::try_from(before).unwrap_or(u32::MAX).min(MOST_BEFORE)
}

/// The turn of a keeper that is the `stand_in`th of its wallet (0 for the first) at an action, and how many turns there are: first all
/// wallets' firsts, then all their stand-ins.
pub fn turn(me: &Address, stand_in: u32, others: &[Address], action: &Action) -> (u32, u32) {
    let wallets = u32::try_from(others.len()).unwrap_or(u32::MAX).min(MOST_BEFORE) + 1;
    (rank(me, others, action) + wallets * stand_in, wallets * (stand_in + 1))
}

/// How much longer each keeper waits than the one before it, for an action that fell due at `now` (seconds of the chain's clock)
/// in epochs of `length` seconds: long enough that the one before has landed what it does, and short enough that all `turns` come
/// within half of the time that is left.
pub fn step(due: &Due, now: i64, length: u32, turns: u32) -> Duration {
    // Of what comes by the thousand, a keeper's share takes a while.
    let (part, least, most) = match due.action.kind() {
        Kind::Advance | Kind::Churn | Kind::Draw => (256, 5_000, 15_000),
        _ => (64, 5_000, 60_000),
    };
    let step = (u64::from(length) * 1_000 / part).clamp(least, most);
    let left = due.deadline.map_or(i64::MAX, |deadline| deadline.saturating_sub(now)).max(0);
    Duration::from_millis(step.min(u64::try_from(left).unwrap_or(0).saturating_mul(500) / u64::from(turns.max(1))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn keeper(i: u8) -> Address {
        Address::new_from_array([i; 32])
    }

    fn tally(block: u32) -> Action {
        Action::Tally { epoch: 7, block }
    }

    #[test]
    fn every_keeper_has_another_rank_and_all_agree() {
        let all: Vec<Address> = (1..=5).map(keeper).collect();
        for block in 0..50 {
            let ranks: BTreeSet<u32> = all.iter().map(|me| rank(me, &all, &tally(block))).collect();
            assert_eq!(ranks, (0..5).collect::<BTreeSet<u32>>(), "block {block}");
        }
    }

    #[test]
    fn the_work_is_shared() {
        let all: Vec<Address> = (1..=5).map(keeper).collect();
        for me in &all {
            let first = (0..1_000).filter(|block| rank(me, &all, &tally(*block)) == 0).count();
            assert!((120..280).contains(&first), "{first} of 1,000 blocks");
        }
    }

    #[test]
    fn one_that_left_moves_nobody_but_those_behind_it() {
        let all: Vec<Address> = (1..=5).map(keeper).collect();
        for block in 0..50 {
            let before = rank(&all[0], &all, &tally(block));
            let after = rank(&all[0], &all[..4], &tally(block));
            assert!(after == before || after + 1 == before);
        }
    }

    #[test]
    fn strangers_by_the_hundred_delay_nobody_for_long() {
        let strangers: Vec<Address> = (1..=200).map(keeper).collect();
        let me = keeper(201);
        assert!((0..100).all(|block| rank(&me, &strangers, &tally(block)) <= MOST_BEFORE));
        assert_eq!(rank(&me, &strangers, &Action::Claim), 0);
    }

    #[test]
    fn a_stand_in_comes_after_every_first() {
        let all: Vec<Address> = (1..=5).map(keeper).collect();
        let firsts: Vec<u32> = all.iter().map(|me| turn(me, 0, &all[..4], &tally(1)).0).collect();
        assert!(all[..4].iter().all(|me| turn(me, 1, &all[1..], &tally(1)).0 > *firsts.iter().max().unwrap()));
        assert_eq!(turn(&all[0], 1, &[], &tally(1)), (1, 2));
        assert_eq!(turn(&all[0], 1, &vec![keeper(9); 500], &tally(1)).1, 16);
    }

    #[test]
    fn the_last_turn_comes_while_there_is_time() {
        for (left, turns) in [(1i64, 1u32), (5, 5), (15, 5), (900, 8), (900, 16), (0, 3)] {
            let due = Due { action: Action::Draw(1), deadline: Some(100 + left), since: 0, value: 0 };
            let last = step(&due, 100, 3_600, turns) * (turns - 1);
            assert!(last.as_millis() <= u128::try_from(left).unwrap() * 500, "{last:?} of {left} s");
        }
        let due = Due { action: tally(1), deadline: Some(3_600), since: 0, value: 0 };
        assert_eq!(step(&due, 0, 3_600, 2), Duration::from_millis(56_250));
    }
}
