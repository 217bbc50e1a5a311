//! `withdraw`: what the vaults owe a provider, an indexer, a lease's user; where it goes, and that no pause stops it. A keeper's is in
//! `treasury`, rewards day by day in `vesting`, requests to unstake in `unstake`.

use datagalax::{
    instructions::OpenLeaseArgs,
    state::{Indexer as IndexerAccount, Lease, Provider as ProviderAccount, VaultLedger},
};
use datagalax_program_tests::{
    Indexer, User,
    accounts::rows,
    actors::fingerprint,
    addresses::{self, INSTRUCTIONS, Vault},
    instructions,
    refusals::Call,
    settings::ATH,
    stage::{Stage, perfect},
    tokens::MintData,
    world::address_of,
};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

/// A lease of 600 s that the host closed after 300 s, matched by an indexer, settled to its end.
pub struct Settled {
    pub stage: Stage,
    pub user: User,
    pub indexer: Indexer,
    pub lease: Pubkey,
}

impl Settled {
    /// Row 0 is live and has earned for epoch 3; its rewards are claimed today.
    pub fn new() -> Self {
        let mut stage = Stage::new(3, 1).pass_to(4, &perfect());
        let world = &mut stage.world;
        let (user, indexer) = (world.user(), world.indexer());
        let container = addresses::container(0, &fingerprint(0));
        let expires = world.now() + 60;
        let args = OpenLeaseArgs {
            nonce: 1,
            seconds: 600,
            max_price_per_hour: 2 * ATH,
            workload_hash: [1; 32],
            match_expires: expires,
        };
        let sign = instructions::sign_match(&indexer.operator, indexer.id, &user.key.pubkey(), &container, 1, expires);
        let open = instructions::open_lease(world, &user, &container, Some(indexer.id), args);
        assert!(open.accounts.iter().any(|m| m.pubkey == INSTRUCTIONS));
        world.must(&[sign, open], &[&user.key]);
        let lease = addresses::lease(&user.key.pubkey(), 1);
        let operator = world.container_operator(&fingerprint(0));
        let start = instructions::start_lease(world, &operator.pubkey(), &lease);
        world.must(&[start], &[&operator]);
        let started = world.now();
        world.set_time(started + 300);
        let close = instructions::close_lease(world, &operator.pubkey(), &lease, false, 7);
        world.must(&[close], &[&operator]);
        world.set_time(started + 3_600);
        let settle = instructions::settle_lease(world, &lease);
        world.run(settle);
        let claim = instructions::claim_rewards(&stage.provider, 0, &rows([0]));
        world.must(&[claim], &[&stage.provider.operator]);
        world.check_books();
        Self { stage, user, indexer, lease }
    }
}

#[test]
fn lease_money_goes_to_each_of_its_parties_once() {
    let Settled { mut stage, user, indexer, lease } = Settled::new();
    let world = &mut stage.world;
    let purse = world.balance(&user.from);
    let account: Lease = world.read(&lease);
    // 300 s at 2 ATH an hour; a fifth of that as fee, a tenth of which is the indexer's.
    let (paid, fee) = (2 * ATH * 300 / 3_600, 2 * ATH * 300 / 3_600 * 2_000 / 10_000);
    assert_eq!((account.paid, account.fee, account.indexer_fee), (paid, fee, fee / 10));
    assert_eq!(account.refunded, account.escrowed - paid - fee);
    // The host closed early: the price of an epoch out of its stake.
    assert_eq!(account.compensation, 2 * ATH * 60 / 3_600);

    // Anybody calls, in a pause as well.
    world.set_paused(true);
    for (source, name, to, amount) in [
        (addresses::provider(0), Vault::Escrow, stage.provider.to, paid),
        (addresses::indexer(indexer.id), Vault::Escrow, indexer.to, fee / 10),
        (lease, Vault::Escrow, user.from, account.refunded),
        (lease, Vault::Stake, user.from, account.compensation),
    ] {
        let pay = instructions::withdraw(world, &source, name, &to);
        let (before, ledger) = (world.balance(&to), world.ledger(name));
        world.run(pay.clone());
        assert_eq!(world.balance(&to) - before, amount);
        let after = world.ledger(name);
        assert_eq!((ledger.balance - after.balance, ledger.liabilities - after.liabilities), (amount, amount));
        world.check_books();
        world.refused(pay, &[], "NothingToPay");
    }
    assert_eq!(world.balance(&user.from) - purse, account.refunded + account.compensation);
    // What is left in escrow is the fee that is swept.
    let escrow = world.ledger(Vault::Escrow);
    assert_eq!((escrow.balance, escrow.liabilities), (fee - fee / 10, 0));
}

