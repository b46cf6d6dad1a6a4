//! Removal of streams: soft (the name can be used again, the last event stays on disk) and hard (all data can be removed,
//! the name is gone for ever).

use eventstore_protocol::shared::Empty;
use eventstore_protocol::streams::delete_req::options::ExpectedStreamRevision as DeletedAt;
use eventstore_protocol::streams::tombstone_req::options::ExpectedStreamRevision as TombstonedAt;
use eventstore_protocol::streams::{DeleteReq, TombstoneReq, delete_req, tombstone_req};

use crate::EventStreams;
use crate::append::identifier;
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
        let options = tombstone_req::Options {
            stream_identifier: Some(identifier(stream)),
            expected_stream_revision: Some(match expected {
                Expected::NoStream => TombstonedAt::NoStream(Empty {}),
                Expected::Revision(revision) => TombstonedAt::Revision(revision),
                Expected::Any => TombstonedAt::Any(Empty {}),
            }),
        };
        let request = TombstoneReq {
            options: Some(options),
        };
        self.call(&self.permits.calls, |generation| {
            let request = self.timed(request.clone());
            async move {
                let answer = generation.client().tombstone(request).await;
                answer.map(|_| ()).map_err(Into::into)
            }
        })
        .await
    }

    /// Deletes the stream softly: it reads as missing, and a later append continues its numbers. The data of its last
    /// event is never removed from disk, so this is no erasure.
    ///
    /// # Errors
    ///
    /// [`AppendError::StreamDeleted`] if it is tombstoned, [`AppendError::Conflict`] (also for a stream that never was),
    /// [`AppendError::Unavailable`].
    pub async fn delete(&self, stream: &str, expected: Expected) -> Result<(), AppendError> {
        let options = delete_req::Options {
            stream_identifier: Some(identifier(stream)),
            expected_stream_revision: Some(match expected {
                Expected::NoStream => DeletedAt::NoStream(Empty {}),
                Expected::Revision(revision) => DeletedAt::Revision(revision),
                Expected::Any => DeletedAt::Any(Empty {}),
            }),
        };
        let request = DeleteReq {
            options: Some(options),
        };
        self.call(&self.permits.calls, |generation| {
            let request = self.timed(request.clone());
            async move {
                let answer = generation.client().delete(request).await;
                answer.map(|_| ()).map_err(Into::into)
            }
        })
        .await
    }
}
