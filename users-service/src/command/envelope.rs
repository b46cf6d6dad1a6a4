//! The envelope in which a command travels, by HTTP or by a queue, and what comes back.

use crate::domain::{Changes, Profile, UserId};
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
}

impl Envelope {
    /// A command of an unknown caller, without a conversation of its own.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self {
            id: Uuid::new_v4(),
            caller: Caller::ANONYMOUS,
            correlation: Uuid::new_v4(),
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

    /// The origin of the command's events.
    pub(super) fn origin(&self) -> Origin {
        Origin {
            caller: self.caller.clone(),
            correlation: self.correlation,
            causation: self.id,
        }
    }
}
