//! Converts expected revisions and proposed events from protocol messages.

use std::collections::HashMap;

use bytes::Bytes;
use tonic::Status;

use super::status;
use crate::append_rules::Expected;
use crate::event::{JSON, NewEvent};
use crate::event_id;
use crate::wire::shared;
use crate::wire::streams::{append_req, batch_append_req, delete_req, tombstone_req};

/// The maximum number of data bytes of one append.
pub(super) const MOST_DATA: usize = 1024 * 1024;
/// The maximum number of bytes of one append, including metadata and types.
const MOST_BYTES: usize = 16 * MOST_DATA;
const LONGEST_TYPE: usize = 4096;

/// Why a proposed event is refused. The texts never quote what the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidEvent {
    #[error("an event has no id, or its id is not a UUID")]
    Id,
    #[error("the metadata property '{0}' is missing")]
    MissingProperty(&'static str),
    #[error("an event type is empty or longer than {LONGEST_TYPE} bytes")]
    Type,
    #[error("the data of the append is larger than {MOST_DATA} bytes")]
    TooBig,
    #[error("the append, with metadata, is larger than {MOST_BYTES} bytes")]
    TooMuch,
}

impl From<InvalidEvent> for Status {
    fn from(refused: InvalidEvent) -> Self {
        match refused {
            InvalidEvent::TooBig => status::too_big(MOST_DATA),
            InvalidEvent::TooMuch => Self::resource_exhausted(refused.to_string()),
            InvalidEvent::MissingProperty(property) => status::missing_property(property),
            InvalidEvent::Id | InvalidEvent::Type => status::invalid(refused),
        }
    }
}

/// The events of one append, collected as they arrive.
#[derive(Debug, Default)]
pub(super) struct Events {
    list: Vec<NewEvent>,
    data: usize,
    bytes: usize,
}

impl Events {
    pub(super) fn push(&mut self, proposed: impl Into<Proposed>) -> Result<(), InvalidEvent> {
        let event = proposed.into().parse()?;
        self.data += event.data.len();
        self.bytes += event.size();
        if self.data > MOST_DATA {
            return Err(InvalidEvent::TooBig);
        }
        if self.bytes > MOST_BYTES {
            return Err(InvalidEvent::TooMuch);
        }
        self.list.push(event);
        Ok(())
    }

    /// About how many bytes the events keep in memory.
    pub(super) fn size(&self) -> usize {
        self.bytes
    }

    pub(super) fn into_vec(self) -> Vec<NewEvent> {
        self.list
    }
}

/// An event of `Append` or `BatchAppend`.
pub(super) struct Proposed {
    id: Option<shared::Uuid>,
    properties: HashMap<String, String>,
    metadata: Bytes,
    data: Bytes,
}

impl Proposed {
    /// Bytes are copied, because a slice of a message keeps the whole message in memory.
    fn parse(mut self) -> Result<NewEvent, InvalidEvent> {
        let mut property = |name| {
            self.properties
                .remove(name)
                .ok_or(InvalidEvent::MissingProperty(name))
        };
        let event_type = property("type")?;
        let is_json = property("content-type")? == JSON;
        if event_type.is_empty() || event_type.len() > LONGEST_TYPE {
            return Err(InvalidEvent::Type);
        }
        let id = self
            .id
            .as_ref()
            .and_then(event_id::parse)
            .ok_or(InvalidEvent::Id)?;
        Ok(NewEvent {
            id,
            event_type,
            is_json,
            data: Bytes::copy_from_slice(&self.data),
            metadata: Bytes::copy_from_slice(&self.metadata),
        })
    }
}

impl From<append_req::ProposedMessage> for Proposed {
    fn from(message: append_req::ProposedMessage) -> Self {
        Self {
            id: message.id,
            properties: message.metadata,
            metadata: message.custom_metadata,
            data: message.data,
        }
    }
}

impl From<batch_append_req::ProposedMessage> for Proposed {
    fn from(message: batch_append_req::ProposedMessage) -> Self {
        Self {
            id: message.id,
            properties: message.metadata,
            metadata: message.custom_metadata,
            data: message.data,
        }
    }
}

/// Four messages contain the same four expectations.
macro_rules! expected_from {
    ($wire:path, $revision:ident) => {
        impl From<$wire> for Expected {
            fn from(expected: $wire) -> Self {
                use $wire as Wire;
                match expected {
                    Wire::$revision(revision) => Self::Revision(revision),
                    Wire::NoStream(_) => Self::NoStream,
                    Wire::Any(_) => Self::Any,
                    Wire::StreamExists(_) => Self::StreamExists,
                }
            }
        }
    };
}

expected_from!(append_req::options::ExpectedStreamRevision, Revision);
expected_from!(delete_req::options::ExpectedStreamRevision, Revision);
expected_from!(tombstone_req::options::ExpectedStreamRevision, Revision);
expected_from!(
    batch_append_req::options::ExpectedStreamPosition,
    StreamPosition
);
