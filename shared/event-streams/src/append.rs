//! Appends. With an exact expected revision the events are stored exactly once, even if the connection breaks
//! meanwhile.

use std::time::Duration;

use eventstore_protocol::streams::BatchAppendReq;
use eventstore_protocol::streams::batch_append_req::options::{
    DeadlineOption, ExpectedStreamPosition,
};
use eventstore_protocol::streams::batch_append_req::{Options, ProposedMessage};

use crate::EventStreams;
use crate::error::AppendError;
use crate::event::{Appended, Expected, NewEvent};
use crate::request::stream_identifier;

/// The most bytes of events in one append. A larger message makes the server end the session that all appends share.
/// The server's own limit for one append is far smaller (1 MiB of data by default) and fails only that append.
const LARGEST_APPEND: usize = 15 * 1024 * 1024;

impl EventStreams {
    /// Appends if the stream is at this revision, or absent (`None`). Returns `None`, and has stored nothing, if the stream is at
    /// another revision or was deleted. Otherwise like [`append`](Self::append).
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. Neither a conflict nor a deleted stream is an error.
    pub async fn append_at(
        &self,
        stream: &str,
        revision: Option<u64>,
        events: Vec<NewEvent>,
    ) -> Result<Option<Appended>, AppendError> {
        let expected = revision.map_or(Expected::NoStream, Expected::Revision);
        match self.append(stream, expected, events).await {
            Ok(appended) => Ok(Some(appended)),
            Err(AppendError::Conflict { .. } | AppendError::StreamDeleted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Appends all of the events or none, and returns when they are durable. Takes at most 10 s.
    ///
    /// An attempt whose outcome is unknown (the connection broke) is repeated with the same event ids and the same
    /// expectation. With [`Expected::NoStream`] and [`Expected::Revision`] the server recognises a repeated append
    /// exactly. With [`Expected::Any`] the events may be stored twice.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. An empty list of events is [`AppendError::NotWritten`].
    pub async fn append(
        &self,
        stream: &str,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        if events.is_empty() {
            return Err(AppendError::NotWritten);
        }
        if events.iter().map(size).sum::<usize>() > LARGEST_APPEND {
            return Err(AppendError::TooLarge);
        }
        let request = self.append_request(stream, expected, events);
        let written = self.call(&self.permits.appends, |generation| {
            let request = request.clone();
            async move { generation.session().append(request).await }
        });
        let written: Result<_, AppendError> = written.await;
        written?.ok_or(AppendError::NotWritten)
    }

    fn append_request(
        &self,
        stream: &str,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> BatchAppendReq {
        let options = Options {
            stream_identifier: Some(stream_identifier(stream)),
            expected_stream_position: Some(match expected {
                Expected::NoStream => ExpectedStreamPosition::NoStream(()),
                Expected::Revision(revision) => ExpectedStreamPosition::StreamPosition(revision),
                Expected::Any => ExpectedStreamPosition::Any(()),
            }),
            deadline_option: Some(deadline(self.attempt_timeout)),
        };
        BatchAppendReq {
            correlation_id: None,
            options: Some(options),
            proposed_messages: events.into_iter().map(ProposedMessage::from).collect(),
            is_final: true,
        }
    }
}

fn deadline(timeout: Duration) -> DeadlineOption {
    DeadlineOption::Deadline(prost_types::Duration {
        seconds: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: timeout.subsec_nanos().cast_signed(),
    })
}

fn size(event: &NewEvent) -> usize {
    event.data.len() + event.metadata.len()
}
