//! The sealed names of an event, and the clear values that belong to them.

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
    event_type: &'static str,
    fields: BTreeMap<NameField, Sealed>,
}

/// The current names of a user: the last sealed value of each. It is folded from events, and needs no key until it is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CurrentNames(BTreeMap<NameField, PlacedName>);

/// A sealed name, and the place for which it was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PlacedName {
    stream: String,
    event_type: &'static str,
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
        event_type: &'static str,
    ) -> Result<Self, Undecodable> {
        let malformed = || Undecodable::Malformed(event_type.to_owned());
        let data: SealedData = serde_json::from_slice(&event.data).map_err(|_| malformed())?;
        let clear: Metadata = serde_json::from_slice(&event.metadata).map_err(|_| malformed())?;
        let fields = data.sealed.into_iter().map(|(name, sealed)| {
            let field = NameField::ALL
                .into_iter()
                .find(|field| field.as_str() == name);
            field.map(|field| (field, sealed)).ok_or_else(malformed)
        });
        Ok(Self {
            key: data.key.parse().map_err(|_| malformed())?,
            claim: Claim {
                reservation: ReservationName::new(&clear.reservation),
                revision: clear.claim_revision,
            },
            stream: event.stream.clone(),
            event_type,
            fields: fields.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn seal(
        (stream, event_type): (String, &'static str),
        changes: &Changes,
        claim: &Claim,
        key: &SubjectKey,
    ) -> Self {
        let names = [
            changes.username.as_ref().map(Username::personal),
            changes.given_name.as_ref().map(GivenName::personal),
            changes.family_name.as_ref().map(FamilyName::personal),
        ];
        let seal = |(field, name): (NameField, Option<&Personal<String>>)| {
            Some((field, key.seal(place(&stream, event_type, field), name?)))
        };
        let fields = NameField::ALL
            .into_iter()
            .zip(names)
            .filter_map(seal)
            .collect();
        Self {
            key: key.id(),
            claim: claim.clone(),
            stream,
            event_type,
            fields,
        }
    }

    pub(super) fn encode(self, id: Uuid, user: UserId) -> NewEvent {
        let named = |(field, sealed): (NameField, Sealed)| (field.as_str().to_owned(), sealed);
        let data = SealedData {
            id: user.to_string(),
            key: self.key.to_string(),
            sealed: self.fields.into_iter().map(named).collect(),
        };
        let metadata = Metadata {
            reservation: self.claim.reservation.to_string(),
            claim_revision: self.claim.revision,
        };
        NewEvent {
            id,
            event_type: self.event_type.into(),
            data: json(&data),
            metadata: json(&metadata),
        }
    }

    /// Opens the names, for example to seal them for another place.
    ///
    /// # Errors
    /// If a name does not open with the key.
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
    pub fn of_snapshot(names: SealedNames) -> Self {
        let mut profile = Self::default();
        profile.merge(names);
        profile
    }

    /// Replaces the names that the event has.
    pub fn merge(&mut self, names: SealedNames) {
        for (field, sealed) in names.fields {
            let stream = names.stream.clone();
            let event_type = names.event_type;
            let name = PlacedName {
                stream,
                event_type,
                sealed,
            };
            self.0.insert(field, name);
        }
    }

    /// Opens the names as they are stored. The rules for new names do not apply.
    ///
    /// # Errors
    /// If a name does not open with the key, or is missing.
    pub fn open(&self, key: &SubjectKey) -> Result<Profile, Unopened> {
        let open = |field| {
            let name = self.0.get(&field).ok_or(Unopened::Missing(field))?;
            let place = place(&name.stream, name.event_type, field);
            Ok::<_, Unopened>(key.open(place, &name.sealed)?.into_revealed())
        };
        Ok(Profile {
            username: Username::as_stored(open(NameField::Username)?),
            given_name: GivenName::as_stored(open(NameField::GivenName)?),
            family_name: FamilyName::as_stored(open(NameField::FamilyName)?),
        })
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

fn place<'a>(stream: &'a str, event_type: &'a str, field: NameField) -> Place<'a> {
    Place {
        container: stream,
        event_type,
        field: field.as_str(),
    }
}
