//! The errors of the public API.

use crate::failure::Failure;

/// An error of [`EventStreams::connect`](crate::EventStreams::connect).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The connection string is unusable. The text gives the reason and does not repeat the credentials.
    #[error("the event store's connection string is invalid: {0}")]
    InvalidUrl(String),
}

/// The event store did not answer in time, or its answer was unusable. A later attempt may succeed, or the operator
/// must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event store is unavailable: {reason}")]
pub struct Unavailable {
    /// The last failure, for logs and health reports. It contains no event data.
    pub reason: String,
}

impl Unavailable {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

/// An error of an append, a deletion or a tombstone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The stream is not at the expected revision.
    #[error("the stream is not at the expected revision")]
    Conflict {
        /// The stream's last revision, or `None` if it has no event.
        actual: Option<u64>,
    },
    /// The stream is tombstoned and never takes another event.
    #[error("the stream is deleted")]
    StreamDeleted,
    /// The events exceed the server's limit for one append (1 MiB by default).
    #[error("the append is too large")]
    TooLarge,
    /// The server reported success and wrote nothing, because these event ids were in the stream before it was
    /// soft-deleted.
    #[error("nothing was written: the event ids were used before the stream was deleted")]
    NotWritten,
    /// The server did not answer in time, so the outcome is unknown. The same append may be repeated with the same
    /// event ids and the same expected revision.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// An error of a read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The stream is tombstoned.
    #[error("the stream is deleted")]
    StreamDeleted,
    /// The server did not answer in time, or its answer was unusable.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<Failure> for AppendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::WrongRevision(actual) => Self::Conflict { actual },
            Failure::StreamDeleted => Self::StreamDeleted,
            Failure::TooLarge => Self::TooLarge,
            Failure::Lost(_) | Failure::Busy(_) | Failure::NotLeader(_) | Failure::Refused(_) => {
                Self::Unavailable(Unavailable::new(failure.to_string()))
            }
        }
    }
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::StreamDeleted => Self::StreamDeleted,
            Failure::Lost(_)
            | Failure::Busy(_)
            | Failure::NotLeader(_)
            | Failure::WrongRevision(_)
            | Failure::TooLarge
            | Failure::Refused(_) => Self::Unavailable(Unavailable::new(failure.to_string())),
        }
    }
}
