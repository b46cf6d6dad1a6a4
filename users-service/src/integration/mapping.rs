//! The mapping from stored events to integration events, in one match.
//!
//! Invariant: an event whose key is destroyed is mapped without names. A missing key, an unknown type or a damaged value is
//! an error. No event is skipped.

use super::message::{Change, ClearNames, Identity, IntegrationEvent, Names};
use crate::domain::{NameField, UserId};
use crate::privacy::cipher::{DoesNotOpen, KeyId, SubjectKey};
use crate::privacy::subject_keys::{KeysError, Lookup, SubjectKeys};
use crate::stored_event::{Origin, StoredEvent, USER_CREATED, Undecodable, user_of_stream};
use event_streams::RecordedEvent;
use std::collections::HashMap;

/// The type of the event with which a store marks a tombstoned stream.
pub const STREAM_DELETED: &str = "$streamDeleted";

/// The reason why a stored event cannot be mapped. It does not repeat the content.
#[derive(Debug, thiserror::Error)]
pub enum Unmappable {
    /// The type is unknown, or the content is malformed.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// A sealed name is damaged.
    #[error("a sealed name of this event is damaged")]
    Damaged(#[from] DoesNotOpen),
    /// The key is neither in the key store nor destroyed. This is not an erasure.
    #[error("key {0} is lost")]
    KeyLost(KeyId),
}

impl Unmappable {
    /// Whether the event itself is the cause, so that a retry cannot help.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Undecodable(_) | Self::Damaged(_))
    }
}

/// The user of the event.
///
/// # Errors
/// If the stream is not a user's.
pub fn owner(event: &RecordedEvent) -> Result<UserId, Unmappable> {
    let user = user_of_stream(&event.stream);
    user.ok_or_else(|| Undecodable::Malformed(event.event_type.clone()).into())
}

/// Maps events of users' streams, in their order. All their keys are looked up at once.
///
/// # Errors
/// If the key store fails.
pub async fn to_messages(
    events: &[&RecordedEvent],
    keys: &SubjectKeys,
) -> Result<Vec<Result<IntegrationEvent, Unmappable>>, KeysError> {
    let (stored, keys) = decode(events.iter().copied(), keys).await?;
    let mapped = events.iter().zip(stored);
    Ok(mapped
        .map(|(event, stored)| to_message(event, &stored?, &keys))
        .collect())
}

/// Decodes events in their order, and looks up all their keys at once.
///
/// # Errors
/// If the key store fails.
pub(crate) async fn decode<'a>(
    events: impl Iterator<Item = &'a RecordedEvent>,
    keys: &SubjectKeys,
) -> Result<
    (
        Vec<Result<StoredEvent, Undecodable>>,
        HashMap<KeyId, Lookup>,
    ),
    KeysError,
> {
    let stored: Vec<_> = events.map(StoredEvent::decode).collect();
    let sealed = stored.iter().flatten().filter_map(StoredEvent::sealed);
    let ids: Vec<KeyId> = sealed.map(|names| names.key).collect();
    Ok((stored, keys.find_many(&ids).await?))
}

fn to_message(
    event: &RecordedEvent,
    stored: &StoredEvent,
    keys: &HashMap<KeyId, Lookup>,
) -> Result<IntegrationEvent, Unmappable> {
    let user = owner(event)?;
    let identity = Identity {
        id: event.id,
        user,
        revision: event.revision,
        created: event.created,
    };
    let change = match (stored, open(stored, keys)?) {
        (StoredEvent::Created(_), Some((key, names))) => Change::created(identity, key, &names),
        (StoredEvent::Created(_), None) => Change::Created(Names::Erased),
        (StoredEvent::Patched(_), Some((key, names))) => Change::patched(identity, key, &names),
        (StoredEvent::Patched(_), None) => Change::Patched(Names::Erased),
        (StoredEvent::Deleted, _) => Change::Deleted,
        (StoredEvent::RegistrationAbandoned | StoredEvent::RenameFenced, _) => Change::Fenced,
    };
    Ok(IntegrationEvent {
        id: event.id,
        user,
        revision: event.revision,
        created: event.created,
        conversation: Origin::conversation_of(event),
        change,
    })
}

/// Opens the names of an event, to seal them for another place, and returns them with their key. `None` if the event has no
/// names, or their key is destroyed.
///
/// # Errors
/// [`Unmappable`], also if a creation lacks a name.
pub(crate) fn open<'a>(
    event: &StoredEvent,
    keys: &'a HashMap<KeyId, Lookup>,
) -> Result<Option<(&'a SubjectKey, ClearNames)>, Unmappable> {
    let Some(sealed) = event.sealed() else {
        return Ok(None);
    };
    let key = match keys.get(&sealed.key) {
        Some(Lookup::Found(key)) => key,
        Some(Lookup::Destroyed) => return Ok(None),
        Some(Lookup::Missing) | None => return Err(Unmappable::KeyLost(sealed.key)),
    };
    let names = sealed.open(key)?;
    if matches!(event, StoredEvent::Created(_)) && names.len() < NameField::ALL.len() {
        return Err(Undecodable::Malformed(USER_CREATED.to_owned()).into());
    }
    Ok(Some((key, names)))
}
