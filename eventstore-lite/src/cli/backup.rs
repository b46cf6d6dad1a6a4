//! `backup`: the database as one file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::DatabaseArgs;
use crate::storage;

/// Write the database to one file, as it is at one moment; also beside a running server.
///
/// The file is on disk when this ends, and can be opened with any SQLite tool.
#[derive(Args)]
pub(super) struct BackupArgs {
    /// The file to write; while it replaces another there is room needed for both
    file: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) fn run(options: &BackupArgs) -> Result<()> {
    storage::backup(&options.database.db, &options.file, options.replace)
}
