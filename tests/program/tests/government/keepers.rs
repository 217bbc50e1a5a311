//! `register_keeper`, and the fees that advance, draw, tally and `close_case` credit to a keeper that names itself.

use datagalax::state::{Epoch, Keeper, Network};
use datagalax_program_tests::{
    Report, Settings, World,
    actors::fingerprint,
    addresses::{self, Vault},
    epochs::SeatAt,
    instructions,
    refusals::Call,
    settings::{ATH, parameters},
    stage::{Stage, perfect},
    world::named_key,
};
use solana_instruction::{AccountMeta, Instruction};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::proposals::enact;

/// Settings with a keeper's fee; the treasury's share of an epoch is 50 ATH.
pub fn paying(keeper_fee: u64) -> Settings {
    Settings { parameters: datagalax::state::Parameters { keeper_fee, ..parameters() }, ..Settings::default() }
}

/// Opens an account for a keeper's wallet and names it from now on.
pub fn name_keeper(world: &mut World, wallet: &str) -> Pubkey {
    let wallet = named_key(wallet).pubkey();
    let payer = world.payer.pubkey();
    world.run(instructions::register_keeper(&payer, &wallet));
    world.keeper = Some(wallet);
    wallet
}

/// `draw` that names a keeper.
pub fn draw_by(epoch: u32, wallet: &Pubkey) -> Instruction {
    let mut draw = instructions::draw(epoch);
    draw.accounts[4] = AccountMeta::new(addresses::keeper(wallet), false);
    draw
}

/// Everything of an epoch, each step in the keeper's name, its tally in the epoch that follows.
fn whole_epoch(stage: &mut Stage, epoch: u32) {
    let world = &mut stage.world;
    world.reveal_all(&stage.checkers, epoch - 1, &perfect());
    world.advance(epoch);
    world.churn(epoch);
    let wallet = world.keeper.expect("a keeper");
    world.wait_until(world.start_of(epoch) + 6);
    world.run(draw_by(epoch, &wallet));
    world.seat(epoch, 0);
    world.tally_all(epoch - 1);
    world.commit_all(&stage.checkers, epoch, &perfect());
    world.check_books();
}

fn due(world: &World, wallet: &Pubkey) -> u64 {
    world.read::<Keeper>(&addresses::keeper(wallet)).due
}

#[test]
fn each_action_is_paid_once_out_of_the_treasurys_share() {
    let mut stage = Stage::of(paying(3 * ATH), 3, 1);
    let wallet = name_keeper(&mut stage.world, "keeper");
    whole_epoch(&mut stage, 1);
    // Advance and draw of epoch 1. The block's tally of epoch 0, in which it had no seats, was not.
    assert_eq!(due(&stage.world, &wallet), 6 * ATH);
    whole_epoch(&mut stage, 2);
    // Advance and draw of 2, tally of 1.
    assert_eq!(due(&stage.world, &wallet), 15 * ATH);
    let epoch = stage.world.epoch(1);
    assert_eq!((epoch.keeper_credited, epoch.treasury_pool), (9 * ATH, 50 * ATH));
    let keeper: Keeper = stage.world.read(&addresses::keeper(&wallet));
    assert_eq!((keeper.earned, keeper.actions, keeper.wallet), (15 * ATH, 5, wallet));

    // The treasury gets what the keeper left of each epoch: 0 had none, 1 had three fees.
    whole_epoch(&mut stage, 3);
    assert_eq!(stage.world.network().treasury_due, 50 * ATH + 41 * ATH);
}

#[test]
fn only_the_part_that_finishes_a_block_is_paid() {
    let mut stage = Stage::of(paying(ATH), 3, 1).pass_to(1, &perfect());
    let wallet = name_keeper(&mut stage.world, "keeper");
    let world = &mut stage.world;
    world.reveal_all(&stage.checkers, 1, &perfect());
    world.wait_until(world.start_of(2) + 16);
    for part in 0..4 {
        assert_eq!(due(world, &wallet), 0, "after {part} of four parts");
        let tally = instructions::tally_block(world, 1, 0, 64);
        world.run(tally);
    }
    assert_eq!(due(world, &wallet), ATH);
    world.check_books();
}

#[test]
fn fees_end_with_the_treasurys_share() {
    let mut stage = Stage::of(paying(20 * ATH), 3, 1);
    let wallet = name_keeper(&mut stage.world, "keeper");
    whole_epoch(&mut stage, 1);
    whole_epoch(&mut stage, 2);
    // 20 + 20 for epoch 1 and what was left for its tally, 10; 40 of epoch 2.
    assert_eq!(stage.world.epoch(1).keeper_credited, 50 * ATH);
    assert_eq!(due(&stage.world, &wallet), 90 * ATH);
    let before = stage.world.network().treasury_due;
    whole_epoch(&mut stage, 3);
    assert_eq!(stage.world.network().treasury_due, before, "nothing is left of epoch 1 for the treasury");
}

#[test]
fn a_fee_is_fixed_when_the_epoch_begins() {
    let mut stage = Stage::of(paying(3 * ATH), 3, 1).pass_to(1, &perfect());
    let wallet = name_keeper(&mut stage.world, "keeper");
    let world = &mut stage.world;
    world.reveal_all(&stage.checkers, 1, &perfect());
    world.advance(2);
    assert_eq!(due(world, &wallet), 3 * ATH);
    world.patch_as::<Network>(&addresses::network(), |n| n.parameters.time_lock = 0);
    enact(world, |p| p.parameters.keeper_fee = 7 * ATH);
    world.wait_until(world.start_of(2) + 6);
    world.run(draw_by(2, &wallet));
    world.tally_all(1);
    assert_eq!(due(world, &wallet), 9 * ATH, "three actions at the fee of before");
    world.advance(3);
    assert_eq!(due(world, &wallet), 16 * ATH, "and one at the new one");
    world.check_books();
}

