//! The program itself: its settings, and the report beside a keeper that runs.

use std::{
    path::Path,
    process::{Command, Output},
};

use datagalax_keeper::{
    Kind,
    books::{Books, Entry, Fate},
    ledger::Ledger,
};
use solana_signature::Signature;

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_datagalax-keeper"));
    command.env_clear().args(arguments).output().unwrap()
}

fn report(folder: &Path, more: &[&str]) -> Output {
    let mut arguments = vec!["--report", "--keypair", "none.json", "--state-dir", folder.to_str().unwrap()];
    arguments.extend(more);
    run(&arguments)
}

#[tokio::test]
async fn the_report_is_printed_while_a_keeper_has_the_books_open() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).unwrap();
    let entry = |i: u8, kind, fate| {
        let signature = Signature::from([i; 64]);
        Entry { signature, kind, actions: 9, epoch: 7, at: 500, fee: 5_000, pay: 90_000_000, fate }
    };
    let entries =
        vec![entry(1, Kind::Tally, Fate::Done), entry(2, Kind::Tally, Fate::Wasted), entry(3, Kind::Seat, Fate::Open)];
    ledger.write(entries).await.unwrap();
    let table = report(folder.path(), &[]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(table.status.success(), "{}", String::from_utf8_lossy(&table.stderr));
    let line = text.lines().find(|line| line.starts_with("tally")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["tally", "9", "9", "2", "10000", "5000", "90.000000"]);
    let json = report(folder.path(), &["--output", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["total"]["fees_lamports"], 10_000);
    assert_eq!(json["epochs"][0]["epoch"], 7);
}

#[test]
fn a_report_of_no_books_says_where_they_were_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let output = report(folder.path(), &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("keeper.sqlite") && text.contains("--state-dir"), "{text}");
    assert!(!folder.path().join("keeper.sqlite").exists(), "looking makes no books");
}

#[test]
fn settings_that_cannot_work_exit_64_and_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("payer.json");
    let key = key.to_str().unwrap();
    for (arguments, named) in [
        (vec!["--keypair", key], "payer.json"),
        (vec![], "--keypair"),
        (vec!["--keypair", key, "--daily-budget", "much"], "--daily-budget"),
        (vec!["--keypair", key, "--register", "sometimes"], "--register"),
        (vec!["--keypair", key, "--priority-fee", "2000000"], "--max-priority-fee"),
        (vec!["--report"], "--keypair"),
    ] {
        let output = run(&arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {text}");
        assert!(text.contains(named), "{arguments:?}: {text}");
    }
}
