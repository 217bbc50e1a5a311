//! `report_breach`: two whole epochs in a row of a lease that nobody served.

use datagalax::{
    constants::DAY,
    instructions::UpdateContainerArgs,
    state::{Block, Case, Container, Lease, Row},
};
use datagalax_program_tests::{
    Report, User, World, accounts,
    actors::fingerprint,
    addresses::{self, Vault},
    epochs::{SeatAt, Votes},
    instructions,
    refusals::Call,
    settings::ATH,
    stage::{Stage, perfect},
};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::court::{CONDEMNING, STAKE, address, container, leased, measuring, open, pass_to, row, salted, start};

const THIRD: u64 = STAKE / 3;
/// Price of an epoch of 60 s at 2 ATH an hour, rounded down.
const EPOCH_PRICE: u64 = 2 * ATH / 60;

fn report(world: &World, lease: &Pubkey, epoch: u32) -> Instruction {
    instructions::report_breach(world, &world.payer.pubkey(), lease, epoch)
}

fn lease_of(stage: &Stage, lease: &Pubkey) -> Lease {
    stage.world.read(lease)
}

/// A lease that begins in epoch 3 and covers 4 to 12 in full; in `epoch`, with everything before it tallied.
fn rented(checkers: u32, epoch: u32, votes: Votes) -> (Stage, User, Pubkey) {
    let mut stage = Stage::new(checkers, 2).pass_to(3, votes);
    let (user, lease) = leased(&mut stage, 0);
    pass_to(&mut stage, epoch, votes);
    (stage, user, lease)
}

#[test]
fn two_epochs_take_a_third_and_the_user_gets_one_epochs_price() {
    let (mut stage, user, lease) = rented(15, 5, &measuring(&[4, 5], 49, CONDEMNING));
    // Epoch 5 is not tallied yet.
    let early = report(&stage.world, &lease, 4);
    stage.world.refused(early.clone(), &[], "NoBreach");
    stage.world.finish(&stage.checkers, 5, &measuring(&[4, 5], 49, CONDEMNING));
    let (provider, tickets, stake) = (stage.world.provider(0), stage.world.tickets(), stage.world.ledger(Vault::Stake));
    // Anybody reports it; a pause stops no case.
    stage.world.set_paused(true);
    stage.world.run(early.clone());
    stage.world.set_paused(false);
    stage.world.check_books();

    let case: Case = stage.world.read(&addresses::case(&address(&stage.provider, 0), 4, Case::BREACH));
    assert_eq!((case.kind, case.status, case.epoch, case.until), (Case::BREACH, Case::UPHELD, 4, 5));
    assert_eq!((case.stake_taken, case.grants_taken, case.accrual_taken), (THIRD, 0, 0));
    assert_eq!((case.compensation, case.rent_payer), (EPOCH_PRICE, stage.world.payer.pubkey()));
    let halted = container(&stage, 0);
    assert_eq!((halted.locked_stake, halted.original_locked_stake), (STAKE - THIRD, STAKE));
    assert_eq!((halted.status, halted.halt_reason, halted.breaches), (1, Container::HALT_BREACH, 1));
    assert_eq!((halted.breached_epoch, halted.breached_at), (5, stage.world.now()));
    let after = stage.world.provider(0);
    assert_eq!((provider.staked - after.staked, provider.locked - after.locked), (THIRD, THIRD));
    assert_eq!(row(&stage.world, 0).flags & Row::HALTED, Row::HALTED);
    assert_eq!((row(&stage.world, 0).is_accused(), container(&stage, 1).status), (false, 0));

    // The user's part stays owed by the stake vault, the rest belongs to the rewards; who reported and who judged get nothing.
    let ledger = stage.world.ledger(Vault::Stake);
    assert_eq!((stake.liabilities - ledger.liabilities, ledger.balance), (THIRD - EPOCH_PRICE, stake.balance));
    assert_eq!((lease_of(&stage, &lease).compensation, stage.world.tickets()), (EPOCH_PRICE, tickets));
    let purse = stage.world.balance(&user.from);
    let withdraw = instructions::withdraw(&stage.world, &lease, Vault::Stake, &user.from);
    stage.world.run(withdraw);
    assert_eq!(stage.world.balance(&user.from) - purse, EPOCH_PRICE);
    let sweep = instructions::sweep_vault(&stage.world, Vault::Stake);
    stage.world.run(sweep);
    assert_eq!(stage.world.balance(&addresses::vault(Vault::Stake)), stake.balance - THIRD);
    stage.world.check_books();

    // Not twice: not for these epochs, not for one of them.
    for epoch in [4, 5] {
        let again = report(&stage.world, &lease, epoch);
        stage.world.refused(again, &[], if epoch == 4 { "BreachedToday" } else { "NoBreach" });
    }
    // Restored, it works again.
    let restore = instructions::restore_stake(&stage.world, &stage.provider, &fingerprint(0));
    stage.world.must(&[restore], &[&stage.provider.owner]);
    assert_eq!(container(&stage, 0).locked_stake, STAKE);
    stage.world.check_books();
}

