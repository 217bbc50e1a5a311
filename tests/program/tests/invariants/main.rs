//! Conservation laws (protocol section 13) under random actors doing every instruction in random order over many epochs, each step
//! compared with a reference model.

mod actions;
mod calls;
mod compare;
mod model;
mod people;
mod run;

use std::{
    cell::RefCell,
    collections::BTreeSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use datagalax::state;
use datagalax_program_tests::{
    World,
    accounts::TICKETS_OFFSET,
    addresses::{self, Vault},
};

use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

use actions::Action;
use compare::Compare;
use run::{Run, Setup, Stats};

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

/// A comparison that sees nothing would agree with everything: one unit more or less anywhere is seen.
#[test]
fn the_comparison_sees_a_base_unit() {
    let setup = Setup { checkers: 9, providers: 2, blocks: 1, tight: false, bounded: false, emission: 1_000 };
    let mut run = Run::new(&setup);
    for what in ["open_lease", "start_lease"] {
        run.act(&Action::Call { what, by: 0, a: 0, b: 1, c: 0 });
    }
    let [provider, checker] = [addresses::provider(0), addresses::checker(0)];
    let lease = *run.model.leases.keys().next().expect("a lease was opened");
    let container = run.model.leases[&lease].container;
    let row = usize::from(run.model.containers[&container].row);
    let block = addresses::block(0);
    let current = addresses::epoch(run.model.current.expect("epochs passed"));
    assert!(!differs(&run, |_| ()), "untouched, they agree");
    let seen = [
        ("stake", differs(&run, |w| w.patch_as::<state::Provider>(&provider, |p| p.staked += 1))),
        ("locked", differs(&run, |w| w.patch_as::<state::Provider>(&provider, |p| p.locked -= 1))),
        ("tickets' stake", differs(&run, |w| w.patch_as::<state::Checker>(&checker, |c| c.staked += 1))),
        ("accrual", differs(&run, |w| w.patch_as::<state::Block>(&block, |b| b.rows[row].accrued += 1))),
        ("history of bad epochs", differs(&run, |w| w.patch_as::<state::Block>(&block, |b| b.rows[row].bad_epochs ^= 2))),
        ("nominal", differs(&run, |w| w.patch_as::<state::Epoch>(&current, |e| e.nominal_added += 1))),
        ("rate", differs(&run, |w| w.patch_as::<state::Epoch>(&current, |e| e.rate.lo ^= 1))),
        ("escrow", differs(&run, |w| w.patch_as::<state::Lease>(&calls::lease(lease), |l| l.escrowed -= 1))),
        ("treasury", differs(&run, |w| w.patch_as::<state::Network>(&addresses::network(), |n| n.treasury_due += 1))),
        (
            "liabilities",
            differs(&run, |w| w.patch_as::<state::VaultLedger>(&addresses::ledger(Vault::Escrow), |l| l.liabilities -= 1)),
        ),
        ("a ticket's pay", differs(&run, |w| w.patch(&addresses::checker_set(), |d| d[TICKETS_OFFSET + 24] ^= 1))),
        ("tokens", differs(&run, |w| w.patch(&addresses::vault(Vault::Stake), |d| d[64] ^= 1))),
    ];
    for (what, seen) in seen {
        assert!(seen, "{what}: a base unit was not seen");
    }
}

/// Whether the comparison fails in a world that was changed behind the program's back.
fn differs(run: &Run, change: impl FnOnce(&mut World)) -> bool {
    let mut world = run.world.clone();
    change(&mut world);
    let compare = AssertUnwindSafe(|| Compare { world: &world, model: &run.model, people: &run.people }.all());
    catch_unwind(compare).is_err()
}
