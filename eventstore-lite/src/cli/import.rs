//! `import`: appends JSON lines to a server.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::AddressArgs;
use crate::transfer::{self, Remote};

/// Append the events that `export` wrote to the streams of a running server, this one or a real EventStoreDB, in the
/// same order
///
/// An interrupted import can be run again: it recognises the events that are there. If a stream has other events, the
/// import ends there and leaves the stream as it is. Revisions begin at 0; times and positions are those of the
/// server.
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
