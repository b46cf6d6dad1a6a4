//! The envelope in which a command travels, by HTTP or by a queue, and what comes back.

use super::idempotency_key::IdempotencyKey;
use super::user_histories::Sought;
use super::version::Precondition;
use crate::domain::{Changes, Personal, Profile, UserId};
use crate::privacy::cipher::{Fingerprint, SubjectKey};
use crate::stored_event::{Caller, Origin};
use uuid::Uuid;

/// What a caller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Create a user with these names, under a new id unless the caller has chosen one.
    Create(Profile),
    /// Change some names of this user.
    Patch(UserId, Changes),
    /// Delete this user permanently.
    Delete(UserId),
}

/// The kind of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommandKind {
    /// [`Command::Create`]
    Create,
    /// [`Command::Patch`]
    Patch,
    /// [`Command::Delete`]
    Delete,
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
    /// The id that the caller has chosen for a new user. It must not have been used before.
    pub chosen_id: Option<UserId>,
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
    /// The method and the path of the command, as HTTP has them. A key belongs to one caller, method and path.
    pub(super) fn target(&self) -> (&'static str, String) {
        match self {
            Self::Create(_) => ("POST", "/".to_owned()),
            Self::Patch(user, _) => ("PATCH", format!("/{user}")),
            Self::Delete(user) => ("DELETE", format!("/{user}")),
        }
    }

    /// The kind of the command.
    #[must_use]
    pub fn kind(&self) -> CommandKind {
        match self {
            Self::Create(_) => CommandKind::Create,
            Self::Patch(..) => CommandKind::Patch,
            Self::Delete(_) => CommandKind::Delete,
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

impl CommandKind {
    /// The first event of the command with this id, and where it is if the user's stream had this revision before the command.
    pub(super) fn event_after(self, command: Uuid, revision: Option<u64>) -> Sought {
        let revisions = match self {
            Self::Create => 0..1,
            Self::Patch | Self::Delete => revision.map_or(0, |revision| revision + 1)..u64::MAX,
        };
        let event = event_id(command, 0);
        Sought { event, revisions }
    }
}

/// The id of an event of a command. A repeated append has the same id.
fn event_id(command: Uuid, index: u32) -> Uuid {
    Uuid::new_v5(&command, &index.to_be_bytes())
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
            chosen_id: None,
            command,
        }
    }

    /// Sets the sender.
    #[must_use]
    pub fn of_caller(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }

    /// Sets the message that caused the command.
    #[must_use]
    pub fn caused_by(self, causation: Option<Uuid>) -> Self {
        Self { causation, ..self }
    }

    /// Sets the id of a new user.
    #[must_use]
    pub fn under_id(self, chosen_id: Option<UserId>) -> Self {
        Self { chosen_id, ..self }
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

    /// The user that the command names.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        match self.command {
            Command::Create(_) => self.chosen_id,
            Command::Patch(user, _) | Command::Delete(user) => Some(user),
        }
    }

    /// The caller, method, path and key of a command that has a key. They name its memory.
    pub(super) fn identity<T>(&self, name: impl FnOnce([&str; 4]) -> T) -> Option<T> {
        let key = self.key.as_ref()?;
        let (method, path) = self.command.target();
        Some(name([self.caller.as_str(), method, &path, key.as_str()]))
    }

    /// The fingerprint of the body for this container. `None` if the command has no body.
    pub(super) fn fingerprint(&self, key: &SubjectKey, container: &str) -> Option<Fingerprint> {
        let id = self.chosen_id.map(|id| Personal::new(id.to_string()));
        let names = self.command.names()?;
        let values: Vec<_> = names.into_iter().chain(id.as_ref().map(Some)).collect();
        Some(key.fingerprint(container, &values))
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
        event_id(self.id, index)
    }

    /// The command's event, and where it is if the user's stream had this revision before the command.
    pub(super) fn event_after(&self, revision: Option<u64>) -> Sought {
        self.command.kind().event_after(self.id, revision)
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
