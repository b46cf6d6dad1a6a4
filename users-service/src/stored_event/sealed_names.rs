//! The sealed names of an event, and the clear values that belong to them.

use super::name_versions::{NameSource, NamesMeaning, NamesVersion};
use super::{Undecodable, json};
use crate::domain::{
    Changes, Claim, FamilyName, GivenName, NameField, Personal, Profile, ReservationName, UserId,
    Username,
};
use crate::privacy::cipher::{DoesNotOpen, KeyId, Place, Sealed, SubjectKey};
use event_streams::{NewEvent, RecordedEvent};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Names, each sealed under the user's key, and the clear values that belong to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedNames {
    /// The user's key.
    pub key: KeyId,
    /// The claim that holds the username.
    pub claim: Claim,
    stream: String,
    version: &'static NamesVersion,
    /// As they are stored: a member may hold several of today's names.
    members: BTreeMap<String, Sealed>,
}

/// The current names of a user: the last sealed value of each. It is folded from events, and needs no key until it is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CurrentNames(BTreeMap<NameField, PlacedName>);

/// A sealed name, and the place for which it was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PlacedName {
    stream: String,
    version: &'static NamesVersion,
    sealed: Sealed,
}

#[derive(Serialize, Deserialize)]
struct SealedData {
    id: String,
    key: String,
    sealed: BTreeMap<String, Sealed>,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    reservation: String,
    claim_revision: u64,
}

/// The reason why a stored event cannot be opened. It does not repeat values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// The value was sealed under another key or for another place, or it is damaged.
    #[error(transparent)]
    DoesNotOpen(#[from] DoesNotOpen),
    /// A creation lacks this name.
    #[error("{0} is missing")]
    Missing(NameField),
}

impl SealedNames {
    pub(super) fn decode(
        event: &RecordedEvent,
        version: &'static NamesVersion,
    ) -> Result<Self, Undecodable> {
        let malformed = || Undecodable::Malformed(version.stored.to_owned());
        let data: SealedData = serde_json::from_slice(&event.data).map_err(|_| malformed())?;
        let clear: Metadata = serde_json::from_slice(&event.metadata).map_err(|_| malformed())?;
        let is_known = |member: &String| version.names.iter().any(|name| name.member == member);
        if !data.sealed.keys().all(is_known) {
            return Err(malformed());
        }
        Ok(Self {
            key: data.key.parse().map_err(|_| malformed())?,
            claim: Claim {
                reservation: ReservationName::new(&clear.reservation),
                revision: clear.claim_revision,
            },
            stream: event.stream.clone(),
            version,
            members: data.sealed,
        })
    }

    pub(super) fn seal(
        (stream, version): (String, &'static NamesVersion),
        changes: &Changes,
        claim: &Claim,
        key: &SubjectKey,
    ) -> Self {
        let seal = |(field, name): (NameField, Option<&Personal<String>>)| {
            let member = field.as_str();
            let sealed = key.seal(place(&stream, version, member), name?);
            Some((member.to_owned(), sealed))
        };
        let members = NameField::ALL
            .into_iter()
            .zip(changes.names())
            .filter_map(seal)
            .collect();
        Self {
            key: key.id(),
            claim: claim.clone(),
            stream,
            version,
            members,
        }
    }

    pub(super) fn encode(self, id: Uuid, user: UserId) -> NewEvent {
        let data = SealedData {
            id: user.to_string(),
            key: self.key.to_string(),
            sealed: self.members,
        };
        let metadata = Metadata {
            reservation: self.claim.reservation.to_string(),
            claim_revision: self.claim.revision,
        };
        NewEvent {
            id,
            event_type: self.version.stored.into(),
            data: json(&data),
            metadata: json(&metadata),
        }
    }

    /// What the event means today.
    pub(super) fn meaning(&self) -> NamesMeaning {
        self.version.meaning
    }

    /// Opens the names and upcasts them, for example to seal them for another place.
    ///
    /// # Errors
    /// If a name does not open with the key.
    pub fn open(
        &self,
        key: &SubjectKey,
    ) -> Result<BTreeMap<NameField, Personal<String>>, DoesNotOpen> {
        let open = |name: &NameSource| {
            let sealed = self.members.get(name.member)?;
            let opened = opened(key, (&self.stream, self.version), name, sealed);
            Some(opened.map(|text| (name.field, Personal::new(text))))
        };
        self.version.names.iter().filter_map(open).collect()
    }

    /// Opens the names as they are stored. The rules for new names do not apply.
    pub(super) fn changes(&self, key: &SubjectKey) -> Result<Changes, DoesNotOpen> {
        let mut names = self.open(key)?;
        let mut take = |field| names.remove(&field).map(Personal::into_revealed);
        Ok(Changes {
            username: take(NameField::Username).map(Username::as_stored),
            given_name: take(NameField::GivenName).map(GivenName::as_stored),
            family_name: take(NameField::FamilyName).map(FamilyName::as_stored),
        })
    }
}

impl CurrentNames {
    /// The names of a snapshot.
    #[must_use]
    pub fn of_snapshot(names: &SealedNames) -> Self {
        let mut profile = Self::default();
        profile.merge(names);
        profile
    }

    /// Replaces the names that the event has.
    pub fn merge(&mut self, names: &SealedNames) {
        for source in names.version.names {
            if let Some(sealed) = names.members.get(source.member) {
                let name = PlacedName {
                    stream: names.stream.clone(),
                    version: names.version,
                    sealed: sealed.clone(),
                };
                self.0.insert(source.field, name);
            }
        }
    }

    /// Opens the names as they are stored. The rules for new names do not apply.
    ///
    /// # Errors
    /// If a name does not open with the key, or is missing.
    pub fn open(&self, key: &SubjectKey) -> Result<Profile, Unopened> {
        let open = |field| {
            let name = self.0.get(&field).ok_or(Unopened::Missing(field))?;
            name.open(field, key)
        };
        Ok(Profile {
            username: Username::as_stored(open(NameField::Username)?),
            given_name: GivenName::as_stored(open(NameField::GivenName)?),
            family_name: FamilyName::as_stored(open(NameField::FamilyName)?),
        })
    }
}

impl PlacedName {
    /// Opens the name and upcasts it.
    fn open(&self, field: NameField, key: &SubjectKey) -> Result<String, Unopened> {
        let mut names = self.version.names.iter();
        let source = names.find(|name| name.field == field);
        let source = source.ok_or(Unopened::Missing(field))?;
        let place = (self.stream.as_str(), self.version);
        Ok(opened(key, place, source, &self.sealed)?)
    }
}

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

/// Opens a name that was sealed for an event of this version in this stream, and upcasts it.
fn opened(
    key: &SubjectKey,
    (stream, version): (&str, &NamesVersion),
    name: &NameSource,
    sealed: &Sealed,
) -> Result<String, DoesNotOpen> {
    let text = key.open(place(stream, version, name.member), sealed)?;
    Ok((name.upcast)(text.into_revealed()))
}

fn place<'a>(stream: &'a str, version: &NamesVersion, member: &'a str) -> Place<'a> {
    Place {
        container: stream,
        event_type: version.stored,
        field: member,
    }
}
