//! What the other commands need on the machine: looked for by file and version, installed where that is possible.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::program;

/// The version of the back end that the recipe was tried with.
const SBPF_LINKER_VERSION: &str = "0.2.6";
const LLVM: &str = "/usr/lib/llvm-22";

/// Debian packages, each with a file that shows it is there; `{arch}` stands for this machine's.
const FOR_EVERYTHING: [(&str, &str); 3] =
    [("build-essential", "/usr/bin/cc"), ("make", "/usr/bin/make"), ("perl", "/usr/bin/perl")];
/// The tests of the container runtime start an engine of their own, and make an image of busybox. The list of its files tells
/// the static one from the other, which has the same program's name and does not run in an image.
const FOR_TESTS: [(&str, &str); 2] =
    [("docker.io", "/usr/sbin/dockerd"), ("busybox-static", "/var/lib/dpkg/info/busybox-static.list")];
const FOR_PROGRAMS: [(&str, &str); 4] = [
    ("rustc-web", program::RUSTC),
    ("rust-web-src", "/usr/lib/rustlib/src/rust/library/std/src/lib.rs"),
    ("libstd-rust-web-dev", "/usr/lib/rustlib/{arch}-unknown-linux-gnu/lib"),
    ("llvm-22", "/usr/bin/opt-22"),
];
/// Only to compile sbpf-linker.
const FOR_LINKER: [(&str, &str); 6] = [
    ("llvm-22-dev", "/usr/lib/llvm-22/include/llvm-c/Core.h"),
    ("libzstd-dev", "/usr/include/zstd.h"),
    ("libxml2-dev", "/usr/include/libxml2/libxml/parser.h"),
    ("zlib1g-dev", "/usr/include/zlib.h"),
    ("libffi-dev", "/usr/include/{arch}-linux-gnu/ffi.h"),
    ("libedit-dev", "/usr/include/histedit.h"),
];

/// What is missing.
#[derive(Debug, Default, PartialEq)]
struct Missing {
    packages: Vec<&'static str>,
    linker: bool,
}

impl Missing {
    fn nothing(&self) -> bool {
        self.packages.is_empty() && !self.linker
    }

    /// The commands that install it, as a user would type them.
    fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        if !self.packages.is_empty() {
            commands.push("apt-get update".to_owned());
            commands.push(format!("apt-get install --yes --no-install-recommends {}", self.packages.join(" ")));
        }
        if self.linker {
            commands.push(format!(
                "env LLVM_SYS_221_PREFIX={LLVM} LLVM_PREFIX={LLVM} cargo install sbpf-linker --version {SBPF_LINKER_VERSION} \
                 --locked --no-default-features --features bpf-linker/llvm-22"
            ));
        }
        commands
    }
}

/// Installs what building and running needs, or says how to. Quick and quiet when nothing is missing.
pub fn run() -> Result<()> {
    install_missing(&FOR_EVERYTHING)
}

/// Installs what the tests need, too.
pub fn run_for_tests() -> Result<()> {
    install_missing(&[FOR_EVERYTHING.as_slice(), &FOR_TESTS].concat())
}

fn install_missing(always: &[(&'static str, &str)]) -> Result<()> {
    let missing = look(always);
    if missing.nothing() {
        return check_compiler();
    }
    let commands = missing.commands();
    let able = missing.packages.is_empty() || (is_root() && Path::new("/usr/bin/apt-get").is_file());
    if !able {
        bail!(
            "some tools are missing, and only root can install them. On Debian 12, run (the first two with sudo):\n  {}\nElsewhere, \
             install the Solana tools with their platform-tools, so that `cargo build-sbf` works, and a C compiler.",
            commands.join("\n  ")
        );
    }
    for command in commands {
        install(&command)?;
    }
    let left = look(always);
    ensure!(left.nothing(), "still missing after the installation: {left:?}");
    check_compiler()
}

/// Looks for files and versions; runs no package manager.
fn look(always: &[(&'static str, &str)]) -> Missing {
    let absent = |list: &[(&'static str, &str)]| {
        let there = |file: &str| Path::new(&file.replace("{arch}", std::env::consts::ARCH)).exists();
        list.iter().filter(|(_, file)| !there(file)).map(|(name, _)| *name).collect::<Vec<_>>()
    };
    let mut missing = Missing { packages: absent(always), linker: false };
    // The official tools bring a compiler and LLVM of their own.
    if program::official_tools().is_ok() {
        return missing;
    }
    missing.packages.extend(absent(&FOR_PROGRAMS));
    let version = program::tool(program::SBPF_LINKER).arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    missing.linker = !version.split_whitespace().any(|word| word == SBPF_LINKER_VERSION);
    if missing.linker {
        missing.packages.extend(absent(&FOR_LINKER));
    }
    missing
}

fn install(command: &str) -> Result<()> {
    println!("setup: {command}");
    let mut words = command.split_whitespace();
    let status = Command::new(words.next().context("a command has a name")?)
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .with_context(|| format!("cannot start `{command}`"))?;
    ensure!(status.success(), "`{command}` failed ({status})");
    Ok(())
}

/// Another compiler than the recipe's would fail later, with a message nobody understands.
fn check_compiler() -> Result<()> {
    if program::official_tools().is_ok() {
        return Ok(());
    }
    let output = Command::new(program::RUSTC)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot start {}", program::RUSTC))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(
        version.starts_with(&format!("rustc {}.", program::COMPILER)),
        "{} is {version}, and the build of programs is made for {}: install that version of the package rustc-web, or the Solana \
         tools with their platform-tools",
        program::RUSTC,
        program::COMPILER
    );
    Ok(())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_what_is_missing() {
        assert!(Missing::default().nothing());
        let missing = Missing { packages: vec!["llvm-22", "zlib1g-dev"], linker: true };
        let commands = missing.commands();
        assert_eq!(commands.len(), 3);
        assert_eq!(commands[1], "apt-get install --yes --no-install-recommends llvm-22 zlib1g-dev");
        assert!(commands[2].contains("cargo install sbpf-linker --version 0.2.6 --locked"));
    }
}
