//! The part this program plays when cargo calls it around rustc: it gives each crate an identity without paths.
//!
//! Cargo's own (`-C metadata`) covers the folders of the library copy and of the flags. rustc puts it into symbol names, and
//! the order of those decides the order of functions and constants: the same program would get other bytes in another folder.

use std::{env, os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Runs the compiler that the arguments start with, in the place of this process.
pub fn compile(mut args: impl Iterator<Item = String>) -> Result<()> {
    let compiler = args.next().context("cargo names the compiler")?;
    let args: Vec<String> = args.collect();
    let package = ["CARGO_PKG_NAME", "CARGO_PKG_VERSION"].map(|name| env::var(name).unwrap_or_default());
    let error = Command::new(&compiler).args(without_paths(args, &package)).exec();
    Err(error).with_context(|| format!("cannot start {compiler}"))
}

/// The arguments with an identity made of what the crate is: its package, name, kind and features. Crates for this machine
/// (build scripts, macros) keep theirs. Two crates that were alike in all of this would be an error of rustc, never a mix-up.
fn without_paths(mut args: Vec<String>, package: &[String; 2]) -> Vec<String> {
    if !args.iter().any(|arg| arg == "--target") {
        return args;
    }
    let mut hasher = Sha256::new();
    let mut feed = |part: &str| {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    };
    package.iter().for_each(|part| feed(part));
    for pair in args.windows(2) {
        if matches!(pair[0].as_str(), "--crate-name" | "--crate-type" | "--cfg") {
            pair.iter().for_each(|part| feed(part));
        }
    }
    let identity = hex::encode(&hasher.finalize()[..8]);
    for at in 1..args.len() {
        if args[at - 1] == "-C" && args[at].starts_with("metadata=") {
            args[at] = format!("metadata={identity}");
        }
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(line: &str) -> Vec<String> {
        let package = ["name".to_owned(), "1.0.0".to_owned()];
        without_paths(line.split(' ').map(str::to_owned).collect(), &package)
    }

    #[test]
    fn paths_do_not_matter_and_features_do() {
        let line = "--crate-name a /x/lib.rs --cfg feature=\"b\" -C metadata=1234 -C extra-filename=-1234 --target t";
        let got = identity(line);
        assert!(got.contains(&"extra-filename=-1234".to_owned()) && !got.contains(&"metadata=1234".to_owned()), "{got:?}");
        let elsewhere = identity(&line.replace("/x/", "/y/").replace("metadata=1234", "metadata=77"));
        assert_eq!(got[6], elsewhere[6]);
        assert_ne!(got[6], identity(&line.replace("\"b\"", "\"c\""))[6]);
    }

    #[test]
    fn crates_for_this_machine_keep_theirs() {
        let line = "--crate-name a -C metadata=1234";
        assert_eq!(identity(line).join(" "), line);
    }
}
