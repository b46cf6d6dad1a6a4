//! Reads of streams of ten events and of the whole log.

use std::time::Duration;

use anyhow::{Result, ensure};
use eventstore::{BatchAppendClient, Client, ExpectedRevision, ReadAllOptions, ReadStreamOptions};
use futures::future::try_join_all;

use crate::appends::{event, session};
use crate::figures::{self, Caller};
use crate::report::Report;
use crate::store::Store;

/// The number of events in each stream that is filled before the reads.
pub(crate) const EVENTS_PER_STREAM: usize = 10;
/// The number of streams to read from.
const STREAMS: usize = 20_000;
/// The number of concurrent appends while streams are filled.
const WRITERS: usize = 64;

/// Fills streams with [`EVENTS_PER_STREAM`] events each, in one append per stream.
pub(crate) async fn fill(store: &Store, streams: usize) -> Result<()> {
    let client = store.client()?;
    let session = session(&client).await?;
    try_join_all((0..WRITERS).map(|first| fill_every(&session, (first, streams)))).await?;
    Ok(())
}

async fn fill_every(session: &BatchAppendClient, (first, end): (usize, usize)) -> Result<()> {
    for number in (first..end).step_by(WRITERS) {
        let events = (0..EVENTS_PER_STREAM).map(|_| event()).collect();
        let none = ExpectedRevision::NoStream;
        session
            .append_to_stream(stream(number), none, events)
            .await?;
    }
    Ok(())
}

fn stream(number: usize) -> String {
    format!("filled-{number}")
}

/// A reader that reads the streams in a scattered order.
struct StreamReader {
    client: Client,
    next: usize,
    streams: usize,
}

impl Caller for StreamReader {
    async fn call(&mut self) -> Result<u64> {
        let options = ReadStreamOptions::default();
        let mut events = self.client.read_stream(stream(self.next), &options).await?;
        let mut count = 0;
        while events.next().await?.is_some() {
            count += 1;
        }
        ensure!(
            count == EVENTS_PER_STREAM,
            "{count} events in {}",
            stream(self.next)
        );
        // The step is a large prime, so every stream is read once before any is read again.
        self.next = (self.next + 7_368_787) % self.streams;
        Ok(1)
    }
}

/// A reader that reads the log from its start to its end.
struct LogReader {
    client: Client,
    min_events: usize,
}

impl Caller for LogReader {
    async fn call(&mut self) -> Result<u64> {
        let mut events = self.client.read_all(&ReadAllOptions::default()).await?;
        let mut count = 0;
        while events.next().await?.is_some() {
            count += 1;
        }
        ensure!(count >= self.min_events, "{count} events in the log");
        Ok(u64::try_from(count)?)
    }
}

pub(crate) async fn measure(store: &Store, length: Duration, report: &mut Report) -> Result<()> {
    fill(store, STREAMS).await?;
    streams(store, STREAMS, length, report).await?;
    for readers in [1, 4] {
        let reader = |_| {
            anyhow::Ok(LogReader {
                client: store.client()?,
                min_events: STREAMS * EVENTS_PER_STREAM,
            })
        };
        let readers_of_log = (0..readers).map(reader).collect::<Result<_>>()?;
        let figures = figures::run(readers_of_log, store.id()?, length).await;
        report.add("$all, events", readers, figures);
    }
    Ok(())
}

/// Measures reads of filled streams with one reader and with several.
pub(crate) async fn streams(
    store: &Store,
    streams: usize,
    length: Duration,
    report: &mut Report,
) -> Result<()> {
    for readers in [1, 16] {
        let client = store.client()?;
        let reader = |number| StreamReader {
            client: client.clone(),
            next: number * (streams / readers),
            streams,
        };
        let readers_of_streams = (0..readers).map(reader).collect();
        let figures = figures::run(readers_of_streams, store.id()?, length).await;
        report.add("streams of 10 events", readers, figures);
    }
    Ok(())
}
