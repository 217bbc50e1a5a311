//! `advance_epoch`, `draw`, `seat_block`.

use datagalax::{
    committee::{epoch_seed, positions, seats_for},
    constants::NONE,
    math::Rate,
    state::{Block, Epoch, Parameters},
};
use datagalax_program_tests::{
    Settings, World, addresses,
    addresses::Vault,
    instructions,
    settings::{ATH, parameters},
    time::slot_hash,
};
use solana_signer::Signer;

use datagalax_program_tests::{
    refusals::Call,
    stage::{Stage, perfect},
};

#[test]
fn the_first_advance_fixes_the_money() {
    let mut world = World::new();
    world.advance(0);
    let epoch = world.epoch(0);
    assert_eq!((epoch.number, epoch.status, epoch.released), (0, Epoch::ADVANCED, 0));
    assert_eq!((epoch.pool, epoch.container_pool, epoch.checker_pool), (1_000 * ATH, 750 * ATH, 200 * ATH));
    assert_eq!((epoch.rate, epoch.nominal, epoch.blocks, epoch.seat_pay), (Rate::ZERO, 0, 0, 0));
    assert_eq!((epoch.draw_slot, epoch.rent_payer), (world.slot() + 2, world.payer.pubkey()));
    assert_eq!((epoch.last_seed, epoch.entropy_before), ([0; 32], [0; 32]));
    assert_eq!((world.network().current_epoch, world.network().previous_epoch), (0, NONE));
    assert_eq!(world.ledger(Vault::Rewards).liabilities, 1_000 * ATH);
    world.check_books();
}

#[test]
fn the_pool_is_what_the_vault_holds_free() {
    let mut world = World::with(Settings { funding: 1_500 * ATH + 3, ..Settings::default() });
    let pools: Vec<u64> = (0..6)
        .map(|number| {
            world.advance(number);
            world.check_books();
            world.epoch(number).pool
        })
        .collect();
    // Two epochs are reserved at a time; each advance gives back what the one two before it did not earn.
    let rest = 500 * ATH + 3;
    assert_eq!(pools, [1_000 * ATH, rest, 1_000 * ATH, rest, 1_000 * ATH, rest]);
    let rounded = world.epoch(1);
    assert_eq!((rounded.container_pool, rounded.checker_pool), (375 * ATH + 2, 100 * ATH), "shares are rounded down");
}

#[test]
fn nothing_is_promised_when_nothing_is_there() {
    let mut world = World::with(Settings { funding: 0, ..Settings::default() });
    world.advance(0);
    assert_eq!(world.epoch(0).pool, 0);
    world.check_books();
}

#[test]
fn every_reservation_is_released_exactly_once_whatever_was_skipped() {
    for path in [vec![0, 1, 2, 3], vec![0, 2, 4], vec![0, 1, 5, 6, 7], vec![3, 4, 9], vec![0, 1, 3, 4], vec![0, 9]] {
        let mut world = World::new();
        for (i, number) in path.iter().enumerate() {
            world.advance(*number);
            world.check_books();
            let network = world.network();
            let before = i.checked_sub(1).map(|i| path[i]);
            // What ended two epochs ago is released, what may still be tallied is not.
            let open = before.filter(|b| b + 2 > *number);
            assert_eq!(network.previous_epoch, open.unwrap_or(NONE), "{path:?} at {number}");
            for past in &path[..i] {
                assert_eq!(world.epoch(*past).released, u8::from(past + 2 <= *number), "{path:?} at {number}: {past}");
            }
            let open_count = 1 + u64::from(open.is_some());
            assert_eq!(world.ledger(Vault::Rewards).liabilities, open_count * 1_000 * ATH, "{path:?} at {number}");
        }
    }
}

