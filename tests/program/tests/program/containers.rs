//! `register_container`.

use datagalax::{
    constants::{MAX_AMOUNT, NONE, ROWS, VOID},
    instructions::RegisterContainerArgs,
    state::{Block, Epoch, GpuClass, Network, Parameters, Provider as ProviderAccount, Row},
};
use datagalax_program_tests::{
    Provider, Settings, World,
    actors::{container_args, fingerprint},
    addresses, instructions,
    settings::{ATH, parameters},
};
use solana_signer::Signer;

use datagalax_program_tests::{
    refusals::Call,
    stage::{Stage, WEIGHT},
};

fn world_with(stake: u64) -> (World, Provider, u32) {
    let mut world = World::new();
    world.class_of(0, WEIGHT);
    let block = world.grown_block();
    let provider = world.provider_with(stake);
    world.advance(0);
    (world, provider, block)
}

#[test]
fn a_container_locks_stake_and_takes_the_lowest_row() {
    let (mut world, provider, block) = world_with(1_000 * ATH);
    let mut args = container_args(fingerprint(1), 3);
    args.endpoint = "é".repeat(64);
    let register = instructions::register_container(&world, &provider, 0, block, args.clone());
    world.must(&[register], &[&provider.owner]);
    world.containers(&provider, 0, block, 2, 1);

    let container = world.container(provider.id, &fingerprint(1));
    assert_eq!((container.gpus, container.row, container.block, container.class), (3, 0, block, 0));
    assert_eq!((container.provider, container.accepting, container.status), (provider.id, 1, 0));
    assert_eq!((container.locked_stake, container.original_locked_stake), (30 * ATH, 30 * ATH));
    assert_eq!((container.operator, container.spec_hash, container.region), (args.operator, args.spec_hash, args.region));
    assert_eq!((container.latitude, container.longitude), (args.latitude, args.longitude));
    assert_eq!((container.price_per_hour, container.minimum_lease), (args.price_per_hour, args.minimum_lease));
    assert_eq!((container.endpoint(), container.registered_at), (args.endpoint.as_str(), world.now()));

    let account = world.block(block);
    assert_eq!((account.occupied, account.live, account.seated_from), (2, 0, 1));
    let expected = Row::checking(provider.id, 0, WEIGHT, 3, 1);
    assert_eq!(account.rows[0], expected);
    assert_eq!(
        (expected.status, expected.live_from, expected.until, expected.history),
        (Row::CHECKING, 1, NONE, [VOID; 32])
    );
    assert_eq!(account.rows[1].gpus, 1);
    let owner = world.provider(provider.id);
    assert_eq!((owner.locked, owner.staked, owner.containers, owner.containers_ever), (40 * ATH, 1_000 * ATH, 2, 2));
    assert_eq!(world.network().free_rows as usize, ROWS - 2);
    assert_eq!((world.epoch(0).blocks_added, world.epoch(0).blocks), (1, 0));
    world.check_books();
}

#[test]
fn each_registration_repays_a_share_of_the_rent() {
    let (mut world, provider, block) = world_with(1_000 * ATH);
    let (creator, rent) = (world.payer.pubkey(), world.account(&addresses::block(block)).lamports);
    // Fees come from the creator too here, so another pays them.
    let payer = world.actor("fee payer");
    let before = world.account(&creator).lamports;
    let register = instructions::register_container(&world, &provider, 0, block, container_args(fingerprint(1), 1));
    world.send_paid_by(&payer, &[register], &[&provider.owner]).expect("registered");
    assert_eq!(world.account(&creator).lamports - before, rent / 256);
}

#[test]
fn a_creator_registers_in_its_own_block() {
    let (mut world, mut provider, _) = world_with(1_000 * ATH);
    world.patch_as::<Block>(&addresses::block(0), |b| b.creator = provider.owner.pubkey());
    world.containers(&provider, 0, 0, 1, 1);
    provider.id = 0;
    assert_eq!(world.block(0).occupied, 1);
    world.check_books();
}

