//! Exports readable events as lines, in the order of the log.
//!
//! Invariant: no line has an event that readers can no longer get because it is deleted or truncated.

use std::collections::HashMap;
use std::io::Write;

use anyhow::{Result, ensure};

use super::TransferCounts;
use super::line::Line;
use super::remote::{Remote, RemoteEvent, next};
use crate::event::STREAM_DELETED;
use crate::retention::untruncated;
use crate::stream_name::StreamName;

/// Writes the events of these streams and their metadata, or of all streams that are not reserved for the server.
///
/// # Errors
/// If one of the streams has no events, if the server does not answer, or if writing to `out` fails.
pub(crate) async fn export(
    remote: &mut Remote,
    streams: &[StreamName],
    out: impl Write,
) -> Result<TransferCounts> {
    let mut lines = Lines {
        out,
        counts: TransferCounts::default(),
    };
    if streams.is_empty() {
        export_log(remote, &mut lines).await?;
    } else {
        for stream in streams {
            ensure!(
                export_stream(remote, stream, &mut lines).await?,
                "the stream `{}` has no events: it never existed, or it is deleted",
                stream.as_str()
            );
            lines.counts.streams += 1;
            export_stream(remote, &stream.metastream(), &mut lines).await?;
        }
    }
    lines.out.flush()?;
    Ok(lines.counts)
}

/// Exports the present log. The log also has events that can no longer be read, so the first readable revision of
/// each stream is queried.
async fn export_log<W: Write>(remote: &mut Remote, lines: &mut Lines<W>) -> Result<()> {
    let Some(end) = remote.end().await? else {
        return Ok(());
    };
    let mut begins = HashMap::<StreamName, Option<u64>>::new();
    let mut log = remote.all().await?;
    while let Some(event) = next(&mut log).await?.filter(|event| event.position <= end) {
        if event.stream.is_system() {
            continue;
        }
        let begin = if let Some(begin) = begins.get(&event.stream) {
            *begin
        } else {
            let begin = remote.first_revision(&event.stream).await?;
            lines.counts.streams += usize::from(begin.is_some() && !event.stream.is_metastream());
            begins.insert(event.stream.clone(), begin);
            begin
        };
        let can_be_read = begin.is_some_and(|begin| begin <= event.revision);
        if can_be_read || event.event_type == STREAM_DELETED {
            lines.write(event)?;
        }
    }
    Ok(())
}

/// Exports one stream. Returns whether it has events.
async fn export_stream<W: Write>(
    remote: &mut Remote,
    stream: &StreamName,
    lines: &mut Lines<W>,
) -> Result<bool> {
    let mut events = remote.stream(stream).await?;
    let mut any = false;
    while let Some(event) = next(&mut events).await? {
        any = true;
        lines.write(event)?;
    }
    Ok(any)
}

struct Lines<W> {
    out: W,
    counts: TransferCounts,
}

impl<W: Write> Lines<W> {
    fn write(&mut self, mut event: RemoteEvent) -> Result<()> {
        // An import numbers events from 0 on, and truncated events are not exported, so the truncation is removed.
        let is_metadata = event.stream.is_metastream();
        if let Some(metadata) = is_metadata.then(|| untruncated(&event.data)).flatten() {
            if metadata.is_empty() {
                return Ok(());
            }
            event.data = serde_json::to_vec(&metadata)?.into();
        }
        serde_json::to_writer(&mut self.out, &Line::new(event))?;
        self.out.write_all(b"\n")?;
        self.counts.events += 1;
        Ok(())
    }
}
