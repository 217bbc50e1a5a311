//! The demonstration: everything it needs is built, then it takes the place of this process.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::{localnet, program, progress::Steps, setup, workspace};

/// The packages whose programs the demo and the end-to-end tests start, and the demo's own.
pub const PACKAGES: [&str; 7] = [
    "datagalax-agent",
    "datagalax-checker",
    "datagalax-keeper",
    "datagalax-relay",
    "datagalax-cli",
    "datagalax-e2e",
    // The supervisor of plain processes.
    "datagalax-runtime",
];

/// Builds everything and runs the demo with the arguments.
pub fn run(args: &[String]) -> Result<()> {
    let mut steps = Steps::start();
    steps.run("tools", setup::run)?;
    steps.run("on-chain program", || program::build(&workspace::program()?, false).map(drop))?;
    steps.run("local network", localnet::build)?;
    steps.run("daemons and command line", binaries)?;
    steps.finish();
    Err(localnet::become_program(&workspace::target()?.join("debug/datagalax-demo"), args, &environment()?))
}

/// Builds the workspace's programs.
pub fn binaries() -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--locked", "--bins"]).current_dir(workspace::root()?);
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "the daemons did not build; cargo's messages are above");
    Ok(())
}

/// Where the demo and the end-to-end test find what was built.
pub fn environment() -> Result<[(&'static str, PathBuf); 3]> {
    Ok([
        ("DATAGALAX_PROGRAM_SO", workspace::deploy()?.join("datagalax.so")),
        ("DATAGALAX_LOCALNET", localnet::binary()?),
        ("DATAGALAX_BIN_DIR", workspace::target()?.join("debug")),
    ])
}
