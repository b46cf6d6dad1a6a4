//! Deletion of streams. After a soft deletion the name can be used again, but the last event stays on disk. After a
//! tombstone a scavenge removes all data, and the name can never be used again.

use eventstore_protocol::shared::Empty;
use eventstore_protocol::streams::delete_req::options::ExpectedStreamRevision as DeletedAt;
use eventstore_protocol::streams::tombstone_req::options::ExpectedStreamRevision as TombstonedAt;
use eventstore_protocol::streams::{DeleteReq, TombstoneReq, delete_req, tombstone_req};

use crate::EventStreams;
use crate::error::AppendError;
use crate::event::Expected;
use crate::request::stream_identifier;

impl EventStreams {
    /// Deletes the stream permanently: it takes no more events, and a scavenge removes all its data. A stream that
    /// never existed can be tombstoned too, with [`Expected::Any`] or [`Expected::NoStream`].
    ///
    /// # Errors
    ///
    /// [`AppendError::StreamDeleted`] if the stream is already tombstoned, which is what the caller wants. The
    /// tombstone may be from an earlier attempt of this call, whose answer was lost. [`AppendError::Conflict`],
    /// [`AppendError::Unavailable`].
    pub async fn tombstone(&self, stream: &str, expected: Expected) -> Result<(), AppendError> {
        let options = tombstone_req::Options {
            stream_identifier: Some(stream_identifier(stream)),
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
            let request = self.with_timeout(request.clone());
            async move {
                let answer = generation.client().tombstone(request).await;
                answer.map(|_| ()).map_err(Into::into)
            }
        })
        .await
    }

    /// Soft-deletes the stream: it reads as missing, and a later append continues its revisions. The data of its last
    /// event stays on disk, so this does not erase personal data.
    ///
    /// # Errors
    ///
    /// [`AppendError::StreamDeleted`] if the stream is tombstoned, [`AppendError::Conflict`] (also if the stream never
    /// existed), [`AppendError::Unavailable`].
    pub async fn delete(&self, stream: &str, expected: Expected) -> Result<(), AppendError> {
        let options = delete_req::Options {
            stream_identifier: Some(stream_identifier(stream)),
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
            let request = self.with_timeout(request.clone());
            async move {
                let answer = generation.client().delete(request).await;
                answer.map(|_| ()).map_err(Into::into)
            }
        })
        .await
    }
}
