//! The events of a user's stream, and the tombstones that outlive users.

use super::name_versions::{self, CREATED, NamesMeaning, PATCHED};
use super::sealed_names::{SealedNames, Unopened};
use super::stream_names::user_stream;
use super::{Undecodable, json};
use crate::domain::{Changes, UserEvent, UserId};
use crate::privacy::cipher::SubjectKey;
use bytes::Bytes;
use event_streams::{NewEvent, RecordedEvent};
use serde_json::{Value, json as value};
use uuid::Uuid;

/// Stored name of [`UserEvent::Deleted`], and of the tombstone in [`TOMBSTONES`](super::TOMBSTONES).
pub const USER_DELETED: &str = "UserDeleted.v1";
/// Stored name of [`UserEvent::RegistrationAbandoned`].
pub const REGISTRATION_ABANDONED: &str = "RegistrationAbandoned.v1";
/// Stored name of [`UserEvent::RenameFenced`].
pub const RENAME_FENCED: &str = "RenameFenced.v1";

/// Whether this process knows events of this type in users' streams.
#[must_use]
pub fn is_known_user_event(event_type: &str) -> bool {
    [USER_DELETED, REGISTRATION_ABANDONED, RENAME_FENCED].contains(&event_type)
        || name_versions::version(event_type).is_some()
}

/// An event of a user's stream as it is stored, with sealed personal values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredEvent {
    /// [`UserEvent::Created`], with all three names.
    Created(SealedNames),
    /// [`UserEvent::Patched`], with the names that changed.
    Patched(SealedNames),
    /// [`UserEvent::Deleted`]
    Deleted,
    /// [`UserEvent::RegistrationAbandoned`]
    RegistrationAbandoned,
    /// [`UserEvent::RenameFenced`]
    RenameFenced,
}

/// An event that a rival may append to a user's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fence {
    /// [`UserEvent::RegistrationAbandoned`]
    RegistrationAbandoned,
    /// [`UserEvent::RenameFenced`]
    RenameFenced,
}

impl StoredEvent {
    /// Decodes an event of a user's stream. Every stored version is accepted.
    ///
    /// # Errors
    /// If its type is unknown or its content is malformed.
    pub fn decode(event: &RecordedEvent) -> Result<Self, Undecodable> {
        match event.event_type.as_str() {
            USER_DELETED => Ok(Self::Deleted),
            REGISTRATION_ABANDONED => Ok(Self::RegistrationAbandoned),
            RENAME_FENCED => Ok(Self::RenameFenced),
            other => match name_versions::version(other) {
                Some(version) => SealedNames::decode(event, version).map(Self::of_names),
                None => Err(Undecodable::UnknownType(other.to_owned())),
            },
        }
    }

    fn of_names(names: SealedNames) -> Self {
        match names.meaning() {
            NamesMeaning::Created => Self::Created(names),
            NamesMeaning::Patched => Self::Patched(names),
        }
    }

    /// The sealed part, if the event has one.
    #[must_use]
    pub fn sealed(&self) -> Option<&SealedNames> {
        match self {
            Self::Created(names) | Self::Patched(names) => Some(names),
            Self::Deleted | Self::RegistrationAbandoned | Self::RenameFenced => None,
        }
    }

    /// Opens the event: the result is the domain's event.
    ///
    /// # Errors
    /// If a value does not open with the key, or a name is missing.
    pub fn open(&self, key: &SubjectKey) -> Result<UserEvent, Unopened> {
        Ok(match self {
            Self::Created(names) => UserEvent::Created {
                profile: names.changes(key)?.try_into()?,
                claim: names.claim.clone(),
            },
            Self::Patched(names) => UserEvent::Patched {
                changes: names.changes(key)?,
                claim: names.claim.clone(),
            },
            Self::Deleted => UserEvent::Deleted,
            Self::RegistrationAbandoned => UserEvent::RegistrationAbandoned,
            Self::RenameFenced => UserEvent::RenameFenced,
        })
    }

    /// Encodes the event for the user's stream, and seals personal values for their place in it.
    #[must_use]
    pub fn encode(id: Uuid, user: UserId, event: &UserEvent, key: &SubjectKey) -> NewEvent {
        match event {
            UserEvent::Created { profile, claim } => {
                let changes = Changes::from(profile.clone());
                let names = SealedNames::seal((user_stream(user), &CREATED), &changes, claim, key);
                names.encode(id, user)
            }
            UserEvent::Patched { changes, claim } => {
                let names = SealedNames::seal((user_stream(user), &PATCHED), changes, claim, key);
                names.encode(id, user)
            }
            UserEvent::Deleted => tombstone(id, user),
            UserEvent::RegistrationAbandoned => Fence::RegistrationAbandoned.encode(id, user),
            UserEvent::RenameFenced => Fence::RenameFenced.encode(id, user),
        }
    }
}

impl Fence {
    /// Encodes the fence for the user's stream.
    #[must_use]
    pub fn encode(self, id: Uuid, user: UserId) -> NewEvent {
        match self {
            Self::RegistrationAbandoned => bare(id, user, REGISTRATION_ABANDONED),
            Self::RenameFenced => bare(id, user, RENAME_FENCED),
        }
    }
}

/// `UserDeleted.v1` with only the id, for the user's stream and for [`TOMBSTONES`](super::TOMBSTONES).
#[must_use]
pub fn tombstone(id: Uuid, user: UserId) -> NewEvent {
    bare(id, user, USER_DELETED)
}

/// The deleted user that a tombstone names. `None` if the event is no tombstone.
#[must_use]
pub fn tombstoned_user(event: &RecordedEvent) -> Option<UserId> {
    let data: Value = serde_json::from_slice(&event.data).ok()?;
    let id = data.get("id")?.as_str()?;
    (event.event_type == USER_DELETED).then(|| id.parse().ok())?
}

fn bare(id: Uuid, user: UserId, event_type: &'static str) -> NewEvent {
    NewEvent {
        id,
        event_type: event_type.into(),
        data: json(&value!({"id": user.to_string()})),
        metadata: Bytes::new(),
    }
}
