//! What goes into a stream and what comes out, in terms that name no vendor.

use std::borrow::Cow;

use bytes::Bytes;
use eventstore_protocol::event_id;
use eventstore_protocol::streams::batch_append_req::ProposedMessage;
use eventstore_protocol::streams::read_resp::{ReadEvent, read_event};
use serde::de::IgnoredAny;
use uuid::Uuid;

use crate::failure::Failure;

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

impl Position {
    /// A position that a log can have. A filtered subscription that reaches the end of the log early is sent a checkpoint
    /// of 2⁶⁴ − 1 by the real server: a position beyond every log.
    pub(crate) fn checked(commit: u64, prepare: u64) -> Option<Self> {
        let is_possible = i64::try_from(commit).is_ok() && i64::try_from(prepare).is_ok();
        is_possible.then_some(Self { commit, prepare })
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
    /// The event of an answer, or the link itself where a link's target is gone.
    pub(crate) fn from_answer(answer: ReadEvent) -> Result<Self, Failure> {
        let malformed = || Failure::Refused("the server's answer holds no event".to_owned());
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

/// The server's text has ticks of 100 ns since the Unix epoch.
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