#[test]
fn vested_rewards_are_paid_once_a_day_and_in_a_pause() {
    let Settled { mut stage, .. } = Settled::new();
    let world = &mut stage.world;
    let claimed = world.provider(0).claimed;
    assert_eq!(claimed, 750 * ATH, "all of epoch 3's share");
    world.set_paused(true);
    let pay = instructions::withdraw(world, &addresses::provider(0), Vault::Rewards, &stage.provider.to);
    world.run(pay.clone());
    assert_eq!(world.balance(&stage.provider.to), 225 * ATH, "three tenths at once");
    assert_eq!(world.provider(0).withdrawn, 225 * ATH);
    world.refused(pay.clone(), &[], "NothingToPay");
    let tomorrow = (world.now() / 86_400 + 1) * 86_400;
    world.set_time(tomorrow - 1);
    world.refused(pay.clone(), &[], "NothingToPay");
    world.set_time(tomorrow);
    world.run(pay);
    assert_eq!(world.balance(&stage.provider.to), 225 * ATH + 225 * ATH / 90 + 300 * ATH / 180);
    world.check_books();
}

#[test]
fn an_indexers_stake_comes_back_when_it_has_left_and_waited() {
    let Settled { mut stage, indexer, .. } = Settled::new();
    let world = &mut stage.world;
    let address = addresses::indexer(indexer.id);
    let pay = instructions::withdraw(world, &address, Vault::Stake, &indexer.to);
    world.refused(pay.clone(), &[], "NothingToPay");
    let leave = instructions::leave_indexer(&indexer);
    world.must(&[leave], &[&indexer.owner]);
    let left = world.now();
    world.set_time(left + 719);
    world.refused(pay.clone(), &[], "NothingToPay");
    world.set_time(left + 720);
    world.run(pay.clone());
    let account: IndexerAccount = world.read(&address);
    assert_eq!((account.staked, world.balance(&indexer.to)), (0, 50 * ATH));
    world.refused(pay, &[], "NothingToPay");
    // Fees still come after the stake.
    let fees = instructions::withdraw(world, &address, Vault::Escrow, &indexer.to);
    world.run(fees);
    assert_eq!(world.balance(&indexer.to), 50 * ATH + 3_333);
    world.check_books();
}

#[test]
fn a_vault_that_owes_a_creditor_nothing_pays_nothing() {
    let Settled { mut stage, user, indexer, lease } = Settled::new();
    let world = &mut stage.world;
    for (source, name, to) in [
        (addresses::provider(0), Vault::Stake, stage.provider.to),
        (addresses::indexer(indexer.id), Vault::Rewards, indexer.to),
        (addresses::indexer(indexer.id), Vault::Stake, indexer.to),
        (lease, Vault::Rewards, user.from),
    ] {
        let pay = instructions::withdraw(world, &source, name, &to);
        world.refused(pay, &[], "NothingToPay");
    }
    // Accounts that are no creditors: a checker is paid by its own instructions.
    for source in [addresses::checker(0), addresses::epoch(3), addresses::container(0, &fingerprint(0)), addresses::block(0)]
    {
        let pay = instructions::withdraw(world, &source, Vault::Stake, &stage.provider.to);
        world.refused(pay, &[], "WrongAccount");
    }
}

