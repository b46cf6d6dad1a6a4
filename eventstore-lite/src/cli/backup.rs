//! `backup`: writes the database to one file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::DatabaseArgs;
use crate::storage;

/// Write a snapshot of the database to one file, also beside a running server
///
/// The file is on disk when the command ends. Any SQLite tool can open it.
#[derive(Args)]
pub(super) struct BackupArgs {
    /// The file to write; replacing a file needs space for both
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