/// Only what at least four of five saw in both epochs; three can never make one, and 50 percent is none.
#[test]
fn four_votes_under_the_threshold_in_both_epochs() {
    let cases: [(&[u32], u8, u8, bool); 8] = [
        (&[4, 5], 49, 4, true),
        (&[4, 5], 0, 5, true),
        (&[4, 5], 50, 5, false),
        (&[4, 5], 49, 3, false),
        (&[4, 5], 0, 2, false),
        (&[4], 0, 5, false),
        (&[5], 0, 5, false),
        (&[4, 6], 0, 5, false),
    ];
    for (epochs, availability, seats, breached) in cases {
        let votes = measuring(epochs, availability, seats);
        let (mut stage, _, lease) = rented(15, 6, &votes);
        let instruction = report(&stage.world, &lease, 4);
        let done = stage.world.send(&[instruction], &[]).map(|_| ()).map_err(|f| f.name);
        let expected = if breached { Ok(()) } else { Err("NoBreach".to_string()) };
        assert_eq!(done, expected, "{seats} see {availability} in {epochs:?}");
        let mark = |epoch: u32| row(&stage.world, 0).history[epoch as usize] & 0x80 != 0;
        if epochs == [4, 5] {
            assert_eq!((mark(4), mark(5)), (breached, breached));
        }
        stage.world.check_books();
    }
}

#[test]
fn an_epoch_without_a_verdict_is_no_breach() {
    let silent = |at: SeatAt| if at.epoch == 5 { None } else { measuring(&[4, 6], 0, 5)(at) };
    let (mut stage, _, lease) = rented(15, 7, &silent);
    for epoch in [4, 5] {
        let instruction = report(&stage.world, &lease, epoch);
        stage.world.refused(instruction, &[], "NoBreach");
    }
    // Nor one that was never tallied, though its reports are there.
    let low = measuring(&[4, 5, 6], 0, 5);
    let (mut stage, _, lease) = rented(15, 5, &low);
    stage.world.open(6);
    stage.world.set_time(stage.world.start_of(7));
    stage.world.open(7);
    for epoch in [4, 5] {
        let instruction = report(&stage.world, &lease, epoch);
        stage.world.refused(instruction, &[], "NoBreach");
    }
}

#[test]
fn only_epochs_that_the_lease_covers_in_full() {
    // It begins in epoch 3 at 30 s, and is closed in epoch 8 as of its minimum: 600 s, 13 at 30 s.
    let low = measuring(&[3, 4, 11, 12, 13, 14], 0, 5);
    let (mut stage, _, lease) = rented(15, 5, &low);
    let instruction = report(&stage.world, &lease, 3);
    stage.world.refused(instruction, &[], "NoBreach");
    pass_to(&mut stage, 15, &low);
    for epoch in [12, 13] {
        let instruction = report(&stage.world, &lease, epoch);
        stage.world.refused(instruction, &[], "NoBreach");
    }
    // Ended long ago, and reported all the same.
    let close = instructions::close_lease(&stage.world, &stage.world.payer.pubkey(), &lease, false, 0);
    stage.world.run(close);
    let instruction = report(&stage.world, &lease, 11);
    stage.world.run(instruction);
    stage.world.check_books();
    assert_eq!(lease_of(&stage, &lease).compensation, EPOCH_PRICE);
}

