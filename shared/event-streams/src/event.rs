//! What goes into a stream and what comes out, in terms that name no vendor.

use std::borrow::Cow;

use bytes::Bytes;
use eventstore::{CurrentRevision, EventData, ExpectedRevision, ResolvedEvent};
use serde_json::value::RawValue;
use uuid::Uuid;

/// What an append expects of the stream. With [`NoStream`](Self::NoStream) and [`Revision`](Self::Revision) a repeated
/// append is recognised exactly, by its event ids, also after a restart of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The stream has no event.
    NoStream,
    /// The stream's last event has this revision.
    Revision(u64),
    /// Nothing. A repeated append (this crate repeats one whose outcome is unknown) may then be stored twice, so only
    /// where readers do not mind a repeated event.
    Any,
}

impl From<Expected> for ExpectedRevision {
    fn from(expected: Expected) -> Self {
        match expected {
            Expected::NoStream => Self::NoStream,
            Expected::Revision(revision) => Self::Exact(revision),
            Expected::Any => Self::Any,
        }
    }
}

pub(crate) fn revision_of(current: CurrentRevision) -> Option<u64> {
    match current {
        CurrentRevision::Current(revision) => Some(revision),
        CurrentRevision::NoStream => None,
    }
}

/// Where a read begins and which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From this revision on (inclusive), oldest first.
    ForwardFrom(u64),
    /// From the last event back, newest first.
    BackwardFromEnd,
}

/// A place in the log of all streams, as the server numbers it; ascending in the order of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The commit position.
    pub commit: u64,
    /// The prepare position; servers of today answer the same number twice.
    pub prepare: u64,
}

impl From<eventstore::Position> for Position {
    fn from(position: eventstore::Position) -> Self {
        Self {
            commit: position.commit,
            prepare: position.prepare,
        }
    }
}

impl From<Position> for eventstore::Position {
    fn from(position: Position) -> Self {
        Self {
            commit: position.commit,
            prepare: position.prepare,
        }
    }
}

/// An event to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The event's identity: a repeated append of the same ids is the same write.
    pub id: Uuid,
    /// The stored name, with its version (`UserCreated.v1`).
    pub event_type: Cow<'static, str>,
    /// The payload, JSON in UTF-8. (Anything else is stored too, marked as binary.)
    pub data: Bytes,
    /// Metadata, JSON in UTF-8, or empty.
    pub metadata: Bytes,
}

impl From<NewEvent> for EventData {
    fn from(event: NewEvent) -> Self {
        let json = serde_json::from_slice::<&RawValue>(&event.data)
            .and_then(|json| Self::json(&event.event_type, &json));
        let data = json.unwrap_or_else(|_| Self::binary(&event.event_type, event.data));
        let data = data.id(event.id);
        if event.metadata.is_empty() {
            data
        } else {
            data.metadata(event.metadata)
        }
    }
}

/// An event as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The event's identity.
    pub id: Uuid,
    /// The stream it is in.
    pub stream: String,
    /// Its number in the stream, from 0; a tombstone (`$streamDeleted`) has `i64::MAX`.
    pub revision: u64,
    /// Its place in the log of all streams.
    pub position: Position,
    /// The stored name.
    pub event_type: String,
    /// The payload.
    pub data: Bytes,
    /// The metadata, or empty.
    pub metadata: Bytes,
    /// When the server stored it, in milliseconds since the Unix epoch, by the server's clock.
    pub created: u64,
}

impl RecordedEvent {
    /// The event, or the link itself where a link's target is gone; `None` for an answer that holds neither.
    pub(crate) fn from_answer(answer: ResolvedEvent) -> Option<Self> {
        answer.event.or(answer.link).map(Self::from)
    }
}

impl From<eventstore::RecordedEvent> for RecordedEvent {
    fn from(event: eventstore::RecordedEvent) -> Self {
        Self {
            id: event.id,
            stream: event.stream_id,
            revision: event.revision,
            position: event.position.into(),
            created: created(event.metadata.get("created")),
            event_type: event.event_type,
            data: event.data,
            metadata: event.custom_metadata,
        }
    }
}

/// The client rounds the time down to seconds; the server's own text has ticks of 100 ns since the Unix epoch.
fn created(ticks: Option<&String>) -> u64 {
    ticks
        .and_then(|ticks| ticks.parse::<u64>().ok())
        .map_or(0, |ticks| ticks / 10_000)
}

/// Where an append ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The revision of the append's last event.
    pub revision: u64,
    /// The position of the append's last event.
    pub position: Position,
}
