//! Reads, each of a bounded number of events.

use eventstore::{Client, Error, ReadAllOptions, ReadStreamOptions, StreamPosition};
use tokio::time::{Instant, timeout_at};

use crate::EventStreams;
use crate::call::CALL_WITHIN;
use crate::error::{ReadError, Unavailable};
use crate::event::{Direction, Position, RecordedEvent};
use crate::subscription::Delivery;

/// A part of the log of all streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The events of the asked-for streams, in the order of writing.
    pub events: Vec<RecordedEvent>,
    /// Everything up to here has been looked at: read on after it. `None` if nothing was there and nothing was asked for.
    pub position: Option<Position>,
    /// Whether this was the end of the log at the time of reading.
    pub end: bool,
}

impl EventStreams {
    /// Reads at most `limit` events of one stream. A missing, soft-deleted or truncated-away stream has none.
    ///
    /// # Errors
    ///
    /// [`ReadError::StreamDeleted`] if the stream is tombstoned, [`ReadError::Unavailable`] after 10 s.
    pub async fn read(
        &self,
        stream: &str,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let options = options(direction).max_count(limit);
        self.call(|client| events_of(client, stream.to_owned(), options.clone()))
            .await
    }

    /// Reads the last event of one stream, if there is one.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub async fn read_last(&self, stream: &str) -> Result<Option<RecordedEvent>, ReadError> {
        let last = self.read(stream, Direction::BackwardFromEnd, 1).await?;
        Ok(last.into_iter().next())
    }

    /// The position of the last event in the log of all streams; `None` for an empty log. A position beyond it is no
    /// position of this log.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] after 10 s.
    pub async fn log_end(&self) -> Result<Option<Position>, Unavailable> {
        let end = self.call(last_position).await;
        end.map_err(|error| match error {
            ReadError::Unavailable(reason) => reason,
            ReadError::StreamDeleted => Unavailable::new("the log of all streams is refused"),
        })
    }

    /// Reads the log of all streams forward, after `after` (exclusive; `None`: from the beginning), and returns at most
    /// `limit` events of the streams whose names begin with one of `stream_prefixes` (none: of all streams). The server
    /// filters, so a page can be short of `limit` without being the end: read on after [`Page::position`].
    ///
    /// # Errors
    ///
    /// [`Unavailable`] if nothing was read in 10 s.
    pub async fn read_all(
        &self,
        stream_prefixes: &[&str],
        after: Option<Position>,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        let deadline = Instant::now() + CALL_WITHIN;
        let mut log = self.subscribe_all(stream_prefixes, after);
        let mut page = Page {
            events: Vec::new(),
            position: after,
            end: false,
        };
        while page.events.len() < limit && !page.end {
            match timeout_at(deadline, log.next()).await {
                Ok(delivery) => page.take(delivery),
                Err(_) if page.position != after => break,
                Err(_) => return Err(self.connection.why()),
            }
        }
        Ok(page)
    }
}

impl Page {
    fn take(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Event(event) => {
                self.position = Some(event.position);
                self.events.push(event);
            }
            Delivery::Checkpoint(position) => self.position = Some(position),
            Delivery::CaughtUp => self.end = true,
            // It is tried again until the deadline.
            Delivery::Interrupted(_) => {}
        }
    }
}

fn options(direction: Direction) -> ReadStreamOptions {
    let options = ReadStreamOptions::default();
    match direction {
        Direction::ForwardFrom(revision) => options
            .position(StreamPosition::Position(revision))
            .forwards(),
        Direction::BackwardFromEnd => options.position(StreamPosition::End).backwards(),
    }
}

async fn last_position(client: Client) -> Result<Option<Position>, Error> {
    let options = ReadAllOptions::default()
        .position(StreamPosition::End)
        .backwards()
        .max_count(1);
    let mut answer = client.read_all(&options).await?;
    let last = answer.next().await?.and_then(RecordedEvent::from_answer);
    Ok(last.map(|event| event.position))
}

async fn events_of(
    client: Client,
    stream: String,
    options: ReadStreamOptions,
) -> Result<Vec<RecordedEvent>, Error> {
    match collect(client, stream, options).await {
        Err(Error::ResourceNotFound) => Ok(Vec::new()),
        answer => answer,
    }
}

async fn collect(
    client: Client,
    stream: String,
    options: ReadStreamOptions,
) -> Result<Vec<RecordedEvent>, Error> {
    let mut answer = client.read_stream(stream, &options).await?;
    let mut events = Vec::new();
    while let Some(event) = answer.next().await? {
        events.extend(RecordedEvent::from_answer(event));
    }
    Ok(events)
}
