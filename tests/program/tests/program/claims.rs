//! `claim_rewards`, `claim_seat_pay`.

use datagalax::{
    constants::ROWS,
    state::{Block, Checker as CheckerAccount, Network, Row, Ticket},
};
use datagalax_program_tests::{
    Checker, World,
    accounts::{TICKETS_OFFSET, rows},
    addresses::{self, Vault},
    instructions,
    settings::ATH,
    tokens::MintData,
    world::address_of,
};
use solana_signer::Signer;

use datagalax_program_tests::{
    refusals::Call,
    stage::{Stage, perfect},
};

/// Five rows of one provider; epoch 3 is tallied, so that each accrued a fifth.
fn earned(checkers: u32) -> Stage {
    let mut stage = Stage::new(checkers, 5).pass_to(3, &perfect());
    stage.world.finish(&stage.checkers, 3, &perfect());
    stage
}

const SHARE: u64 = 150 * ATH;

#[test]
fn claim_rewards_pays_the_named_rows_to_the_payout_wallet() {
    let mut stage = earned(3);
    let (world, provider) = (&mut stage.world, &stage.provider);
    let claim = instructions::claim_rewards(world, provider, 0, &rows([0, 3]));
    world.must(&[claim], &[&provider.operator]);
    assert_eq!((world.balance(&provider.to), world.provider(0).claimed), (2 * SHARE, 2 * SHARE));
    let accrued: Vec<u64> = world.block(0).rows[..5].iter().map(|r| r.accrued).collect();
    assert_eq!(accrued, [0, SHARE, SHARE, 0, SHARE]);
    let ledger = world.ledger(Vault::Rewards);
    assert_eq!((ledger.total_out, ledger.balance), (2 * SHARE, world.settings.funding - 2 * SHARE));
    world.check_books();

    // The owner may as well; a row that was claimed adds nothing.
    let mut claim = instructions::claim_rewards(world, provider, 0, &rows(0..5));
    claim.accounts[0].pubkey = provider.owner.pubkey();
    world.must(&[claim], &[&provider.owner]);
    assert_eq!(world.balance(&provider.to), 5 * SHARE);
    assert_eq!(world.accrued(0), 0);
    world.check_books();
    let again = instructions::claim_rewards(world, provider, 0, &rows(0..5));
    world.refused(again, &[&provider.operator], "NothingToPay");
}