#[test]
fn everything_goes_to_the_creditors_wallet_and_nowhere_else() {
    let Settled { mut stage, user, indexer, lease } = Settled::new();
    let leave = instructions::leave_indexer(&indexer);
    stage.world.must(&[leave], &[&indexer.owner]);
    let ask = instructions::request_unstake(&stage.provider, ATH);
    stage.world.must(&[ask], &[&stage.provider.owner]);
    let later = stage.world.now() + 720;
    let world = &mut stage.world;
    world.set_time(later);
    let (mint, thief) = (world.mint, address_of(&[b"thief"]));
    let own = world.put_token_account(&mint, &thief, 0, "");
    let other_mint = address_of(&[b"other mint"]);
    world.put_mint(other_mint, MintData::default());
    let provider = addresses::provider(0);
    let cases = [
        (provider, Vault::Stake, stage.provider.payout, stage.provider.to),
        (provider, Vault::Rewards, stage.provider.payout, stage.provider.to),
        (provider, Vault::Escrow, stage.provider.payout, stage.provider.to),
        (addresses::indexer(indexer.id), Vault::Stake, indexer.payout, indexer.to),
        (addresses::indexer(indexer.id), Vault::Escrow, indexer.payout, indexer.to),
        (lease, Vault::Stake, user.key.pubkey(), user.from),
        (lease, Vault::Escrow, user.key.pubkey(), user.from),
    ];
    for (source, name, wallet, to) in cases {
        // A stranger's, an odd one of the wallet's, one of another mint.
        let odd = world.put_token_account(&mint, &wallet, 0, "odd");
        let foreign = world.put_token_account(&other_mint, &wallet, 0, "");
        for wrong in [own, odd, foreign] {
            let pay = instructions::withdraw(world, &source, name, &wrong);
            world.refused(pay, &[], "WrongAccount");
        }
        let pay = instructions::withdraw(world, &source, name, &to);
        // The right one, signed over to somebody else.
        let mut signed_over = world.clone();
        signed_over.patch(&to, |data| data[32..64].copy_from_slice(thief.as_ref()));
        signed_over.refused(pay.clone(), &[], "WrongAccount");
        // Another mint, another vault of this ledger.
        let mut wrong = pay.clone();
        wrong.accounts[2].pubkey = other_mint;
        world.refused(wrong, &[], "WrongAccount");
        let mut wrong = pay.clone();
        let elsewhere = if name == Vault::Stake { Vault::Escrow } else { Vault::Stake };
        wrong.accounts[4].pubkey = addresses::vault(elsewhere);
        world.refused(wrong, &[], "WrongAccount");
        Call::new(world.clone(), pay, &[]).check();
    }
}

#[test]
fn books_that_do_not_owe_it_pay_nothing() {
    // As no sequence of instructions can leave them.
    let Settled { mut stage, .. } = Settled::new();
    let world = &mut stage.world;
    let pay = instructions::withdraw(world, &addresses::provider(0), Vault::Escrow, &stage.provider.to);
    let mut broken = world.clone();
    broken.patch_as::<VaultLedger>(&addresses::ledger(Vault::Escrow), |l| l.liabilities = 1);
    broken.refused(pay.clone(), &[], "InvariantViolated");
    let mut broken = world.clone();
    broken.patch_as::<ProviderAccount>(&addresses::provider(0), |p| p.lease_due = 1 << 55);
    broken.refused(pay, &[], "InvariantViolated");
    let mut broken = world.clone();
    broken.patch_as::<ProviderAccount>(&addresses::provider(0), |p| p.grants.iter_mut().for_each(|g| g.terms = 9));
    let pay = instructions::withdraw(world, &addresses::provider(0), Vault::Rewards, &stage.provider.to);
    broken.refused(pay, &[], "InvariantViolated");
}
