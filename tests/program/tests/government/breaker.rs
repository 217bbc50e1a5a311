//! The circuit breaker: what leaves a vault in 24 hours, less what came in, stays within its limit; the rest waits and is not lost.
//!
//! It counts by the hour, the present one and the 24 before it: what left is out of the window after 24 to 25 hours.

use datagalax::state::{Network, Parameters};
use datagalax_program_tests::{
    Provider, Settings, World,
    addresses::{self, Vault},
    instructions,
    settings::{ATH, parameters},
    stage::{Stage, perfect},
};

const HOUR: i64 = 3_600;

fn limited(breaker_limits: [u64; 3]) -> Settings {
    Settings { parameters: Parameters { breaker_limits, ..parameters() }, ..Settings::default() }
}

/// A provider whose requests of `amounts` have unlocked, two days after it staked; the clock stands at a full hour.
fn asked(world: &mut World, amounts: &[u64]) -> Provider {
    let provider = world.provider_with(amounts.iter().sum());
    for amount in amounts {
        let ask = instructions::request_unstake(&provider, *amount);
        world.must(&[ask], &[&provider.owner]);
    }
    let later = (world.now() / HOUR + 49) * HOUR;
    world.set_time(later);
    provider
}

#[test]
fn a_withdrawal_pays_what_fits_and_the_rest_waits() {
    let mut world = World::with(limited([100 * ATH, 1 << 56, 1 << 56]));
    let provider = asked(&mut world, &[30 * ATH, 220 * ATH]);
    let pay = instructions::withdraw(&world, &addresses::provider(0), Vault::Stake, &provider.to);
    let begin = world.now();
    for (day, paid) in [(0, 100), (1, 200), (2, 250)] {
        world.set_time(begin + day * 25 * HOUR);
        world.run(pay.clone());
        assert_eq!(world.balance(&provider.to), paid * ATH);
        let account = world.provider(0);
        assert_eq!((account.staked, account.unbonding), ((250 - paid) * ATH, (250 - paid) * ATH), "nothing is lost");
        world.check_books();
        if paid < 250 {
            world.refused(pay.clone(), &[], "BreakerOpen");
            // To the last second of the hour that leaves the first payment in the window.
            world.set_time(begin + day * 25 * HOUR + 25 * HOUR - 1);
            world.refused(pay.clone(), &[], "BreakerOpen");
        }
    }
    world.refused(pay, &[], "NothingToPay");
}

#[test]
fn the_window_rolls_by_the_hour() {
    let mut world = World::with(limited([100 * ATH, 1 << 56, 1 << 56]));
    let first = asked(&mut world, &[60 * ATH]);
    let second = asked(&mut world, &[300 * ATH]);
    let begin = world.now();
    let pay = |provider: &Provider, world: &World| {
        instructions::withdraw(world, &addresses::provider(provider.id), Vault::Stake, &provider.to)
    };
    let one = pay(&first, &world);
    world.run(one);
    world.set_time(begin + 5 * HOUR);
    let rest = pay(&second, &world);
    world.run(rest.clone());
    assert_eq!(world.balance(&second.to), 40 * ATH, "60 went already");
    world.set_time(begin + 25 * HOUR - 1);
    world.refused(rest.clone(), &[], "BreakerOpen");
    world.set_time(begin + 25 * HOUR);
    world.run(rest.clone());
    assert_eq!(world.balance(&second.to), 100 * ATH, "the 60 have left the window");
    world.set_time(begin + 30 * HOUR - 1);
    world.refused(rest.clone(), &[], "BreakerOpen");
    world.set_time(begin + 30 * HOUR);
    world.run(rest);
    assert_eq!(world.balance(&second.to), 140 * ATH, "and now the 40");
    world.check_books();
}

#[test]
fn what_comes_in_makes_room_for_as_much() {
    let mut world = World::with(limited([100 * ATH, 1 << 56, 1 << 56]));
    let provider = asked(&mut world, &[300 * ATH]);
    let pay = instructions::withdraw(&world, &addresses::provider(0), Vault::Stake, &provider.to);
    world.run(pay.clone());
    world.refused(pay.clone(), &[], "BreakerOpen");
    let other = world.provider_with(30 * ATH);
    world.run(pay.clone());
    assert_eq!(world.balance(&provider.to), 130 * ATH);
    // The other vaults' flows are their own.
    world.fund(50 * ATH);
    world.refused(pay.clone(), &[], "BreakerOpen");
    assert_eq!(world.provider(other.id).staked, 30 * ATH);

    // What came in leaves the window with its hour like what went out.
    let later = world.now() + 25 * HOUR;
    world.set_time(later);
    world.run(pay);
    assert_eq!(world.balance(&provider.to), 230 * ATH);
    world.check_books();
}

#[test]
fn a_limit_that_changes_counts_what_left_already() {
    let mut world = World::with(limited([100 * ATH, 1 << 56, 1 << 56]));
    let provider = asked(&mut world, &[300 * ATH]);
    let pay = instructions::withdraw(&world, &addresses::provider(0), Vault::Stake, &provider.to);
    world.run(pay.clone());
    world.patch_as::<Network>(&addresses::network(), |n| n.parameters.breaker_limits[0] = 50 * ATH);
    world.refused(pay.clone(), &[], "BreakerOpen");
    world.patch_as::<Network>(&addresses::network(), |n| n.parameters.breaker_limits[0] = 110 * ATH);
    world.run(pay);
    assert_eq!(world.balance(&provider.to), 110 * ATH);
    world.check_books();
}

