//! `create_class`, `update_class`, `apply_class`: weights within their share of throughput, behind the time lock.

use datagalax::{
    constants::MAX_AMOUNT,
    instructions::CreateClassArgs,
    state::{ClassTerms, Row},
};
use datagalax_program_tests::{
    World,
    actors::{class_args, container_args, fingerprint},
    addresses, instructions,
    refusals::Call,
    settings::ATH,
    stage::{Stage, WEIGHT, perfect},
};
use solana_signer::Signer;

use crate::proposals::enact;

fn class(id: u16, unit_weight: u16, reference_throughput: u64) -> CreateClassArgs {
    let mut args = class_args(id, unit_weight);
    args.terms.reference_throughput = reference_throughput;
    args
}

#[track_caller]
fn create(world: &mut World, args: CreateClassArgs, name: Option<&str>) {
    let (instruction, authority) = (instructions::create_class(world, args), world.authority.clone());
    match name {
        None => drop(world.must(&[instruction], &[&authority])),
        Some(name) => world.refused(instruction, &[&authority], name),
    }
}

#[track_caller]
fn update(world: &mut World, id: u16, terms: ClassTerms) {
    let (instruction, authority) = (instructions::update_class(world, id, terms), world.authority.clone());
    world.must(&[instruction], &[&authority]);
}

/// A network whose first epoch is under way, with class 0 of weight 1,000 and throughput 1,000,000.
fn begun() -> World {
    let mut world = World::new();
    create(&mut world, class(0, 1_000, 1_000_000), None);
    world.open(0);
    world
}

#[test]
fn before_the_first_epoch_a_class_holds_at_once() {
    let mut world = World::new();
    let args = class(7, 50, 1_000);
    create(&mut world, args, None);
    let made = world.class(7);
    assert_eq!((made.id, made.terms, made.pending_at, made.name()), (7, args.terms, 0, "test"));
    let network = world.network();
    assert_eq!((network.classes, network.largest_class_weight, network.largest_class_throughput), (1, 50, 1_000));
    world.refused(instructions::apply_class(7), &[], "NothingPending");
}

#[test]
fn later_a_class_waits_for_the_time_lock_and_nobody_registers_in_it() {
    let mut world = begun();
    let provider = world.provider_with(1_000 * ATH);
    let block = world.grown_block();
    let args = class(1, 100, 100_000);
    create(&mut world, args, None);
    let created_at = world.now();
    let made = world.class(1);
    assert_eq!((made.terms, made.pending, made.pending_at), (ClassTerms::default(), args.terms, created_at + 60));
    let register = instructions::register_container(&world, &provider, 1, block, container_args(fingerprint(0), 1));
    world.refused(register.clone(), &[&provider.owner], "ClassInactive");

    world.set_time(created_at + 59);
    world.refused(instructions::apply_class(1), &[], "TimeLocked");
    world.set_time(created_at + 60);
    world.run(instructions::apply_class(1));
    world.refused(instructions::apply_class(1), &[], "NothingPending");
    assert_eq!((world.class(1).terms, world.class(1).pending_at), (args.terms, 0));
    world.open(2);
    let register = instructions::register_container(&world, &provider, 1, block, container_args(fingerprint(0), 1));
    world.must(&[register], &[&provider.owner]);
    world.check_books();
}

#[test]
fn without_a_time_lock_a_class_holds_at_once() {
    let mut world = begun();
    enact(&mut world, |p| p.parameters.time_lock = 0);
    create(&mut world, class(1, 100, 100_000), None);
    assert_eq!((world.class(1).terms.unit_weight, world.class(1).pending_at), (100, 0));
}

