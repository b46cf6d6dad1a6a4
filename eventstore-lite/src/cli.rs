//! The command line: without a subcommand the server runs; each subcommand has a module.
//!
//! What a subcommand finds goes to stdout, why it failed to stderr. It ends with 0 if it did what it should,
//! with 1 if not; `verify` ends with 3 if it found damage.

mod backup;
mod hash_password;
mod restore;
mod serve;
mod stats;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::options;

/// An EventStoreDB-compatible server in one binary. Options are named as the real server's.
#[derive(Parser)]
#[command(version, about, after_help = options::ENVIRONMENT, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: options::Options,
}

#[derive(Subcommand)]
enum Command {
    Verify(verify::Options),
    Backup(backup::Options),
    Restore(restore::Options),
    Stats(stats::Options),
    HashPassword(hash_password::Options),
}

/// Where the database is.
#[derive(Args)]
struct Database {
    /// The folder of the database
    #[arg(long, env = "EVENTSTORE_DB", default_value = "eventstore-db")]
    db: PathBuf,
}

/// Does what the command line of this process says.
///
/// # Errors
/// If it could not be done; the reason is for whoever typed it.
pub async fn run() -> Result<ExitCode> {
    let Arguments { command, serve } = Arguments::parse();
    let Some(command) = command else {
        serve::run(serve).await?;
        return Ok(ExitCode::SUCCESS);
    };
    match command {
        Command::Verify(options) => return verify::run(&options),
        Command::Backup(options) => backup::run(&options)?,
        Command::Restore(options) => restore::run(&options)?,
        Command::Stats(options) => stats::run(&options)?,
        Command::HashPassword(hash_password::Options {}) => hash_password::run()?,
    }
    Ok(ExitCode::SUCCESS)
}
