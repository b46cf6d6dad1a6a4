//! The origin of an event: who sent the command that made it, and what the command belongs to.

use super::json;
use event_streams::{NewEvent, RecordedEvent};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use uuid::Uuid;

/// The pseudonym of a caller. It names nobody by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Caller(Cow<'static, str>);

/// The origin of an event. It stands in the event's metadata. Events of earlier versions have none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The sender of the command.
    pub caller: Caller,
    /// The id of the whole conversation, for example of a trace. The store indexes events by this member.
    #[serde(rename = "$correlationId")]
    pub correlation: Uuid,
    /// The id of the message that caused the event. For an event of a user it is the command's id.
    #[serde(rename = "$causationId")]
    pub causation: Uuid,
}

impl Caller {
    /// Every caller, if callers are not authenticated.
    pub const ANONYMOUS: Self = Self(Cow::Borrowed("anonymous"));

    /// The one sender of plain messages to the queue of commands. It is another one than [`ANONYMOUS`](Self::ANONYMOUS), so that
    /// the keys of both are not confused.
    pub const QUEUE: Self = Self(Cow::Borrowed("queue"));

    /// A caller with this pseudonym.
    #[must_use]
    pub fn of_pseudonym(pseudonym: String) -> Self {
        Self(Cow::Owned(pseudonym))
    }

    /// The pseudonym.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Origin {
    /// The conversation of a stored event, if its metadata names one. Events of earlier versions, fences, and the events of
    /// other writers may name none.
    #[must_use]
    pub fn conversation_of(event: &RecordedEvent) -> Option<Uuid> {
        #[derive(Deserialize)]
        struct Conversation {
            #[serde(rename = "$correlationId")]
            id: Uuid,
        }
        let conversation: Conversation = serde_json::from_slice(&event.metadata).ok()?;
        Some(conversation.id)
    }

    /// Adds the origin to the event's metadata.
    #[must_use]
    pub fn added_to(&self, event: NewEvent) -> NewEvent {
        #[derive(Serialize)]
        struct Metadata<'a> {
            #[serde(flatten)]
            members: serde_json::Map<String, serde_json::Value>,
            #[serde(flatten)]
            origin: &'a Origin,
        }
        let members = serde_json::from_slice(&event.metadata).unwrap_or_default();
        let origin = self;
        NewEvent {
            metadata: json(&Metadata { members, origin }),
            ..event
        }
    }
}
