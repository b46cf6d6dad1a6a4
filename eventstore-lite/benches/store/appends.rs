//! Appends of one event each, by single calls and by a batch session. Every writer has its own stream.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use eventstore::{
    AppendToStreamOptions, BatchAppendClient, BatchAppendOptions, Client, EventData,
    ExpectedRevision,
};
use uuid::Uuid;

use crate::figures::{self, Caller, Figures};
use crate::report::Report;
use crate::store::Store;

/// The size of an event's data.
pub(crate) const EVENT_BYTES: usize = 256;

/// The client or batch session that all writers of a row share.
#[derive(Clone)]
enum Sink {
    Append(Box<Client>),
    Batch(Arc<BatchAppendClient>),
}

struct Writer {
    sink: Sink,
    stream: String,
    next: u64,
}

impl Caller for Writer {
    async fn call(&mut self) -> Result<u64> {
        let revision = match &self.sink {
            Sink::Append(client) => {
                let options = AppendToStreamOptions::default();
                let written = client.append_to_stream(&*self.stream, &options, event());
                Some(written.await?.next_expected_version)
            }
            Sink::Batch(session) => {
                let any = ExpectedRevision::Any;
                let written = session.append_to_stream(&self.stream, any, vec![event()]);
                written.await?.current_revision()
            }
        };
        ensure!(
            revision == Some(self.next),
            "{} is at revision {revision:?} instead of {}",
            self.stream,
            self.next
        );
        self.next += 1;
        Ok(1)
    }
}

pub(crate) fn event() -> EventData {
    let data = vec![b'x'; EVENT_BYTES];
    EventData::binary("measured", data.into()).id(Uuid::new_v4())
}

pub(crate) async fn session(client: &Client) -> Result<BatchAppendClient> {
    Ok(client.batch_append(&BatchAppendOptions::default()).await?)
}

/// Measures single calls, each row beside the same calls answered from memory.
pub(crate) async fn calls(
    store: &Store,
    writers: &[usize],
    length: Duration,
    report: &mut Report,
) -> Result<()> {
    let from_memory = Store::from_memory().await?;
    for count in writers {
        let mut rows = Vec::new();
        for server in [store, &from_memory] {
            let sink = Sink::Append(Box::new(server.client()?));
            rows.push(append(server, sink, "call", *count, length).await);
        }
        let ratio = match &rows[..] {
            [Ok(stored), Ok(answered)] => Some(stored.beside(answered)),
            _ => None,
        };
        for (name, figures) in ["append_to_stream", "  the same from memory"]
            .iter()
            .zip(rows)
        {
            report.add(name, *count, figures);
        }
        if let Some(ratio) = ratio {
            report.note(&ratio);
        }
    }
    Ok(())
}

/// Measures writers that share one batch session.
pub(crate) async fn sessions(
    store: &Store,
    writers: &[usize],
    length: Duration,
    report: &mut Report,
) -> Result<()> {
    for count in writers {
        let sink = Sink::Batch(Arc::new(session(&store.client()?).await?));
        let figures = append(store, sink, "session", *count, length).await;
        report.add("batch session", *count, figures);
    }
    Ok(())
}

async fn append(
    server: &Store,
    sink: Sink,
    name: &str,
    count: usize,
    length: Duration,
) -> Result<Figures> {
    let writer = |number| Writer {
        sink: sink.clone(),
        stream: format!("{name}-{count}-{number}"),
        next: 0,
    };
    figures::run((0..count).map(writer).collect(), server.id()?, length).await
}

/// The figures of a writer that gets an unexpected answer, which must be an error.
pub(crate) async fn wrong_answer(store: &Store) -> Result<Figures> {
    let writer = Writer {
        sink: Sink::Append(Box::new(store.client()?)),
        stream: "control".to_owned(),
        next: 1,
    };
    figures::run(vec![writer], store.id()?, Duration::from_millis(50)).await
}
