//! The published schema: CloudEvents 1.0 in the AMQP binding, with JSON data. Personal values are sealed for their message.
//!
//! Invariant: headers and routing keys contain ids, numbers, types and times, and never a personal value.

mod event_data;
mod event_headers;
mod event_schemas;
mod timestamp;

use crate::domain::{NameField, Personal, UserId};
use crate::privacy::cipher::{DoesNotOpen, KeyId, Place, Sealed, SubjectKey};
use event_data::{AllNames, ChangedNames, IdData, NamesData};
use event_headers::EventHeaders;
pub use event_schemas::schemas;
use messaging::{Delivery, Message};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
pub(crate) use timestamp::{millis_of, rfc3339};
use uuid::Uuid;

/// The topic exchange of all messages. The routing key is the type of the message.
pub const EXCHANGE: &str = "users";
/// The header with the user's id. Messages with the same value stay in order.
pub const PARTITION_KEY: &str = "cloudEvents:partitionkey";

pub(crate) const CREATED: &str = "user.created.v1";
pub(crate) const PATCHED: &str = "user.patched.v1";
pub(crate) const DELETED: &str = "user.deleted.v1";
pub(crate) const FENCED: &str = "user.fenced.v1";

/// Opened names, which are about to be sealed for another place.
pub type ClearNames = BTreeMap<NameField, Personal<String>>;

/// One event of one user as other programs see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrationEvent {
    /// The id of the stored event.
    pub id: Uuid,
    /// The user.
    pub user: UserId,
    /// The event's number among the user's events, from 0, without gaps.
    pub revision: u64,
    /// The time of storing, in milliseconds since the Unix epoch.
    pub created: u64,
    /// The conversation of the event. It becomes the trace of its message, and is not read from one: it is not authenticated, and
    /// nothing depends on it.
    pub conversation: Option<Uuid>,
    /// The change.
    pub change: Change,
}

/// The identity of the event in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The id of the stored event.
    pub id: Uuid,
    /// The user.
    pub user: UserId,
    /// The event's number among the user's events.
    pub revision: u64,
    /// The time of storing, in milliseconds since the Unix epoch.
    pub created: u64,
}

/// The change of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The user was created, with all three names.
    Created(Names),
    /// Some names changed.
    Patched(Names),
    /// The user was deleted permanently.
    Deleted,
    /// A fence. It changes nothing that a user sees, and is published so that revisions have no gaps.
    Fenced,
}

/// The names in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// The names are sealed under the user's key, each for this event and its field.
    Sealed {
        /// The user's key.
        key: KeyId,
        /// The sealed names.
        fields: BTreeMap<NameField, Sealed>,
    },
    /// The key is destroyed, so the names are erased.
    Erased,
}

/// The message does not follow the schema. The error names the problem, and does not repeat the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAMessage(&'static str);

/// The body as it is read, from this version or another one.
#[derive(Deserialize)]
struct MessageBody {
    id: String,
    key: Option<String>,
    #[serde(default)]
    sealed: BTreeMap<String, Sealed>,
    #[serde(default)]
    erased: bool,
}

impl Names {
    /// Seals names under the user's key for the message of this event.
    fn seal(
        event: Identity,
        event_type: &'static str,
        key: &SubjectKey,
        names: &ClearNames,
    ) -> Self {
        let container = container(event, names.keys());
        let seal = |(&field, name)| (field, key.seal(place(&container, event_type, field), name));
        Self::Sealed {
            key: key.id(),
            fields: names.iter().map(seal).collect(),
        }
    }
}

impl Change {
    /// [`Change::Created`], with names sealed for the message.
    #[must_use]
    pub fn created(event: Identity, key: &SubjectKey, names: &ClearNames) -> Self {
        Self::Created(Names::seal(event, CREATED, key, names))
    }

    /// [`Change::Patched`], with names sealed for the message.
    #[must_use]
    pub fn patched(event: Identity, key: &SubjectKey, names: &ClearNames) -> Self {
        Self::Patched(Names::seal(event, PATCHED, key, names))
    }

    /// The key of the sealed names. `None` if there are none.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        match self {
            Self::Created(Names::Sealed { key, .. }) | Self::Patched(Names::Sealed { key, .. }) => {
                Some(*key)
            }
            Self::Created(Names::Erased)
            | Self::Patched(Names::Erased)
            | Self::Deleted
            | Self::Fenced => None,
        }
    }

    fn event_type(&self) -> &'static str {
        match self {
            Self::Created(_) => CREATED,
            Self::Patched(_) => PATCHED,
            Self::Deleted => DELETED,
            Self::Fenced => FENCED,
        }
    }

    fn names(&self) -> Option<&Names> {
        match self {
            Self::Created(names) | Self::Patched(names) => Some(names),
            Self::Deleted | Self::Fenced => None,
        }
    }
}

