//! `restore`: puts a backup back.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::DatabaseArgs;
use crate::storage;

/// Verify a backup and make it the database of a folder that no server uses.
///
/// Damaged events are refused. What is derived from the events (limits, links, indexes) is told where it does not agree
/// with them; limits and indexes are put right.
///
/// If it is interrupted, the folder has what it had or the backup, and nothing of both. Run it again to be sure.
#[derive(Args)]
pub(super) struct RestoreArgs {
    /// What `backup` wrote
    file: PathBuf,
    /// Delete the database that the folder has
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) fn run(options: &RestoreArgs) -> Result<()> {
    let findings = storage::restore(&options.file, &options.database.db, options.replace)?;
    for finding in findings {
        eprintln!("not as the events say: {finding}");
    }
    Ok(())
}
