//! The reasons why a command was not executed.

use super::user_history::HistoryError;
use crate::admission::Overload;
use crate::domain::UserError;
use crate::erasure::ErasureError;
use crate::ids::NoIds;
use crate::privacy::subject_keys::KeysError;
use crate::stored_event::Undecodable;
use event_streams::{AppendError, ReadError};

/// The reason why a command was not executed. Contains no personal data.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A rule refused the command.
    #[error(transparent)]
    Rejected(#[from] UserError),
    /// The user does not meet the condition of the command.
    #[error("the user has another version")]
    PreconditionFailed,
    /// The same command was refused before, for this reason.
    #[error("the command was refused before: {0}")]
    RefusedBefore(Box<CommandError>),
    /// The command was accepted before, and its user has been erased since.
    #[error("the user of the command was erased")]
    Gone,
    /// The idempotency key belongs to a command with another body.
    #[error("the idempotency key belongs to another command")]
    KeyReused,
    /// Another process goes on with the same command, and its outcome is not known yet.
    #[error("another process executes the command")]
    Superseded,
    /// Other commands caused a conflict at every attempt. The command may be sent again.
    #[error("too many conflicts with other commands")]
    Conflict,
    /// What is stored about the user, the name or the command cannot be read: an event is unknown or malformed, a value does
    /// not open, or a key is lost. Other users are not concerned.
    #[error("what is stored cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Too many commands are executed at once. Nothing was done, and the command may be sent again.
    #[error("too many commands are executed at once")]
    Overloaded,
    /// A dependency failed, or did not answer in time. The command may or may not have been executed.
    #[error("a dependency of the command is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Overload> for CommandError {
    fn from(overload: Overload) -> Self {
        match overload {
            Overload::Full => Self::Overloaded,
            Overload::OutOfTime => Self::Unavailable(Box::new(overload)),
        }
    }
}

macro_rules! unavailable_from {
    ($($error:ty),*) => {$(
        impl From<$error> for CommandError {
            fn from(error: $error) -> Self {
                Self::Unavailable(Box::new(error))
            }
        }
    )*};
}

unavailable_from!(AppendError, ErasureError, KeysError, NoIds, ReadError);

impl From<HistoryError> for CommandError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Store(_) | HistoryError::Keys(_) => Self::Unavailable(Box::new(error)),
            HistoryError::Undecodable(_) | HistoryError::Unopened(_) | HistoryError::KeyLost(_) => {
                Self::Unreadable(Box::new(error))
            }
        }
    }
}

impl From<Undecodable> for CommandError {
    fn from(error: Undecodable) -> Self {
        Self::Unreadable(Box::new(error))
    }
}
