//! The events of a command that was sent with a key. They hold no personal data: ids, revisions, and a fingerprint of the
//! body under the user's key, which nobody can test once that key is destroyed.

use super::{Undecodable, json};
use crate::domain::{UserError, UserId};
use crate::privacy::cipher::{Fingerprint, KeyId};
use bytes::Bytes;
use event_streams::{NewEvent, RecordedEvent};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Stored name of [`CommandEvent::Accepted`].
pub const COMMAND_ACCEPTED: &str = "CommandAccepted.v1";
/// Stored name of [`CommandEvent::Resumed`].
pub const COMMAND_RESUMED: &str = "CommandResumed.v1";
/// Stored name of [`CommandEvent::Done`].
pub const COMMAND_DONE: &str = "CommandDone.v1";

/// An event of a command's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandEvent {
    /// The command is about to be executed.
    Accepted(AcceptedCommand),
    /// Somebody goes on with the command, under this id of the user.
    Resumed(UserId),
    /// The command made no event, for this reason.
    Done(NoEvent),
}

/// What must be known in order to go on with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedCommand {
    /// The command's id. The ids of its events are derived from it.
    pub command: Uuid,
    /// The user.
    pub user: UserId,
    /// The user's key, and the fingerprint of the body under it. `None` if there is no body or no user.
    pub body: Option<(KeyId, Fingerprint)>,
    /// The revision of the user's stream before the command. `None` if there was no event.
    pub revision: Option<u64>,
}

/// The reason why a command made no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoEvent {
    /// The user was already as requested, since the event with this revision.
    Unchanged(u64),
    /// A rule refused the command.
    Refused(UserError),
    /// The user did not meet the condition of the command.
    PreconditionFailed,
}

#[derive(Serialize, Deserialize)]
struct AcceptedData {
    command_id: Uuid,
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Fingerprint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct ResumedData {
    user_id: String,
}

#[derive(Serialize, Deserialize)]
struct DoneData {
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
}

/// The stored name of [`NoEvent::Unchanged`].
const UNCHANGED: &str = "unchanged";
/// The stored name of [`NoEvent::PreconditionFailed`].
const PRECONDITION_FAILED: &str = "precondition-failed";
/// Every refusal.
const REFUSALS: [UserError; 5] = [
    UserError::Unknown,
    UserError::Exists,
    UserError::Abandoned,
    UserError::Erased,
    UserError::UsernameTaken,
];

/// The stored name of a refusal.
fn name(refusal: UserError) -> &'static str {
    match refusal {
        UserError::Unknown => "unknown",
        UserError::Exists => "exists",
        UserError::Abandoned => "abandoned",
        UserError::Erased => "erased",
        UserError::UsernameTaken => "username-taken",
    }
}

impl CommandEvent {
    /// Decodes an event of a command's stream. Every stored version is accepted.
    ///
    /// # Errors
    /// If its type is unknown or its content is malformed.
    pub fn decode(event: &RecordedEvent) -> Result<Self, Undecodable> {
        let data = &event.data;
        let decoded = match event.event_type.as_str() {
            COMMAND_ACCEPTED => AcceptedCommand::decode(data).map(Self::Accepted),
            COMMAND_RESUMED => serde_json::from_slice::<ResumedData>(data)
                .ok()
                .and_then(|data| Some(Self::Resumed(data.user_id.parse().ok()?))),
            COMMAND_DONE => serde_json::from_slice(data)
                .ok()
                .and_then(|data| NoEvent::decode(&data))
                .map(Self::Done),
            unknown => return Err(Undecodable::UnknownType(unknown.to_owned())),
        };
        decoded.ok_or_else(|| Undecodable::Malformed(event.event_type.clone()))
    }

    /// Encodes the event for the command's stream.
    #[must_use]
    pub fn encode(&self, id: Uuid) -> NewEvent {
        let (event_type, data) = match self {
            Self::Accepted(accepted) => (COMMAND_ACCEPTED, json(&accepted.data())),
            Self::Resumed(user) => {
                let user_id = user.to_string();
                (COMMAND_RESUMED, json(&ResumedData { user_id }))
            }
            Self::Done(reason) => (COMMAND_DONE, json(&reason.data())),
        };
        NewEvent {
            id,
            event_type: event_type.into(),
            data,
            metadata: Bytes::new(),
        }
    }
}

impl AcceptedCommand {
    fn decode(data: &[u8]) -> Option<Self> {
        let data: AcceptedData = serde_json::from_slice(data).ok()?;
        let body = match (data.key, data.body) {
            (Some(key), Some(body)) => Some((key.parse().ok()?, body)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return None,
        };
        Some(Self {
            command: data.command_id,
            user: data.user_id.parse().ok()?,
            body,
            revision: data.revision,
        })
    }

    fn data(&self) -> AcceptedData {
        let (key, body) = self.body.clone().unzip();
        AcceptedData {
            command_id: self.command,
            user_id: self.user.to_string(),
            key: key.map(|key| key.to_string()),
            body,
            revision: self.revision,
        }
    }
}

impl NoEvent {
    fn decode(data: &DoneData) -> Option<Self> {
        if data.outcome == UNCHANGED {
            return data.revision.map(Self::Unchanged);
        }
        if data.outcome == PRECONDITION_FAILED {
            return Some(Self::PreconditionFailed);
        }
        let refusal = REFUSALS
            .into_iter()
            .find(|refusal| name(*refusal) == data.outcome);
        refusal.map(Self::Refused)
    }

    fn data(self) -> DoneData {
        let (outcome, revision) = match self {
            Self::Unchanged(revision) => (UNCHANGED, Some(revision)),
            Self::Refused(refusal) => (name(refusal), None),
            Self::PreconditionFailed => (PRECONDITION_FAILED, None),
        };
        DoneData {
            outcome: outcome.to_owned(),
            revision,
        }
    }
}
