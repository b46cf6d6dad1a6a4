//! Why a command was not executed: a rule said no, or something failed.

use super::user_history::HistoryError;
use crate::domain::UserError;
use crate::erasure::ErasureError;
use crate::ids::NoIds;
use crate::privacy::subject_keys::KeysError;
use crate::stored_event::Undecodable;
use event_streams::{AppendError, ReadError};

/// Why a command was not executed. Holds no personal data.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A rule said no.
    #[error(transparent)]
    Rejected(#[from] UserError),
    /// Others were quicker every time.
    #[error("others were quicker every time")]
    Conflict,
    /// Something that the command needs is away; it may or may not have been executed.
    #[error("the command needs something that is away")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
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

unavailable_from!(
    AppendError,
    ErasureError,
    HistoryError,
    KeysError,
    NoIds,
    ReadError,
    Undecodable
);