/// Attack: close the lease of a container with a long minimum at once. Its host is free to leave, and to be switched off; what is
/// still due to it is no promise to serve.
#[test]
fn a_host_whose_user_went_is_free_to_go() {
    let low = measuring(&[6, 7, 8], 0, 5);
    let (mut stage, user, lease) = rented(15, 4, &low);
    let close = instructions::close_lease(&stage.world, &user.key.pubkey(), &lease, false, 0);
    stage.world.must(&[close], &[&user.key]);
    assert_eq!(lease_of(&stage, &lease).ended - lease_of(&stage, &lease).started, 600, "until epoch 13");
    pass_to(&mut stage, 5, &low);
    let leave = instructions::deregister_container(&stage.world, &stage.provider, &fingerprint(0));
    stage.world.must(&[leave], &[&stage.provider.owner]);
    pass_to(&mut stage, 9, &low);
    for epoch in [6, 7] {
        let instruction = report(&stage.world, &lease, epoch);
        stage.world.refused(instruction, &[], "NoBreach");
    }
    assert_eq!(container(&stage, 0).locked_stake, STAKE);
    // It is not paid for it either.
    pass_to(&mut stage, 14, &low);
    let settle = instructions::settle_lease(&stage.world, &lease);
    stage.world.run(settle);
    let settled = lease_of(&stage, &lease);
    assert_eq!((settled.status, settled.paid), (Lease::SETTLED, 2 * ATH * (600 - 180) / 3_600));
    stage.world.check_books();
}

/// What was not served before it was closed is reported after it as well.
#[test]
fn a_breach_outlives_its_lease() {
    let low = measuring(&[4, 5], 0, 5);
    let (mut stage, user, lease) = rented(15, 6, &low);
    let close = instructions::close_lease(&stage.world, &user.key.pubkey(), &lease, false, 0);
    stage.world.must(&[close], &[&user.key]);
    let instruction = report(&stage.world, &lease, 4);
    stage.world.run(instruction);
    assert_eq!(lease_of(&stage, &lease).compensation, EPOCH_PRICE);
    stage.world.check_books();
}

#[test]
fn it_begins_with_the_epoch_to_the_second() {
    for (late, breached) in [(0, true), (1, false)] {
        let votes = measuring(&[4, 5], 0, 5);
        let mut stage = Stage::new(15, 2).pass_to(3, &votes);
        let user = stage.world.user();
        let lease = open(&mut stage, &user, 0, 1);
        stage.world.set_time(stage.world.start_of(4) + late);
        start(&mut stage, 0, &lease);
        pass_to(&mut stage, 6, &votes);
        let instruction = report(&stage.world, &lease, 4);
        assert_eq!(stage.world.send(&[instruction], &[]).is_ok(), breached, "{late} s into the epoch");
    }
}

#[test]
fn one_that_was_never_started_is_none() {
    let votes = measuring(&[4, 5], 0, 5);
    let mut stage = Stage::new(15, 2).pass_to(3, &votes);
    let user = stage.world.user();
    let lease = open(&mut stage, &user, 0, 1);
    pass_to(&mut stage, 6, &votes);
    let instruction = report(&stage.world, &lease, 4);
    stage.world.refused(instruction, &[], "NoBreach");
}