#[test]
fn tickets_are_paid_whole_or_not_at_all() {
    // The slots are freed with the payment, so a part of a ticket has nowhere to wait.
    let mut stage = Stage::of(limited([150 * ATH, 1 << 56, 1 << 56]), 6, 1);
    for checker in 0..2u32 {
        let leave = instructions::leave_tickets(&stage.checkers[checker as usize], &[checker]);
        stage.world.must(&[leave], &[&stage.checkers[checker as usize].owner]);
    }
    let more = instructions::register_tickets(&stage.world, &stage.checkers[0], 1);
    stage.world.must(&[more], &[&stage.checkers[0].owner]);
    let leave = instructions::leave_tickets(&stage.checkers[0], &[6]);
    stage.world.must(&[leave], &[&stage.checkers[0].owner]);
    let mut stage = stage.pass_to(2, &perfect());
    let world = &mut stage.world;
    let later = (world.now() / HOUR + 49) * HOUR;
    world.set_time(later);
    let slots: Vec<u32> = (0..7).filter(|s| world.tickets()[*s as usize].is_out()).collect();
    assert_eq!(slots, [0, 1, 6]);
    let both = instructions::withdraw_tickets(world, &stage.checkers[0], &[0, 6]);
    world.refused(both, &[], "BreakerOpen");
    let one = instructions::withdraw_tickets(world, &stage.checkers[0], &[6]);
    world.run(one);
    assert_eq!(world.balance(&stage.checkers[0].to), 100 * ATH);
    let next = instructions::withdraw_tickets(world, &stage.checkers[0], &[0]);
    world.refused(next.clone(), &[], "BreakerOpen");
    world.set_time(later + 25 * HOUR);
    world.run(next);
    assert_eq!(world.balance(&stage.checkers[0].to), 200 * ATH);
    world.check_books();
}

#[test]
fn all_that_the_rewards_vault_owes_shares_one_limit() {
    // Epoch 3 earned the row 750 ATH and three seats 200 ATH; epochs 0 to 2 earned the treasury and the seats of 1 and 2.
    let mut stage = Stage::of(limited([1 << 56, 100 * ATH, 1 << 56]), 3, 1).pass_to(4, &perfect());
    let world = &mut stage.world;
    let claim = instructions::claim_rewards(&stage.provider, 0, &datagalax_program_tests::accounts::rows([0]));
    world.must(&[claim], &[&stage.provider.operator]);
    let later = (world.now() / HOUR + 49) * HOUR;
    world.set_time(later);
    let checker = &stage.checkers[0];
    let accrued = world.tickets()[0].accrued;
    assert_eq!(accrued, 200 * ATH / 3, "a seat in epoch 3, whose row was the first that counted");
    let seat = instructions::claim_seat_pay(world, checker, &[0]);
    let vested = instructions::withdraw(world, &addresses::provider(0), Vault::Rewards, &stage.provider.to);
    let treasury = instructions::withdraw_treasury(world);
    world.run(seat.clone());
    assert_eq!(world.balance(&checker.to), accrued);
    world.run(vested.clone());
    assert_eq!(world.balance(&stage.provider.to), 100 * ATH - accrued);
    for pay in [&vested, &treasury] {
        world.refused(pay.clone(), &[], "BreakerOpen");
    }
    let other = instructions::claim_seat_pay(world, &stage.checkers[1], &[1]);
    world.refused(other.clone(), &[], "BreakerOpen");
    assert_eq!(world.tickets()[1].accrued, accrued, "nothing is lost");
    // Funding makes room; of a ticket's pay what does not fit stays with it.
    world.fund(20 * ATH);
    world.run(other.clone());
    assert_eq!(world.balance(&stage.checkers[1].to), 20 * ATH);
    assert_eq!(world.tickets()[1].accrued, accrued - 20 * ATH);
    assert_eq!(world.checker(1).claimed, 20 * ATH);
    world.check_books();
    world.set_time(later + 25 * HOUR);
    world.run(other);
    assert_eq!(world.balance(&stage.checkers[1].to), accrued);
    assert_eq!(world.tickets()[1].accrued, 0);
    world.check_books();
}

#[test]
fn the_escrow_vault_has_its_limit_too() {
    let crate::withdraw::Settled { mut stage, user, lease, .. } = crate::withdraw::Settled::new();
    let world = &mut stage.world;
    let later = (world.now() / HOUR + 49) * HOUR;
    world.set_time(later);
    world.patch_as::<Network>(&addresses::network(), |n| n.parameters.breaker_limits[2] = 150_000);
    let refund = world.read::<datagalax::state::Lease>(&lease).refunded;
    let (purse, pay) = (world.balance(&user.from), instructions::withdraw(world, &lease, Vault::Escrow, &user.from));
    world.run(pay.clone());
    assert_eq!(world.balance(&user.from), purse + 150_000);
    world.refused(pay.clone(), &[], "BreakerOpen");
    world.set_time(later + 25 * HOUR);
    world.run(pay.clone());
    assert_eq!(world.balance(&user.from), purse + refund);
    assert!(refund > 150_000 && refund <= 300_000);
    world.refused(pay, &[], "NothingToPay");
    world.check_books();
}
