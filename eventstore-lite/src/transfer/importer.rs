//! Appends the events of lines in their order. The n-th event of a stream is appended with an exact revision, so an
//! interrupted import can be run again: the server recognises its events.
//!
//! Invariant: no event is appended to a stream that has other events than the lines.

use std::collections::HashMap;
use std::io::{BufRead, Read as _};

use anyhow::{Context as _, Result, bail, ensure};

use super::TransferCounts;
use super::line::Line;
use super::remote::{Remote, RemoteOutcome};
use crate::event::STREAM_DELETED;
use crate::event_id;
use crate::wire::streams::append_req::ProposedMessage;

/// The maximum length of a line, in bytes. The largest event of a server is well below it.
const LONGEST_LINE: u64 = 64 * 1024 * 1024;
/// The limits of one append: number of events, and bytes of data and metadata. Servers accept 1 MiB of data; this
/// server accepts 16 MiB in total.
const MOST_EVENTS: usize = 500;
const MOST_BYTES: usize = 512 * 1024;

/// Appends the events of all lines.
///
/// # Errors
/// At the first line that cannot be appended. The error names the line. The lines before it are appended.
pub(crate) async fn import(remote: &mut Remote, mut lines: impl BufRead) -> Result<TransferCounts> {
    let mut import = Import {
        remote,
        lengths: HashMap::new(),
        pending: Pending::default(),
        events: 0,
    };
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        let mut line = (&mut lines).take(LONGEST_LINE);
        if line.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        if !text.trim_ascii().is_empty() {
            let taken = import.take(number, &text).await;
            taken.with_context(|| format!("line {number}"))?;
        }
    }
    import.flush().await?;
    Ok(TransferCounts {
        events: import.events,
        streams: import.lengths.len(),
    })
}

/// Events of one stream that wait to be appended together.
#[derive(Default)]
struct Pending {
    stream: String,
    events: Vec<ProposedMessage>,
    bytes: usize,
    first_line: u64,
}

struct Import<'a> {
    remote: &'a mut Remote,
    /// How many events of each stream were appended.
    lengths: HashMap<String, u64>,
    pending: Pending,
    events: u64,
}

impl Import<'_> {
    async fn take(&mut self, number: u64, text: &[u8]) -> Result<()> {
        ensure!(
            text.ends_with(b"\n") || (text.len() as u64) < LONGEST_LINE,
            "the line is longer than {LONGEST_LINE} bytes"
        );
        let line = Line::parse(std::str::from_utf8(text).context("the line is not UTF-8")?)?;
        if line.event_type == STREAM_DELETED {
            return self.tombstone(&line.stream).await;
        }
        let event = proposed(&line)?;
        let is_full = self.pending.events.len() == MOST_EVENTS
            || self.pending.bytes + size(&event) > MOST_BYTES;
        if is_full || self.pending.stream != line.stream {
            self.flush().await?;
            self.pending.stream = line.stream;
            self.pending.first_line = number;
        }
        self.pending.bytes += size(&event);
        self.pending.events.push(event);
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let Pending {
            stream,
            events,
            first_line,
            ..
        } = std::mem::take(&mut self.pending);
        let count = events.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let length = self.lengths.get(&stream).copied().unwrap_or_default();
        let context =
            || format!("appending {count} events to `{stream}`, from line {first_line} on");
        let answer = self.remote.append(&stream, length, events).await;
        check(answer.with_context(context)?).with_context(context)?;
        self.lengths.insert(stream, length + count);
        self.events += count;
        Ok(())
    }

    async fn tombstone(&mut self, stream: &str) -> Result<()> {
        self.flush().await?;
        let context = || format!("tombstoning `{stream}`");
        let answer = self.remote.tombstone(stream).await.with_context(context)?;
        check(answer).with_context(context)?;
        self.events += 1;
        Ok(())
    }
}

fn check(answer: RemoteOutcome) -> Result<()> {
    match answer {
        RemoteOutcome::Done => Ok(()),
        RemoteOutcome::Conflict(Some(revision)) => {
            bail!(
                "the stream has other events at these revisions, up to revision {revision}: nothing was written to it"
            )
        }
        RemoteOutcome::Conflict(None) => {
            bail!("the stream has lost imported events: it was deleted in the meantime")
        }
        RemoteOutcome::DeletedSince => {
            bail!(
                "the stream had these events and was deleted after that: nothing was written to it"
            )
        }
        RemoteOutcome::Tombstoned => bail!("the stream is tombstoned on the server, for ever"),
    }
}

fn size(event: &ProposedMessage) -> usize {
    event.data.len() + event.custom_metadata.len()
}

fn proposed(line: &Line) -> Result<ProposedMessage> {
    let headers = [
        ("type", &line.event_type),
        ("content-type", &line.content_type),
    ];
    Ok(ProposedMessage {
        id: Some(event_id::write(line.id, true)),
        metadata: headers
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .into(),
        custom_metadata: line.metadata()?,
        data: line.data()?,
    })
}
