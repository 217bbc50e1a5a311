//! Developer commands of Datagalax: `cargo xtask <command>`.

mod demo;
mod idl;
mod localnet;
mod program;
mod progress;
mod reference;
mod setup;
mod test;
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
    /// Installs the tools that are missing, or prints how to. The other commands call it.
    Setup,
    /// Builds an on-chain program into target/deploy, and prints its size and hash.
    BuildProgram {
        /// Folder of the program crate [default: programs/datagalax of this repository].
        #[arg(long)]
        program_dir: Option<PathBuf>,
        /// Keep the intermediate files of the lowering.
        #[arg(long)]
        keep: bool,
    },
    /// Writes the program's interface description, programs/datagalax/idl/datagalax.json, and its page, docs/program.md.
    Idl {
        /// Only fail if a file is stale.
        #[arg(long)]
        check: bool,
    },
    /// Runs the local Solana network with the program on it.
    Localnet {
        /// Arguments of the network; see `cargo xtask localnet -- --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Runs the whole network on this machine until a reward is claimed.
    Demo {
        /// Arguments of the demo; see `cargo xtask demo -- --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Runs every check and test.
    Test {
        /// Run long tests in full: fault tests over many seeds, about half an hour.
        #[arg(long)]
        long: bool,
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
    // Cargo and rustc call this program by other names, for the parts it plays in the build of a program.
    match name.rsplit('/').next() {
        Some(program::LINKER) => return program::keep_bitcode(args),
        Some(program::COMPILER_ROLE) => return program::compile_without_paths(args),
        _ => {}
    }
    match Arguments::parse().command {
        Task::Setup => {
            setup::run_for_tests()?;
            println!("setup: everything is here");
            Ok(())
        }
        Task::BuildProgram { program_dir, keep } => {
            setup::run()?;
            program::build(&program_dir.map_or_else(workspace::program, Ok)?, keep).map(drop)
        }
        Task::Idl { check } => {
            setup::run()?;
            idl::run(check)
        }
        Task::Localnet { args } => localnet::run(&args),
        Task::Demo { args } => demo::run(&args),
        Task::Test { long } => test::run(long),
    }
}