#[test]
fn claim_rewards_refuses() {
    let mut stage = earned(3);
    let other = stage.world.provider_with(100 * ATH);
    stage.world.open(4 + 1);
    stage.world.containers(&other, 0, 0, 50, 1);
    let (world, provider) = (&mut stage.world, &stage.provider);
    let valid = instructions::claim_rewards(world, provider, 0, &rows([1]));
    let operator = &provider.operator;

    let none = instructions::claim_rewards(world, provider, 0, &rows([]));
    world.refused(none, &[operator], "NoRows");
    // A neighbour's row, a free row, one's own among them.
    for named in [vec![5], vec![6], vec![1, 5], vec![255]] {
        let wrong = instructions::claim_rewards(world, provider, 0, &rows(named));
        world.refused(wrong, &[operator], "NotYourRow");
    }
    // Another provider's key; another provider's account with one's own key.
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = other.operator.pubkey();
    world.refused(wrong.clone(), &[&other.operator], "Unauthorized");
    wrong.accounts[2].pubkey = addresses::provider(other.id);
    world.refused(wrong.clone(), &[&other.operator], "WrongAccount");
    wrong.accounts[7].pubkey = other.to;
    world.refused(wrong, &[&other.operator], "NotYourRow");
    // Not the payout wallet's token account: the claimer's own, another mint's, the vault itself.
    let mint = world.mint;
    let own = world.put_token_account(&mint, &operator.pubkey(), 0, "own");
    let foreign_mint = address_of(&[b"other mint"]);
    world.put_mint(foreign_mint, MintData::default());
    let foreign = world.put_token_account(&foreign_mint, &provider.payout, 0, "payout");
    let mut wrong = valid.clone();
    wrong.accounts[7].pubkey = own;
    world.refused(wrong.clone(), &[operator], "WrongAccount");
    wrong.accounts[7].pubkey = foreign;
    assert!(world.send(std::slice::from_ref(&wrong), &[operator]).is_err(), "a token account of another mint");
    wrong.accounts[7].pubkey = addresses::vault(Vault::Rewards);
    assert!(world.send(&[wrong], &[operator]).is_err(), "the vault itself");
    // Another vault, another ledger, another mint.
    let mut wrong = valid.clone();
    wrong.accounts[6].pubkey = addresses::vault(Vault::Stake);
    world.refused(wrong.clone(), &[operator], "WrongAccount");
    wrong.accounts[5].pubkey = addresses::ledger(Vault::Stake);
    world.refused(wrong, &[operator], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[4].pubkey = foreign_mint;
    world.refused(wrong, &[operator], "WrongAccount");
    world.set_paused(true);
    world.refused(valid.clone(), &[operator], "Paused");
    world.set_paused(false);

    // Books that do not owe it, as no sequence of instructions can leave them.
    let mut broken = world.clone();
    broken.patch_as::<Block>(&addresses::block(0), |b| b.rows[1].accrued = 1 << 55);
    broken.refused(valid.clone(), &[operator], "InvariantViolated");
    broken.patch_as::<Block>(&addresses::block(0), |b| (b.rows[0].accrued, b.rows[1].accrued) = (u64::MAX, u64::MAX));
    let two = instructions::claim_rewards(&broken, provider, 0, &rows([0, 1]));
    broken.refused(two, &[operator], "Overflow");
    Call::new(world.clone(), valid, &[operator]).check();
}

#[test]
fn a_whole_block_is_claimed_at_once() {
    let mut stage = earned(3);
    stage.world.patch_as::<Block>(&addresses::block(0), |b| {
        for row in 5..ROWS {
            b.rows[row] = Row::checking(0, 0, 1, 1, 1);
        }
    });
    let claim = instructions::claim_rewards(&stage.world, &stage.provider, 0, &rows(0..ROWS));
    let budget = datagalax_program_tests::send::compute_budget(60_000);
    stage.world.must(&[budget[0].clone(), claim], &[&stage.provider.operator]);
    assert_eq!(stage.world.balance(&stage.provider.to), 5 * SHARE);
}

/// A checker with two tickets and a commission besides two of one ticket; epoch 3 is tallied.
fn checkers_earned(commission_bps: u16) -> (World, Vec<Checker>) {
    let mut world = World::new();
    world.class_of(0, 100);
    let mut checkers = vec![world.checker_with(2, commission_bps)];
    checkers.extend((0..2).map(|_| world.checker_with(1, 0)));
    world.grown_block();
    let provider = world.provider_with(1_000 * ATH);
    world.open(0);
    world.containers(&provider, 0, 0, 0, 1);
    for epoch in 1..=3 {
        world.pass(&checkers, epoch, &perfect());
    }
    world.finish(&checkers, 3, &perfect());
    (world, checkers)
}

#[test]
fn claim_seat_pay_splits_the_commission() {
    // Four seats of 50 ATH each.
    for (bps, commission) in [(0, 0), (1, 100 * ATH / 10_000), (3_333, 100 * ATH * 3_333 / 10_000), (10_000, 100 * ATH)] {
        let (mut world, checkers) = checkers_earned(bps);
        let claim = instructions::claim_seat_pay(&world, &checkers[0], &[0, 1]);
        // Anybody may call.
        world.run(claim.clone());
        assert_eq!(world.balance(&checkers[0].operator_account), commission, "{bps} bps");
        assert_eq!(world.balance(&checkers[0].to), 100 * ATH - commission, "{bps} bps");
        assert_eq!(world.checker(0).claimed, 100 * ATH);
        assert_eq!(world.tickets().iter().map(|t| t.accrued).collect::<Vec<_>>(), [0, 0, 50 * ATH, 50 * ATH]);
        world.check_books();
        world.refused(claim, &[], "NothingToPay");
    }
}

#[test]
fn an_operator_that_is_its_own_payout_wallet_is_paid_once() {
    let (mut world, mut checkers) = checkers_earned(1_000);
    let wallet = checkers[0].operator.pubkey();
    world.patch_as::<CheckerAccount>(&addresses::checker(0), |c| c.payout = wallet);
    checkers[0].to = checkers[0].operator_account;
    // Its token account cannot be passed in both places; in one it receives all.
    let both = instructions::claim_seat_pay(&world, &checkers[0], &[0, 1]);
    world.refused(both, &[], "ConstraintDuplicateMutableAccount");
    checkers[0].commission_bps = 0;
    let once = instructions::claim_seat_pay(&world, &checkers[0], &[0, 1]);
    world.run(once);
    assert_eq!(world.balance(&checkers[0].to), 100 * ATH);
    world.check_books();
}

#[test]
fn a_commission_is_rounded_down() {
    let (mut world, checkers) = checkers_earned(3_333);
    let one_unit_more = TICKETS_OFFSET + std::mem::offset_of!(Ticket, accrued);
    world.patch(&addresses::checker_set(), |data| {
        data[one_unit_more..one_unit_more + 8].copy_from_slice(&5u64.to_le_bytes())
    });
    let claim = instructions::claim_seat_pay(&world, &checkers[0], &[0]);
    world.run(claim);
    assert_eq!((world.balance(&checkers[0].operator_account), world.balance(&checkers[0].to)), (1, 4));
}

#[test]
fn a_slot_named_twice_pays_once() {
    let (mut world, checkers) = checkers_earned(0);
    let claim = instructions::claim_seat_pay(&world, &checkers[0], &[0, 0, 0, 1, 1]);
    world.run(claim);
    assert_eq!(world.balance(&checkers[0].to), 100 * ATH);
    world.check_books();
}

#[test]
fn claim_seat_pay_refuses() {
    let (mut world, checkers) = checkers_earned(1_000);
    let valid = instructions::claim_seat_pay(&world, &checkers[0], &[0, 1]);
    let with_slots = |world: &World, slots: &[u32]| instructions::claim_seat_pay(world, &checkers[0], slots);

    // Another's slot, and one that does not exist.
    for slots in [&[2][..], &[0, 3], &[4], &[u32::MAX]] {
        let wrong = with_slots(&world, slots);
        world.refused(wrong, &[], "NotYourTicket");
    }
    let none = with_slots(&world, &[]);
    world.refused(none, &[], "BadTicketCount");
    let many = with_slots(&world, &[0; 201]);
    world.refused(many, &[], "BadTicketCount");
    let mut torn = with_slots(&world, &[0, 1]);
    let length = torn.data.len();
    torn.data.truncate(length - 1);
    assert!(world.send(&[torn], &[]).is_err(), "a slot of three bytes");

    // Tokens go nowhere but to the payout wallet and the operator.
    let (mint, thief) = (world.mint, world.actor("thief").pubkey());
    let own = world.put_token_account(&mint, &thief, 0, "own");
    let mut wrong = valid.clone();
    wrong.accounts[6].pubkey = own;
    world.refused(wrong, &[], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[7].pubkey = own;
    world.refused(wrong, &[], "WrongAccount");
    // Nor to an odd account of theirs, nor to their associated one once it is signed over to somebody else.
    let payout = world.checker(0).payout;
    let odd = world.put_token_account(&mint, &payout, 0, "odd");
    let mut wrong = valid.clone();
    wrong.accounts[6].pubkey = odd;
    world.refused(wrong, &[], "WrongAccount");
    let mut signed_over = world.clone();
    signed_over.patch(&checkers[0].to, |data| data[32..64].copy_from_slice(thief.as_ref()));
    signed_over.refused(valid.clone(), &[], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[7].pubkey = datagalax::ID;
    wrong.accounts[7].is_writable = false;
    world.refused(wrong, &[], "WrongAccount");
    let foreign_mint = address_of(&[b"other mint"]);
    world.put_mint(foreign_mint, MintData::default());
    let foreign = world.put_token_account(&foreign_mint, &checkers[0].operator.pubkey(), 0, "");
    let mut wrong = valid.clone();
    wrong.accounts[7].pubkey = foreign;
    world.refused(wrong, &[], "WrongAccount");
    // Another checker, vault, ledger or mint.
    let mut wrong = valid.clone();
    wrong.accounts[1].pubkey = addresses::checker(1);
    world.refused(wrong, &[], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[5].pubkey = addresses::vault(Vault::Stake);
    world.refused(wrong.clone(), &[], "WrongAccount");
    wrong.accounts[4].pubkey = addresses::ledger(Vault::Stake);
    world.refused(wrong, &[], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[3].pubkey = foreign_mint;
    world.refused(wrong, &[], "WrongAccount");

    // A pause holds back no seat pay.
    world.patch_as::<Network>(&addresses::network(), |n| n.paused = 1);
    Call::new(world, valid, &[]).check();
}
