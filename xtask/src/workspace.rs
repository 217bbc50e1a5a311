//! Where things lie, and how cargo is called.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

/// The root of the repository.
pub fn root() -> Result<PathBuf> {
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = manifest.parent().map(Path::to_path_buf).context("xtask lies in a workspace")?;
    Ok(root)
}

/// The target folder of the host's builds.
pub fn target() -> Result<PathBuf> {
    Ok(root()?.join("target"))
}

/// The target folder of builds for the chain: its own, so that they and the host's do not wait for each other.
pub fn sbf_target() -> Result<PathBuf> {
    Ok(target()?.join("sbf"))
}

/// Where programs lie that are ready to deploy.
pub fn deploy() -> Result<PathBuf> {
    Ok(target()?.join("deploy"))
}

/// The folder of the on-chain program.
pub fn program() -> Result<PathBuf> {
    Ok(root()?.join("programs/datagalax"))
}

/// The cargo that runs this program, without what it told us about ourselves.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}
