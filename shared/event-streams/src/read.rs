//! Reads of a bounded number of events.

use eventstore_protocol::shared::Empty;
use eventstore_protocol::streams::ReadReq;
use eventstore_protocol::streams::read_req::options::{
    AllOptions, CountOption, ReadDirection, StreamOption, all_options,
};
use tokio::time::{Instant, timeout_at};

use crate::EventStreams;
use crate::call::CALL_TIMEOUT;
use crate::client;
use crate::error::{ReadError, Unavailable};
use crate::event::{Direction, Position, RecordedEvent};
use crate::request;
use crate::subscription::Delivery;

/// A page of the log of all streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The events of the requested streams, in the order in which they were written.
    pub events: Vec<RecordedEvent>,
    /// The read covered the log up to this position; the next page starts after it. `None` if the read started at the
    /// beginning and covered nothing.
    pub position: Option<Position>,
    /// Whether the read reached the end of the log.
    pub end: bool,
}

impl EventStreams {
    /// Reads at most `limit` events of one stream. Returns none if the stream is missing, soft-deleted or fully
    /// truncated.
    ///
    /// # Errors
    ///
    /// [`ReadError::StreamDeleted`] if the stream is tombstoned, [`ReadError::Unavailable`] without an answer in 10 s.
    pub async fn read(
        &self,
        stream: &str,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.read_events(request::read_stream(stream, direction, limit))
            .await
    }

    /// Reads the last event of one stream, if there is one.
    ///
    /// # Errors
    ///
    /// The same as for [`read`](Self::read).
    pub async fn read_last(&self, stream: &str) -> Result<Option<RecordedEvent>, ReadError> {
        let last = self.read(stream, Direction::BackwardFromEnd, 1).await?;
        Ok(last.into_iter().next())
    }

    /// The position of the last event in the log of all streams, or `None` if the log is empty. A position beyond this
    /// one does not belong to this log.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] without an answer in 10 s.
    pub async fn log_end(&self) -> Result<Option<Position>, Unavailable> {
        let last = self.read_events(last_event_of_log()).await;
        let last = last.map_err(|error| match error {
            ReadError::Unavailable(reason) => reason,
            ReadError::StreamDeleted => {
                Unavailable::new("the server says that the log of all streams is deleted")
            }
        })?;
        Ok(last.first().map(|event| event.position))
    }

    /// Reads the log of all streams forward from `after` (exclusive; `None` means from the beginning). Returns at most
    /// `limit` events of the streams whose names start with one of `stream_prefixes` (an empty slice means all
    /// streams). A page may have fewer events than `limit` before the end of the log; the next page starts after
    /// [`Page::position`].
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
        self.connection.fail_if_down()?;
        let deadline = Instant::now() + CALL_TIMEOUT;
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
                Err(_) => return Err(self.connection.timed_out()),
            }
        }
        Ok(page)
    }

    async fn read_events(&self, request: ReadReq) -> Result<Vec<RecordedEvent>, ReadError> {
        self.call(&self.permits.calls, |generation| {
            client::read(generation.client(), self.with_timeout(request.clone()))
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
            // The subscription resumes by itself until the deadline.
            Delivery::Interrupted(_) => {}
        }
    }
}

fn last_event_of_log() -> ReadReq {
    let end = StreamOption::All(AllOptions {
        all_option: Some(all_options::AllOption::End(Empty {})),
    });
    request::read(end, ReadDirection::Backwards, CountOption::Count(1), None)
}
