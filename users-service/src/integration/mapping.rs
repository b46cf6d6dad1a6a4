//! From the stored event to the integration event, in one match.
//!
//! Invariant: an event whose key is destroyed is mapped all the same, without names; any other missing key, unknown
//! type or damaged value is an error, and nothing is skipped.

use super::message::{Change, IntegrationEvent, Names};
use crate::domain::{NameField, UserId};
use crate::privacy::Personal;
use crate::privacy::cipher::{DoesNotOpen, KeyId, SubjectKey};
use crate::privacy::subject_keys::{KeysError, Lookup, SubjectKeys};
use crate::stored_event::{SealedNames, StoredEvent, Undecodable, user_of_stream};
use event_streams::RecordedEvent;
use std::collections::BTreeMap;

/// The event by which a store says that a stream is tombstoned.
pub const STREAM_DELETED: &str = "$streamDeleted";

/// Why a stored event cannot be mapped. Repeats nothing of its content.
#[derive(Debug, thiserror::Error)]
pub enum Unmappable {
    /// Its type is unknown, or its content is malformed.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// A sealed name is damaged.
    #[error("a sealed name of this event is damaged")]
    Damaged(#[from] DoesNotOpen),
    /// The key store failed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The key is neither there nor destroyed. This is no erasure.
    #[error("key {0} is lost")]
    KeyLost(KeyId),
}

impl Unmappable {
    /// Whether the event itself is to blame, so that trying again cannot help.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Undecodable(_) | Self::Damaged(_))
    }
}

/// Whose event it is.
///
/// # Errors
/// When the stream is no user's.
pub fn owner(event: &RecordedEvent) -> Result<UserId, Unmappable> {
    let user = user_of_stream(&event.stream);
    user.ok_or_else(|| Undecodable::Malformed(event.event_type.clone()).into())
}

/// Maps an event of a user's stream.
///
/// # Errors
/// [`Unmappable`]
pub async fn to_message(
    event: &RecordedEvent,
    keys: &SubjectKeys,
) -> Result<IntegrationEvent, Unmappable> {
    let change = match StoredEvent::decode(event)? {
        StoredEvent::Created(names) => {
            names_of(&names, keys, Change::created, Change::Created).await?
        }
        StoredEvent::Patched(names) => {
            names_of(&names, keys, Change::patched, Change::Patched).await?
        }
        StoredEvent::Deleted => Change::Deleted,
        StoredEvent::RegistrationAbandoned | StoredEvent::RenameFenced => Change::Fenced,
    };
    message(event, change)
}

fn message(event: &RecordedEvent, change: Change) -> Result<IntegrationEvent, Unmappable> {
    Ok(IntegrationEvent {
        id: event.id,
        user: owner(event)?,
        revision: event.revision,
        created: event.created,
        change,
    })
}

type ClearNames = BTreeMap<NameField, Personal<String>>;

/// Names are opened where they lie and sealed for where they go.
async fn names_of(
    names: &SealedNames,
    keys: &SubjectKeys,
    sealed: fn(&SubjectKey, &ClearNames) -> Change,
    erased: fn(Names) -> Change,
) -> Result<Change, Unmappable> {
    match keys.find(names.key).await? {
        Lookup::Found(key) => Ok(sealed(&key, &names.open(&key)?)),
        Lookup::Destroyed => Ok(erased(Names::Erased)),
        Lookup::Missing => Err(Unmappable::KeyLost(names.key)),
    }
}
