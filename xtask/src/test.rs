//! Everything that must hold before a commit: format, lints, programs, interface description, tests.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{demo, idl, localnet, program, progress::Steps, setup, workspace};

/// Tells long tests to run in full.
const LONG: &str = "DATAGALAX_LONG";

/// How the lines begin in which fault tests say what they lived through.
const SURVIVED: &str = "survived: ";

/// Passed and failed tests.
#[derive(Debug, Default, PartialEq)]
struct Count {
    passed: u64,
    failed: u64,
}

/// Runs all checks; stops at the first step that fails, the tests after all of them ran. The last lines are what fault tests
/// survived, or which tests failed, and `N passed, N failed`.
pub fn run(long: bool) -> Result<()> {
    let mut steps = Steps::start();
    let root = workspace::root()?;
    let others = [localnet::folder()?, root.join("tests/lowering/program")];
    steps.run("tools", setup::run_for_tests)?;
    steps.run("format", || {
        let fix = "run `cargo fmt --all` there";
        cargo(workspace::cargo().args(["fmt", "--all", "--check"]).current_dir(&root), fix)?;
        others.iter().try_for_each(|folder| cargo(workspace::cargo().args(["fmt", "--check"]).current_dir(folder), fix))
    })?;
    steps.run("on-chain program", || program::build(&workspace::program()?, false).map(drop))?;
    steps.run("lowering test program", || program::build(&others[1], false).map(drop))?;
    steps.run("lints", || clippy(workspace::cargo().args(["clippy", "--workspace"]).current_dir(&root)))?;
    steps.run("local network's lints", || {
        clippy(
            workspace::cargo().arg("clippy").current_dir(localnet::folder()?).env("CARGO_TARGET_DIR", localnet::target()?),
        )
    })?;
    steps.run("interface description", || idl::run(true))?;
    steps.run("local network", localnet::build)?;
    steps.run("local network's tests", localnet::test)?;
    steps.run("daemons and command line", demo::binaries)?;
    let (count, survived) = steps.run("tests", || tests(long))?;
    steps.finish();
    for line in survived {
        println!("{line}");
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(())
}

fn clippy(command: &mut Command) -> Result<()> {
    cargo(command.args(["--all-targets", "--locked", "--", "-D", "warnings"]), "mend what the lints name")
}

fn cargo(command: &mut Command, fix: &str) -> Result<()> {
    let status = command.status().context("cannot start cargo")?;
    let folder = command.get_current_dir().unwrap_or(std::path::Path::new(".")).display().to_string();
    ensure!(status.success(), "cargo failed in {folder} ({status}): {fix}");
    Ok(())
}

/// Runs the workspace's tests and counts them by cargo's own result lines; with what fault tests survived.
fn tests(long: bool) -> Result<(Count, Vec<String>)> {
    let mut command = workspace::cargo();
    command
        // One run tells all that is wrong.
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .current_dir(workspace::root()?)
        .stdout(Stdio::piped())
        .envs(demo::environment()?);
    command.env_remove("DATAGALAX_LOWERING_SO");
    if long {
        command.env(LONG, "1");
    }
    let mut child = command.spawn().context("cannot start cargo")?;
    let (mut count, mut survived, mut failed) = (Count::default(), Vec::new(), Vec::new());
    let output = child.stdout.take().context("cargo's output is piped")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some(found) = results(&line) {
            count.passed += found.passed;
            count.failed += found.failed;
        } else if line.starts_with(SURVIVED) {
            survived.push(line);
        } else if let Some(name) = failure(&line) {
            failed.push(name.to_owned());
        }
    }
    let status = child.wait()?;
    if !status.success() {
        // Again at the end: a log may be cut at its beginning.
        failed.iter().for_each(|name| println!("failed: {name}"));
        println!("{} passed, {} failed", count.passed, count.failed.max(1));
        bail!("cargo test failed ({status}): see the failures above; run one again with `cargo test -p <package> <name>`");
    }
    ensure!(count.passed > 0, "cargo test ran no test at all");
    Ok((count, survived))
}

/// The name in a line like `test name ... FAILED`.
fn failure(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// Reads a line like `test result: ok. 3 passed; 1 failed; 0 ignored; ...`.
fn results(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |part: &str, word: &str| part.trim().strip_suffix(word)?.trim().parse().ok();
    let mut parts = rest.split(';');
    Some(Count { passed: number(parts.next()?, "passed")?, failed: number(parts.next()?, "failed")? })
}

#[cfg(test)]
mod tests_of_counting {
    use super::*;

    #[test]
    fn result_lines_are_read() {
        let line = "test result: FAILED. 17 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.21s";
        assert_eq!(results(line), Some(Count { passed: 17, failed: 1 }));
        assert_eq!(results("test something ... ok"), None);
        assert_eq!(failure("test rooms::something ... FAILED"), Some("rooms::something"));
        assert_eq!([failure("test something ... ok"), failure(line)], [None, None]);
    }
}
