//! Removal of streams: soft (the name can be used again, the last event stays on disk) and hard (all data can be removed,
//! the name is gone for ever).

use eventstore::{DeleteStreamOptions, TombstoneStreamOptions};

use crate::EventStreams;
use crate::error::AppendError;
use crate::event::Expected;

impl EventStreams {
    /// Deletes the stream for good: it takes no event any more, and a scavenge removes all its data. A stream that never
    /// was can be tombstoned too, with [`Expected::Any`] or [`Expected::NoStream`].
    ///
    /// # Errors
    ///
    /// [`AppendError::StreamDeleted`] if it is tombstoned already, possibly by this very call (an attempt whose answer
    /// was lost is repeated): the stream is as the caller wants it. [`AppendError::Conflict`], [`AppendError::Unavailable`].
    pub async fn tombstone(&self, stream: &str, expected: Expected) -> Result<(), AppendError> {
        let options = TombstoneStreamOptions::default().expected_revision(expected.into());
        let tombstone = move |client: eventstore::Client| {
            let (stream, options) = (stream.to_owned(), options.clone());
            async move { client.tombstone_stream(stream, &options).await }
        };
        self.call(tombstone).await.map(|_| ())
    }

    /// Deletes the stream softly: it reads as missing, and a later append continues its numbers. The data of its last
    /// event is never removed from disk, so this is no erasure.
    ///
    /// # Errors
    ///
    /// [`AppendError::StreamDeleted`] if it is tombstoned, [`AppendError::Conflict`] (also for a stream that never was),
    /// [`AppendError::Unavailable`].
    pub async fn delete(&self, stream: &str, expected: Expected) -> Result<(), AppendError> {
        let options = DeleteStreamOptions::default().expected_revision(expected.into());
        let delete = move |client: eventstore::Client| {
            let (stream, options) = (stream.to_owned(), options.clone());
            async move { client.delete_stream(stream, &options).await }
        };
        self.call(delete).await.map(|_| ())
    }
}
