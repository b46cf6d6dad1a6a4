//! An event of the feed, and its text as a server-sent event.

use super::feed_position::FeedPosition;
use crate::domain::UserId;
use crate::integration::message::{CREATED, DELETED, FENCED, PATCHED, rfc3339};
use crate::stored_event::{StoredEvent, TOMBSTONES, Undecodable, tombstoned_user, user_of_stream};
use bytes::Bytes;
use event_streams::RecordedEvent;
use serde::Serialize;

/// The type of an event that only newer processes know.
const UNKNOWN: &str = "user.unknown.v1";
/// All types of the feed.
pub(super) const TYPES: [&str; 5] = [CREATED, PATCHED, DELETED, FENCED, UNKNOWN];

/// An event of the feed.
#[derive(Debug)]
pub(super) struct FeedEvent {
    pub(super) position: FeedPosition,
    pub(super) user: UserId,
    pub(super) event_type: &'static str,
    /// The whole server-sent event.
    pub(super) text: Bytes,
}

#[derive(Serialize)]
struct FeedData<'a> {
    id: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    time: String,
}

impl FeedEvent {
    /// The event in the feed. `None` if the feed does not have this event.
    pub(super) fn of(event: &RecordedEvent) -> Option<Self> {
        let (user, event_type, sequence) = if event.stream == TOMBSTONES {
            // The user's own stream is deleted later, and then only this shows the deletion. It has no revision of the user.
            (tombstoned_user(event)?, DELETED, None)
        } else {
            let user = user_of_stream(&event.stream)?;
            (user, event_type(event)?, Some(event.revision))
        };
        let data = FeedData {
            id: event.id.to_string(),
            event_type,
            subject: user.to_string(),
            sequence,
            time: rfc3339(event.created),
        };
        let data = serde_json::to_string(&data).ok()?;
        let position = FeedPosition(Some(event.position));
        Some(Self {
            position,
            user,
            event_type,
            text: format!("id: {position}\nevent: {event_type}\ndata: {data}\n\n").into(),
        })
    }
}

/// The published type of a stored event. `None` if its content is malformed, or the server itself wrote it.
fn event_type(event: &RecordedEvent) -> Option<&'static str> {
    match StoredEvent::decode(event) {
        Ok(StoredEvent::Created(_)) => Some(CREATED),
        Ok(StoredEvent::Patched(_)) => Some(PATCHED),
        Ok(StoredEvent::Deleted) => Some(DELETED),
        Ok(StoredEvent::RegistrationAbandoned | StoredEvent::RenameFenced) => Some(FENCED),
        Err(Undecodable::UnknownType(name)) => (!name.starts_with('$')).then_some(UNKNOWN),
        Err(Undecodable::Malformed(_)) => None,
    }
}