#[test]
fn a_ring_that_went_round_forgets() {
    // Epoch 35 is tallied in 36: 35 - 4 = 31 is still within the ring of 32; with 36 it is not.
    let votes = measuring(&[4, 5], 0, 5);
    let mut stage = Stage::new(15, 2).pass_to(3, &votes);
    let user = stage.world.user();
    let args = datagalax::instructions::OpenLeaseArgs {
        nonce: 1,
        seconds: 3_600,
        max_price_per_hour: 2 * ATH,
        workload_hash: [0; 32],
        match_expires: 0,
    };
    let instruction = instructions::open_lease(&stage.world, &user, &address(&stage.provider, 0), None, args);
    stage.world.must(&[instruction], &[&user.key]);
    let lease = addresses::lease(&user.key.pubkey(), 1);
    start(&mut stage, 0, &lease);
    pass_to(&mut stage, 36, &votes);
    let instruction = report(&stage.world, &lease, 4);
    let mut last = stage.world.clone();
    last.run(instruction.clone());
    stage.pass(37, &votes);
    stage.world.refused(instruction, &[], "NoBreach");
}

#[test]
fn once_a_day_and_no_epoch_twice() {
    let low = measuring(&[4, 5, 6, 7, 8], 0, 5);
    let (mut stage, _, lease) = rented(15, 9, &low);
    let first = report(&stage.world, &lease, 5);
    stage.world.run(first);
    let at = stage.world.now();
    for epoch in [4, 6, 7] {
        let again = report(&stage.world, &lease, epoch);
        stage.world.refused(again, &[], "BreachedToday");
    }
    // A day later those that share an epoch with it, and those before it, are still refused; nobody tallied meanwhile.
    for (wait, epoch, done) in [(DAY - 1, 7, false), (DAY, 4, false), (DAY, 5, false), (DAY, 6, false), (DAY, 7, true)] {
        let mut world = stage.world.clone();
        world.set_time(at + wait);
        let again = report(&world, &lease, epoch);
        if done {
            world.run(again);
            let account: Container = world.read(&address(&stage.provider, 0));
            assert_eq!((account.locked_stake, account.breaches), (STAKE - 2 * THIRD, 2));
            assert_eq!(world.read::<Lease>(&lease).compensation, 2 * EPOCH_PRICE);
            world.check_books();
        } else {
            world.refused(again, &[], "BreachedToday");
        }
    }
}

#[test]
fn no_stake_left_comes_out_of_grants_and_accrual_and_compensates_nobody() {
    let low = measuring(&[4, 5], 0, 5);
    let (mut stage, _, lease) = rented(15, 6, &low);
    // Nothing is left of the stake, as after a case. Row 1's pay of epoch 3 is granted, a base unit of row 0's is there.
    stage.world.patch_as::<Container>(&address(&stage.provider, 0), |c| c.locked_stake = 0);
    stage.world.patch_as::<datagalax::state::Provider>(&addresses::provider(0), |p| {
        p.locked -= STAKE;
        p.staked -= STAKE;
    });
    stage.world.patch_as::<datagalax::state::VaultLedger>(&addresses::ledger(Vault::Stake), |l| l.liabilities -= STAKE);
    stage.world.check_books();
    let claim = instructions::claim_rewards(&stage.provider, 0, &accounts::rows([1]));
    let mut granted = stage.clone();
    granted.world.must(&[claim], &[&stage.provider.operator]);
    let instruction = report(&granted.world, &lease, 4);
    granted.world.run(instruction.clone());
    granted.world.check_books();
    let case = addresses::case(&address(&stage.provider, 0), 4, Case::BREACH);
    let taken: Case = granted.world.read(&case);
    assert_eq!((taken.stake_taken, taken.grants_taken, taken.accrual_taken, taken.compensation), (0, THIRD, 0, 0));
    assert_eq!(granted.world.provider(0).taken, THIRD);

    // Without grants: the row's own accrual, as much as a third.
    let accrued = row(&stage.world, 0).accrued;
    assert!(accrued < THIRD, "the lease's fee bounds what a leased row earns");
    stage.world.run(instruction);
    stage.world.check_books();
    let taken: Case = stage.world.read(&case);
    assert_eq!((taken.stake_taken, taken.grants_taken, taken.accrual_taken, taken.compensation), (0, 0, accrued, 0));
    assert_eq!(row(&stage.world, 0).accrued, 0);
}

