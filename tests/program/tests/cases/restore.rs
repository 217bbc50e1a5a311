//! `restore_stake`.

use datagalax::state::{Container, Provider as ProviderAccount, Row};
use datagalax_program_tests::{
    Provider, World,
    actors::fingerprint,
    addresses, instructions,
    refusals::Call,
    settings::ATH,
    stage::{Stage, perfect},
};
use solana_signer::Signer;

use crate::court::{FULL, STAKE, container, leased, pass_to, row};

/// Price of an epoch of 60 s at 2 ATH an hour, rounded down.
const EPOCH_PRICE: u64 = 2 * ATH * 60 / 3_600;

/// In epoch 3, one live row whose container was halted, because its host closed a lease early: that cost an epoch's price.
fn halted() -> Stage {
    let mut stage = Stage::new(5, 1).pass_to(3, &perfect());
    let (_, lease) = leased(&mut stage, 0);
    let operator = stage.world.container_operator(&fingerprint(0));
    let close = instructions::close_lease(&stage.world, &operator.pubkey(), &lease, false, 7);
    stage.world.must(&[close], &[&operator]);
    assert_eq!(container(&stage, 0).locked_stake, STAKE - EPOCH_PRICE);
    stage.world.check_books();
    stage
}

fn restore(world: &World, provider: &Provider) -> solana_instruction::Instruction {
    instructions::restore_stake(world, provider, &fingerprint(0))
}

#[test]
fn what_is_lacking_is_locked_again_and_the_container_works() {
    let mut stage = halted();
    let before = stage.world.provider(0);
    assert_eq!((container(&stage, 0).status, container(&stage, 0).halt_reason), (1, Container::HALT_CLOSED_EARLY));
    // The lease's cap holds for the epoch it touched, the halt for the ones after: nothing is earned in 4.
    pass_to(&mut stage, 5, &perfect());
    assert_eq!(row(&stage.world, 0).accrued, 0);

    let again = restore(&stage.world, &stage.provider);
    stage.world.must(std::slice::from_ref(&again), &[&stage.provider.owner]);
    stage.world.check_books();
    let (provider, container) = (stage.world.provider(0), container(&stage, 0));
    assert_eq!((container.status, container.halt_reason, container.locked_stake), (0, 0, STAKE));
    assert_eq!((provider.locked, provider.staked), (before.locked + EPOCH_PRICE, before.staked));
    assert_eq!(row(&stage.world, 0).flags & Row::HALTED, 0);
    stage.world.refused(again, &[&stage.provider.owner], "NotHalted");

    // It was restored before the tally of 5 and of 6.
    pass_to(&mut stage, 7, &perfect());
    assert_eq!(row(&stage.world, 0).accrued, 2 * FULL);
}

#[test]
fn restore_stake_refuses() {
    let mut stage = halted();
    let other = stage.world.provider_with(ATH);
    let (world, provider) = (&mut stage.world, &stage.provider);
    let valid = restore(world, provider);
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = provider.operator.pubkey();
    world.refused(wrong, &[&provider.operator], "Unauthorized");
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = other.owner.pubkey();
    wrong.accounts[1].pubkey = addresses::provider(other.id);
    world.refused(wrong, &[&other.owner], "WrongAccount");
    let second = world.grown_block_regardless();
    let mut wrong = valid.clone();
    wrong.accounts[3].pubkey = addresses::block(second);
    world.refused(wrong, &[&provider.owner], "WrongAccount");

    // A base unit too little that is free: locked and asked-back stake are not.
    let mut poor = world.clone();
    poor.patch_as::<ProviderAccount>(&addresses::provider(0), |p| p.staked = p.locked + EPOCH_PRICE - 1);
    poor.refused(valid.clone(), &[&provider.owner], "StakeTooLow");
    let mut unbonding = world.clone();
    let free = unbonding.provider(0).free_stake();
    let ask = instructions::request_unstake(provider, free - EPOCH_PRICE + 1);
    unbonding.must(&[ask], &[&provider.owner]);
    unbonding.refused(valid.clone(), &[&provider.owner], "StakeTooLow");
    let more = instructions::stake(&unbonding, provider, 1);
    unbonding.must(&[more, valid.clone()], &[&provider.owner]);
    unbonding.check_books();

    // A pause keeps nobody from making good.
    let mut paused = world.clone();
    paused.set_paused(true);
    paused.must(std::slice::from_ref(&valid), &[&provider.owner]);
    Call::new(world.clone(), valid, &[&provider.owner]).check();
}
