//! `announce_maintenance`. What it excuses is in `breach`.

use datagalax::{constants::DAY, state::Container};
use datagalax_program_tests::{World, actors::fingerprint, addresses, instructions, refusals::Call, stage::Stage};
use solana_signer::Signer;

use crate::court::{address, container};

const HOUR: i64 = 3_600;
const MONTH: i64 = 30 * DAY;

/// Announces from one second to another; the name of the refusal, if it is one.
fn announce(stage: &mut Stage, start: i64, end: i64) -> Result<(), String> {
    let instruction = instructions::announce_maintenance(&stage.provider, &fingerprint(0), start, end);
    let operator = stage.provider.operator.clone();
    stage.world.send(&[instruction], &[&operator]).map(|_| ()).map_err(|f| f.name)
}

/// The stage at the beginning of a month of 30 days: what is announced for tomorrow lies within it.
fn stage() -> (Stage, i64) {
    let mut stage = Stage::new(3, 1);
    let month = (stage.world.now() / MONTH + 1) * MONTH;
    stage.world.set_time(month);
    (stage, month)
}

fn bad() -> Result<(), String> {
    Err("BadMaintenance".into())
}

fn noted(stage: &Stage) -> (i64, i64, i64, u32) {
    let c: Container = container(stage, 0);
    (c.maintenance_announced, c.maintenance_start, c.maintenance_end, c.maintenance_used)
}

#[test]
fn a_day_ahead_and_not_a_second_less() {
    let (mut stage, now) = stage();
    assert_eq!(announce(&mut stage, now + DAY - 1, now + DAY + HOUR), bad());
    assert_eq!(announce(&mut stage, now + DAY, now + DAY + HOUR), Ok(()));
    assert_eq!(noted(&stage), (now, now + DAY, now + DAY + HOUR, 3_600));
    // At most three months ahead.
    assert_eq!(announce(&mut stage, now + 3 * MONTH + 1, now + 3 * MONTH + HOUR), bad());
    assert_eq!(announce(&mut stage, now + 3 * MONTH, now + 3 * MONTH + HOUR), Ok(()));
}

#[test]
fn a_time_has_a_beginning_and_an_end() {
    let (mut stage, now) = stage();
    for (start, end) in [
        (now + DAY, now + DAY),
        (now + DAY, now + DAY - 1),
        (now + DAY, i64::MIN),
        (i64::MIN, now + DAY),
        (i64::MAX, i64::MAX),
        (now + DAY, i64::MAX),
        (-1, HOUR),
    ] {
        assert_eq!(announce(&mut stage, start, end), bad(), "{start} to {end}");
    }
    assert_eq!(announce(&mut stage, now + DAY, now + DAY + 1), Ok(()));
}

#[test]
fn eight_hours_a_month() {
    let (mut stage, now) = stage();
    assert_eq!(announce(&mut stage, now + DAY, now + DAY + 8 * HOUR + 1), bad());
    assert_eq!(announce(&mut stage, now + DAY, now + DAY + 5 * HOUR), Ok(()));
    stage.world.set_time(now + 2 * DAY);
    let next = now + 4 * DAY;
    assert_eq!(announce(&mut stage, next, next + 3 * HOUR + 1), bad());
    assert_eq!(announce(&mut stage, next, next + 3 * HOUR), Ok(()));
    assert_eq!(noted(&stage).3, 8 * 3_600);
    stage.world.set_time(next + DAY);
    assert_eq!(announce(&mut stage, now + 20 * DAY, now + 20 * DAY + 1), bad(), "the month's eight hours are used");
    // The next month has its own eight.
    assert_eq!(announce(&mut stage, now + MONTH - 1, now + MONTH + HOUR), bad(), "it belongs to the month it begins in");
    assert_eq!(announce(&mut stage, now + MONTH, now + MONTH + 8 * HOUR), Ok(()));
    assert_eq!(noted(&stage).3, 8 * 3_600);
}

#[test]
fn what_has_not_begun_is_replaced_and_does_not_count() {
    let (mut stage, now) = stage();
    let start = now + 2 * DAY;
    assert_eq!(announce(&mut stage, start, start + 8 * HOUR), Ok(()));
    assert_eq!(announce(&mut stage, start + DAY, start + DAY + 7 * HOUR), Ok(()));
    assert_eq!(noted(&stage), (now, start + DAY, start + DAY + 7 * HOUR, 7 * 3_600));
    // Every minute until it begins; it always counts as announced at the last one.
    stage.world.set_time(now + DAY);
    assert_eq!(announce(&mut stage, now + 2 * DAY, now + 2 * DAY + 8 * HOUR), Ok(()));
    assert_eq!(noted(&stage), (now + DAY, now + 2 * DAY, now + 2 * DAY + 8 * HOUR, 8 * 3_600));
}

#[test]
fn what_is_going_on_is_not_replaced() {
    let (mut stage, now) = stage();
    let (start, end) = (now + DAY, now + DAY + HOUR);
    assert_eq!(announce(&mut stage, start, end), Ok(()));
    for instant in [start, end - 1] {
        stage.world.set_time(instant);
        assert_eq!(announce(&mut stage, now + 5 * DAY, now + 5 * DAY + HOUR), bad());
    }
    stage.world.set_time(end);
    assert_eq!(announce(&mut stage, now + 5 * DAY, now + 5 * DAY + HOUR), Ok(()));
    assert_eq!(noted(&stage).3, 2 * 3_600, "what was used stays used");
}

/// Attack: use the month's eight hours, announce for the month after, and replace that by more in this one: its account of the
/// hours used would have been forgotten.
#[test]
fn a_look_into_the_next_month_does_not_wipe_this_one() {
    let (mut stage, now) = stage();
    assert_eq!(announce(&mut stage, now + DAY, now + DAY + 8 * HOUR), Ok(()));
    stage.world.set_time(now + 3 * DAY);
    assert_eq!(announce(&mut stage, now + MONTH, now + MONTH + HOUR), Ok(()));
    assert_eq!(announce(&mut stage, now + 5 * DAY, now + 5 * DAY + 8 * HOUR), bad());
    // Within that later month it is replaced as ever.
    assert_eq!(announce(&mut stage, now + MONTH + DAY, now + MONTH + DAY + 8 * HOUR), Ok(()));
}

#[test]
fn announce_maintenance_refuses() {
    let (mut stage, now) = stage();
    let other = stage.world.provider_with(0);
    let (world, provider): (&mut World, _) = (&mut stage.world, &stage.provider);
    let valid = instructions::announce_maintenance(provider, &fingerprint(0), now + DAY, now + DAY + HOUR);
    let own = world.container_operator(&fingerprint(0));
    for key in [&own, &other.operator] {
        let mut wrong = valid.clone();
        wrong.accounts[0].pubkey = key.pubkey();
        world.refused(wrong, &[key], "Unauthorized");
    }
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = other.operator.pubkey();
    wrong.accounts[1].pubkey = addresses::provider(other.id);
    world.refused(wrong, &[&other.operator], "WrongAccount");
    // The owner may; a pause does not keep anybody from saying what is coming.
    let mut paused = world.clone();
    paused.set_paused(true);
    let mut owners = valid.clone();
    owners.accounts[0].pubkey = provider.owner.pubkey();
    paused.must(&[owners], &[&provider.owner]);
    assert_eq!(paused.read::<Container>(&address(provider, 0)).maintenance_start, now + DAY);
    Call::new(world.clone(), valid, &[&provider.operator]).check();
}
