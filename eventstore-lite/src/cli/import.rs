//! `import`: JSON lines into a server.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::AddressArgs;
use crate::transfer::{self, Remote};

/// Append what `export` wrote to the streams of a running server, this one or a real EventStoreDB, in the same order.
///
/// An import that was cut can be run again: what is there is recognised. A stream that has other events is left as it
/// is, and the import ends there. Revisions begin at 0, times and positions are those of the server.
#[derive(Args)]
pub(super) struct ImportArgs {
    /// The file to read; without it the lines come from stdin
    file: Option<PathBuf>,
    #[command(flatten)]
    address: AddressArgs,
}

pub(super) async fn run(options: &ImportArgs) -> Result<()> {
    let lines: Box<dyn BufRead + Send> = match &options.file {
        Some(file) => {
            let opened = File::open(file);
            Box::new(BufReader::new(
                opened.with_context(|| format!("opening {}", file.display()))?,
            ))
        }
        None => Box::new(BufReader::new(std::io::stdin())),
    };
    let mut remote = Remote::connect(&options.address.url).await?;
    let counts = transfer::import(&mut remote, lines).await?;
    super::report("imported", counts);
    Ok(())
}