#[test]
fn emission_decays_at_its_epochs_and_catches_up() {
    let settings = Settings { decay_bps: 1_000, decay_every: 2, emission: 1_000_001, ..Settings::default() };
    let mut world = World::with(settings);
    let pools: Vec<u64> = [0, 1, 2, 3, 4, 9]
        .into_iter()
        .map(|number| {
            world.advance(number);
            world.check_books();
            world.epoch(number).pool
        })
        .collect();
    // Each decay keeps nine tenths, rounded down: at 2, 4, 6 and 8.
    assert_eq!(pools, [1_000_001, 1_000_001, 900_000, 900_000, 810_000, 656_100]);
    assert_eq!(world.network().emission.next_decay, 10);
}

#[test]
fn a_network_that_slept_long_catches_up_in_bounded_steps() {
    let settings = Settings { decay_bps: 1, decay_every: 1, emission: 1_000 * ATH, ..Settings::default() };
    let mut world = World::with(settings);
    world.advance(0);
    let asleep = 1_000;
    world.advance(asleep);
    assert_eq!(world.network().emission.next_decay, 65, "64 decays at most in one advance");
    assert_eq!(world.epoch(asleep).pool, world.network().emission.amount);
    let before = world.network().emission.amount;
    world.advance(asleep + 1);
    assert!(world.network().emission.amount < before);
    assert_eq!(world.network().emission.next_decay, 129);
}

#[test]
fn advance_refuses() {
    let mut world = World::new();
    let payer = world.actor("advance payer");
    let advance = |world: &World, number| instructions::advance_epoch(world, &payer.pubkey(), number);
    // Before the first epoch, and any number but the clock's.
    world.set_time(world.start - 1);
    let early = advance(&world, 0);
    world.refused(early, &[&payer], "NotStarted");
    world.enter(0, 0);
    for number in [1, 7, NONE] {
        let wrong = advance(&world, number);
        world.refused(wrong, &[&payer], "WrongEpoch");
    }
    let first = advance(&world, 0);
    world.provider_with(0);
    Call::new(world.clone(), first.clone(), &[&payer]).check();
    world.must(&[first], &[&payer]);
    let twice = advance(&world, 0);
    assert!(world.send(&[twice], &[&payer]).is_err(), "twice");

    // The vault's ledger must be the rewards'.
    world.enter(1, 1);
    let mut wrong = advance(&world, 1);
    wrong.accounts[2].pubkey = addresses::ledger(Vault::Stake);
    world.refused(wrong, &[&payer], "WrongAccount");
    // Neither unreleased epoch may be left out.
    let mut wrong = advance(&world, 1);
    wrong.accounts[4].pubkey = datagalax::ID;
    wrong.accounts[4].is_writable = false;
    world.refused(wrong, &[&payer], "CurrentEpochRequired");
    let second = advance(&world, 1);
    world.must(&[second], &[&payer]);
    world.enter(2, 1);
    let valid = advance(&world, 2);
    let mut wrong = valid.clone();
    wrong.accounts[5].pubkey = datagalax::ID;
    wrong.accounts[5].is_writable = false;
    world.refused(wrong, &[&payer], "PreviousEpochRequired");
    // Nor swapped.
    let mut wrong = valid.clone();
    wrong.accounts.swap(4, 5);
    world.refused(wrong, &[&payer], "PreviousEpochRequired");
    Call::new(world.clone(), valid.clone(), &[&payer]).check();
    // A pause stops no advance.
    world.set_paused(true);
    world.must(&[valid], &[&payer]);
}

#[test]
fn a_clock_that_runs_back_advances_nothing() {
    let mut world = World::new();
    world.advance(0);
    world.advance(3);
    world.enter(2, 1);
    let back = instructions::advance_epoch(&world, &world.payer.pubkey(), 2);
    world.refused(back, &[], "AlreadyAdvanced");
}

