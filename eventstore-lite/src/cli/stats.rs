//! `stats`: prints figures about the database.

use std::io::Write as _;

use anyhow::Result;
use clap::Args;

use super::DatabaseArgs;
use crate::storage;

/// Count streams, events and bytes, and print them as one JSON object; also beside a running server
///
/// Times are ticks of 100 ns since the Unix epoch, as in the protocol.
#[derive(Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) fn run(options: &StatsArgs) -> Result<()> {
    let statistics = storage::statistics(&options.database.db)?;
    let text = serde_json::to_string_pretty(&statistics)?;
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}
