//! Events, revisions and positions, without the vendor's types.

use std::borrow::Cow;

use bytes::Bytes;
use eventstore_protocol::event_id;
use eventstore_protocol::streams::batch_append_req::ProposedMessage;
use eventstore_protocol::streams::read_resp::{ReadEvent, read_event};
use serde::de::IgnoredAny;
use uuid::Uuid;

use crate::failure::Failure;

/// The state in which an append expects the stream. With [`NoStream`](Self::NoStream) and [`Revision`](Self::Revision)
/// the server recognises a repeated append exactly by its event ids, even after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The stream has no event.
    NoStream,
    /// The stream's last event has this revision.
    Revision(u64),
    /// Any state. An append whose outcome is unknown is repeated and may then be stored twice, so use this only where
    /// readers tolerate repeated events.
    Any,
}

/// The start and the direction of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From this revision (inclusive) to the end, oldest first.
    ForwardFrom(u64),
    /// From the last event backwards, newest first.
    BackwardFromEnd,
}

/// A position in the log of all streams, as the server numbers it. Later events have greater positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The commit position.
    pub commit: u64,
    /// The prepare position. Current servers send the same number as for the commit position.
    pub prepare: u64,
}

impl Position {
    /// The position, or `None` if no log can have it. The real server sends a checkpoint of 2⁶⁴ − 1 when a filtered
    /// subscription reaches the end of a short log.
    pub(crate) fn checked(commit: u64, prepare: u64) -> Option<Self> {
        let is_possible = i64::try_from(commit).is_ok() && i64::try_from(prepare).is_ok();
        is_possible.then_some(Self { commit, prepare })
    }
}

/// An event to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The event's identity. The server recognises a repeated append by its event ids.
    pub id: Uuid,
    /// The stored name with its version (`UserCreated.v1`).
    pub event_type: Cow<'static, str>,
    /// The payload, normally JSON in UTF-8. Any other payload is stored as binary data.
    pub data: Bytes,
    /// The metadata: JSON in UTF-8, or empty.
    pub metadata: Bytes,
}

impl From<NewEvent> for ProposedMessage {
    fn from(event: NewEvent) -> Self {
        let is_json = serde_json::from_slice::<IgnoredAny>(&event.data).is_ok();
        let content_type = if is_json {
            "application/json"
        } else {
            "application/octet-stream"
        };
        let metadata = [
            ("type".to_owned(), event.event_type.into_owned()),
            ("content-type".to_owned(), content_type.to_owned()),
        ];
        Self {
            id: Some(event_id::write(event.id, true)),
            metadata: metadata.into(),
            custom_metadata: event.metadata,
            data: event.data,
        }
    }
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The event's identity.
    pub id: Uuid,
    /// The event's stream.
    pub stream: String,
    /// The event's number in its stream, starting at 0. A tombstone (`$streamDeleted`) has `i64::MAX`.
    pub revision: u64,
    /// The event's position in the log of all streams.
    pub position: Position,
    /// The stored name.
    pub event_type: String,
    /// The payload.
    pub data: Bytes,
    /// The metadata, or empty.
    pub metadata: Bytes,
    /// The time at which the server stored the event, in milliseconds since the Unix epoch, by the server's clock.
    pub created: u64,
}

impl RecordedEvent {
    /// The event in an answer, or the link itself if the link's target was removed.
    pub(crate) fn from_answer(answer: ReadEvent) -> Result<Self, Failure> {
        let malformed =
            || Failure::Refused("the server's answer contains no valid event".to_owned());
        let event = answer.event.or(answer.link).ok_or_else(malformed)?;
        Self::from_wire(event).ok_or_else(malformed)
    }

    fn from_wire(mut event: read_event::RecordedEvent) -> Option<Self> {
        let stream = Vec::from(event.stream_identifier?.stream_name);
        Some(Self {
            id: event_id::parse(&event.id?)?,
            stream: String::from_utf8(stream).ok()?,
            revision: event.stream_revision,
            position: Position::checked(event.commit_position, event.prepare_position)?,
            created: created(event.metadata.get("created")),
            event_type: event.metadata.remove("type").unwrap_or_default(),
            data: event.data,
            metadata: event.custom_metadata,
        })
    }
}

/// Converts the server's text, a number of 100 ns ticks since the Unix epoch, to milliseconds.
fn created(ticks: Option<&String>) -> u64 {
    ticks
        .and_then(|ticks| ticks.parse::<u64>().ok())
        .map_or(0, |ticks| ticks / 10_000)
}

/// The result of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The revision of the append's last event.
    pub revision: u64,
    /// The position of the append's last event.
    pub position: Position,
}
