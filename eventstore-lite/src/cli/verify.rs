//! `verify`: checks the whole database.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::DatabaseArgs;
use crate::storage;

/// The exit code for damage.
const DAMAGED: u8 = 3;

/// Check the whole database: the SQLite file, and the consistency of its content
///
/// Works beside a running server. Prints one finding per line. Exits with 0 if the database is sound, and with 3 if
/// not.
#[derive(Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) fn run(options: &VerifyArgs) -> Result<ExitCode> {
    let findings = storage::verify(&options.database.db)?;
    let mut stdout = std::io::stdout().lock();
    for finding in &findings {
        writeln!(stdout, "{finding}")?;
    }
    if findings.is_empty() {
        writeln!(stdout, "{} is sound", options.database.db.display())?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(DAMAGED.into())
}
