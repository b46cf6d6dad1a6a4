//! `restore`: puts a backup back.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::Database;
use crate::storage;

/// Verify a backup and make it the database of a folder that no server uses.
///
/// If it is interrupted, run it again before a server is started.
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
