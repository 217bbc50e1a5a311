//! The part this program plays when rustc calls it as a linker: it keeps the bitcode. Lowering and linking come after
//! cargo, in `link`, so that a change of them needs no rebuild and their messages reach the user.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

const BITCODE: &[u8] = b"BC\xC0\xDE";

/// Copies the one bitcode input to the output. A dependency that is itself a `cdylib` is linked from several: nothing
/// deploys it, and its output stays empty.
pub fn keep_bitcode(args: impl Iterator<Item = String>) -> Result<()> {
    let args: Vec<String> = args.collect();
    let output = args.iter().position(|arg| arg == "-o").and_then(|at| args.get(at + 1)).context("the linker got no -o")?;
    let mut bitcode = args.iter().map(PathBuf::from).filter(|file| {
        file.extension().is_some_and(|e| e == "o") && fs::read(file).is_ok_and(|bytes| bytes.starts_with(BITCODE))
    });
    match (bitcode.next(), bitcode.next()) {
        (Some(file), None) => fs::copy(&file, output).map(drop),
        _ => fs::write(output, []),
    }
    .with_context(|| format!("cannot write {output}"))
}
