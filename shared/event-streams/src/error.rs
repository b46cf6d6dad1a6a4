//! The errors that a caller branches on, and how the vendor's errors become them.

use eventstore::Error;

use crate::event::revision_of;

/// Why [`EventStreams::connect`](crate::EventStreams::connect) refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The connection string cannot be used; the text says why and does not repeat its credentials.
    #[error("the event store's connection string is invalid: {0}")]
    InvalidUrl(String),
    /// The program installed a rustls provider before the vendor's client could; that client would never work.
    #[error(
        "a TLS provider was installed before the first connection to the event store: connect to the event store first"
    )]
    TlsProvider,
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
        /// The stream's revision where the server's answer carries it. Appends travel in sessions whose errors do not,
        /// so it is `None` there: whoever must know reads the stream, as one does to decide again.
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

/// The numbers of the gRPC status codes that are told apart here.
mod code {
    pub(super) const CANCELLED: i32 = 1;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const ALREADY_EXISTS: i32 = 6;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const ABORTED: i32 = 10;
    pub(super) const UNAVAILABLE: i32 = 14;
}

/// Whether the outcome of the call is unknown, or the server could not do it now: trying again can help.
pub(crate) fn is_outage(error: &Error) -> bool {
    match error {
        Error::ServerError(_)
        | Error::NotLeaderException(_)
        | Error::ConnectionClosed
        | Error::GrpcConnectionError(_)
        | Error::InternalClientError
        | Error::DeadlineExceeded => true,
        Error::Grpc { code, .. } => matches!(
            *code as i32,
            code::CANCELLED
                | code::DEADLINE_EXCEEDED
                | code::RESOURCE_EXHAUSTED
                | code::ABORTED
                | code::UNAVAILABLE
        ),
        Error::InternalParsingError(_)
        | Error::AccessDenied
        | Error::ResourceAlreadyExists
        | Error::ResourceNotFound
        | Error::ResourceDeleted
        | Error::UnsupportedFeature
        | Error::InitializationError(_)
        | Error::IllegalStateError(_)
        | Error::WrongExpectedVersion { .. } => false,
    }
}

impl From<Error> for AppendError {
    fn from(error: Error) -> Self {
        if let Error::WrongExpectedVersion { current, .. } = error {
            let actual = revision_of(current);
            return Self::Conflict { actual };
        }
        if let Error::Grpc { code, message } = &error {
            match *code as i32 {
                code::ALREADY_EXISTS | code::FAILED_PRECONDITION => {
                    return Self::Conflict { actual: None };
                }
                code::NOT_FOUND => return Self::StreamDeleted,
                _ if message == "MaximumAppendSizeExceeded" => return Self::TooLarge,
                _ => {}
            }
        }
        if matches!(error, Error::ResourceDeleted) {
            return Self::StreamDeleted;
        }
        Self::Unavailable(Unavailable::new(error.to_string()))
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        if matches!(error, Error::ResourceDeleted) {
            return Self::StreamDeleted;
        }
        Self::Unavailable(Unavailable::new(error.to_string()))
    }
}
