//! `register_provider`, `stake`.

use datagalax::constants::{MAX_AMOUNT, NONE};
use datagalax::state::{Network, VERSION};
use datagalax_program_tests::{
    World,
    actors::PURSE,
    addresses::{self, Vault},
    instructions,
    settings::ATH,
    tokens::MintData,
    world::address_of,
};
use solana_signer::Signer;

use datagalax_program_tests::refusals::Call;

#[test]
fn register_provider_names_its_keys_and_takes_the_next_id() {
    let mut world = World::new();
    for id in 0..3 {
        let provider = world.provider_with(0);
        let account = world.provider(id);
        assert_eq!((provider.id, account.id, account.version), (id, id, VERSION));
        assert_eq!((account.owner, account.operator), (provider.owner.pubkey(), provider.operator.pubkey()));
        assert_eq!((account.payout, account.staked, account.containers), (provider.payout, 0, 0));
    }
    assert_eq!(world.network().providers, 3);
    world.check_books();
}

#[test]
fn register_provider_refuses() {
    let mut world = World::new();
    let first = world.provider_with(0);
    let to_be = world.provider_to_be();
    let register = |id| instructions::register_provider(&to_be.owner.pubkey(), id, &to_be.operator.pubkey(), &to_be.payout);

    // Not the next id: a later one, or one that is taken.
    world.refused(register(2), &[&to_be.owner], "InvalidSeeds");
    world.refused(register(first.id), &[&to_be.owner], "InvalidSeeds");
    world.set_paused(true);
    world.refused(register(1), &[&to_be.owner], "Paused");
    world.set_paused(false);

    // Ids end before the one that means "none".
    let mut last = world.clone();
    last.patch_as::<Network>(&addresses::network(), |n| n.providers = NONE - 1);
    last.refused(register(NONE - 1), &[&to_be.owner], "Overflow");
    Call::new(world, register(1), &[&to_be.owner]).check();
}

#[test]
fn stake_moves_tokens_and_owes_them() {
    let mut world = World::new();
    let provider = world.provider_with(10 * ATH);
    let more = instructions::stake(&world, &provider, 5);
    world.must(&[more], &[&provider.owner]);
    let account = world.provider(provider.id);
    assert_eq!((account.staked, account.free_stake(), account.locked), (10 * ATH + 5, 10 * ATH + 5, 0));
    let ledger = world.ledger(Vault::Stake);
    assert_eq!((ledger.balance, ledger.liabilities), (10 * ATH + 5, 10 * ATH + 5));
    assert_eq!(world.balance(&provider.from), PURSE - 10 * ATH - 5);
    world.check_books();
}

#[test]
fn stake_refuses() {
    let mut world = World::new();
    let provider = world.provider_with(0);
    let other = world.provider_with(0);
    for amount in [0, MAX_AMOUNT + 1, u64::MAX] {
        let instruction = instructions::stake(&world, &provider, amount);
        world.refused(instruction, &[&provider.owner], "BadAmount");
    }
    let valid = instructions::stake(&world, &provider, ATH);

    // For another provider, whose owner does not sign; with the operator's key.
    let mut wrong = valid.clone();
    wrong.accounts[2].pubkey = addresses::provider(other.id);
    world.refused(wrong, &[&provider.owner], "Unauthorized");
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = provider.operator.pubkey();
    world.refused(wrong, &[&provider.operator], "Unauthorized");

    // Another vault or ledger, another mint, another's tokens.
    let mut wrong = valid.clone();
    wrong.accounts[5].pubkey = addresses::ledger(Vault::Rewards);
    wrong.accounts[6].pubkey = addresses::vault(Vault::Rewards);
    world.refused(wrong, &[&provider.owner], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[6].pubkey = addresses::vault(Vault::Rewards);
    world.refused(wrong, &[&provider.owner], "WrongAccount");
    let mint = address_of(&[b"other mint"]);
    world.put_mint(mint, MintData::default());
    let mut wrong = valid.clone();
    wrong.accounts[4].pubkey = mint;
    world.refused(wrong, &[&provider.owner], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[3].pubkey = other.from;
    assert!(world.send(&[wrong], &[&provider.owner]).is_err(), "another's tokens");

    world.set_paused(true);
    world.refused(valid.clone(), &[&provider.owner], "Paused");
    world.set_paused(false);
    Call::new(world, valid, &[&provider.owner]).check();
}

#[test]
fn a_vault_holds_at_most_its_bound() {
    let mut world = World::new();
    world.provider_with(MAX_AMOUNT);
    let provider = world.provider_with(0);
    let instruction = instructions::stake(&world, &provider, 1);
    world.refused(instruction, &[&provider.owner], "Overflow");
    world.check_books();
}
