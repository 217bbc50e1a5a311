//! `withdraw_treasury`, and `withdraw` of a keeper's fees.

use datagalax::state::{Keeper, Parameters};
use datagalax_program_tests::{
    Settings, World,
    addresses::{self, Vault},
    instructions,
    refusals::Call,
    settings::{ATH, parameters},
    stage::{Stage, perfect},
    world::address_of,
};
use solana_signer::Signer;

use crate::keepers::{name_keeper, paying};

/// Epochs 0 and 1 are released and left the treasury 50 ATH each.
fn earned(settings: Settings) -> Stage {
    Stage::of(settings, 3, 1).pass_to(3, &perfect())
}

#[test]
fn the_treasury_gets_its_share_of_released_epochs() {
    let mut stage = earned(Settings::default());
    let world = &mut stage.world;
    let (treasury, before) = (world.network().treasury, world.ledger(Vault::Rewards));
    let pay = instructions::withdraw_treasury(world);
    // Anybody may call, in a pause as well.
    world.set_paused(true);
    world.run(pay.clone());
    let after = world.ledger(Vault::Rewards);
    assert_eq!((world.balance(&treasury), world.network().treasury_due), (100 * ATH, 0));
    assert_eq!((before.liabilities - after.liabilities, before.balance - after.balance), (100 * ATH, 100 * ATH));
    world.refused(pay, &[], "NothingToPay");
    world.check_books();
}

#[test]
fn the_treasury_is_paid_nowhere_else() {
    let mut stage = earned(Settings::default());
    let world = &mut stage.world;
    let (mint, thief) = (world.mint, address_of(&[b"thief"]));
    let valid = instructions::withdraw_treasury(world);
    let own = world.put_token_account(&mint, &thief, 0, "");
    // A token account of the treasury's owner that is not the one named.
    let authority = world.authority.pubkey();
    let odd = world.put_token_account(&mint, &authority, 0, "odd");
    for to in [own, odd] {
        let mut wrong = valid.clone();
        wrong.accounts.iter_mut().find(|m| m.pubkey == world.network().treasury).expect("the treasury").pubkey = to;
        world.refused(wrong, &[], "WrongAccount");
    }
    // Another vault.
    for name in [Vault::Stake, Vault::Escrow] {
        let mut wrong = valid.clone();
        wrong.accounts[2].pubkey = addresses::ledger(name);
        wrong.accounts[3].pubkey = addresses::vault(name);
        world.refused(wrong, &[], "WrongAccount");
    }
    Call::new(world.clone(), valid, &[]).check();
}

#[test]
fn the_breaker_lets_the_treasury_have_what_fits() {
    let limits = [1 << 56, 30 * ATH, 1 << 56];
    let settings = Settings { parameters: Parameters { breaker_limits: limits, ..parameters() }, ..Settings::default() };
    let mut stage = earned(settings);
    let world = &mut stage.world;
    // The funding counts as inflow of this day: two days later it does not.
    let later = world.now() + 2 * 86_400;
    world.set_time(later);
    let (treasury, pay) = (world.network().treasury, instructions::withdraw_treasury(world));
    for (days, paid) in [(0, 30), (1, 60), (2, 90), (3, 100)] {
        world.set_time(later + days * 25 * 3_600);
        world.run(pay.clone());
        assert_eq!((world.balance(&treasury), world.network().treasury_due), (paid * ATH, (100 - paid) * ATH));
        world.check_books();
        if paid < 100 {
            world.refused(pay.clone(), &[], "BreakerOpen");
        }
    }
    world.refused(pay, &[], "NothingToPay");
}

/// A keeper that is owed 9 ATH for epoch 1 and 6 for epoch 2.
fn kept() -> (World, solana_pubkey::Pubkey) {
    let mut stage = Stage::of(paying(3 * ATH), 3, 1);
    let wallet = name_keeper(&mut stage.world, "keeper");
    let stage = stage.pass_to(2, &perfect());
    (stage.world, wallet)
}

#[test]
fn a_keepers_fees_go_to_its_wallets_token_account() {
    let (mut world, wallet) = kept();
    let address = addresses::keeper(&wallet);
    // Advance of 1 and 2, tally of 1: nobody is named in the stage's draws.
    assert_eq!(world.read::<Keeper>(&address).due, 9 * ATH);
    let mint = world.mint;
    let to = world.put_token_account(&mint, &wallet, 5, "");
    let pay = instructions::withdraw(&world, &address, Vault::Rewards, &to);
    world.set_paused(true);
    let mut clone = world.clone();
    clone.run(pay.clone());
    assert_eq!((clone.balance(&to), clone.read::<Keeper>(&address).due), (5 + 9 * ATH, 0));
    assert_eq!(clone.read::<Keeper>(&address).earned, 9 * ATH);
    clone.refused(pay.clone(), &[], "NothingToPay");
    clone.check_books();

    // Of the other vaults it is owed nothing; and nobody else's account will do.
    for name in [Vault::Stake, Vault::Escrow] {
        let other = instructions::withdraw(&world, &address, name, &to);
        world.refused(other, &[], "NothingToPay");
    }
    let odd = world.put_token_account(&mint, &wallet, 0, "odd");
    let own = world.put_token_account(&mint, &address_of(&[b"thief"]), 0, "");
    for to in [odd, own] {
        let wrong = instructions::withdraw(&world, &address, Vault::Rewards, &to);
        world.refused(wrong, &[], "WrongAccount");
    }
    Call::new(world, pay, &[]).check();
}