#[test]
fn stake_follows_the_coefficient() {
    let settings =
        Settings { parameters: Parameters { stake_coefficient_bps: 15_001, ..parameters() }, ..Settings::default() };
    let stage = Stage::of(settings, 3, 1);
    assert_eq!(stage.world.provider(0).locked, 10 * ATH * 15_001 / 10_000);
}

/// One change of the arguments that must be refused.
type Change = fn(&mut RegisterContainerArgs);

#[test]
fn fields_have_bounds() {
    let (mut world, provider, block) = world_with(100_000 * ATH);
    let changes: &[(&str, &str, Change)] = &[
        ("no units", "BadContainer", |a| a.gpus = 0),
        ("south of the pole", "BadContainer", |a| a.latitude = -9_001),
        ("north of the pole", "BadContainer", |a| a.latitude = 9_001),
        ("west of the date line", "BadContainer", |a| a.longitude = -18_001),
        ("east of the date line", "BadContainer", |a| a.longitude = 18_001),
        ("a region beyond ASCII", "BadContainer", |a| a.region[3] = 0x80),
        ("a price", "BadContainer", |a| a.price_per_hour = MAX_AMOUNT + 1),
        ("a short lease", "BadContainer", |a| a.minimum_lease = 599),
        ("no endpoint", "BadEndpoint", |a| a.endpoint.clear()),
        ("a long endpoint", "BadEndpoint", |a| a.endpoint = "x".repeat(129)),
    ];
    for (what, name, change) in changes {
        let mut args = container_args(fingerprint(1), 1);
        change(&mut args);
        let register = instructions::register_container(&world, &provider, 0, block, args);
        match world.send(&[register], &[&provider.owner]) {
            Ok(_) => panic!("{what}: was done"),
            Err(failure) => assert_eq!(failure.name, *name, "{what}"),
        }
    }
    // An endpoint that is not UTF-8: the last byte of the data is its last byte.
    let mut register = instructions::register_container(&world, &provider, 0, block, container_args(fingerprint(1), 1));
    *register.data.last_mut().expect("data") = 0xff;
    world.refused(register, &[&provider.owner], "InvalidInstructionData");

    // The ends of each range are inside.
    let mut args = container_args(fingerprint(1), 255);
    (args.latitude, args.longitude) = (-9_000, 18_000);
    (args.price_per_hour, args.minimum_lease) = (MAX_AMOUNT, 600);
    args.endpoint = "x".repeat(128);
    let register = instructions::register_container(&world, &provider, 0, block, args);
    world.must(&[register], &[&provider.owner]);
}

