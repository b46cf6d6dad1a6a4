//! The metadata of streams, which limits the events that the server keeps. Each change is an event in the stream `$$<name>`.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::EventStreams;
use crate::error::{AppendError, ReadError};
use crate::event::{Expected, NewEvent, RecordedEvent};

/// The member that limits the number of events.
const MAX_COUNT: &str = "$maxCount";
/// The member that hides events before a revision.
const TRUNCATE_BEFORE: &str = "$tb";
/// The value of [`TRUNCATE_BEFORE`] in a soft-deleted stream.
const SOFT_DELETED: i64 = i64::MAX;
/// How often a change is tried again after another writer changed the metadata.
const ATTEMPTS: u32 = 3;

impl EventStreams {
    /// Makes the stream keep only its last `count` events (`$maxCount`, at least 1). Replaces all other metadata of the
    /// stream, and appends one event to its `$$` stream.
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    pub async fn set_max_count(&self, stream: &str, count: u64) -> Result<(), AppendError> {
        self.set_metadata(stream, format!("{{\"$maxCount\":{count}}}"))
            .await
    }

    /// Makes the stream forget events that are older than `age` (`$maxAge`, rounded up to seconds). Replaces all other metadata
    /// of the stream, and appends one event to its `$$` stream.
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    pub async fn set_max_age(&self, stream: &str, age: Duration) -> Result<(), AppendError> {
        let seconds = age.as_millis().div_ceil(1_000).max(1);
        self.set_metadata(stream, format!("{{\"$maxAge\":{seconds}}}"))
            .await
    }

    /// Makes sure that the stream keeps only its last `count` events (`$maxCount`, at least 1), and leaves its other metadata as
    /// it is. If it already does, this costs one read and appends nothing. A stream that is deleted or tombstoned is left as it
    /// is.
    ///
    /// # Errors
    ///
    /// [`AppendError::Conflict`] if others change the metadata all the time, [`AppendError::Unavailable`].
    pub async fn ensure_max_count(&self, stream: &str, count: u64) -> Result<(), AppendError> {
        let metastream = metastream(stream);
        let mut attempts_left = ATTEMPTS;
        loop {
            attempts_left -= 1;
            let last = match self.read_last(&metastream).await {
                Ok(last) => last,
                Err(ReadError::StreamDeleted) => return Ok(()),
                Err(ReadError::Unavailable(error)) => return Err(error.into()),
            };
            let mut members = last.as_ref().map(members).unwrap_or_default();
            let is_deleted = members.get(TRUNCATE_BEFORE) == Some(&SOFT_DELETED.into());
            if is_deleted || members.get(MAX_COUNT) == Some(&count.into()) {
                return Ok(());
            }
            members.insert(MAX_COUNT.to_owned(), count.into());
            let expected =
                last.map_or(Expected::NoStream, |last| Expected::Revision(last.revision));
            let event = metadata(Value::Object(members).to_string());
            match self.append(&metastream, expected, vec![event]).await {
                Ok(_) | Err(AppendError::StreamDeleted) => return Ok(()),
                Err(AppendError::Conflict { .. }) if attempts_left > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn set_metadata(&self, stream: &str, text: String) -> Result<(), AppendError> {
        let event = metadata(text);
        let appended = self
            .append(&metastream(stream), Expected::Any, vec![event])
            .await;
        appended.map(|_| ())
    }
}

fn metastream(stream: &str) -> String {
    format!("$${stream}")
}

fn metadata(text: String) -> NewEvent {
    NewEvent {
        id: Uuid::new_v4(),
        event_type: "$metadata".into(),
        data: text.into(),
        metadata: Bytes::new(),
    }
}

/// The members of stored metadata. Metadata that is no JSON object limits nothing.
fn members(event: &RecordedEvent) -> Map<String, Value> {
    serde_json::from_slice(&event.data).unwrap_or_default()
}