impl IntegrationEvent {
    /// Whether this event deletes the user.
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        self.change == Change::Deleted
    }

    fn identity(&self) -> Identity {
        Identity {
            id: self.id,
            user: self.user,
            revision: self.revision,
            created: self.created,
        }
    }

    /// Opens the names, for example to seal them for another place. The result is empty if there are none.
    ///
    /// # Errors
    /// If a name does not open: it was sealed under another key or for another event, it is damaged, or a name was removed from
    /// the message.
    pub fn open(&self, key: &SubjectKey) -> Result<ClearNames, DoesNotOpen> {
        let Some(Names::Sealed { fields, .. }) = self.change.names() else {
            return Ok(BTreeMap::new());
        };
        let container = container(self.identity(), fields.keys());
        let event_type = self.change.event_type();
        let open = |(&field, sealed)| {
            let place = place(&container, event_type, field);
            Ok((field, key.open(place, sealed)?))
        };
        fields.iter().map(open).collect()
    }

    /// The message to publish.
    #[must_use]
    pub fn encode(&self) -> Message {
        let event_type = self.change.event_type();
        Message {
            exchange: EXCHANGE.to_owned(),
            routing_key: event_type.to_owned(),
            id: self.id.to_string(),
            content_type: "application/json".into(),
            headers: EventHeaders::of(self).pairs(),
            body: self.body(),
        }
    }

    fn body(&self) -> Vec<u8> {
        let user = self.user;
        match &self.change {
            Change::Created(Names::Sealed { key, fields }) => {
                json(&NamesData::sealed(user, *key, AllNames::of(fields)))
            }
            Change::Patched(Names::Sealed { key, fields }) => {
                json(&NamesData::sealed(user, *key, ChangedNames::of(fields)))
            }
            Change::Created(Names::Erased) | Change::Patched(Names::Erased) => {
                json(&NamesData::<AllNames<'_>>::erased(user))
            }
            Change::Deleted | Change::Fenced => json(&IdData::of(user)),
        }
    }

    /// Decodes a received message.
    ///
    /// # Errors
    /// [`NotAMessage`] if it does not follow the schema.
    pub fn decode(delivery: &Delivery) -> Result<Self, NotAMessage> {
        let header = |name: &str, missing| delivery.header(name).ok_or(NotAMessage(missing));
        let event_type = header("cloudEvents:type", "the type header is missing")?;
        let sequence = header("cloudEvents:sequence", "the sequence header is missing")?;
        let sequence = sequence.parse::<i64>();
        let partition_key = header(PARTITION_KEY, "the partition key header is missing")?;
        // The names of a message with another time do not open.
        let time = delivery.header("cloudEvents:time").and_then(millis_of);
        let id = delivery.id().and_then(|id| Uuid::parse_str(id).ok());
        let body: MessageBody = serde_json::from_slice(&delivery.body)
            .map_err(|_| NotAMessage("the body is malformed"))?;
        let user: UserId = body
            .id
            .parse()
            .map_err(|_| NotAMessage("the body has no valid user id"))?;
        let subject = delivery.header("cloudEvents:subject");
        if subject.is_some_and(|subject| subject != body.id) {
            return Err(NotAMessage("the subject is not the user id"));
        }
        if partition_key != body.id || i64::try_from(user.number()).is_err() {
            return Err(NotAMessage("the partition key is not the user id"));
        }
        let sequence = sequence.ok().and_then(|number| u64::try_from(number).ok());
        Ok(Self {
            id: id.ok_or(NotAMessage("the message id is not a UUID"))?,
            user,
            revision: sequence.ok_or(NotAMessage("the sequence is not a number"))?,
            created: time.unwrap_or(0),
            conversation: None,
            change: body.change(event_type)?,
        })
    }
}

impl MessageBody {
    fn change(self, event_type: &str) -> Result<Change, NotAMessage> {
        match event_type {
            CREATED => {
                let names = self.names()?;
                let complete = !matches!(&names, Names::Sealed { fields, .. } if fields.len() < NameField::ALL.len());
                complete
                    .then_some(Change::Created(names))
                    .ok_or(NotAMessage("a name is missing"))
            }
            PATCHED => Ok(Change::Patched(self.names()?)),
            DELETED => Ok(Change::Deleted),
            FENCED => Ok(Change::Fenced),
            _ => Err(NotAMessage("unknown type")),
        }
    }

    fn names(self) -> Result<Names, NotAMessage> {
        if self.erased {
            return Ok(Names::Erased);
        }
        let key = self.key.and_then(|key| key.parse().ok());
        let field = |(name, sealed): (String, Sealed)| {
            let field = NameField::ALL
                .into_iter()
                .find(|field| field.as_str() == name);
            let field = field.ok_or(NotAMessage("unknown field"))?;
            Ok((field, sealed))
        };
        let fields: Result<_, _> = self.sealed.into_iter().map(field).collect();
        Ok(Names::Sealed {
            key: key.ok_or(NotAMessage("the body has no valid key id"))?,
            fields: fields?,
        })
    }
}

/// The container for sealing: the exchange, the event, and the fields that are present. So names do not open in a message
/// about another user, with another revision, event id or time, or with some names removed. A message whose names open was made by
/// the publisher.
fn container<'a>(event: Identity, fields: impl Iterator<Item = &'a NameField>) -> String {
    let Identity {
        id,
        user,
        revision,
        created,
    } = event;
    let fields: Vec<_> = fields.map(|field| field.as_str()).collect();
    format!(
        "{EXCHANGE}/{user}/{revision}/{id}/{created}/{}",
        fields.join(",")
    )
}

fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("a struct of texts always serializes")
}

fn place<'a>(container: &'a str, event_type: &'a str, field: NameField) -> Place<'a> {
    Place {
        container,
        event_type,
        field: field.as_str(),
    }
}

#[cfg(test)]
mod tests;
