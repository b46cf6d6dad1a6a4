//! `restore`: restores a backup.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::DatabaseArgs;
use crate::storage;

/// Verify a backup and make it the database of a folder that no server uses
///
/// A backup with damaged events is refused. Derived data (limits, links, indexes) that disagrees with the events is
/// reported; limits and indexes are repaired.
///
/// If the command is interrupted, the folder has either its old database or the backup. Run it again to be sure.
#[derive(Args)]
pub(super) struct RestoreArgs {
    /// The file that `backup` wrote
    file: PathBuf,
    /// Delete the existing database of the folder
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) fn run(options: &RestoreArgs) -> Result<()> {
    let findings = storage::restore(&options.file, &options.database.db, options.replace)?;
    for finding in findings {
        eprintln!("disagrees with the events: {finding}");
    }
    Ok(())
}
