//! What the broker refuses, and what keeps it from answering. No error shows a password.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use thiserror::Error;

/// The URL is not a usable AMQP URL, or a list has such a URL. The error does not repeat the URL, because it may contain a
/// password.
#[derive(Debug, Error)]
#[error("invalid AMQP URL: {0}")]
pub struct InvalidUrl(pub(crate) String);

/// The broker is unreachable, refused the operation, or did not answer in time. Another attempt may succeed.
#[derive(Debug, Clone, Error)]
#[error("the broker is unavailable: {0}")]
pub struct Unavailable(pub(crate) String);

impl From<lapin::Error> for Unavailable {
    fn from(error: lapin::Error) -> Self {
        Self(error.to_string())
    }
}

/// The error of an operation that needs this permission: `configure`, `write` or `read`. RabbitMQ's own text of a refusal names
/// the account and the exchange or queue, but not on every version the permission.
pub(crate) fn lacking(permission: &str, error: lapin::Error) -> Unavailable {
    let refused = matches!(error.kind(), ErrorKind::ProtocolError(error)
        if matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)));
    if refused {
        let text = format!("the account lacks the permission `{permission}`: {error}");
        return Unavailable(text);
    }
    error.into()
}
