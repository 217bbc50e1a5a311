//! The refusals' names.

use datagalax_program_tests::{World, instructions, send::ERRORS};

#[test]
fn every_code_has_its_name() {
    for (position, error) in ERRORS.iter().enumerate() {
        assert_eq!(*error as usize, position, "{error:?}");
    }
}

#[test]
fn an_instruction_that_does_not_exist_is_refused() {
    let mut world = World::new();
    let ranges = [0..=13, 20..=27, 30..=35, 40..=45, 50..=51, 60..=68, 70..=77, 80..=83, 90..=92];
    let known: Vec<u8> = ranges.into_iter().flatten().collect();
    let before = world.fingerprint();
    for number in (0..=u8::MAX).filter(|n| !known.contains(n)) {
        let mut unknown = instructions::churn(0);
        unknown.data = [&[number][..], &[0; 64]].concat();
        world.refused(unknown, &[], "InvalidInstructionData");
    }
    let mut empty = instructions::churn(0);
    empty.data.clear();
    world.refused(empty, &[], "InvalidInstructionData");
    assert_eq!(world.fingerprint(), before);
}