#[test]
fn the_user_gets_no_more_than_was_taken() {
    // 6,000 ATH an hour: an epoch's price of 100 ATH exceeds a third of the stake.
    let low = measuring(&[4, 5], 0, 5);
    let mut stage = Stage::new(15, 2).pass_to(3, &low);
    let dear = UpdateContainerArgs {
        spec_hash: [7; 32],
        price_per_hour: 6_000 * ATH,
        minimum_lease: 600,
        accepting: 1,
        endpoint: "x".into(),
    };
    let update = instructions::update_container(&stage.provider, &fingerprint(0), dear);
    stage.world.must(&[update], &[&stage.provider.operator]);
    let (_, lease) = leased(&mut stage, 0);
    pass_to(&mut stage, 6, &low);
    let instruction = report(&stage.world, &lease, 4);
    stage.world.run(instruction);
    assert_eq!(lease_of(&stage, &lease).compensation, THIRD);
    stage.world.check_books();
}

/// Attack: accuse a host to be compensated for what it then does not deliver.
#[test]
fn nothing_for_the_user_while_a_case_of_dishonesty_is_pending() {
    let votes = |at: SeatAt| {
        let mut report = Report::perfect();
        if [4, 5].contains(&at.epoch) && at.seat < CONDEMNING {
            report = report.row(0, 10, 100, 9);
            if at.epoch == 4 {
                report = report.dishonest(0);
            }
        }
        salted(report, at)
    };
    let (mut stage, _, lease) = rented(15, 6, &votes);
    assert!(row(&stage.world, 0).is_accused());
    let stake = stage.world.ledger(Vault::Stake);
    let instruction = report(&stage.world, &lease, 4);
    stage.world.run(instruction);
    stage.world.check_books();
    assert_eq!((lease_of(&stage, &lease).compensation, container(&stage, 0).locked_stake), (0, STAKE - THIRD));
    assert_eq!(stake.liabilities - stage.world.ledger(Vault::Stake).liabilities, THIRD);
    assert!(row(&stage.world, 0).is_accused(), "the other case goes on");
}

/// Maintenance announced before the lease was opened excuses; announced later, or of another time, it does not.
#[test]
fn announced_maintenance_excuses() {
    // (announced seconds after the lease was opened, begins and ends, seconds from the start of the first epoch; breach)
    let cases: [(i64, i64, i64, bool); 6] = [
        (-1, 30, 90, false),
        (-1, -60, 1, false),
        (-1, 119, 200, false),
        (-1, -60, 0, true),
        (-1, 120, 200, true),
        (0, 30, 90, true),
    ];
    for (announced, from, to, breached) in cases {
        let mut stage = Stage::new(15, 2).pass_to(3, &perfect());
        // A day and more later: the lease is opened in epoch 1,500 and breached in the two epochs after it.
        let first = 1_501;
        let epochs = [first, first + 1];
        let low = measuring(&epochs, 0, 5);
        let starts = stage.world.start_of(first);
        stage.pass(first - 1, &low);
        let opened = stage.world.now();
        stage.world.set_time(starts - DAY - 61);
        let operator = stage.provider.operator.clone();
        let announce = instructions::announce_maintenance(&stage.provider, &fingerprint(0), starts + from, starts + to);
        stage.world.must(&[announce], &[&operator]);
        stage.world.set_time(opened);
        stage.world.patch_as::<Container>(&address(&stage.provider, 0), |c| c.maintenance_announced = opened + announced);
        let (_, lease) = leased(&mut stage, 0);
        pass_to(&mut stage, first + 2, &low);
        let instruction = report(&stage.world, &lease, first);
        let done = stage.world.send(&[instruction], &[]).map(|_| ()).map_err(|f| f.name);
        assert_eq!(done, if breached { Ok(()) } else { Err("NoBreach".into()) }, "{announced} {from} {to}");
        // Excused from breach, not from pay: nothing was earned in either.
        assert_eq!(row(&stage.world, 0).history[first as usize % 32] & 0x7f, 0);
    }
}

