//! Build of the program without network installers (first cut: calls the prototypes).
use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};
use clap::Parser;

/// Developer commands of Datagalax.
#[derive(Parser)]
enum Xtask {
    /// Builds the on-chain program into target/deploy.
    BuildProgram {
        /// Folder of the program crate.
        #[arg(long, default_value = "programs/datagalax")]
        program_dir: std::path::PathBuf,
    },
}

fn main() -> Result<()> {
    let Xtask::BuildProgram { program_dir } = Xtask::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let target = root.join("target/sbf");
    let status = Command::new("bash")
        .arg(root.join("xtask/prototype/build_program.sh"))
        .arg(root.join(&program_dir))
        .env("SBF_TARGET_DIR", &target)
        .status()?;
    if !status.success() {
        bail!("the program did not build");
    }
    std::fs::create_dir_all(root.join("target/deploy"))?;
    for file in std::fs::read_dir(target.join("sbf-solana-solana/release"))? {
        let file = file?.path();
        if file.extension().is_some_and(|e| e == "so") {
            let name = file.file_name().context("a file has a name")?.to_string_lossy().replacen("lib", "", 1);
            std::fs::copy(&file, root.join("target/deploy").join(&name))?;
            println!("target/deploy/{name}");
        }
    }
    Ok(())
}
