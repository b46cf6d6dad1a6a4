//! Errors with the texts, codes and trailers of the real server. Clients read the trailers.

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::append_rules::Expected;
use crate::calls::MOST_LONG_CALLS;
use crate::storage::StorageFailed;
use crate::stream_name::{InvalidStreamName, StreamName};

/// An argument is invalid; `what` says which one and why.
pub(super) fn invalid(what: impl std::fmt::Display) -> Status {
    Status::invalid_argument(what.to_string())
}

/// The server is stopping, or its storage failed. The caller may retry, here or elsewhere.
pub(super) fn unavailable() -> Status {
    Status::unavailable("the server is not available")
}

/// The text of errors about a full disk. Reads continue.
pub(super) const DISK_FULL: &str =
    "the disk is full: nothing was written; try again when there is space";

pub(super) fn disk_full() -> Status {
    Status::resource_exhausted(DISK_FULL)
}

/// The connection has the maximum number of subscriptions and sessions.
pub(super) fn too_many_long_calls() -> Status {
    Status::resource_exhausted(format!(
        "this connection has {MOST_LONG_CALLS} subscriptions and sessions, the most that one may have: use another \
         connection"
    ))
}

pub(super) fn stream_deleted(stream: &StreamName) -> Status {
    let message = format!("Event stream '{}' is deleted.", stream.as_str());
    let trailers = [
        ("exception", "stream-deleted"),
        ("stream-name", stream.as_str()),
    ];
    with_trailers(Code::FailedPrecondition, message, trailers)
}

pub(super) fn wrong_expected_version(
    stream: &StreamName,
    expected: Expected,
    actual: Option<u64>,
) -> Status {
    let expected = match expected {
        Expected::Revision(revision) => revision.to_string(),
        Expected::NoStream => "-1".to_owned(),
        Expected::Any => "-2".to_owned(),
        Expected::StreamExists => "-4".to_owned(),
    };
    let actual = actual.map_or_else(|| "-1".to_owned(), |revision| revision.to_string());
    let message = format!(
        "Delete failed due to WrongExpectedVersion. Stream: {}, Expected version: {expected}, Actual version: {actual}",
        stream.as_str(),
    );
    let trailers = [
        ("exception", "wrong-expected-version"),
        ("stream-name", stream.as_str()),
        ("expected-version", &expected),
        ("actual-version", &actual),
    ];
    with_trailers(Code::FailedPrecondition, message, trailers)
}

pub(super) fn too_big(limit: usize) -> Status {
    let message = format!("Maximum Append Size of {limit} Exceeded.");
    let trailers = [
        ("exception", "maximum-append-size-exceeded"),
        ("maximum-append-size", &limit.to_string()),
    ];
    with_trailers(Code::InvalidArgument, message, trailers)
}

pub(super) fn scavenge_not_found(id: &str) -> Status {
    let trailers = [("exception", "scavenge-not-found"), ("scavenge-id", id)];
    with_trailers(
        Code::NotFound,
        "Scavenge id was invalid.".to_owned(),
        trailers,
    )
}

pub(super) fn missing_property(property: &str) -> Status {
    let message = format!("Required Metadata Property '{property}' is missing");
    let trailers = [
        ("exception", "missing-required-metadata-property"),
        ("required-metadata-properties", "type,content-type"),
    ];
    with_trailers(Code::InvalidArgument, message, trailers)
}

impl From<StorageFailed> for Status {
    fn from(_: StorageFailed) -> Self {
        unavailable()
    }
}

impl From<InvalidStreamName> for Status {
    fn from(error: InvalidStreamName) -> Self {
        invalid(error)
    }
}

pub(super) fn with_trailers<const N: usize>(
    code: Code,
    message: String,
    trailers: [(&'static str, &str); N],
) -> Status {
    let mut metadata = MetadataMap::new();
    for (key, value) in trailers {
        metadata.insert(key, header_value(value));
    }
    Status::with_metadata(code, message, metadata)
}

/// Trailers are ASCII. Other characters are escaped as in Rust.
fn header_value(text: &str) -> MetadataValue<tonic::metadata::Ascii> {
    let value = MetadataValue::try_from(text);
    value
        .or_else(|_| MetadataValue::try_from(text.escape_default().to_string()))
        .unwrap_or_else(|_| MetadataValue::from_static("?"))
}
