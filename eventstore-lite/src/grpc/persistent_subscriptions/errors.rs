//! Errors of persistent subscriptions, with the texts of the real server.

use tonic::{Code, Status};

use crate::grpc::status::{unavailable, with_trailers};
use crate::persistent::{GroupEnded, GroupError, GroupKey, Source};

pub(super) fn rejected(error: &GroupError, key: &GroupKey) -> Status {
    match error {
        GroupError::Exists => of_group(key, Code::AlreadyExists, EXISTS, "exists"),
        GroupError::Missing => missing(key),
        GroupError::Failed(reason) => failed(key, reason),
        GroupError::Unavailable => unavailable(),
    }
}

const EXISTS: &str = "persistent-subscription-exists";
const MISSING: &str = "persistent-subscription-does-not-exist";
const FAILED: &str = "persistent-subscription-failed";
const FULL: &str = "maximum-subscribers-reached";
const DROPPED: &str = "persistent-subscription-dropped";

pub(super) fn missing(key: &GroupKey) -> Status {
    of_group(key, Code::NotFound, MISSING, "does not exist")
}

/// No group exists on this stream. The text lacks the group, as in the real server.
pub(super) fn none_on(source: &Source) -> Status {
    let message = format!(
        "Subscription group  on stream {} does not exist.",
        source.as_str()
    );
    let trailers = [("exception", MISSING), ("stream-name", source.as_str())];
    with_trailers(Code::NotFound, message, trailers)
}

pub(super) fn failed(key: &GroupKey, reason: &str) -> Status {
    let (stream, group) = (key.source.as_str(), key.group.as_str());
    let message = format!("Subscription group {group} on stream {stream} failed: '{reason}'");
    let trailers = [
        ("exception", FAILED),
        ("stream-name", stream),
        ("group-name", group),
        ("reason", reason),
    ];
    with_trailers(Code::Internal, message, trailers)
}

/// The group has the maximum number of clients. Clients recognise the error by the first words of its text.
pub(super) fn full(key: &GroupKey) -> Status {
    let (stream, group) = (key.source.as_str(), key.group.as_str());
    let message =
        format!("Maximum subscriptions reached for subscription group {group} on stream {stream}.");
    with_trailers(Code::FailedPrecondition, message, trailers(key, FULL))
}

/// The group was deleted or updated.
pub(super) fn dropped(key: &GroupKey) -> Status {
    of_group(key, Code::Cancelled, DROPPED, "was dropped")
}

fn of_group(key: &GroupKey, code: Code, exception: &'static str, what: &str) -> Status {
    let (stream, group) = (key.source.as_str(), key.group.as_str());
    let message = format!("Subscription group {group} on stream {stream} {what}.");
    with_trailers(code, message, trailers(key, exception))
}

fn trailers<'a>(key: &'a GroupKey, exception: &'a str) -> [(&'static str, &'a str); 3] {
    [
        ("exception", exception),
        ("stream-name", key.source.as_str()),
        ("group-name", &key.group),
    ]
}

impl From<GroupEnded> for Status {
    fn from(ended: GroupEnded) -> Self {
        Self::unavailable(ended.to_string())
    }
}
