//! Reads, each of a bounded number of events.

use eventstore_protocol::shared::Empty;
use eventstore_protocol::streams::read_req::Options;
use eventstore_protocol::streams::read_req::options::stream_options::RevisionOption;
use eventstore_protocol::streams::read_req::options::{
    AllOptions, CountOption, FilterOption, ReadDirection, StreamOption, StreamOptions, UuidOption,
    all_options, uuid_option,
};
use eventstore_protocol::streams::read_resp::Content;
use eventstore_protocol::streams::{ReadReq, ReadResp};
use tokio::time::{Instant, timeout_at};
use tonic::IntoRequest;

use crate::EventStreams;
use crate::append::identifier;
use crate::call::CALL_WITHIN;
use crate::error::{ReadError, Unavailable};
use crate::event::{Direction, Position, RecordedEvent};
use crate::failure::Failure;
use crate::generation::Client;
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
        self.read_events(of_stream(stream, direction, limit)).await
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
        let last = self.read_events(last_of_all()).await;
        let last = last.map_err(|error| match error {
            ReadError::Unavailable(reason) => reason,
            ReadError::StreamDeleted => Unavailable::new("the log of all streams is refused"),
        })?;
        Ok(last.first().map(|event| event.position))
    }

    /// Reads the log of all streams forward, after `after` (exclusive; `None`: from the beginning), and returns at most
    /// `limit` events of the streams whose names begin with one of `stream_prefixes` (none: of all streams). The server
    /// filters, so a page can be short of `limit` without being the end: read on after [`Page::position`].
    ///
    /// # Errors
    ///
    /// [`Unavailable`] if nothing was read in 10 s, or at once if the server is known to be down.
    pub async fn read_all(
        &self,
        stream_prefixes: &[&str],
        after: Option<Position>,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        self.connection.known_to_be_down()?;
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

    async fn read_events(&self, request: ReadReq) -> Result<Vec<RecordedEvent>, ReadError> {
        self.call(&self.permits.calls, |generation| {
            events(generation.client(), self.timed(request.clone()))
        })
        .await
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

/// The request for some events of one stream.
pub(crate) fn of_stream(stream: &str, direction: Direction, limit: usize) -> ReadReq {
    let (revision, direction) = match direction {
        Direction::ForwardFrom(revision) => {
            (RevisionOption::Revision(revision), ReadDirection::Forwards)
        }
        Direction::BackwardFromEnd => (RevisionOption::End(Empty {}), ReadDirection::Backwards),
    };
    let stream = StreamOption::Stream(StreamOptions {
        stream_identifier: Some(identifier(stream)),
        revision_option: Some(revision),
    });
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    request(stream, direction, CountOption::Count(limit), None)
}

fn last_of_all() -> ReadReq {
    let end = StreamOption::All(AllOptions {
        all_option: Some(all_options::AllOption::End(Empty {})),
    });
    request(end, ReadDirection::Backwards, CountOption::Count(1), None)
}

/// A read, or a subscription, with links resolved nowhere.
pub(crate) fn request(
    what: StreamOption,
    direction: ReadDirection,
    count: CountOption,
    filter: Option<FilterOption>,
) -> ReadReq {
    ReadReq {
        options: Some(Options {
            stream_option: Some(what),
            read_direction: direction.into(),
            count_option: Some(count),
            filter_option: Some(filter.unwrap_or(FilterOption::NoFilter(Empty {}))),
            uuid_option: Some(UuidOption {
                content: Some(uuid_option::Content::Structured(Empty {})),
            }),
            ..Options::default()
        }),
    }
}

/// The events that a read is answered, to its end.
pub(crate) async fn events(
    mut client: Client,
    request: impl IntoRequest<ReadReq>,
) -> Result<Vec<RecordedEvent>, Failure> {
    let mut answer = client.read(request).await?.into_inner();
    let mut events = Vec::new();
    while let Some(ReadResp { content }) = answer.message().await? {
        if let Some(Content::Event(event)) = content {
            events.push(RecordedEvent::from_answer(event)?);
        }
    }
    Ok(events)
}