#[test]
fn the_rate_is_capped() {
    let cap = Rate { hi: 1, lo: 1 << 63 };
    let settings = Settings { parameters: Parameters { max_rate: cap, ..parameters() }, ..Settings::default() };
    let stage = Stage::of(settings, 3, 1).pass_to(3, &perfect());
    assert_eq!(stage.world.epoch(3).rate, cap);
    // Uncapped it is the pool over nominal: one row of weight 100 x 1 x 10,000.
    let stage = Stage::new(3, 1).pass_to(3, &perfect());
    assert_eq!((stage.world.epoch(3).rate, stage.world.epoch(3).nominal), (Rate { hi: 750, lo: 0 }, 1_000_000));
}

#[test]
fn draw_takes_the_first_slot_at_or_after_the_draw_slot() {
    let mut stage = Stage::new(3, 1).pass_to(2, &perfect());
    let world = &mut stage.world;
    world.advance(3);
    let (armed, before) = (world.epoch(3).draw_slot, world.epoch(3));
    let outcome = world.draw(3);
    let epoch = world.epoch(3);
    assert_eq!(epoch.draw_slot, armed);
    assert_eq!(epoch.seed, epoch_seed(&before.last_seed, &before.entropy_before, &slot_hash(armed), 3));
    assert_eq!(before.last_seed, world.epoch(2).seed);
    assert_eq!(before.entropy_before, world.epoch(1).entropy, "the entropy of two epochs ago");
    assert_ne!(before.entropy_before, [0; 32]);
    assert_eq!((epoch.tickets, epoch.status), (3, Epoch::DRAWN));
    assert_eq!(epoch.seat_pay, 200 * ATH / 3, "three seats, one block; rounded down");
    let recorded = format!("Program {} invoke [2]", datagalax::ID);
    assert!(outcome.logs.contains(&recorded), "the program calls itself to record an event");
}

#[test]
fn seat_pay_is_capped_and_fewer_than_three_tickets_earn_nothing() {
    let settings = Settings { parameters: Parameters { max_seat_pay: 5, ..parameters() }, ..Settings::default() };
    let stage = Stage::of(settings, 3, 1).open_next();
    assert_eq!(stage.world.epoch(1).seat_pay, 5);

    let mut stage = Stage::new(2, 1);
    stage.world.open(1);
    let epoch = stage.world.epoch(1);
    assert_eq!((epoch.tickets, epoch.seat_pay, epoch.rate), (2, 0, Rate::ZERO));
}

#[test]
fn draw_refuses_until_the_slot_and_after_the_quarter() {
    let mut world = World::new();
    world.provider_with(0);
    world.enter(0, 0);
    world.advance(0);
    // The draw slot has not passed: its hash is not there.
    world.refused(instructions::draw(0), &[], "TooEarlyToDraw");
    world.pass_slots(2);
    assert_eq!(world.epoch(0).draw_slot, world.slot());
    world.refused(instructions::draw(0), &[], "TooEarlyToDraw");
    world.pass_slots(1);
    Call::new(world.clone(), instructions::draw(0), &[]).check();
    world.enter(0, 15);
    world.refused(instructions::draw(0), &[], "EpochVoid");
    world.enter(0, 14);
    // A pause stops no draw.
    world.set_paused(true);
    world.draw(0);
    world.refused(instructions::draw(0), &[], "AlreadyDrawn");
    // An epoch that is not the current one.
    world.advance(1);
    world.enter(1, 10);
    world.refused(instructions::draw(0), &[], "CurrentEpochRequired");
    // An account that is not the sysvar.
    let mut wrong = instructions::draw(1);
    let fake = datagalax_program_tests::world::address_of(&[b"fake slot hashes"]);
    let data = world.account(&addresses::SLOT_HASHES).data;
    world.put(fake, datagalax::ID, data);
    wrong.accounts[3].pubkey = fake;
    world.refused(wrong, &[], "WrongAccount");
}

