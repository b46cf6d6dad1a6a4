//! `verify`: looks at the whole database.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::DatabaseArgs;
use crate::storage;

/// The exit code for damage.
const DAMAGED: u8 = 3;

/// Check the whole database: SQLite's file, and that its content makes sense.
///
/// Works beside a running server. Ends with 0 if all is sound, with 3 if not, and writes what is wrong, a
/// line each.
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
