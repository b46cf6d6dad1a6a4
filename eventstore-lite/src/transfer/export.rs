//! What can be read, as lines in the order of the log.
//!
//! Invariant: what a reader does not get any more (deleted, truncated) is in no line.

use std::collections::HashMap;
use std::io::Write;

use anyhow::{Result, ensure};
use serde_json::{Map, Value};

use super::line::Line;
use super::remote::{Recorded, Remote, next};
use super::{Moved, TOMBSTONE};

const METADATA_OF: &str = "$$";
const TRUNCATED_BEFORE: &str = "$tb";

/// Writes the events of these streams and their metadata, or of all that are not the server's own.
///
/// # Errors
/// If one of the streams has no events; if the server does not answer, or `out` takes no more.
pub(crate) async fn export(
    remote: &mut Remote,
    streams: &[String],
    out: impl Write,
) -> Result<Moved> {
    let mut lines = Lines {
        out,
        moved: Moved::default(),
    };
    if streams.is_empty() {
        everything(remote, &mut lines).await?;
    } else {
        for stream in streams {
            ensure!(
                one(remote, stream, &mut lines).await?,
                "the stream `{stream}` has no events: it never was, or is deleted"
            );
            lines.moved.streams += 1;
            one(remote, &format!("{METADATA_OF}{stream}"), &mut lines).await?;
        }
    }
    lines.out.flush()?;
    Ok(lines.moved)
}

/// What is in the log now. The log has more than can be read: each stream is asked where it begins.
async fn everything<W: Write>(remote: &mut Remote, lines: &mut Lines<W>) -> Result<()> {
    let Some(end) = remote.end().await? else {
        return Ok(());
    };
    let mut begins = HashMap::<String, Option<u64>>::new();
    let mut log = remote.all().await?;
    while let Some(event) = next(&mut log).await?.filter(|event| event.position <= end) {
        if is_of_the_server(&event.stream) {
            continue;
        }
        let begin = if let Some(begin) = begins.get(&event.stream) {
            *begin
        } else {
            let begin = remote.first_revision(&event.stream).await?;
            lines.moved.streams += usize::from(begin.is_some() && !is_metadata(&event.stream));
            begins.insert(event.stream.clone(), begin);
            begin
        };
        let can_be_read = begin.is_some_and(|begin| begin <= event.revision);
        if can_be_read || event.event_type == TOMBSTONE {
            lines.write(event)?;
        }
    }
    Ok(())
}

/// Whether there was an event.
async fn one<W: Write>(remote: &mut Remote, stream: &str, lines: &mut Lines<W>) -> Result<bool> {
    let mut events = remote.stream(stream).await?;
    let mut any = false;
    while let Some(event) = next(&mut events).await? {
        any = true;
        lines.write(event)?;
    }
    Ok(any)
}

fn is_metadata(stream: &str) -> bool {
    stream.starts_with(METADATA_OF)
}

/// Streams that servers write for themselves, and what is said of those.
fn is_of_the_server(stream: &str) -> bool {
    stream
        .strip_prefix(METADATA_OF)
        .unwrap_or(stream)
        .starts_with('$')
}

struct Lines<W> {
    out: W,
    moved: Moved,
}

impl<W: Write> Lines<W> {
    fn write(&mut self, mut event: Recorded) -> Result<()> {
        if is_metadata(&event.stream)
            && let Some(Value::Object(mut metadata)) = serde_json::from_slice(&event.data).ok()
            && metadata.remove(TRUNCATED_BEFORE).is_some()
        {
            // An import numbers from 0 on, and what was truncated is not there.
            if metadata.is_empty() {
                return Ok(());
            }
            event.data = serde_json::to_vec::<Map<_, _>>(&metadata)?.into();
        }
        serde_json::to_writer(&mut self.out, &Line::new(event))?;
        self.out.write_all(b"\n")?;
        self.moved.events += 1;
        Ok(())
    }
}
