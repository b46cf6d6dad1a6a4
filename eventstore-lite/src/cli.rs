//! The command line. Without a subcommand the server runs; each subcommand has a module.
//!
//! Results go to stdout, errors to stderr. The exit code is 0 for success and 1 for failure. `verify` exits with 3 if
//! it found damage.

mod backup;
mod export;
mod hash_password;
mod import;
mod restore;
mod serve;
mod stats;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::options;
use crate::transfer::TransferCounts;

/// An EventStoreDB-compatible server in one binary. Options have the names of the real server
#[derive(Parser)]
#[command(version, about, after_help = options::ENVIRONMENT, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: options::ServerArgs,
}

#[derive(Subcommand)]
enum Command {
    Verify(verify::VerifyArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Stats(stats::StatsArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    HashPassword(hash_password::HashPasswordArgs),
}

/// The location of the database.
#[derive(Args)]
struct DatabaseArgs {
    /// The folder of the database
    #[arg(long, env = "EVENTSTORE_DB", default_value = "eventstore-db")]
    db: PathBuf,
}

/// The address of a running server.
#[derive(Args)]
struct AddressArgs {
    /// The connection string of the server: esdb://USER:PASSWORD@HOST:PORT?tls=true&tlsCaFile=FILE
    #[arg(
        long,
        env = "EVENTSTORE_URL",
        hide_env_values = true,
        default_value = "esdb://127.0.0.1:2113?tls=false"
    )]
    url: String,
}

/// Reports on stderr how much was transferred, because stdout may have the events.
fn report(done: &str, counts: TransferCounts) {
    let TransferCounts { events, streams } = counts;
    eprintln!("{done} {events} events of {streams} streams");
}

/// Runs the command line of this process.
///
/// # Errors
/// If the command failed. The error is written for the user of the command line.
pub async fn run() -> Result<ExitCode> {
    let Cli { command, serve } = Cli::parse();
    let Some(command) = command else {
        serve::run(serve).await?;
        return Ok(ExitCode::SUCCESS);
    };
    match command {
        Command::Verify(options) => return verify::run(&options),
        Command::Backup(options) => backup::run(&options)?,
        Command::Restore(options) => restore::run(&options)?,
        Command::Stats(options) => stats::run(&options)?,
        Command::Export(options) => export::run(&options).await?,
        Command::Import(options) => import::run(&options).await?,
        Command::HashPassword(hash_password::HashPasswordArgs {}) => hash_password::run()?,
    }
    Ok(ExitCode::SUCCESS)
}
