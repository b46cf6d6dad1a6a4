//! The events of one user's stream, and the tombstones that outlive users.

use super::{Undecodable, json};
use crate::domain::{
    Changes, Claim, FamilyName, GivenName, InvalidName, NameField, Profile, ReservationName,
    UserEvent, UserId, Username,
};
use crate::privacy::Personal;
use crate::privacy::cipher::{DoesNotOpen, KeyId, Place, Sealed, SubjectKey};
use bytes::Bytes;
use event_streams::{NewEvent, RecordedEvent};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Stored name of [`UserEvent::Created`].
pub const USER_CREATED: &str = "UserCreated.v1";
/// Stored name of [`UserEvent::Patched`].
pub const USER_PATCHED: &str = "UserPatched.v1";
/// Stored name of [`UserEvent::Deleted`], and of the tombstone in [`TOMBSTONES`].
pub const USER_DELETED: &str = "UserDeleted.v1";
/// Stored name of [`UserEvent::RegistrationAbandoned`].
pub const REGISTRATION_ABANDONED: &str = "RegistrationAbandoned.v1";
/// Stored name of [`UserEvent::RenameFenced`].
pub const RENAME_FENCED: &str = "RenameFenced.v1";

/// The stream that outlives users: ids of those who were deleted, and nothing else.
pub const TOMBSTONES: &str = "users";
/// What the name of every user's stream begins with.
pub const USER_STREAM_PREFIX: &str = "users-";

/// The stream with all that happened to the user: `users-<id>`.
#[must_use]
pub fn user_stream(id: UserId) -> String {
    format!("{USER_STREAM_PREFIX}{id}")
}

/// Whose stream it is; none if it is no user's.
#[must_use]
pub fn user_of_stream(stream: &str) -> Option<UserId> {
    stream.strip_prefix(USER_STREAM_PREFIX)?.parse().ok()
}

/// An event of a user's stream as it is stored: personal values still sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredEvent {
    /// [`UserEvent::Created`]; all three names are there.
    Created(SealedNames),
    /// [`UserEvent::Patched`]; the names that changed are there.
    Patched(SealedNames),
    /// [`UserEvent::Deleted`]
    Deleted,
    /// [`UserEvent::RegistrationAbandoned`]
    RegistrationAbandoned,
    /// [`UserEvent::RenameFenced`]
    RenameFenced,
}

/// Names, each sealed under the user's key, and what goes with them in clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedNames {
    /// The user's key.
    pub key: KeyId,
    /// The claim under which the username is held.
    pub claim: Claim,
    stream: String,
    event_type: &'static str,
    fields: BTreeMap<NameField, Sealed>,
}

/// What a rival may append to a user's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fence {
    /// [`UserEvent::RegistrationAbandoned`]
    RegistrationAbandoned,
    /// [`UserEvent::RenameFenced`]
    RenameFenced,
}

#[derive(Serialize, Deserialize)]
struct Data {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sealed: BTreeMap<String, Sealed>,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    reservation: String,
    claim_revision: u64,
}

