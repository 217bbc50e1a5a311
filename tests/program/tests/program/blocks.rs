//! `create_block`, `grow_block`.

use datagalax::{
    constants::{GROWTH_STEP, NONE, ROWS},
    state::{Block, Network, Row, VERSION},
};
use datagalax_program_tests::{World, accounts::BLOCK_SPACE, addresses, instructions};
use solana_signer::Signer;

use datagalax_program_tests::refusals::Call;

/// A block that lacks its last step of growth, and who pays.
fn almost() -> (World, datagalax_program_tests::world::Key) {
    let mut world = World::new();
    world.provider_with(0);
    let payer = world.actor("block payer");
    let mut all = vec![instructions::create_block(&payer.pubkey(), 0)];
    all.extend((0..3).map(|_| instructions::grow_block(&payer.pubkey(), 0)));
    world.must(&all, &[&payer]);
    (world, payer)
}

#[test]
fn a_block_grows_to_its_full_length_and_is_empty() {
    let (mut world, payer) = almost();
    let address = addresses::block(0);
    assert_eq!(world.account(&address).data.len(), 4 * GROWTH_STEP);
    assert_eq!((world.network().blocks, world.network().free_rows), (1, 0));
    world.must(&[instructions::grow_block(&payer.pubkey(), 0)], &[&payer]);

    let account = world.account(&address);
    assert_eq!(account.data.len(), BLOCK_SPACE);
    assert!(account.lamports >= world.svm.minimum_balance_for_rent_exemption(BLOCK_SPACE), "rent-exempt");
    assert_eq!(world.network().free_rows as usize, ROWS);
    let block = world.block(0);
    assert_eq!((block.version, block.full, block.index, block.creator), (VERSION, 1, 0, payer.pubkey()));
    assert_eq!((block.seated_from, block.last_tallied, block.occupied, block.live), (NONE, NONE, 0, 0));
    assert!(block.occupancy.iter().all(|b| *b == 0) && block.rows.iter().all(|r| r.status == Row::FREE));
    for lane in &block.lanes {
        assert_eq!((lane.epoch, lane.cursor, lane.seats, lane.tallied), (NONE, 0, 0, 0));
        assert!(lane.committee.iter().all(|s| !s.is_filled() && !s.has_committed()));
    }
    world.check_books();
}

#[test]
fn anybody_may_pay_for_growth_but_the_creator_stays() {
    let (mut world, payer) = almost();
    let other = world.actor("another payer");
    world.must(&[instructions::grow_block(&other.pubkey(), 0)], &[&other]);
    assert_eq!(world.block(0).creator, payer.pubkey());
}

#[test]
fn create_block_refuses() {
    let mut world = World::new();
    world.provider_with(0);
    let payer = world.actor("block payer");
    let create = |index| instructions::create_block(&payer.pubkey(), index);
    // Not the next index.
    world.refused(create(1), &[&payer], "InvalidSeeds");
    world.set_paused(true);
    world.refused(create(0), &[&payer], "Paused");
    world.set_paused(false);
    let mut last = world.clone();
    last.patch_as::<Network>(&addresses::network(), |n| n.blocks = NONE - 1);
    last.refused(create(NONE - 1), &[&payer], "Overflow");
    Call::new(world.clone(), create(0), &[&payer]).check();

    // Indices are not to be used up by accounts that never grow: one block at a time, which anybody may grow.
    let mut growing = world.clone();
    growing.must(&[create(0)], &[&payer]);
    growing.refused(create(1), &[&payer], "BlockNotFull");

    // While a full-length block has a free row there is no new one.
    world.grown_block();
    world.refused(create(1), &[&payer], "FreeRowsLeft");
    world.refused(create(0), &[&payer], "FreeRowsLeft");
    // Nor is one made twice.
    world.patch_as::<Network>(&addresses::network(), |n| n.free_rows = 0);
    world.refused(create(0), &[&payer], "InvalidSeeds");
}

#[test]
fn somebody_who_sends_lamports_to_the_next_block_does_not_stop_it() {
    let mut world = World::new();
    world.give_lamports(&addresses::block(0));
    assert_eq!(world.grown_block(), 0);
    world.check_books();
}

#[test]
fn grow_block_refuses() {
    let (mut world, payer) = almost();
    let grow = instructions::grow_block(&payer.pubkey(), 0);
    // Accounts that are no blocks, of ours and of others.
    for address in [addresses::network(), addresses::checker_set(), addresses::provider(0)] {
        let mut wrong = grow.clone();
        wrong.accounts[2].pubkey = address;
        assert!(world.send(&[wrong], &[&payer]).is_err(), "{address} is no block");
    }
    let mut wrong = grow.clone();
    wrong.accounts[2].pubkey = addresses::provider(0);
    world.refused(wrong, &[&payer], "WrongAccount");
    let mut wrong = grow.clone();
    wrong.accounts[2].pubkey = addresses::block(1);
    world.refused(wrong, &[&payer], "WrongAccount");
    Call { may_be_shorter: Some(2), ..Call::new(world.clone(), grow.clone(), &[&payer]) }.check();

    world.must(std::slice::from_ref(&grow), &[&payer]);
    world.refused(grow, &[&payer], "BlockFull");
}

#[test]
fn a_block_refuses_everything_until_its_full_length() {
    let (mut world, _) = almost();
    world.class_of(0, 100);
    let provider = world.provider_with(1_000_000_000);
    world.advance(0);
    let args = datagalax_program_tests::actors::container_args([1; 32], 1);
    let register = instructions::register_container(&world, &provider, 0, 0, args);
    assert!(world.send(&[register], &[&provider.owner]).is_err(), "a container in a short block");
    world.draw(0);
    assert!(world.send(&[instructions::seat_block(0, 0)], &[]).is_err(), "a committee for a short block");
    // Nor does a block that only lacks the mark of its full length take a container.
    let payer = world.actor("block payer");
    world.must(&[instructions::grow_block(&payer.pubkey(), 0)], &[&payer]);
    world.patch_as::<Block>(&addresses::block(0), |b| b.full = 0);
    let args = datagalax_program_tests::actors::container_args([1; 32], 1);
    let register = instructions::register_container(&world, &provider, 0, 0, args);
    world.refused(register, &[&provider.owner], "BlockNotFull");
}