#[test]
fn who_names_no_keeper_is_paid_nothing() {
    let mut stage = Stage::of(paying(3 * ATH), 3, 1).pass_to(3, &perfect());
    let world = &mut stage.world;
    assert!((0..=3).all(|e| world.epoch(e).keeper_credited == 0));
    // Epochs 0 and 1 are released: all of their share is the treasury's.
    assert_eq!(world.network().treasury_due, 100 * ATH);
    world.check_books();
}

#[test]
fn a_void_epoch_pays_its_advance_and_leaves_the_treasury_nothing() {
    let mut world = World::with(paying(3 * ATH));
    let wallet = name_keeper(&mut world, "keeper");
    world.advance(0);
    // Never drawn.
    world.advance(1);
    assert_eq!(due(&world, &wallet), 6 * ATH);
    assert_eq!(world.ledger(Vault::Rewards).liabilities, 2_000 * ATH);
    world.advance(2);
    let epoch = world.epoch(0);
    assert_eq!((epoch.status, epoch.released, epoch.keeper_credited), (Epoch::ADVANCED, 1, 3 * ATH));
    assert_eq!(world.network().treasury_due, 0);
    // Its pool went back but for the fee: two pools are reserved, in which two fees are, and the first epoch's fee.
    assert_eq!(world.ledger(Vault::Rewards).liabilities, 2_003 * ATH);
    world.check_books();
    // Skipped over: 2 is released with 1.
    world.advance(9);
    assert_eq!((world.network().treasury_due, due(&world, &wallet)), (0, 12 * ATH));
    assert_eq!(world.ledger(Vault::Rewards).liabilities, 1_009 * ATH);
    world.check_books();
}

/// Everybody calls row 0 dishonest in epoch 3, and nobody else ever.
fn accusing(at: SeatAt) -> Option<Report> {
    let report = if at.epoch == 3 { Report::perfect().dishonest(0) } else { Report::perfect() };
    Some(report.salted(at.epoch, at.block, at.seat))
}

#[test]
fn closing_a_case_is_paid_out_of_the_current_epoch() {
    let mut stage = Stage::of(paying(3 * ATH), 5, 2).pass_to(4, &accusing);
    let container = addresses::container(0, &fingerprint(0));
    let (world, payer) = (&mut stage.world, named_key("payer").pubkey());
    let open = instructions::open_case(world, &payer, &container, 3);
    world.run(open);
    let until = world.block(0).rows[0].case_until;
    let mut stage = stage.pass_to(until + 2, &accusing);
    let wallet = name_keeper(&mut stage.world, "keeper");
    let world = &mut stage.world;
    let (before, current) = (world.ledger(Vault::Rewards).liabilities, world.network().current_epoch);
    let close = instructions::close_case(world, &container, 3);
    world.run(close.clone());
    assert_eq!((due(world, &wallet), world.epoch(current).keeper_credited), (3 * ATH, 3 * ATH));
    assert_eq!(world.ledger(Vault::Rewards).liabilities, before, "a fee moves inside what is promised");
    world.check_books();
    world.refused(close, &[], "CaseClosed");
}

#[test]
fn anybody_opens_a_keepers_account_for_any_wallet_once() {
    let mut world = World::new();
    let wallet = named_key("keeper").pubkey();
    let stranger = world.actor("stranger");
    let register = instructions::register_keeper(&stranger.pubkey(), &wallet);
    let mut elsewhere = register.clone();
    elsewhere.accounts[1].pubkey = addresses::keeper(&stranger.pubkey());
    world.refused(elsewhere, &[&stranger], "InvalidSeeds");
    // A pause does not hold it up.
    world.set_paused(true);
    Call::new(world.clone(), register.clone(), &[&stranger]).check();
    world.must(std::slice::from_ref(&register), &[&stranger]);
    let keeper: Keeper = world.read(&addresses::keeper(&wallet));
    assert_eq!((keeper.wallet, keeper.rent_payer, keeper.due), (wallet, stranger.pubkey(), 0));
    world.refused(register, &[&stranger], "AlreadyExists");
}

#[test]
fn a_keeper_that_is_none_is_refused() {
    let mut stage = Stage::of(paying(3 * ATH), 3, 1);
    let world = &mut stage.world;
    let wallet = name_keeper(world, "keeper");
    world.wait_until(world.start_of(1) + 1);
    let payer = world.payer.pubkey();
    let valid = instructions::advance_epoch(world, &payer, 1);
    for account in [addresses::provider(0), addresses::checker(0), addresses::epoch(0), wallet] {
        let mut wrong = valid.clone();
        wrong.accounts[7].pubkey = account;
        assert!(world.send(&[wrong], &[]).is_err(), "{account}");
    }
    world.run(valid);
    world.wait_until(world.start_of(1) + 6);
    let valid = draw_by(1, &wallet);
    for account in [addresses::provider(0), addresses::checker(0), addresses::epoch(1), wallet] {
        let mut wrong = valid.clone();
        wrong.accounts[4].pubkey = account;
        assert!(world.send(&[wrong], &[]).is_err(), "{account}");
    }
    world.run(valid);
}