impl StoredEvent {
    /// Reads an event of a user's stream, of whatever version it was stored as.
    ///
    /// # Errors
    /// When its type is unknown or its content is not as it should be.
    pub fn decode(event: &RecordedEvent) -> Result<Self, Undecodable> {
        match event.event_type.as_str() {
            USER_CREATED => SealedNames::decode(event, USER_CREATED).map(Self::Created),
            USER_PATCHED => SealedNames::decode(event, USER_PATCHED).map(Self::Patched),
            USER_DELETED => Ok(Self::Deleted),
            REGISTRATION_ABANDONED => Ok(Self::RegistrationAbandoned),
            RENAME_FENCED => Ok(Self::RenameFenced),
            unknown => Err(Undecodable::UnknownType(unknown.to_owned())),
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

    /// The event in the domain's terms.
    ///
    /// # Errors
    /// When a value does not open with the key, or is not what the domain calls a name.
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

    /// Makes the event ready for the user's stream; personal values are sealed for their place in it.
    #[must_use]
    pub fn encode(id: Uuid, user: UserId, event: &UserEvent, key: &SubjectKey) -> NewEvent {
        match event {
            UserEvent::Created { profile, claim } => {
                let changes = Changes::from(profile.clone());
                sealed(id, user, USER_CREATED, (&changes, claim, key))
            }
            UserEvent::Patched { changes, claim } => {
                sealed(id, user, USER_PATCHED, (changes, claim, key))
            }
            UserEvent::Deleted => tombstone(id, user),
            UserEvent::RegistrationAbandoned => Fence::RegistrationAbandoned.encode(id, user),
            UserEvent::RenameFenced => Fence::RenameFenced.encode(id, user),
        }
    }
}

/// Why a stored event did not become an event of the domain. Does not repeat values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// Another key, another place, or damaged.
    #[error(transparent)]
    DoesNotOpen(#[from] DoesNotOpen),
    /// The value is no name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// A user cannot be made without this name.
    #[error("{0} is missing")]
    Missing(NameField),
}

impl SealedNames {
    fn decode(event: &RecordedEvent, event_type: &'static str) -> Result<Self, Undecodable> {
        let malformed = || Undecodable::Malformed(event_type.to_owned());
        let data: Data = serde_json::from_slice(&event.data).map_err(|_| malformed())?;
        let clear: Metadata = serde_json::from_slice(&event.metadata).map_err(|_| malformed())?;
        let key = data.key.and_then(|key| key.parse().ok());
        let fields = data.sealed.into_iter().map(|(name, sealed)| {
            let field = NAMES.into_iter().find(|field| field.as_str() == name);
            field.map(|field| (field, sealed)).ok_or_else(malformed)
        });
        Ok(Self {
            key: key.ok_or_else(malformed)?,
            claim: Claim {
                reservation: ReservationName::new(&clear.reservation),
                revision: clear.claim_revision,
            },
            stream: event.stream.clone(),
            event_type,
            fields: fields.collect::<Result<_, _>>()?,
        })
    }

    /// The names that are there, in clear, for example to seal them for another place.
    ///
    /// # Errors
    /// When one does not open with the key.
    pub fn open(
        &self,
        key: &SubjectKey,
    ) -> Result<BTreeMap<NameField, Personal<String>>, DoesNotOpen> {
        let open = |(&field, sealed)| {
            let place = place(&self.stream, self.event_type, field);
            Ok((field, key.open(place, sealed)?))
        };
        self.fields.iter().map(open).collect()
    }

    fn changes(&self, key: &SubjectKey) -> Result<Changes, Unopened> {
        let mut names = self.open(key)?;
        let mut take = |field| names.remove(&field).map(Personal::into_revealed);
        Ok(Changes {
            username: take(NameField::Username).map(Username::parse).transpose()?,
            given_name: take(NameField::GivenName)
                .map(GivenName::parse)
                .transpose()?,
            family_name: take(NameField::FamilyName)
                .map(FamilyName::parse)
                .transpose()?,
        })
    }
}

const NAMES: [NameField; 3] = [
    NameField::Username,
    NameField::GivenName,
    NameField::FamilyName,
];

impl TryFrom<Changes> for Profile {
    type Error = Unopened;

    fn try_from(changes: Changes) -> Result<Self, Unopened> {
        let missing = Unopened::Missing;
        Ok(Self {
            username: changes.username.ok_or(missing(NameField::Username))?,
            given_name: changes.given_name.ok_or(missing(NameField::GivenName))?,
            family_name: changes.family_name.ok_or(missing(NameField::FamilyName))?,
        })
    }
}

impl From<Profile> for Changes {
    fn from(profile: Profile) -> Self {
        Self {
            username: Some(profile.username),
            given_name: Some(profile.given_name),
            family_name: Some(profile.family_name),
        }
    }
}

impl Fence {
    /// Makes the fence ready for the user's stream.
    #[must_use]
    pub fn encode(self, id: Uuid, user: UserId) -> NewEvent {
        match self {
            Self::RegistrationAbandoned => bare(id, user, REGISTRATION_ABANDONED),
            Self::RenameFenced => bare(id, user, RENAME_FENCED),
        }
    }
}

/// `UserDeleted.v1` with the id alone, for the user's stream and for [`TOMBSTONES`].
#[must_use]
pub fn tombstone(id: Uuid, user: UserId) -> NewEvent {
    bare(id, user, USER_DELETED)
}

fn bare(id: Uuid, user: UserId, event_type: &'static str) -> NewEvent {
    let data = Data {
        id: user.to_string(),
        key: None,
        sealed: BTreeMap::new(),
    };
    NewEvent {
        id,
        event_type: event_type.into(),
        data: json(&data),
        metadata: Bytes::new(),
    }
}

fn sealed(
    id: Uuid,
    user: UserId,
    event_type: &'static str,
    (changes, claim, key): (&Changes, &Claim, &SubjectKey),
) -> NewEvent {
    let stream = user_stream(user);
    let names = [
        changes.username.as_ref().map(Username::personal),
        changes.given_name.as_ref().map(GivenName::personal),
        changes.family_name.as_ref().map(FamilyName::personal),
    ];
    let seal = |(field, name): (NameField, Option<&Personal<String>>)| {
        let sealed = key.seal(place(&stream, event_type, field), name?);
        Some((field.as_str().to_owned(), sealed))
    };
    let data = Data {
        id: user.to_string(),
        key: Some(key.id().to_string()),
        sealed: NAMES.into_iter().zip(names).filter_map(seal).collect(),
    };
    let metadata = Metadata {
        reservation: claim.reservation.to_string(),
        claim_revision: claim.revision,
    };
    NewEvent {
        id,
        event_type: event_type.into(),
        data: json(&data),
        metadata: json(&metadata),
    }
}

fn place<'a>(stream: &'a str, event_type: &'a str, field: NameField) -> Place<'a> {
    Place {
        container: stream,
        event_type,
        field: field.as_str(),
    }
}
