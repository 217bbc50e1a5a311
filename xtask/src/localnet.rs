//! The local Solana network: built in its own workspace, and run in the place of this process.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{setup, workspace};

/// The local network's program.
pub fn binary() -> Result<PathBuf> {
    Ok(target()?.join("debug/datagalax-localnet"))
}

/// Builds the local network; some minutes the first time.
pub fn build() -> Result<()> {
    let status = workspace::cargo()
        .args(["build", "--locked", "--manifest-path"])
        .arg(folder()?.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target()?)
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "the local network did not build; cargo's messages are above");
    Ok(())
}

/// Builds it and becomes it, so that Ctrl-C reaches it and its status is ours.
pub fn run(args: &[String]) -> Result<()> {
    setup::run()?;
    build()?;
    Err(become_program(&binary()?, args, &[]))
}

/// Replaces this process by a program; comes back only with the reason why it could not.
pub fn become_program(program: &Path, args: &[String], environment: &[(&str, PathBuf)]) -> anyhow::Error {
    let error = Command::new(program).args(args).envs(environment.iter().map(|(name, value)| (*name, value))).exec();
    anyhow::Error::new(error).context(format!("cannot start {}", program.display()))
}

/// Its workspace.
pub fn folder() -> Result<PathBuf> {
    Ok(workspace::root()?.join("tests/localnet"))
}

/// Its target folder.
pub fn target() -> Result<PathBuf> {
    Ok(folder()?.join("target"))
}
