//! `export`: writes events of a server as JSON lines.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use tempfile::NamedTempFile;

use super::AddressArgs;
use crate::stream_name::{InvalidStreamName, StreamName};
use crate::transfer::{self, Remote, TransferCounts};

/// Write events of a running server, this one or a real EventStoreDB, as JSON lines: one event per line
///
/// Without --stream, exports everything that can be read, in the order of the log, including the metadata of streams,
/// but not the streams whose names begin with `$`. Deleted and truncated events are left out; a tombstone is a line
/// of its own.
#[derive(Args)]
pub(super) struct ExportArgs {
    /// The file to write, which must not exist; without it the lines go to stdout
    file: Option<PathBuf>,
    /// A stream to export, with its metadata; may be repeated
    #[arg(long = "stream", value_name = "NAME", value_parser = stream_name)]
    streams: Vec<StreamName>,
    #[command(flatten)]
    address: AddressArgs,
}

fn stream_name(text: &str) -> Result<StreamName, InvalidStreamName> {
    StreamName::parse(text.as_bytes())
}

pub(super) async fn run(options: &ExportArgs) -> Result<()> {
    let mut remote = Remote::connect(&options.address.url).await?;
    let counts = if let Some(file) = &options.file {
        to_file(&mut remote, &options.streams, file).await?
    } else {
        let out = BufWriter::new(std::io::stdout());
        transfer::export(&mut remote, &options.streams, out).await?
    };
    super::report("exported", counts);
    Ok(())
}

/// Writes the file completely and durably, or not at all.
async fn to_file(
    remote: &mut Remote,
    streams: &[StreamName],
    file: &Path,
) -> Result<TransferCounts> {
    let target = std::path::absolute(file)?;
    let parent = target.parent().context("the export must be a file")?;
    let writing = || format!("writing {}", file.display());
    let mut written = NamedTempFile::new_in(parent).with_context(writing)?;
    let out = BufWriter::new(&mut written);
    let counts = transfer::export(remote, streams, out).await?;
    written.flush().with_context(writing)?;
    written.as_file().sync_all().with_context(writing)?;
    let kept = written.persist_noclobber(&target);
    kept.with_context(|| format!("{} was not written", file.display()))?;
    Ok(counts)
}