/// Attack: wait until the host announces its next maintenance, and report the last one as a breach.
#[test]
fn the_last_maintenance_excuses_though_the_next_is_announced() {
    let first = 1_501;
    let epochs = [first, first + 1];
    let low = measuring(&epochs, 0, 5);
    let mut stage = Stage::new(15, 2).pass_to(3, &perfect());
    let (starts, operator) = (stage.world.start_of(first), stage.provider.operator.clone());
    let announce = |stage: &mut Stage, from: i64| {
        let instruction = instructions::announce_maintenance(&stage.provider, &fingerprint(0), from, from + 120);
        stage.world.must(&[instruction], &[&operator]);
    };
    announce(&mut stage, starts);
    stage.pass(first - 1, &low);
    let (_, lease) = leased(&mut stage, 0);
    pass_to(&mut stage, first + 2, &low);
    let instruction = report(&stage.world, &lease, first);
    stage.world.refused(instruction.clone(), &[], "NoBreach");
    let again = stage.world.now() + DAY;
    announce(&mut stage, again);
    stage.world.refused(instruction.clone(), &[], "NoBreach");
    // Replaced before it began: the one that took place is still remembered.
    announce(&mut stage, again + 60);
    stage.world.refused(instruction, &[], "NoBreach");
    let account = container(&stage, 0);
    assert_eq!((account.past_start, account.past_end, account.maintenance_start), (starts, starts + 120, again + 60));
}

#[test]
fn report_breach_refuses() {
    let votes = measuring(&[4, 5], 0, 5);
    let (mut few, _, lease) = rented(14, 6, &votes);
    let instruction = report(&few.world, &lease, 4);
    few.world.refused(instruction, &[], "TooFewTickets");

    let (mut stage, _, lease) = rented(15, 6, &votes);
    let other = stage.world.provider_with(0);
    let second = stage.world.grown_block_regardless();
    let payer = stage.world.actor("plaintiff");
    let valid = instructions::report_breach(&stage.world, &payer.pubkey(), &lease, 4);
    let changes: [(usize, Pubkey, &str); 5] = [
        (3, address(&stage.provider, 1), "WrongAccount"),
        (4, addresses::provider(other.id), "WrongAccount"),
        (5, addresses::block(second), "WrongAccount"),
        (8, addresses::ledger(Vault::Escrow), "WrongAccount"),
        (9, addresses::ledger(Vault::Escrow), "WrongAccount"),
    ];
    for (i, address, name) in changes {
        let mut wrong = valid.clone();
        wrong.accounts[i].pubkey = address;
        stage.world.refused(wrong, &[&payer], name);
    }
    let mut wrong = valid.clone();
    wrong.accounts[7].pubkey = addresses::case(&address(&stage.provider, 0), 4, Case::DISHONEST);
    stage.world.refused(wrong, &[&payer], "InvalidSeeds");
    for epoch in [0, 2, 3, 5, 6, 7, 1_000, u32::MAX - 1] {
        let wrong = report(&stage.world, &lease, epoch);
        stage.world.refused(wrong, &[], "NoBreach");
    }
    let wrong = report(&stage.world, &lease, u32::MAX);
    stage.world.refused(wrong, &[], "Overflow");
    let mut untallied = stage.world.clone();
    untallied.patch_as::<Block>(&addresses::block(0), |b| b.last_tallied = u32::MAX);
    untallied.refused(valid.clone(), &[&payer], "NoBreach");
    Call::new(stage.world, valid, &[&payer]).check();
}

/// Two of five can neither make a breach nor, lying about an idle neighbour, anything else of it.
#[test]
fn a_minority_cannot_take_stake() {
    let lie = |at: SeatAt| {
        let report = Report::perfect();
        salted(if at.seat < 2 && at.epoch >= 4 { report.row(0, 0, 0, 1).dishonest(0).row(1, 0, 0, 1) } else { report }, at)
    };
    let (mut stage, _, lease) = rented(15, 12, &lie);
    for epoch in 4..11 {
        let instruction = report(&stage.world, &lease, epoch);
        stage.world.refused(instruction, &[], "NoBreach");
    }
    assert_eq!((container(&stage, 0).locked_stake, container(&stage, 0).status), (STAKE, 0));
    assert!(!row(&stage.world, 0).is_accused());
}
