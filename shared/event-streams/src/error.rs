//! The errors that a caller branches on.

use crate::failure::Failure;

/// Why [`EventStreams::connect`](crate::EventStreams::connect) refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The connection string cannot be used; the text says why and does not repeat its credentials.
    #[error("the event store's connection string is invalid: {0}")]
    InvalidUrl(String),
}

/// The event store gave no answer in time, or none that helps: try again later, or tell the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event store is unavailable: {reason}")]
pub struct Unavailable {
    /// What was seen last, for logs and health reports; it holds no event data.
    pub reason: String,
}

impl Unavailable {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

/// Why an append, a deletion or a tombstone was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The stream is not at the expected revision.
    #[error("the stream is not at the expected revision")]
    Conflict {
        /// The stream's last revision; `None` if it has no event.
        actual: Option<u64>,
    },
    /// The stream is tombstoned: it takes no event, ever again.
    #[error("the stream is deleted")]
    StreamDeleted,
    /// The events together are larger than the server takes in one append (1 MiB by default).
    #[error("the append is too large")]
    TooLarge,
    /// The server said success and wrote nothing: these event ids were in the stream before it was soft-deleted.
    #[error("nothing was written: the event ids were used before the stream was deleted")]
    NotWritten,
    /// No answer in time. The outcome is unknown: the same append, with the same event ids and expected revision, may be
    /// tried again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a read has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The stream is tombstoned.
    #[error("the stream is deleted")]
    StreamDeleted,
    /// No answer in time.
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
