//! Conservation laws (protocol section 13) under random actors doing every instruction in random order over many epochs, each step
//! compared with a reference model.

mod actions;
mod calls;
mod compare;
mod model;
mod people;
mod run;

use std::{cell::RefCell, collections::BTreeSet, env, fs, path::Path};

use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

use run::{Run, Stats};

/// Steps of the normal run and of the long one; `DATAGALAX_STEPS` says another number.
const NORMAL: u64 = 5_000;
const LONG: u64 = 200_000;
/// Steps that every case takes: it begins with a few epochs.
const LEAST: u64 = 60;

/// Every instruction of the IDL is drawn, and nothing else.
#[test]
fn no_instruction_is_forgotten() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../programs/datagalax/idl/datagalax.json");
    let idl = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    // Each has its number in the program's source.
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../programs/datagalax/src/lib.rs"))
        .unwrap_or_else(|e| panic!("lib.rs: {e}"));
    let mut declared = BTreeSet::new();
    for part in source.split("#[discrim = ").skip(1) {
        let name = part.split("pub fn ").nth(1).and_then(|rest| rest.split('(').next()).expect("a function follows");
        declared.insert(name);
    }
    let drawn: BTreeSet<&str> = actions::INSTRUCTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(drawn, declared);
    for name in &declared {
        assert!(idl.contains(&format!("\"name\": \"{name}\"")), "{name} is in the IDL");
    }
}

#[test]
fn the_laws_hold_whatever_happens() {
    let long = env::var("DATAGALAX_LONG").is_ok_and(|v| v == "1");
    let steps = env::var("DATAGALAX_STEPS").ok().and_then(|v| v.parse().ok());
    let wanted = steps.unwrap_or(if long { LONG } else { NORMAL });
    let stats = RefCell::new(Stats::default());
    // No case takes fewer steps than this; those that are not needed any more do nothing.
    let config = Config {
        cases: (wanted / LEAST) as u32,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/invariants/proptest-regressions.txt"))),
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&actions::case(), |(setup, actions)| {
        if stats.borrow().steps < wanted {
            let mut run = Run::new(&setup);
            for action in &actions {
                run.act(action);
            }
            run.world.check_books();
            stats.borrow_mut().add(&run.stats);
        }
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
    let stats = stats.into_inner();
    println!("{}", stats.table());
    assert!(stats.steps >= wanted, "{} steps", stats.steps);
    if long {
        for (name, _) in actions::INSTRUCTIONS {
            let (accepted, _) = stats.calls.get(name).copied().unwrap_or_default();
            assert!(accepted > 0, "{name} was never accepted");
        }
    }
}
