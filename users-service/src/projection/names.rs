//! Opens the names of messages and stored events for the projections.

use crate::domain::UserId;
use crate::integration::mapping::{self, Unmappable};
use crate::integration::message::{Change, IntegrationEvent, Names};
use crate::privacy::cipher::{DoesNotOpen, KeyId};
use crate::privacy::subject_keys::Lookup;
use crate::read_model::{OpenedNames, ProvenChange, ProvenEvent};
use crate::stored_event::StoredEvent;
use event_streams::RecordedEvent;
use std::collections::HashMap;

/// Why a message does not prove by itself that the publisher sent it. The log has to confirm it. Contains no names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Doubt {
    /// The message has no sealed name, so anybody can have written it.
    #[error("nothing in the message is sealed")]
    Bare,
    /// The key store does not have the key: it is lost, or the message is forged.
    #[error("there is no key {0}")]
    NoKey(KeyId),
    /// The name was sealed under another key or for another event, or is damaged.
    #[error(transparent)]
    DoesNotOpen(#[from] DoesNotOpen),
}

/// The event of a message. Names open only in the message of the event that they were sealed for, so the
/// publisher must have sent a message whose names open.
pub(super) fn of_message(
    event: &IntegrationEvent,
    keys: &HashMap<KeyId, Lookup>,
) -> Result<ProvenEvent, Doubt> {
    let names = match &event.change {
        Change::Created(names) | Change::Patched(names) => names,
        Change::Deleted | Change::Fenced => return Err(Doubt::Bare),
    };
    let key = match names {
        Names::Sealed { key, fields } if !fields.is_empty() => *key,
        Names::Sealed { .. } | Names::Erased => return Err(Doubt::Bare),
    };
    let key = match keys.get(&key) {
        Some(Lookup::Found(key)) => key,
        Some(Lookup::Destroyed) => return Err(Doubt::Bare),
        Some(Lookup::Missing) | None => return Err(Doubt::NoKey(key)),
    };
    let opened = Some(OpenedNames {
        key: key.clone(),
        names: event.open(key)?,
    });
    let change = match &event.change {
        Change::Created(_) => ProvenChange::Created(opened),
        Change::Patched(_) | Change::Deleted | Change::Fenced => ProvenChange::Patched(opened),
    };
    Ok(ProvenEvent {
        id: event.id,
        user: event.user,
        revision: event.revision,
        created: event.created,
        change,
    })
}

/// An event of the log.
pub(super) fn of_log(
    user: UserId,
    recorded: &RecordedEvent,
    stored: &StoredEvent,
    keys: &HashMap<KeyId, Lookup>,
) -> Result<ProvenEvent, Unmappable> {
    let opened = mapping::open(stored, keys)?;
    let opened = opened.map(|(key, names)| OpenedNames {
        key: key.clone(),
        names,
    });
    let change = match stored {
        StoredEvent::Created(_) => ProvenChange::Created(opened),
        StoredEvent::Patched(_) => ProvenChange::Patched(opened),
        StoredEvent::Deleted => ProvenChange::Deleted,
        StoredEvent::RegistrationAbandoned | StoredEvent::RenameFenced => ProvenChange::Nothing,
    };
    Ok(ProvenEvent {
        id: recorded.id,
        user,
        revision: recorded.revision,
        created: recorded.created,
        change,
    })
}
