//! `request_unstake`.

use datagalax::state::Provider;
use datagalax_program_tests::{
    World,
    addresses::{self, Vault},
    instructions,
    refusals::Call,
    settings::ATH,
    stage::Stage,
};
use solana_signer::Signer;

/// Seconds a request waits in the tests' settings.
const WAIT: i64 = 720;

#[test]
fn a_request_binds_free_stake_and_is_paid_when_its_time_has_come() {
    let mut world = World::new();
    let provider = world.provider_with(100 * ATH);
    let asked_at = world.now();
    let ask = instructions::request_unstake(&provider, 30 * ATH);
    world.must(&[ask], &[&provider.owner]);
    let account: Provider = world.provider(provider.id);
    assert_eq!((account.staked, account.unbonding, account.free_stake()), (100 * ATH, 30 * ATH, 70 * ATH));
    assert_eq!((account.unbonding_entries[0].amount, account.unbonding_entries[0].unlocks_at), (30 * ATH, asked_at + WAIT));
    world.check_books();

    let pay = instructions::withdraw(&world, &addresses::provider(provider.id), Vault::Stake, &provider.to);
    world.refused(pay.clone(), &[], "NothingToPay");
    world.set_time(asked_at + WAIT - 1);
    world.refused(pay.clone(), &[], "NothingToPay");
    world.set_time(asked_at + WAIT);
    world.run(pay.clone());
    let account = world.provider(provider.id);
    assert_eq!((account.staked, account.unbonding, account.free_stake()), (70 * ATH, 0, 70 * ATH));
    assert_eq!(world.balance(&provider.to), 30 * ATH);
    assert_eq!(world.ledger(Vault::Stake).liabilities, 70 * ATH);
    world.refused(pay, &[], "NothingToPay");
    world.check_books();
}

#[test]
fn only_free_stake_is_given_back() {
    let mut stage = Stage::new(3, 2);
    let free = stage.world.provider(0).free_stake();
    assert_eq!(free, 100_000 * ATH - 20 * ATH, "two containers lock 10 ATH each");
    let (world, owner) = (&mut stage.world, stage.provider.owner.clone());
    for (amount, name) in [(0, "BadAmount"), (free + 1, "StakeTooLow"), (u64::MAX, "StakeTooLow")] {
        let ask = instructions::request_unstake(&stage.provider, amount);
        world.refused(ask, &[&owner], name);
    }
    let all = instructions::request_unstake(&stage.provider, free);
    world.must(std::slice::from_ref(&all), &[&owner]);
    let one_more = instructions::request_unstake(&stage.provider, 1);
    world.refused(one_more, &[&owner], "StakeTooLow");
    // What was asked back is not there for containers either.
    let args = datagalax_program_tests::actors::container_args([3; 32], 1);
    let register = instructions::register_container(world, &stage.provider, 0, 0, args);
    world.refused(register, &[&owner], "StakeTooLow");
    world.check_books();
}

#[test]
fn eight_requests_wait_at_most_and_a_paid_one_makes_room() {
    let mut world = World::new();
    let provider = world.provider_with(100 * ATH);
    let begin = world.now();
    for i in 0..8 {
        world.set_time(begin + i);
        let ask = instructions::request_unstake(&provider, u64::try_from(i + 1).expect("a small number") * ATH);
        world.must(&[ask], &[&provider.owner]);
    }
    let ask = instructions::request_unstake(&provider, ATH);
    world.refused(ask.clone(), &[&provider.owner], "TooManyRequests");
    // Unlocked, but not withdrawn: still no room.
    world.set_time(begin + WAIT + 1);
    world.refused(ask.clone(), &[&provider.owner], "TooManyRequests");
    let pay = instructions::withdraw(&world, &addresses::provider(provider.id), Vault::Stake, &provider.to);
    world.run(pay.clone());
    assert_eq!(world.balance(&provider.to), 3 * ATH, "the two whose time has come");
    world.must(std::slice::from_ref(&ask), &[&provider.owner]);
    world.must(std::slice::from_ref(&ask), &[&provider.owner]);
    world.refused(ask, &[&provider.owner], "TooManyRequests");
    world.set_time(begin + 10 * WAIT);
    world.run(pay);
    assert_eq!(world.balance(&provider.to), 38 * ATH, "all eight and the two that came later");
    assert_eq!((world.provider(0).unbonding, world.provider(0).staked), (0, 62 * ATH));
    world.check_books();
}

#[test]
fn only_the_owner_asks() {
    let mut world = World::new();
    let (provider, other) = (world.provider_with(100 * ATH), world.provider_with(100 * ATH));
    for key in [&provider.operator, &other.owner] {
        let mut ask = instructions::request_unstake(&provider, ATH);
        ask.accounts[0].pubkey = key.pubkey();
        world.refused(ask, &[key], "Unauthorized");
    }
    // A pause does not hold it up.
    world.set_paused(true);
    let ask = instructions::request_unstake(&provider, ATH);
    Call::new(world, ask, &[&provider.owner]).check();
}
