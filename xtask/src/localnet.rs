//! The local Solana network: built in its own workspace, and run in the place of this process.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{idl, program, setup, workspace};

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

/// Builds it and becomes it, so that Ctrl-C reaches it and its status is ours. Unless the arguments load programs of their
/// own or only ask for help, ours is built and loaded.
pub fn run(args: &[String]) -> Result<()> {
    setup::run()?;
    let mut args = args.to_vec();
    let named = |option: &str| args.iter().any(|arg| arg == option || arg.starts_with(&format!("{option}=")));
    if !["--program", "--help", "-h", "--version", "-V"].into_iter().any(named) {
        let program = program::build(&workspace::program()?, false)?;
        args.push(format!("--program={}={}", idl::address()?, program.display()));
    }
    build()?;
    Err(become_program(&binary()?, &args, &[]))
}

/// Runs its own tests against the built binary.
pub fn test() -> Result<()> {
    let status = workspace::cargo()
        .args(["test", "--locked", "--manifest-path"])
        .arg(folder()?.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target()?)
        .status()
        .context("cannot start cargo")?;
    ensure!(
        status.success(),
        "the local network's tests failed ({status}); run them again with `cargo test` in tests/localnet"
    );
    Ok(())
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
