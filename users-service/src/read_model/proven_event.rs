//! Events as read models get them.

use crate::domain::UserId;
use crate::integration::message::ClearNames;
use crate::privacy::cipher::{KeyId, SubjectKey};
use crate::stored_event::UserCount;
use uuid::Uuid;

/// The revision of a deletion. No event has a higher one.
pub const ERASED: u64 = i64::MAX as u64;

/// An event that the log has, or whose message the publisher has sealed.
#[derive(Debug, Clone)]
pub struct ProvenEvent {
    /// The event's id.
    pub id: Uuid,
    /// The user.
    pub user: UserId,
    /// Its number among the user's events. [`ERASED`] for a deletion.
    pub revision: u64,
    /// The time of storing, in milliseconds since the Unix epoch.
    pub created: u64,
    /// What happened.
    pub change: ProvenChange,
}

/// What happened to the user.
#[derive(Debug, Clone)]
pub enum ProvenChange {
    /// The user was created. `None` if the key is destroyed.
    Created(Option<OpenedNames>),
    /// Names were changed. `None` if the key is destroyed.
    Patched(Option<OpenedNames>),
    /// Nothing that a reader sees.
    Nothing,
    /// The user was deleted.
    Deleted,
    /// The user's stream is tombstoned, so the user was deleted, at an unknown time.
    Tombstoned,
    /// The user was deleted, and this is what the user's events are counted as.
    Counted(UserCount),
}

/// Names, and the key that they are sealed under.
#[derive(Debug, Clone)]
pub struct OpenedNames {
    /// The user's key.
    pub key: SubjectKey,
    /// All three names of a created user, or the changed ones.
    pub names: ClearNames,
}

impl ProvenEvent {
    /// Whether the user is deleted.
    #[must_use]
    pub fn is_erasure(&self) -> bool {
        match self.change {
            ProvenChange::Deleted | ProvenChange::Tombstoned | ProvenChange::Counted(_) => true,
            ProvenChange::Created(_) | ProvenChange::Patched(_) | ProvenChange::Nothing => false,
        }
    }

    /// The names, if the event has any.
    #[must_use]
    pub fn names(&self) -> Option<&OpenedNames> {
        match &self.change {
            ProvenChange::Created(names) | ProvenChange::Patched(names) => names.as_ref(),
            ProvenChange::Nothing
            | ProvenChange::Deleted
            | ProvenChange::Tombstoned
            | ProvenChange::Counted(_) => None,
        }
    }

    /// The key of the names.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        self.names().map(|names| names.key.id())
    }
}
