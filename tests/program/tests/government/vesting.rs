//! Rewards day by day against a formula of the tests' own, and vesting terms that change.

use crate::proposals::{apply, enact, propose, unchanged};
use datagalax::state::{Provider, VestingTerms};
use datagalax_program_tests::{
    Settings, World,
    accounts::rows,
    addresses::{self, Vault},
    instructions,
    stage::{Stage, perfect},
};

const DAY: i64 = 86_400;

/// Terms as the tests read them: bps at once, bps and days of both linear parts.
#[derive(Clone, Copy)]
struct Plan {
    short: (u64, u64),
    long: (u64, u64),
}

/// 30 percent at once, 30 over 90 days, 40 over 180.
const PLAN: Plan = Plan { short: (3_000, 90), long: (4_000, 180) };

impl Plan {
    /// What of a grant has vested after so many days: each part rounded down, the rest at once.
    fn vested(self, amount: u64, age: u64) -> u64 {
        let whole = |bps: u64| (u128::from(amount) * u128::from(bps) / 10_000) as u64;
        let linear = |part: u64, days: u64| (u128::from(part) * u128::from(age.min(days)) / u128::from(days)) as u64;
        let (short, long) = (whole(self.short.0), whole(self.long.0));
        amount - short - long + linear(short, self.short.1) + linear(long, self.long.1)
    }
}

/// A grant as the tests remember it.
struct Granted {
    day: i64,
    amount: u64,
    plan: Plan,
}

fn vested(grants: &[Granted], day: i64) -> u64 {
    grants.iter().map(|g| g.plan.vested(g.amount, u64::try_from(day - g.day).expect("not before the grant"))).sum()
}

fn day_of(world: &World) -> i64 {
    world.now() / DAY
}

/// Makes row 0 earn: a whole epoch at the clock's present, tallied. Says what the row accrued, which is then claimed.
fn earn_and_claim(stage: &mut Stage) -> u64 {
    let world = &mut stage.world;
    let epoch = u32::try_from((world.now() - world.start) / 60 + 1).expect("after the start");
    world.open(epoch);
    world.commit_all(&stage.checkers, epoch, &perfect());
    world.finish(&stage.checkers, epoch, &perfect());
    let accrued = world.accrued(0);
    let claim = instructions::claim_rewards(&stage.provider, 0, &rows([0]));
    world.must(&[claim], &[&stage.provider.operator]);
    accrued
}

/// Amounts that no part divides.
fn odd() -> Settings {
    Settings { emission: 1_234_567_891, ..Settings::default() }
}

/// Withdraws what has vested, if anything has; checks that it is what the formula says to the base unit.
#[track_caller]
fn withdraw(world: &mut World, stage_to: &solana_pubkey::Pubkey, grants: &[Granted]) {
    let pay = instructions::withdraw(world, &addresses::provider(0), Vault::Rewards, stage_to);
    let (before, all) = (world.balance(stage_to), vested(grants, day_of(world)));
    if all > before {
        world.run(pay.clone());
    }
    assert_eq!(world.balance(stage_to), all, "on day {}", day_of(world));
    world.refused(pay, &[], "NothingToPay");
}

#[test]
fn thirty_thirty_forty_day_by_day() {
    let mut stage = Stage::of(odd(), 3, 1).pass_to(2, &perfect());
    let amount = earn_and_claim(&mut stage);
    let share = 1_234_567_891u64 * 7_500 / 10_000;
    assert!(share - amount <= 1, "all of the containers' share: {amount} of {share}, the rate rounded down as well");
    let first = day_of(&stage.world);
    let to = stage.provider.to;
    let mut grants = vec![Granted { day: first, amount, plan: PLAN }];
    for day in first..=first + 181 {
        // Any moment of the day is the same: the first second, and the last.
        stage.world.wait_until(day * DAY);
        withdraw(&mut stage.world, &to, &grants);
        if day % 17 == 0 {
            stage.world.set_time(day * DAY + DAY - 1);
            withdraw(&mut stage.world, &to, &grants);
        }
        if day == first + 40 {
            // A second grant, with its own age from now on, on top of the first.
            let amount = earn_and_claim(&mut stage);
            grants.push(Granted { day: day_of(&stage.world), amount, plan: PLAN });
            withdraw(&mut stage.world, &to, &grants);
            stage.world.check_books();
        }
    }
    assert_eq!(vested(&grants[..1], first + 180), grants[0].amount, "after 180 days the first is whole");
    // A third, 180 days after the first and in its bucket; and a fourth that same day.
    stage.world.set_time((first + 360) * DAY);
    withdraw(&mut stage.world, &to, &grants);
    // A day's claims are one grant.
    let amount = earn_and_claim(&mut stage) + earn_and_claim(&mut stage);
    grants.push(Granted { day: day_of(&stage.world), amount, plan: PLAN });
    assert_eq!(grants[2].day, first + 360);
    let provider: Provider = stage.world.provider(0);
    let bucket = provider.grants[usize::try_from(grants[2].day % 180).expect("small")];
    assert_eq!(bucket.amount, grants[2].amount);
    assert_eq!(provider.matured, grants[0].amount, "the first has made room in its bucket");
    withdraw(&mut stage.world, &to, &grants);
    stage.world.set_time((first + 1_000) * DAY);
    withdraw(&mut stage.world, &to, &grants);
    assert_eq!(stage.world.balance(&to), grants.iter().map(|g| g.amount).sum::<u64>());
    stage.world.check_books();
}

