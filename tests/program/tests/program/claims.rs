//! `claim_rewards`, `claim_seat_pay`.

use datagalax::{
    constants::ROWS,
    state::{Block, Checker as CheckerAccount, Network, Row, Ticket},
};
use datagalax_program_tests::{
    Checker, Provider, World,
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

/// What of a grant has vested so many days later: 30 percent at once, 30 over 90 days, 40 over 180; each part rounded down, so
/// that the first takes the rounding.
fn vested(amount: u64, days: u64) -> u64 {
    let (short, long) = (amount * 30 / 100, amount * 40 / 100);
    amount - short - long + short * days.min(90) / 90 + long * days.min(180) / 180
}

fn day_of(world: &World) -> u32 {
    u32::try_from(world.now() / 86_400).expect("a day")
}

/// Pays a provider what has vested; says how much arrived.
fn withdrawn(world: &mut World, provider: &Provider) -> u64 {
    let before = world.balance(&provider.to);
    let withdraw = instructions::withdraw(world, &addresses::provider(provider.id), Vault::Rewards, &provider.to);
    world.run(withdraw);
    world.balance(&provider.to) - before
}

#[test]
fn claim_rewards_grants_the_named_rows_and_moves_no_token() {
    let mut stage = earned(3);
    let (world, provider) = (&mut stage.world, &stage.provider);
    let before = world.account(&addresses::ledger(Vault::Rewards));
    let claim = instructions::claim_rewards(provider, 0, &rows([0, 3]));
    world.must(&[claim], &[&provider.operator]);
    let accrued: Vec<u64> = world.block(0).rows[..5].iter().map(|r| r.accrued).collect();
    assert_eq!(accrued, [0, SHARE, SHARE, 0, SHARE]);
    let (account, today) = (world.provider(0), day_of(world));
    let grant = account.grants[today as usize % 180];
    assert_eq!((grant.amount, grant.taken, grant.day, grant.terms), (2 * SHARE, 0, today, 1));
    assert!(account.grants.iter().filter(|g| g.amount != 0).count() == 1, "one bucket a day");
    assert_eq!((account.claimed, account.withdrawn, account.matured, account.taken), (2 * SHARE, 0, 0, 0));
    assert_eq!(world.account(&addresses::ledger(Vault::Rewards)), before, "promised before, promised still");
    assert_eq!(world.balance(&provider.to), 0);
    world.check_books();

    // The owner may as well; it joins the day's bucket, and a row that was claimed adds nothing.
    let mut claim = instructions::claim_rewards(provider, 0, &rows(0..5));
    claim.accounts[0].pubkey = provider.owner.pubkey();
    world.must(&[claim], &[&provider.owner]);
    let grant = world.provider(0).grants[today as usize % 180];
    assert_eq!((grant.amount, world.provider(0).claimed, world.accrued(0)), (5 * SHARE, 5 * SHARE, 0));
    world.check_books();
    let again = instructions::claim_rewards(provider, 0, &rows(0..5));
    world.refused(again, &[&provider.operator], "NothingToPay");
}

#[test]
fn thirty_percent_is_paid_at_once_and_all_of_it_in_180_days() {
    let mut stage = earned(3);
    let (world, provider) = (&mut stage.world, &stage.provider);
    let first = instructions::claim_rewards(provider, 0, &rows([0, 3]));
    world.must(&[first], &[&provider.operator]);
    assert_eq!(withdrawn(world, provider), 90 * ATH, "30 percent of two shares of 150");
    world.check_books();
    let twice = instructions::withdraw(world, &addresses::provider(0), Vault::Rewards, &provider.to);
    world.refused(twice.clone(), &[], "NothingToPay");
    let second = instructions::claim_rewards(provider, 0, &rows([1]));
    world.must(&[second], &[&provider.operator]);
    assert_eq!(withdrawn(world, provider), 45 * ATH);

    // Days begin at midnight of the chain's clock. A pause holds back nothing that has vested.
    let (granted, start) = (3 * SHARE, i64::from(day_of(world)) * 86_400);
    world.set_paused(true);
    let mut paid = 135 * ATH;
    for days in [1u64, 2, 45, 89, 90, 91, 179, 180, 400] {
        world.set_time(start + i64::try_from(days).expect("days") * 86_400 - 1);
        let yesterday = vested(granted, days - 1);
        if yesterday > paid {
            assert_eq!(withdrawn(world, provider), yesterday - paid, "a second before day {days}");
            paid = yesterday;
        } else {
            world.refused(twice.clone(), &[], "NothingToPay");
        }
        world.set_time(start + i64::try_from(days).expect("days") * 86_400);
        if vested(granted, days) > paid {
            assert_eq!(withdrawn(world, provider), vested(granted, days) - paid, "day {days}");
            paid = vested(granted, days);
        } else {
            world.refused(twice.clone(), &[], "NothingToPay");
        }
        assert_eq!((world.balance(&provider.to), world.provider(0).withdrawn), (paid, paid));
        world.check_books();
    }
    assert_eq!(paid, granted, "in the end all of it");
    let ledger = world.ledger(Vault::Rewards);
    assert_eq!((ledger.total_out, ledger.balance), (granted, world.settings.funding - granted));
}

#[test]
fn a_bucket_that_is_used_again_keeps_its_rest() {
    let mut stage = earned(3);
    let (world, provider) = (&mut stage.world, &stage.provider);
    let first = instructions::claim_rewards(provider, 0, &rows([0]));
    world.must(&[first], &[&provider.operator]);
    // The same day of the ring, 180 days later.
    world.set_time(world.now() + 180 * 86_400);
    let second = instructions::claim_rewards(provider, 0, &rows([1, 2]));
    world.must(&[second], &[&provider.operator]);
    let account = world.provider(0);
    let grant = account.grants[day_of(world) as usize % 180];
    assert_eq!((grant.amount, grant.day, account.matured, account.claimed), (2 * SHARE, day_of(world), SHARE, 3 * SHARE));
    world.check_books();
    assert_eq!(withdrawn(world, provider), SHARE + 90 * ATH, "all of the first, 30 percent of the second");
    world.check_books();
}

#[test]
fn claim_rewards_refuses() {
    let mut stage = earned(3);
    let other = stage.world.provider_with(100 * ATH);
    stage.world.open(4 + 1);
    stage.world.containers(&other, 0, 0, 50, 1);
    let (world, provider) = (&mut stage.world, &stage.provider);
    let valid = instructions::claim_rewards(provider, 0, &rows([1]));
    let operator = &provider.operator;

    let none = instructions::claim_rewards(provider, 0, &rows([]));
    world.refused(none, &[operator], "NoRows");
    // A neighbour's row, a free row, one's own among them.
    for named in [vec![5], vec![6], vec![1, 5], vec![255]] {
        let wrong = instructions::claim_rewards(provider, 0, &rows(named));
        world.refused(wrong, &[operator], "NotYourRow");
    }
    // Another provider's key; another provider's account with one's own key.
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = other.operator.pubkey();
    world.refused(wrong.clone(), &[&other.operator], "Unauthorized");
    wrong.accounts[2].pubkey = addresses::provider(other.id);
    world.refused(wrong, &[&other.operator], "NotYourRow");
    world.set_paused(true);
    world.refused(valid.clone(), &[operator], "Paused");
    world.set_paused(false);

    // More than 64 bits, as no sequence of instructions can leave it.
    let mut broken = world.clone();
    broken.patch_as::<Block>(&addresses::block(0), |b| (b.rows[0].accrued, b.rows[1].accrued) = (u64::MAX, u64::MAX));
    let two = instructions::claim_rewards(provider, 0, &rows([0, 1]));
    broken.refused(two, &[operator], "Overflow");
    Call::new(world.clone(), valid, &[operator]).check();
}

#[test]
fn what_a_case_has_frozen_stays_in_the_row() {
    let mut stage = earned(3);
    let (world, provider) = (&mut stage.world, &stage.provider);
    world.patch_as::<Block>(&addresses::block(0), |b| b.rows[1].accuse(3, 8));
    let frozen = instructions::claim_rewards(provider, 0, &rows([1]));
    world.refused(frozen, &[&provider.operator], "NothingToPay");
    let all = instructions::claim_rewards(provider, 0, &rows(0..5));
    world.must(&[all], &[&provider.operator]);
    assert_eq!((world.provider(0).claimed, world.accrued(0)), (4 * SHARE, SHARE));
    world.check_books();
    world.patch_as::<Block>(&addresses::block(0), |b| b.rows[1].release());
    let released = instructions::claim_rewards(provider, 0, &rows([1]));
    world.must(&[released], &[&provider.operator]);
    assert_eq!(world.provider(0).claimed, 5 * SHARE);
    world.check_books();
}

#[test]
fn vested_rewards_go_to_the_payout_wallet_alone() {
    let mut stage = earned(3);
    let other = stage.world.provider_with(100 * ATH);
    let (world, provider) = (&mut stage.world, &stage.provider);
    let claim = instructions::claim_rewards(provider, 0, &rows([1]));
    let mut broken = world.clone();
    world.must(std::slice::from_ref(&claim), &[&provider.operator]);
    let valid = instructions::withdraw(world, &addresses::provider(0), Vault::Rewards, &provider.to);
    // Not the payout wallet's token account: the caller's own, an odd one of the wallet's, another mint's, the vault itself.
    let (mint, thief) = (world.mint, world.actor("thief").pubkey());
    let own = world.put_token_account(&mint, &thief, 0, "");
    let odd = world.put_token_account(&mint, &provider.payout, 0, "odd");
    let foreign_mint = address_of(&[b"other mint"]);
    world.put_mint(foreign_mint, MintData::default());
    let foreign = world.put_token_account(&foreign_mint, &provider.payout, 0, "");
    for to in [own, odd, foreign, other.to, addresses::vault(Vault::Rewards)] {
        let mut wrong = valid.clone();
        wrong.accounts[6].pubkey = to;
        let failure = world.send(&[wrong], &[]).expect_err("tokens elsewhere");
        let expected =
            if to == addresses::vault(Vault::Rewards) { "ConstraintDuplicateMutableAccount" } else { "WrongAccount" };
        assert_eq!(failure.name, expected, "{to}");
    }
    // Another vault, another ledger, another mint, another provider.
    let mut wrong = valid.clone();
    wrong.accounts[4].pubkey = addresses::vault(Vault::Stake);
    world.refused(wrong.clone(), &[], "WrongAccount");
    wrong.accounts[3].pubkey = addresses::ledger(Vault::Stake);
    world.refused(wrong, &[], "NothingToPay");
    let mut wrong = valid.clone();
    wrong.accounts[2].pubkey = foreign_mint;
    world.refused(wrong, &[], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[1].pubkey = addresses::provider(other.id);
    world.refused(wrong, &[], "WrongAccount");
    // Something that nothing is owed to.
    let mut wrong = valid.clone();
    wrong.accounts[1].pubkey = addresses::block(0);
    world.refused(wrong, &[], "WrongAccount");
    Call::new(world.clone(), valid.clone(), &[]).check();

    // Books that do not owe it, as no sequence of instructions can leave them.
    broken.patch_as::<Block>(&addresses::block(0), |b| b.rows[1].accrued = 1 << 55);
    broken.must(&[claim], &[&provider.operator]);
    broken.refused(valid, &[], "InvariantViolated");
}

#[test]
fn the_breaker_pays_what_fits_and_the_rest_waits() {
    let mut stage = earned(3);
    let (world, provider) = (&mut stage.world, &stage.provider);
    let claim = instructions::claim_rewards(provider, 0, &rows(0..5));
    world.must(&[claim], &[&provider.operator]);
    world.patch_as::<Network>(&addresses::network(), |n| n.parameters.breaker_limits[1] = 100 * ATH);
    // What came in today would make room for as much: a day later it counts no more.
    world.set_time(world.now() + 86_400 + 3_600);
    let granted = 5 * SHARE;
    let due = vested(granted, 1);
    assert!(due > 200 * ATH && due < 300 * ATH);
    assert_eq!(withdrawn(world, provider), 100 * ATH);
    world.check_books();
    let more = instructions::withdraw(world, &addresses::provider(0), Vault::Rewards, &provider.to);
    world.refused(more, &[], "BreakerOpen");
    world.set_time(world.now() + 25 * 3_600);
    assert_eq!(withdrawn(world, provider), 100 * ATH);
    world.set_time(world.now() + 25 * 3_600);
    assert_eq!(withdrawn(world, provider), vested(granted, 3) - 200 * ATH);
    world.check_books();
}

#[test]
fn a_whole_block_is_claimed_at_once() {
    let mut stage = earned(3);
    stage.world.patch_as::<Block>(&addresses::block(0), |b| {
        for row in 5..ROWS {
            b.rows[row] = Row::checking(0, 0, 1, 1, 1);
        }
    });
    let claim = instructions::claim_rewards(&stage.provider, 0, &rows(0..ROWS));
    let budget = datagalax_program_tests::send::compute_budget(60_000);
    stage.world.must(&[budget[0].clone(), claim], &[&stage.provider.operator]);
    assert_eq!((stage.world.provider(0).claimed, stage.world.accrued(0)), (5 * SHARE, 0));
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
fn the_breaker_leaves_seat_pay_with_the_first_ticket() {
    let (mut world, checkers) = checkers_earned(1_000);
    world.patch_as::<Network>(&addresses::network(), |n| n.parameters.breaker_limits[1] = 60 * ATH);
    world.set_time(world.now() + 86_400 + 3_600);
    let claim = instructions::claim_seat_pay(&world, &checkers[0], &[0, 1]);
    world.run(claim.clone());
    // The commission is of what is paid.
    assert_eq!((world.balance(&checkers[0].operator_account), world.balance(&checkers[0].to)), (6 * ATH, 54 * ATH));
    assert_eq!((world.tickets()[0].accrued, world.tickets()[1].accrued), (40 * ATH, 0));
    assert_eq!(world.checker(0).claimed, 60 * ATH);
    world.check_books();
    world.refused(claim.clone(), &[], "BreakerOpen");
    world.set_time(world.now() + 25 * 3_600);
    world.run(claim);
    assert_eq!((world.balance(&checkers[0].operator_account), world.balance(&checkers[0].to)), (10 * ATH, 90 * ATH));
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
    let many = with_slots(&world, &[0; 151]);
    world.refused(many, &[], "BadTicketCount");
    let mut torn = with_slots(&world, &[0, 1]);
    let length = torn.data.len();
    torn.data.truncate(length - 1);
    assert!(world.send(&[torn], &[]).is_err(), "a slot of three bytes");

    // Tokens go nowhere but to the payout wallet and the operator.
    let (mint, thief) = (world.mint, world.actor("thief").pubkey());
    let own = world.put_token_account(&mint, &thief, 0, "own");
    let mut wrong = valid.clone();
    wrong.accounts[7].pubkey = own;
    world.refused(wrong, &[], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[8].pubkey = own;
    world.refused(wrong, &[], "WrongAccount");
    // Nor to an odd account of theirs, nor to their associated one once it is signed over to somebody else.
    let payout = world.checker(0).payout;
    let odd = world.put_token_account(&mint, &payout, 0, "odd");
    let mut wrong = valid.clone();
    wrong.accounts[7].pubkey = odd;
    world.refused(wrong, &[], "WrongAccount");
    let mut signed_over = world.clone();
    signed_over.patch(&checkers[0].to, |data| data[32..64].copy_from_slice(thief.as_ref()));
    signed_over.refused(valid.clone(), &[], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[8].pubkey = datagalax::ID;
    wrong.accounts[8].is_writable = false;
    world.refused(wrong, &[], "WrongAccount");
    let foreign_mint = address_of(&[b"other mint"]);
    world.put_mint(foreign_mint, MintData::default());
    let foreign = world.put_token_account(&foreign_mint, &checkers[0].operator.pubkey(), 0, "");
    let mut wrong = valid.clone();
    wrong.accounts[8].pubkey = foreign;
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
    world.set_paused(true);
    Call::new(world, valid, &[]).check();
}