#[test]
fn a_class_weighs_no_more_than_its_share_of_throughput() {
    let mut world = World::new();
    create(&mut world, class(0, 1_000, 1_000_000), None);
    // A smaller one: at most in proportion, to the last unit.
    create(&mut world, class(1, 11, 10_999), Some("ClassTooHeavy"));
    create(&mut world, class(1, 11, 11_000), None);
    // One as large: at most as heavy.
    create(&mut world, class(2, 1_001, 1_000_000), Some("ClassTooHeavy"));
    create(&mut world, class(2, 1_000, 1_000_000), None);
    create(&mut world, class(3, 0, 10), None);
    // A new largest one must not push those before it above their share.
    create(&mut world, class(4, 1_999, 2_000_000), Some("ClassTooHeavy"));
    create(&mut world, class(4, 3_000, 2_000_000), None);
    assert_eq!((world.network().largest_class_weight, world.network().largest_class_throughput), (3_000, 2_000_000));
    // From now on three units of weight two thousand of throughput are the bound.
    create(&mut world, class(5, 16, 10_000), Some("ClassTooHeavy"));
    create(&mut world, class(5, 15, 10_000), None);
    // The comparison does not overflow.
    create(&mut world, class(6, u16::MAX, u64::MAX), Some("ClassTooHeavy"));
    create(&mut world, class(6, u16::MAX, 1), Some("ClassTooHeavy"));
}

#[test]
fn weights_are_bounded_when_terms_are_applied_and_not_when_they_are_proposed() {
    let mut world = begun();
    create(&mut world, class(1, 100, 100_000), None);
    // In range by itself; too heavy beside class 0.
    let heavy = ClassTerms { unit_weight: 101, ..class(1, 100, 100_000).terms };
    update(&mut world, 1, heavy);
    let ready = world.now() + 60;
    world.set_time(ready);
    world.refused(instructions::apply_class(1), &[], "ClassTooHeavy");
    assert_eq!(world.class(1).pending, heavy, "it stays pending");
    // A heavier largest class in the meantime makes room for it.
    create(&mut world, class(2, 2_020, 2_000_000), None);
    world.set_time(ready + 60);
    world.run(instructions::apply_class(2));
    world.run(instructions::apply_class(1));
    assert_eq!(world.class(1).terms, heavy);
    // The other way: terms that would make the class the largest and yet lighter in proportion than those before it.
    update(&mut world, 1, ClassTerms { unit_weight: 2_029, ..class(1, 0, 2_010_000).terms });
    world.set_time(ready + 120);
    world.refused(instructions::apply_class(1), &[], "ClassTooHeavy");
    update(&mut world, 1, ClassTerms { unit_weight: 2_031, ..class(1, 0, 2_010_000).terms });
    world.set_time(ready + 180);
    world.run(instructions::apply_class(1));
    assert_eq!((world.network().largest_class_weight, world.network().largest_class_throughput), (2_031, 2_010_000));
}

#[test]
fn new_terms_wait_for_the_time_lock_replace_each_other_and_are_cancelled_by_the_old_ones() {
    let mut world = begun();
    let old = world.class(0).terms;
    let first = ClassTerms { stake_base: 20 * ATH, ..old };
    let second = ClassTerms { stake_base: 30 * ATH, ..old };
    update(&mut world, 0, first);
    let begin = world.now();
    assert_eq!((world.class(0).terms, world.class(0).pending_at), (old, begin + 60));
    world.set_time(begin + 59);
    world.refused(instructions::apply_class(0), &[], "TimeLocked");
    update(&mut world, 0, second);
    world.set_time(begin + 60);
    world.refused(instructions::apply_class(0), &[], "TimeLocked");
    world.set_time(begin + 118);
    world.refused(instructions::apply_class(0), &[], "TimeLocked");
    world.set_time(begin + 119);
    world.run(instructions::apply_class(0));
    assert_eq!(world.class(0).terms, second);

    update(&mut world, 0, first);
    update(&mut world, 0, second);
    world.set_time(begin + 1_000);
    world.refused(instructions::apply_class(0), &[], "NothingPending");
}

