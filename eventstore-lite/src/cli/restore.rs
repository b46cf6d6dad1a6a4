//! `restore`: puts a backup back.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::Database;
use crate::storage;

/// Verify a backup and make it the database of a folder that no server uses.
///
/// If it is interrupted, the folder has what it had or the backup, and nothing of both. Run it again to be sure.
#[derive(Args)]
pub(super) struct Options {
    /// What `backup` wrote
    file: PathBuf,
    /// Delete the database that the folder has
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    database: Database,
}

pub(super) fn run(options: &Options) -> Result<()> {
    storage::restore(&options.file, &options.database.db, options.replace)
}
