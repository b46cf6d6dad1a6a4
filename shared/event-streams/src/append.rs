//! Appends: exactly once with an exact expectation, whatever becomes of the connection meanwhile.

use std::time::Duration;

use bytes::Bytes;
use eventstore_protocol::shared::StreamIdentifier;
use eventstore_protocol::streams::BatchAppendReq;
use eventstore_protocol::streams::batch_append_req::options::{
    DeadlineOption, ExpectedStreamPosition,
};
use eventstore_protocol::streams::batch_append_req::{Options, ProposedMessage};
use uuid::Uuid;

use crate::EventStreams;
use crate::error::AppendError;
use crate::event::{Appended, Expected, NewEvent};

/// A server takes no larger message, and ends the session of all appends over one. It refuses a far smaller append
/// (1 MiB of data by default), one by one.
const LARGEST_APPEND: usize = 15 * 1024 * 1024;

impl EventStreams {
    /// Appends the events, all or none, and returns when they are durable; takes 10 s at most.
    ///
    /// An attempt whose outcome is unknown (the connection broke) is repeated with the same ids and the same
    /// expectation. With [`Expected::NoStream`] and [`Expected::Revision`] the server recognises it exactly; with
    /// [`Expected::Any`] the events may be stored twice.
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
        let request = self.request(stream, expected, events);
        let written = self.call(&self.permits.appends, |generation| {
            let request = request.clone();
            async move { generation.session().append(request).await }
        });
        let written: Result<_, AppendError> = written.await;
        written?.ok_or(AppendError::NotWritten)
    }

    /// Lets the stream keep its last `count` events only, at least 1 (`$maxCount`; its `$$` stream takes one event more,
    /// in place of all other metadata).
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    pub async fn set_max_count(&self, stream: &str, count: u64) -> Result<(), AppendError> {
        let event = NewEvent {
            id: Uuid::new_v4(),
            event_type: "$metadata".into(),
            data: format!("{{\"$maxCount\":{count}}}").into(),
            metadata: Bytes::new(),
        };
        let stream = format!("$${stream}");
        let appended = self.append(&stream, Expected::Any, vec![event]).await;
        appended.map(|_| ())
    }

    fn request(&self, stream: &str, expected: Expected, events: Vec<NewEvent>) -> BatchAppendReq {
        let options = Options {
            stream_identifier: Some(identifier(stream)),
            expected_stream_position: Some(match expected {
                Expected::NoStream => ExpectedStreamPosition::NoStream(()),
                Expected::Revision(revision) => ExpectedStreamPosition::StreamPosition(revision),
                Expected::Any => ExpectedStreamPosition::Any(()),
            }),
            deadline_option: Some(deadline(self.attempt_within)),
        };
        BatchAppendReq {
            correlation_id: None,
            options: Some(options),
            proposed_messages: events.into_iter().map(ProposedMessage::from).collect(),
            is_final: true,
        }
    }
}

pub(crate) fn identifier(stream: &str) -> StreamIdentifier {
    StreamIdentifier {
        stream_name: Bytes::copy_from_slice(stream.as_bytes()),
    }
}

fn deadline(within: Duration) -> DeadlineOption {
    DeadlineOption::Deadline(prost_types::Duration {
        seconds: within.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: within.subsec_nanos().cast_signed(),
    })
}

fn size(event: &NewEvent) -> usize {
    event.data.len() + event.metadata.len()
}
