//! Developer commands of Datagalax: `cargo xtask <command>`.

mod program;
mod workspace;

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Developer commands of Datagalax.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds an on-chain program into target/deploy.
    BuildProgram {
        /// Folder of the program crate [default: programs/datagalax of this repository].
        #[arg(long)]
        program_dir: Option<PathBuf>,
        /// Keep the intermediate files of the lowering.
        #[arg(long)]
        keep: bool,
    },
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With its causes, without a backtrace: these are messages to a user.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = env::args();
    let name = args.next().unwrap_or_default();
    if name.rsplit('/').next() == Some(program::LINKER) {
        return program::keep_bitcode(args);
    }
    match Arguments::parse().command {
        Task::BuildProgram { program_dir, keep } => {
            let folder =
                program_dir.map_or_else(|| Ok(workspace::root()?.join("programs/datagalax")), Ok::<_, anyhow::Error>)?;
            program::build(&folder, keep).map(drop)
        }
    }
}
