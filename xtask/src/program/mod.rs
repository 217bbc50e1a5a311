//! Building an on-chain program: with the official platform-tools where they work, else from the package registries alone.

mod identity;
mod library;
mod link;
mod linker;
mod lower;
mod official;
mod target;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::workspace;

pub use identity::compile as compile_without_paths;
pub use link::{SBPF_LINKER, tool};
pub use linker::keep_bitcode;
pub use official::find as official_tools;
pub use target::{COMPILER, COMPILER_ROLE, LINKER, RUSTC};

/// A program crate.
pub struct Crate {
    /// Its folder, absolute.
    pub folder: PathBuf,
    /// The root of its workspace.
    pub workspace: PathBuf,
    /// The name of its library target.
    pub library: String,
}

impl Crate {
    fn read(folder: &Path) -> Result<Self> {
        let folder = fs::canonicalize(folder).with_context(|| format!("there is no program folder {}", folder.display()))?;
        let manifest = folder.join("Cargo.toml");
        let output = workspace::cargo()
            .args(["metadata", "--no-deps", "--locked", "--format-version=1", "--manifest-path"])
            .arg(&manifest)
            .output()
            .context("cannot start cargo")?;
        ensure!(
            output.status.success(),
            "cargo cannot read {}:\n{}",
            manifest.display(),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
        let package = packages
            .iter()
            .find(|package| package["manifest_path"].as_str().map(Path::new) == Some(&manifest))
            .with_context(|| format!("{} is not a package", manifest.display()))?;
        let library = package["targets"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|target| target["crate_types"].as_array().is_some_and(|types| types.iter().any(|ty| ty == "cdylib")))
            .and_then(|target| target["name"].as_str())
            .with_context(|| format!("{} has no library of crate-type cdylib, so it is no program", manifest.display()))?;
        let workspace = metadata["workspace_root"].as_str().context("cargo metadata names the workspace")?;
        Ok(Self { folder: folder.clone(), workspace: workspace.into(), library: library.replace('-', "_") })
    }
}

/// Builds the program in a folder to `target/deploy/<library>.so`, and prints its size and hash. `keep` leaves the text of
/// each lowering round behind.
pub fn build(folder: &Path, keep: bool) -> Result<PathBuf> {
    let start = Instant::now();
    let program = Crate::read(folder)?;
    let deployed = workspace::deploy()?.join(format!("{}.so", program.library));
    fs::create_dir_all(workspace::deploy()?)?;
    match official::find() {
        Ok(tools) => official::build(&program, &tools)?,
        Err(reason) => {
            eprintln!("Building {} from the package registries ({reason})", program.library);
            from_registries(&program, &deployed, keep)?;
        }
    }
    let bytes = fs::read(&deployed).with_context(|| format!("cannot read {}", deployed.display()))?;
    ensure!(bytes.starts_with(b"\x7fELF"), "{} is not a program", deployed.display());
    println!(
        "{}: {} bytes, sha256 {}, {:.1} s",
        deployed.strip_prefix(workspace::root()?).unwrap_or(&deployed).display(),
        bytes.len(),
        hex::encode(Sha256::digest(&bytes)),
        start.elapsed().as_secs_f64()
    );
    Ok(deployed)
}

fn from_registries(program: &Crate, deployed: &Path, keep: bool) -> Result<()> {
    let start = Instant::now();
    let compiled = target::compile(program)?;
    eprintln!("Compiled in {:.1} s; lowering and linking", start.elapsed().as_secs_f64());
    // Built aside and renamed, so that a program that exists is whole, also with two builds at once.
    let work = tempfile::Builder::new().prefix("link-").tempdir_in(workspace::sbf_target()?)?;
    let linked = work.path().join("program.so");
    let result = link::link(&compiled, work.path(), &linked);
    if result.is_err() {
        let kept = work.keep();
        return result
            .with_context(|| format!("cannot make a program of {} (intermediates: {})", program.library, kept.display()));
    }
    fs::rename(&linked, deployed).with_context(|| format!("cannot write {}", deployed.display()))?;
    if keep {
        eprintln!("Intermediates: {}", work.keep().display());
    }
    Ok(())
}