#[test]
fn rows_keep_what_they_registered_under() {
    let mut stage = Stage::new(3, 1).pass_to(3, &perfect());
    let world = &mut stage.world;
    let old = world.class(0).terms;
    update(world, 0, ClassTerms { stake_base: 25 * ATH, unit_weight: WEIGHT / 2, active: 1, ..old });
    let ready = world.now() + 60;
    // Between the proposal and its day the old terms hold.
    world.containers(&stage.provider, 0, 0, 1, 1);
    world.reveal_all(&stage.checkers, 3, &perfect());
    world.open(4);
    world.wait_until(ready);
    world.run(instructions::apply_class(0));
    world.containers(&stage.provider, 0, 0, 2, 1);
    world.check_books();

    let rows: Vec<Row> = world.block(0).rows[..3].to_vec();
    assert_eq!(rows.iter().map(|r| r.unit_weight).collect::<Vec<_>>(), [WEIGHT, WEIGHT, WEIGHT / 2]);
    let locked: Vec<u64> = (0..3).map(|n| world.container(0, &fingerprint(n)).original_locked_stake).collect();
    assert_eq!(locked, [10 * ATH, 10 * ATH, 25 * ATH]);
    assert_eq!(world.provider(0).locked, 45 * ATH);

    // Closed to new registrations, the class goes on for those in it.
    update(world, 0, ClassTerms { active: 0, ..old });
    world.wait_until(ready + 60);
    world.run(instructions::apply_class(0));
    let epoch = u32::try_from((world.now() - world.start) / 60).expect("after the start");
    world.open(epoch + 1);
    let register = instructions::register_container(world, &stage.provider, 0, 0, container_args(fingerprint(3), 1));
    world.refused(register, &[&stage.provider.owner], "ClassInactive");
    world.check_books();
}

#[test]
fn terms_have_bounds() {
    let mut world = begun();
    let authority = world.authority.clone();
    let good = class(1, 1, 1_000).terms;
    for terms in [
        ClassTerms { reference_throughput: 0, ..good },
        ClassTerms { stake_base: MAX_AMOUNT + 1, ..good },
        ClassTerms { active: 2, ..good },
        ClassTerms { reserved: [0, 0, 0, 0, 1], ..good },
    ] {
        create(&mut world, CreateClassArgs { terms, ..class(1, 1, 1_000) }, Some("ParameterOutOfBounds"));
        let instruction = instructions::update_class(&world, 0, terms);
        world.refused(instruction, &[&authority], "ParameterOutOfBounds");
    }
    let mut garbled = class(1, 1, 1_000);
    garbled.name[1] = 0xff;
    create(&mut world, garbled, Some("ParameterOutOfBounds"));
    // The largest that pass.
    let largest = ClassTerms { stake_base: MAX_AMOUNT, reference_throughput: u64::MAX, unit_weight: u16::MAX, ..good };
    create(&mut world, CreateClassArgs { terms: largest, ..class(1, 1, 1_000) }, None);
}

#[test]
fn a_class_is_created_once_at_its_own_address_by_the_authority() {
    let mut world = begun();
    let (authority, stranger) = (world.authority.clone(), world.actor("stranger"));
    create(&mut world, class(0, 1, 1_000), Some("AlreadyExists"));
    let mut elsewhere = instructions::create_class(&world, class(3, 1, 1_000));
    elsewhere.accounts[2].pubkey = addresses::class(4);
    world.refused(elsewhere, &[&authority], "InvalidSeeds");
    for key in [stranger.pubkey(), world.network().guardian] {
        let mut other = instructions::create_class(&world, class(3, 1, 1_000));
        other.accounts[0].pubkey = key;
        world.refused(other, &[&stranger], "Unauthorized");
        let mut other = instructions::update_class(&world, 0, class(0, 1, 1_000).terms);
        other.accounts[0].pubkey = key;
        world.refused(other, &[&stranger], "Unauthorized");
    }
}

#[test]
fn all_three_refuse_what_every_instruction_must() {
    let mut world = begun();
    let authority = world.authority.clone();
    let create = instructions::create_class(&world, class(1, 50, 100_000));
    Call::new(world.clone(), create, &[&authority]).check();
    let terms = ClassTerms { stake_base: 1, ..world.class(0).terms };
    let propose = instructions::update_class(&world, 0, terms);
    Call::new(world.clone(), propose.clone(), &[&authority]).check();
    world.must(&[propose], &[&authority]);
    let ready = world.now() + 60;
    world.set_time(ready);
    Call::new(world, instructions::apply_class(0), &[]).check();
}
