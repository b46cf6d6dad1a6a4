//! Reads of streams of ten events, and of the whole log.

use std::time::Duration;

use anyhow::{Result, ensure};
use eventstore::{BatchAppendClient, Client, ExpectedRevision, ReadAllOptions, ReadStreamOptions};
use futures::future::try_join_all;

use crate::appends::{event, session};
use crate::figures::{self, Caller};
use crate::report::Report;
use crate::store::Store;

/// How many events each stream has.
pub(crate) const IN_STREAM: usize = 10;
/// How many streams are filled for the reads.
const STREAMS: usize = 20_000;
/// How many appends run at once while streams are filled.
const FILLING: usize = 64;

/// Creates streams of [`IN_STREAM`] events, one append each.
pub(crate) async fn fill(store: &Store, streams: usize) -> Result<()> {
    let client = store.client()?;
    let session = session(&client).await?;
    try_join_all((0..FILLING).map(|first| fill_every(&session, (first, streams)))).await?;
    Ok(())
}

async fn fill_every(session: &BatchAppendClient, (first, end): (usize, usize)) -> Result<()> {
    for number in (first..end).step_by(FILLING) {
        let events = (0..IN_STREAM).map(|_| event()).collect();
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

/// Reads streams in a scattered order.
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
            count == IN_STREAM,
            "{count} events in {}",
            stream(self.next)
        );
        // A large prime, so that every stream comes once before any is repeated.
        self.next = (self.next + 7_368_787) % self.streams;
        Ok(1)
    }
}

/// Reads the log from its start to its end.
struct LogReader {
    client: Client,
    least: usize,
}

impl Caller for LogReader {
    async fn call(&mut self) -> Result<u64> {
        let mut events = self.client.read_all(&ReadAllOptions::default()).await?;
        let mut count = 0;
        while events.next().await?.is_some() {
            count += 1;
        }
        ensure!(count >= self.least, "{count} events in the log");
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
                least: STREAMS * IN_STREAM,
            })
        };
        let readers_of_log = (0..readers).map(reader).collect::<Result<_>>()?;
        let figures = figures::run(readers_of_log, store.id()?, length).await;
        report.add("$all, events", readers, figures);
    }
    Ok(())
}

/// Reads the filled streams, with one reader and with several.
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