#[test]
fn register_container_refuses() {
    let mut stage = Stage::new(3, 1);
    let other = stage.world.provider_with(100 * ATH);
    let (world, provider, block) = (&mut stage.world, &stage.provider, stage.block);
    let owner = &provider.owner;
    let valid = instructions::register_container(world, provider, 0, block, container_args(fingerprint(9), 1));

    // Somebody else's provider; the operator instead of the owner.
    let mut wrong = valid.clone();
    wrong.accounts[2].pubkey = addresses::provider(other.id);
    world.refused(wrong.clone(), &[owner], "Unauthorized");
    wrong.accounts[6].pubkey = addresses::container(other.id, &fingerprint(9));
    world.refused(wrong, &[owner], "Unauthorized");
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = provider.operator.pubkey();
    world.refused(wrong, &[&provider.operator], "Unauthorized");
    // Not the creator; another address than the fingerprint's; the same fingerprint again.
    let mut wrong = valid.clone();
    wrong.accounts[5].pubkey = other.payout;
    world.refused(wrong, &[owner], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[6].pubkey = addresses::container(provider.id, &fingerprint(10));
    world.refused(wrong, &[owner], "InvalidSeeds");
    let again = instructions::register_container(world, provider, 0, block, container_args(fingerprint(0), 1));
    assert!(world.send(&[again], &[owner]).is_err(), "the same hardware twice");

    // State that does not allow it.
    let mut paused = world.clone();
    paused.set_paused(true);
    paused.refused(valid.clone(), &[owner], "Paused");
    let mut inactive = world.clone();
    inactive.patch_as::<GpuClass>(&addresses::class(0), |c| c.terms.active = 0);
    inactive.refused(valid.clone(), &[owner], "ClassInactive");
    let mut poor = world.clone();
    let bound = poor.provider(0).locked + 10 * ATH - 1;
    poor.patch_as::<ProviderAccount>(&addresses::provider(0), |p| p.staked = bound);
    poor.refused(valid.clone(), &[owner], "StakeTooLow");
    let mut unbonding = world.clone();
    unbonding.patch_as::<ProviderAccount>(&addresses::provider(0), |p| p.unbonding = p.staked - p.locked);
    unbonding.refused(valid.clone(), &[owner], "StakeTooLow");
    let mut full = world.clone();
    full.patch_as::<Block>(&addresses::block(block), |b| b.occupancy = [u8::MAX; 32]);
    full.refused(valid.clone(), &[owner], "NoFreeRow");
    let mut heavy = world.clone();
    heavy.patch_as::<GpuClass>(&addresses::class(0), |c| c.terms.stake_base = u64::MAX);
    let two = instructions::register_container(&heavy, provider, 0, block, container_args(fingerprint(9), 2));
    heavy.refused(two, &[owner], "Overflow");

    // An epoch that is not the current one, and a clock before the first.
    let mut old = world.clone();
    old.advance(1);
    old.refused(valid.clone(), &[owner], "CurrentEpochRequired");
    let mut early = world.clone();
    early.set_time(early.start - 1);
    early.refused(valid.clone(), &[owner], "NotStarted");

    Call::new(world.clone(), valid, &[owner]).check();
}

#[test]
fn before_the_first_advance_nothing_registers() {
    let mut world = World::new();
    world.class_of(0, WEIGHT);
    let block = world.grown_block();
    let provider = world.provider_with(100 * ATH);
    // There is no epoch account to name; one of another number does not help.
    let register = instructions::register_container(&world, &provider, 0, block, container_args(fingerprint(1), 1));
    assert!(world.send(&[register], &[&provider.owner]).is_err());
    let mut forged = world.clone();
    forged.advance(0);
    forged.patch_as::<Network>(&addresses::network(), |n| n.current_epoch = NONE);
    let mut register = instructions::register_container(&forged, &provider, 0, block, container_args(fingerprint(1), 1));
    register.accounts[7].pubkey = addresses::epoch(0);
    forged.refused(register, &[&provider.owner], "CurrentEpochRequired");
}

#[test]
fn a_full_block_makes_room_for_the_next() {
    let (mut world, provider, block) = world_with(100_000 * ATH);
    world.containers(&provider, 0, block, 0, ROWS as u32);
    assert_eq!((world.block(block).occupied as usize, world.network().free_rows), (ROWS, 0));
    let more = instructions::register_container(&world, &provider, 0, block, container_args(fingerprint(999), 1));
    world.refused(more, &[&provider.owner], "NoFreeRow");
    world.check_books();
    assert_eq!(world.grown_block(), 1);
    world.containers(&provider, 0, 1, 999, 1);
    assert_eq!((world.block(1).occupied, world.epoch(0).blocks_added), (1, 2));
    world.check_books();
}

#[test]
fn a_late_advance_still_counts_every_block_before_it_is_seated() {
    let (mut world, provider, block) = world_with(1_000 * ATH);
    // Nobody advanced since epoch 0; the clock is in epoch 5.
    world.enter(5, 10);
    world.containers(&provider, 0, block, 0, 1);
    assert_eq!((world.block(block).seated_from, world.epoch(0).blocks_added), (6, 1));
    world.advance(5);
    assert_eq!(world.epoch(5).blocks, 1);
    world.enter(5, 12);
    world.draw(5);
    world.refused(instructions::seat_block(5, block), &[], "BlockEmpty");
    world.open(6);
    assert_eq!((world.epoch(6).blocks, world.epoch(6).status), (1, Epoch::DRAWN));
    world.check_books();
}