#[test]
fn what_matured_is_not_lost_when_nobody_withdraws_it() {
    let mut stage = Stage::of(odd(), 3, 1).pass_to(2, &perfect());
    let first = earn_and_claim(&mut stage);
    let day = day_of(&stage.world);
    stage.world.set_time((day + 180) * DAY);
    let second = earn_and_claim(&mut stage);
    assert_eq!(stage.world.provider(0).matured, first);
    let to = stage.provider.to;
    let plan = PLAN;
    let grants = [Granted { day, amount: first, plan }, Granted { day: day_of(&stage.world), amount: second, plan }];
    withdraw(&mut stage.world, &to, &grants);
    stage.world.check_books();
}

fn terms(immediate_bps: u16, short_bps: u16, short_days: u16, long_bps: u16, long_days: u16) -> VestingTerms {
    VestingTerms { id: 0, immediate_bps, short_bps, short_days, long_bps, long_days, from_day: 0 }
}

#[test]
fn a_granted_day_keeps_its_terms_and_new_ones_begin_the_next_day() {
    let mut stage = Stage::of(odd(), 3, 1).pass_to(2, &perfect());
    let to = stage.provider.to;
    let first = earn_and_claim(&mut stage);
    let day = day_of(&stage.world);
    enact(&mut stage.world, |p| p.vesting = terms(1_001, 2_001, 7, 6_998, 31));
    let slower = Plan { short: (2_001, 7), long: (6_998, 31) };
    // Granted after the change, on the day of the change: still the old terms.
    let second = earn_and_claim(&mut stage);
    assert_eq!(day_of(&stage.world), day);
    stage.world.set_time((day + 1) * DAY);
    let third = earn_and_claim(&mut stage);
    assert_eq!(day_of(&stage.world), day + 1);
    let grants =
        [Granted { day, amount: first + second, plan: PLAN }, Granted { day: day + 1, amount: third, plan: slower }];
    for day in day + 1..day + 182 {
        stage.world.wait_until(day * DAY);
        withdraw(&mut stage.world, &to, &grants);
    }
    assert_eq!(stage.world.balance(&to), first + second + third);
    stage.world.check_books();
}

#[test]
fn terms_that_change_twice_on_one_day_leave_the_last_ones() {
    let mut stage = Stage::of(odd(), 3, 1).pass_to(2, &perfect());
    enact(&mut stage.world, |p| p.vesting = terms(0, 10_000, 10, 0, 1));
    enact(&mut stage.world, |p| p.vesting = terms(0, 0, 1, 10_000, 20));
    let network = stage.world.network();
    assert_eq!(network.vesting_terms.iter().filter(|t| t.id != 0).count(), 2);
    assert_eq!(network.vesting_terms[1].id, 3, "an id is never given twice");
    let day = day_of(&stage.world) + 1;
    stage.world.set_time(day * DAY);
    let amount = earn_and_claim(&mut stage);
    let grants = [Granted { day, amount, plan: Plan { short: (0, 1), long: (10_000, 20) } }];
    let to = stage.provider.to;
    for day in day..day + 22 {
        stage.world.wait_until(day * DAY);
        withdraw(&mut stage.world, &to, &grants);
    }
    assert_eq!(stage.world.balance(&to), amount);
}

#[test]
fn eight_sets_of_terms_are_kept_while_their_grants_may_still_vest() {
    let mut stage = Stage::of(odd(), 3, 1).pass_to(2, &perfect());
    let to = stage.provider.to;
    let day = day_of(&stage.world);
    let mut grants = vec![Granted { day, amount: earn_and_claim(&mut stage), plan: PLAN }];
    // Seven changes on seven days, a grant under each of them.
    for n in 1..=7u16 {
        let world = &mut stage.world;
        enact(world, |p| p.vesting = terms(10_000 - n, n, 180, 0, 1));
        world.set_time((day + i64::from(n)) * DAY);
        let amount = earn_and_claim(&mut stage);
        let plan = Plan { short: (u64::from(n), 180), long: (0, 1) };
        grants.push(Granted { day: day + i64::from(n), amount, plan });
    }
    let world = &mut stage.world;
    let mut proposal = unchanged(world);
    proposal.vesting = terms(5_000, 5_000, 180, 0, 1);
    proposal.parameters.tolerance = 77;
    propose(world, proposal);
    let apply_it = instructions::apply_proposal(&proposal.treasury);
    // The second set followed the first on day + 1: grants of the first are whole 180 days after that.
    for later in [day + 8, day + 100, day + 180] {
        world.set_time(later * DAY);
        world.refused(apply_it.clone(), &[], "TooManyVestingTerms");
        assert_eq!(world.network().parameters.tolerance, 5, "all or nothing");
        withdraw(world, &to, &grants);
    }
    // What changes no terms need not wait.
    enact(world, |p| p.parameters.tolerance = 6);
    propose(world, proposal);
    world.set_time((day + 181) * DAY);
    world.wait_until(world.network().pending_at);
    apply(world);
    assert_eq!(world.network().parameters.tolerance, 77);
    assert!(world.network().vesting_terms.iter().all(|t| t.id != 1), "the oldest set made room");
    for later in day + 181..day + 190 {
        world.wait_until(later * DAY);
        withdraw(world, &to, &grants);
    }
    assert_eq!(world.balance(&to), grants.iter().map(|g| g.amount).sum::<u64>());
    world.check_books();
}

#[test]
fn a_proposal_without_terms_leaves_them() {
    let mut world = World::new();
    let before = world.network().vesting_terms;
    enact(&mut world, |p| p.parameters.tolerance = 6);
    assert_eq!(world.network().vesting_terms, before);
}
