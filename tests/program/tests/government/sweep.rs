//! `sweep_vault`: what the stake and escrow vaults owe nobody funds rewards.

use datagalax::{
    instructions::OpenLeaseArgs,
    state::{Lease, Provider, VaultLedger},
};
use datagalax_program_tests::{
    World,
    actors::fingerprint,
    addresses::{self, Vault},
    instructions,
    refusals::Call,
    settings::ATH,
    stage::{Stage, perfect},
};
use solana_signer::Signer;

/// A world in which a slash took 7 ATH of a provider's stake: nobody is owed them any more.
pub fn slashed() -> World {
    let mut world = World::new();
    world.provider_with(100 * ATH);
    world.patch_as::<Provider>(&addresses::provider(0), |p| p.staked -= 7 * ATH);
    world.patch_as::<VaultLedger>(&addresses::ledger(Vault::Stake), |l| l.liabilities -= 7 * ATH);
    world.check_books();
    world
}

#[test]
fn slashed_stake_moves_to_the_rewards_vault() {
    let mut world = slashed();
    let (stake, rewards) = (world.ledger(Vault::Stake), world.ledger(Vault::Rewards));
    let sweep = instructions::sweep_vault(&world, Vault::Stake);
    // A donation to the vault stays where it is.
    world.patch(&addresses::vault(Vault::Stake), |data| data[64..72].copy_from_slice(&(100 * ATH + 9).to_le_bytes()));
    world.run(sweep.clone());
    let (after, received) = (world.ledger(Vault::Stake), world.ledger(Vault::Rewards));
    assert_eq!((after.balance, after.liabilities, after.total_out), (93 * ATH, 93 * ATH, stake.total_out + 7 * ATH));
    assert_eq!((received.balance, received.liabilities), (rewards.balance + 7 * ATH, rewards.liabilities));
    assert_eq!(world.balance(&addresses::vault(Vault::Stake)), 93 * ATH + 9);
    assert_eq!(world.balance(&addresses::vault(Vault::Rewards)), received.balance);
    // Nobody outside was paid: the breakers have counted nothing.
    assert_eq!((after.hourly_net, received.hourly_net), (stake.hourly_net, rewards.hourly_net));
    world.refused(sweep, &[], "NothingToPay");
    world.check_books();
}

#[test]
fn fees_of_leases_move_to_the_rewards_vault_and_nothing_that_is_owed() {
    let mut stage = Stage::new(3, 1).pass_to(3, &perfect());
    let world = &mut stage.world;
    let (user, operator) = (world.user(), world.container_operator(&fingerprint(0)));
    let container = addresses::container(0, &fingerprint(0));
    let args =
        OpenLeaseArgs { nonce: 1, seconds: 600, max_price_per_hour: 2 * ATH, workload_hash: [1; 32], match_expires: 0 };
    let open = instructions::open_lease(world, &user, &container, None, args);
    world.must(&[open], &[&user.key]);
    let lease = addresses::lease(&user.key.pubkey(), 1);
    let sweep = instructions::sweep_vault(world, Vault::Escrow);
    world.refused(sweep.clone(), &[], "NothingToPay");
    let start = instructions::start_lease(world, &operator.pubkey(), &lease);
    world.must(&[start], &[&operator]);
    let started = world.now();
    world.set_time(started + 600);
    let close = instructions::close_lease(world, &user.key.pubkey(), &lease, false, 0);
    world.must(&[close], &[&user.key]);
    world.set_time(started + 3_600);
    let settle = instructions::settle_lease(world, &lease);
    world.run(settle);
    let settled: Lease = world.read(&lease);
    assert_eq!((settled.status, settled.fee), (Lease::SETTLED, 66_666), "a fifth of 600 s at 2 ATH an hour");

    let before = world.ledger(Vault::Rewards);
    // In a pause as well.
    world.set_paused(true);
    world.run(sweep.clone());
    assert_eq!(world.ledger(Vault::Rewards).balance, before.balance + 66_666);
    let escrow = world.ledger(Vault::Escrow);
    assert_eq!((escrow.balance, escrow.liabilities), (settled.paid + settled.refunded, settled.paid + settled.refunded));
    world.refused(sweep, &[], "NothingToPay");
    world.check_books();
}

#[test]
fn sweep_vault_refuses() {
    let mut world = slashed();
    let valid = instructions::sweep_vault(&world, Vault::Stake);
    // The rewards vault is swept nowhere: what it holds free is the next epochs' emission.
    let rewards = instructions::sweep_vault(&world, Vault::Rewards);
    assert!(world.send(&[rewards], &[]).is_err(), "the rewards vault into itself");
    // To another vault, or to a token account of one's own, than that of rewards.
    let mint = world.mint;
    let own = world.put_token_account(&mint, &addresses::network(), 0, "own");
    for to in [own, addresses::vault(Vault::Escrow)] {
        let mut wrong = valid.clone();
        wrong.accounts[6].pubkey = to;
        world.refused(wrong, &[], "WrongAccount");
    }
    let mut wrong = valid.clone();
    wrong.accounts[5].pubkey = addresses::ledger(Vault::Escrow);
    wrong.accounts[6].pubkey = addresses::vault(Vault::Escrow);
    world.refused(wrong, &[], "WrongAccount");
    // A ledger with another's vault.
    let mut wrong = valid.clone();
    wrong.accounts[3].pubkey = addresses::vault(Vault::Escrow);
    world.refused(wrong, &[], "WrongAccount");
    Call::new(world, valid, &[]).check();
}
