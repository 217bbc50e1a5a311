//! `datagalax`: the one command for people.

mod agent;
mod commands;
mod context;
mod finding;
mod http;
mod interrupts;
mod judgement;
mod lease;
mod options;
mod patience;
mod progress;
mod report;
mod time;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{
    commands::{
        account, block, case, checker, claim, class, container, doctor, epoch, gpu, indexer, keeper, leases, mint, network,
        offers, provider, rent, rewards, run, withdraw,
    },
    context::Context,
    options::{Options, Output},
    report::Report,
};

/// The exit status of a command line that cannot be understood (`EX_USAGE`).
const USAGE: u8 = 64;

/// Look at and act on a Datagalax network: a GPU cloud whose measuring and pay happen on Solana.
///
/// Reading needs no key. Writing signs with --keypair and prints the transaction's signature.
#[derive(Parser)]
#[command(name = "datagalax", version, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Containers that take leases now, the cheapest first
    Offers(offers::Offers),
    /// Run a command on a leased container: its output is standard output, its exit status is this command's
    ///
    /// Leases the cheapest container that fits, hands the workload over, follows its output over broken connections, closes the
    /// lease when the command has ended, and prints the bill on standard error. What did not run at all ends with status 125.
    Run(Box<run::Run>),
    /// Lease containers without following them: several are one transaction, all or none
    Rent(Box<rent::Rent>),
    /// Your leases: watch, reach, lengthen and end them, and what they came to
    #[command(subcommand)]
    Lease(leases::Command),
    /// The network: initialise it, look at it, govern it
    #[command(subcommand)]
    Network(network::Command),
    /// Classes of hardware
    #[command(subcommand)]
    Class(class::Command),
    /// The rewards vault
    #[command(subcommand)]
    Rewards(rewards::Command),
    /// Providers: owners of containers
    #[command(subcommand)]
    Provider(provider::Command),
    /// Containers: the hosts that are measured and paid
    #[command(subcommand)]
    Container(container::Command),
    /// What GPUs can do, and how they stand up to a checker
    #[command(subcommand)]
    Gpu(gpu::Command),
    /// Check this host, its node, and what its keys stand for on chain; says what to do about each fault
    ///
    /// Without a role: clock, nodes, program, key, balance and disk. With --agent, --checker or --keeper also what that
    /// daemon needs. Ends with status 1 when a check failed, and 0 when there are only warnings.
    Doctor(Box<doctor::Doctor>),
    /// Blocks of 256 containers
    #[command(subcommand)]
    Block(block::Command),
    /// Checkers: who measures
    #[command(subcommand)]
    Checker(checker::Command),
    /// Epochs: what was measured and paid
    #[command(subcommand)]
    Epoch(epoch::Command),
    /// Claim everything that --keypair may claim: as provider into vesting, as checker to the payout wallet
    Claim,
    /// Have paid out what is owed: vested rewards, unlocked stake, income and refunds of leases, fees
    Withdraw(withdraw::Withdraw),
    /// Indexers: who matches users to containers
    #[command(subcommand)]
    Indexer(indexer::Command),
    /// Keepers: who drives the epochs
    #[command(subcommand)]
    Keeper(keeper::Command),
    /// Cases against containers
    #[command(subcommand)]
    Case(case::Command),
    /// Accounts that are done with
    #[command(subcommand)]
    Account(account::Command),
    /// A mint of $ATH for local networks
    #[command(subcommand)]
    Mint(mint::Command),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => {
            // Where even that cannot be printed, the status still says it.
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: the async runtime cannot be started: {e}");
            return ExitCode::FAILURE;
        }
    };
    let output = arguments.options.output;
    let outcome = runtime.block_on(async {
        // Within the runtime: nodes are watched in the background.
        match Context::new(arguments.options) {
            Ok(context) => Ok(run(arguments.command, &context).await),
            Err(e) => Err(e),
        }
    });
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(e) => {
            eprintln!("error: {e}");
            return ExitCode::from(USAGE);
        }
    };
    let outcome = outcome.and_then(|report| show(&report, output));
    // A thread that still writes to a slow disk must not hold the command up.
    runtime.shutdown_background();
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints an answer; gives the exit status.
fn show(report: &Report, output: Output) -> anyhow::Result<u8> {
    if report.is_empty() {
        return Ok(report.status());
    }
    let text = report.render(output);
    let written = if report.is_apart() {
        io::stderr().lock().write_all(text.as_bytes())
    } else {
        io::stdout().lock().write_all(text.as_bytes())
    };
    match written {
        // `datagalax ... | head` has what it wants.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(report.status()),
    }
}

async fn run(command: Command, context: &Context) -> anyhow::Result<Report> {
    match command {
        Command::Offers(offers) => offers.run(context).await,
        Command::Run(run) => run.run(context).await,
        Command::Rent(rent) => rent.run(context).await,
        Command::Lease(command) => command.run(context).await,
        Command::Network(command) => command.run(context).await,
        Command::Class(command) => command.run(context).await,
        Command::Rewards(command) => command.run(context).await,
        Command::Provider(command) => command.run(context).await,
        Command::Container(command) => command.run(context).await,
        Command::Doctor(doctor) => doctor.run(context).await,
        Command::Gpu(command) => command.run(context).await,
        Command::Block(command) => command.run(context).await,
        Command::Checker(command) => command.run(context).await,
        Command::Epoch(command) => command.run(context).await,
        Command::Claim => claim::run(context).await,
        Command::Withdraw(withdraw) => withdraw.run(context).await,
        Command::Indexer(command) => command.run(context).await,
        Command::Keeper(command) => command.run(context).await,
        Command::Case(command) => command.run(context).await,
        Command::Account(command) => command.run(context).await,
        Command::Mint(command) => command.run(context).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_part_is_explained() {
        let mut command = Arguments::command();
        command.build();
        command.clone().debug_assert();
        explained(&command);
    }

    fn explained(command: &clap::Command) {
        let name = command.get_name();
        assert!(name == "help" || command.get_about().is_some(), "`{name}` has no help");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "`{name} {}` has no help", argument.get_id());
        }
        command.get_subcommands().for_each(explained);
    }
}