#[test]
fn a_draw_slot_older_than_the_hashes_is_armed_again() {
    let mut world = World::new();
    world.advance(0);
    let armed = world.epoch(0).draw_slot;
    world.wait_until(world.start_of(0) + 6);
    world.pass_slots(600);
    let outcome = world.run(instructions::draw(0));
    let epoch = world.epoch(0);
    assert_eq!((epoch.status, epoch.seed), (Epoch::ADVANCED, [0; 32]));
    assert_eq!(epoch.draw_slot, world.slot() + 2);
    assert!(epoch.draw_slot > armed);
    assert!(outcome.logs.iter().any(|l| l.contains("armed again")));
    world.refused(instructions::draw(0), &[], "TooEarlyToDraw");
    world.pass_slots(3);
    world.draw(0);
    world.check_books();
}

#[test]
fn seat_block_writes_the_permuted_committee() {
    for checkers in [3, 4, 5, 9] {
        let stage = Stage::new(checkers, 1).open_next();
        let (block, epoch) = (stage.world.block(stage.block), stage.world.epoch(1));
        let lane = &block.lanes[1];
        assert_eq!((lane.epoch, lane.seats, lane.cursor, lane.tallied), (1, seats_for(checkers), 0, 0));
        let tickets = stage.world.tickets();
        for (seat, position) in lane.committee.iter().zip(positions(&epoch.seed, stage.block, epoch.tickets)) {
            if position == NONE {
                assert!(!seat.is_filled());
            } else {
                assert_eq!(seat.slot, tickets[position as usize].order);
                assert_eq!(seat.checker, tickets[seat.slot as usize].checker);
            }
        }
        let mut slots: Vec<u32> = stage.world.seats(1, stage.block).iter().map(|s| s.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), usize::from(seats_for(checkers)), "{checkers} checkers: no ticket sits twice");
    }
}

#[test]
fn seat_block_refuses() {
    let mut stage = Stage::new(3, 1);
    let block = stage.block;
    let world = &mut stage.world;
    // Its first epoch is the one after its first row.
    world.refused(instructions::seat_block(0, block), &[], "BlockEmpty");
    world.advance(1);
    world.refused(instructions::seat_block(1, block), &[], "NotDrawn");
    world.draw(1);
    // A pause stops no committee.
    world.set_paused(true);
    Call::new(world.clone(), instructions::seat_block(1, block), &[]).check();
    world.seat(1, block);
    world.refused(instructions::seat_block(1, block), &[], "AlreadySeated");
    // An epoch that is over, and one whose lane is a later epoch's.
    let mut late = world.clone();
    late.patch_as::<Block>(&addresses::block(block), |b| b.lanes[1].epoch = NONE);
    late.enter(2, 0);
    late.refused(instructions::seat_block(1, block), &[], "WrongEpoch");
    late.enter(1, 20);
    late.patch_as::<Block>(&addresses::block(block), |b| b.lanes[1].epoch = 3);
    late.refused(instructions::seat_block(1, block), &[], "AlreadySeated");
    // A block without rows.
    let mut empty = world.clone();
    empty.set_paused(false);
    let second = empty.grown_block_regardless();
    empty.refused(instructions::seat_block(1, second), &[], "BlockEmpty");
}

#[test]
fn a_new_lane_forgets_the_reports_of_the_old_one() {
    let mut stage = Stage::new(3, 1).pass_to(2, &perfect());
    let old = stage.world.block(stage.block).lanes[1];
    assert!(old.tallied == 1 && old.entropy != [0; 32] && old.committee[0].revealed == 1);
    stage.world.open(3);
    let lane = stage.world.block(stage.block).lanes[1];
    assert_eq!((lane.epoch, lane.cursor, lane.tallied, lane.entropy), (3, 0, 0, [0; 32]));
    for seat in lane.committee.iter().filter(|s| s.is_filled()) {
        assert_eq!((seat.revealed, seat.judged, seat.right, seat.commitment), (0, 0, 0, [0; 32]));
        assert_eq!(seat.operator, Default::default());
    }
}
