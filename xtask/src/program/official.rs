//! The official toolchain: `cargo build-sbf` with Anza's platform-tools, where both are installed and new enough.

use std::{env, fmt, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use super::Crate;
use crate::workspace;

/// The oldest compiler that takes the workspace's sources (`rust-version` of the root manifest).
const NEEDS: (u64, u64) = (1, 95);

/// Platform-tools that were seen to work.
pub struct Tools {
    version: String,
}

/// Why the official toolchain is not used.
#[derive(Debug, PartialEq)]
pub enum Missing {
    /// `cargo build-sbf` is not there.
    Command,
    /// It is there, its compiler is not; it would download it.
    PlatformTools(String),
    /// The compiler is older than the sources need.
    TooOld(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command => write!(f, "cargo build-sbf is not installed"),
            Self::PlatformTools(version) => write!(f, "platform-tools {version} are not installed"),
            Self::TooOld(version) => write!(f, "the platform-tools' {version} is older than {}.{}", NEEDS.0, NEEDS.1),
        }
    }
}

/// Looks for the official toolchain without letting it fetch anything.
pub fn find() -> Result<Tools, Missing> {
    let output = Command::new("cargo-build-sbf").arg("--version").output().map_err(|_| Missing::Command)?;
    if !output.status.success() {
        return Err(Missing::Command);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = platform_tools(&text).ok_or(Missing::Command)?.to_owned();
    let compiler = env::var_os("HOME")
        .map(PathBuf::from)
        .unwrap_or_default()
        .join(format!(".cache/solana/{version}/platform-tools/rust/bin/rustc"));
    let rustc = Command::new(compiler).arg("--version").output();
    let rustc = rustc.ok().filter(|output| output.status.success()).ok_or(Missing::PlatformTools(version.clone()))?;
    let rustc = String::from_utf8_lossy(&rustc.stdout).trim().to_owned();
    match release(&rustc) {
        Some(found) if found >= NEEDS => Ok(Tools { version }),
        _ => Err(Missing::TooOld(rustc)),
    }
}

/// Builds with the official toolchain, as any Solana developer would.
pub fn build(program: &Crate, tools: &Tools) -> Result<()> {
    eprintln!("Building {} with cargo build-sbf, platform-tools {}", program.library, tools.version);
    let status = Command::new("cargo-build-sbf")
        .args(["--skip-tools-install", "--manifest-path"])
        .arg(program.folder.join("Cargo.toml"))
        .arg("--sbf-out-dir")
        .arg(workspace::deploy()?)
        .args(["--", "--locked"])
        .env("CARGO_TARGET_DIR", workspace::sbf_target()?)
        .status()
        .context("cannot start cargo-build-sbf")?;
    ensure!(status.success(), "cargo build-sbf failed ({status}); its messages are above");
    Ok(())
}

/// The version in a line like `platform-tools v1.52`.
fn platform_tools(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.trim().strip_prefix("platform-tools ")).map(str::trim)
}

/// Major and minor of a text like `rustc 1.89.0-dev`.
fn release(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.strip_prefix("rustc ")?.split(['.', ' ', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let text = "solana-cargo-build-sbf 3.1.14\nplatform-tools v1.52\nrustc 1.89.0\n";
        assert_eq!(platform_tools(text), Some("v1.52"));
        assert_eq!(release("rustc 1.89.0-dev"), Some((1, 89)));
        assert_eq!(release("rustc 1.100.1 (abc)"), Some((1, 100)));
        assert_eq!(platform_tools("something else"), None);
    }
}
