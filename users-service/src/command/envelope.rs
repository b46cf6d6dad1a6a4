//! The envelope in which a command travels, by HTTP or by a queue, and what comes back.

use super::attempt::CommandKind;
use super::idempotency_key::IdempotencyKey;
use super::user_histories::Sought;
use super::version::Precondition;
use crate::domain::{Changes, Personal, Profile, UserId};
use crate::stored_event::{Caller, Origin};
use uuid::Uuid;

/// What a caller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Create a user with these names under a new id.
    Create(Profile),
    /// Change some names of this user.
    Patch(UserId, Changes),
    /// Delete this user permanently.
    Delete(UserId),
}

/// A command, and everything about its request that the command side needs to know.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The id of the command. The ids of its events are derived from it.
    pub id: Uuid,
    /// The sender.
    pub caller: Caller,
    /// The id of the conversation that the command belongs to.
    pub correlation: Uuid,
    /// The id of the message that caused the command, if a message did.
    pub causation: Option<Uuid>,
    /// The key under which the command is executed once. A command without a key is executed as often as it is sent.
    pub key: Option<IdempotencyKey>,
    /// The condition that an existing user must meet.
    pub precondition: Precondition,
    /// The command.
    pub command: Command,
}

/// A command was executed: its events are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The user.
    pub user: UserId,
    /// The revision of the last event that changed the user. A command that changes nothing makes no event.
    pub revision: u64,
    /// Whether the command had been executed before, under the same key.
    pub replayed: bool,
}

impl Command {
    pub(super) fn kind(&self) -> CommandKind {
        match self {
            Self::Create(_) => CommandKind::Create,
            Self::Patch(..) => CommandKind::Patch,
            Self::Delete(_) => CommandKind::Delete,
        }
    }

    /// The method and the path of the command, as HTTP has them. A key belongs to one caller, method and path.
    pub(super) fn target(&self) -> (&'static str, String) {
        match self {
            Self::Create(_) => ("POST", "/".to_owned()),
            Self::Patch(user, _) => ("PATCH", format!("/{user}")),
            Self::Delete(user) => ("DELETE", format!("/{user}")),
        }
    }

    /// The names in the body, in the order of [`NameField::ALL`](crate::domain::NameField::ALL). `None` if there is no body.
    pub(super) fn names(&self) -> Option<[Option<&Personal<String>>; 3]> {
        match self {
            Self::Create(profile) => Some(profile.names().map(Some)),
            Self::Patch(_, changes) => Some(changes.names()),
            Self::Delete(_) => None,
        }
    }
}

impl Envelope {
    /// A command of an unknown caller, without a conversation of its own.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self {
            id: Uuid::new_v4(),
            caller: Caller::ANONYMOUS,
            correlation: Uuid::new_v4(),
            causation: None,
            key: None,
            precondition: Precondition::None,
            command,
        }
    }

    /// Sets the conversation that the command belongs to.
    #[must_use]
    pub fn in_conversation(self, correlation: Uuid) -> Self {
        Self {
            correlation,
            ..self
        }
    }

    /// Sets the key under which the command is executed once.
    #[must_use]
    pub fn under_key(self, key: Option<IdempotencyKey>) -> Self {
        Self { key, ..self }
    }

    /// Sets the condition that an existing user must meet.
    #[must_use]
    pub fn provided(self, precondition: Precondition) -> Self {
        Self {
            precondition,
            ..self
        }
    }

    /// The origin of the command itself.
    pub(super) fn origin_of_command(&self) -> Origin {
        Origin {
            causation: self.causation.unwrap_or(self.correlation),
            ..self.origin()
        }
    }

    /// The id of an event of this command. A repeated append has the same id.
    pub(super) fn event_id(&self, index: u32) -> Uuid {
        Uuid::new_v5(&self.id, &index.to_be_bytes())
    }

    /// The command's event, and where it is if the user's stream had this revision before the command.
    pub(super) fn event_after(&self, revision: Option<u64>) -> Sought {
        let revisions = match self.command {
            Command::Create(_) => 0..1,
            Command::Patch(..) | Command::Delete(_) => {
                revision.map_or(0, |revision| revision + 1)..u64::MAX
            }
        };
        let event = self.event_id(0);
        Sought { event, revisions }
    }

    /// The origin of the command's events.
    pub(super) fn origin(&self) -> Origin {
        Origin {
            caller: self.caller.clone(),
            correlation: self.correlation,
            causation: self.id,
        }
    }
}
