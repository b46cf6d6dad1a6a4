//! Opens the names of messages and stored events, and seals them for the read model.

use super::directory::{DirectoryEvent, Effect};
use crate::domain::{NameField, Personal, UserId};
use crate::integration::mapping::{self, Unmappable};
use crate::integration::message::{Change, IntegrationEvent, Names};
use crate::privacy::cipher::{DoesNotOpen, KeyId, SubjectKey};
use crate::privacy::subject_keys::Lookup;
use crate::read_model::{self, SealedProfile};
use crate::stored_event::StoredEvent;
use event_streams::RecordedEvent;
use std::collections::{BTreeMap, HashMap};

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

/// How a message changes its user's row. Names open only in the message of the event that they were sealed for, so the
/// publisher must have sent a message whose names open.
pub(super) fn of_message(
    event: &IntegrationEvent,
    keys: &HashMap<KeyId, Lookup>,
) -> Result<DirectoryEvent, Doubt> {
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
    let profile = seal_profile(key, &event.open(key)?);
    let effect = match &event.change {
        Change::Created(_) => Effect::Begin(profile),
        Change::Patched(_) | Change::Deleted | Change::Fenced => Effect::Change(profile),
    };
    Ok(DirectoryEvent {
        id: event.id,
        user: event.user,
        revision: event.revision,
        effect,
    })
}

/// How an event of the log changes its user's row.
pub(super) fn of_log(
    user: UserId,
    recorded: &RecordedEvent,
    stored: &StoredEvent,
    keys: &HashMap<KeyId, Lookup>,
) -> Result<DirectoryEvent, Unmappable> {
    let effect = match (stored, mapping::open(stored, keys)?) {
        (StoredEvent::Created(_), Some((key, names))) => Effect::Begin(seal_profile(key, &names)),
        (StoredEvent::Patched(_), Some((key, names))) => Effect::Change(seal_profile(key, &names)),
        (StoredEvent::Created(_) | StoredEvent::Patched(_), None) => Effect::Forget,
        (StoredEvent::Deleted, _) => Effect::Erase,
        (StoredEvent::RegistrationAbandoned | StoredEvent::RenameFenced, _) => Effect::Nothing,
    };
    Ok(DirectoryEvent {
        id: recorded.id,
        user,
        revision: recorded.revision,
        effect,
    })
}

fn seal_profile(key: &SubjectKey, names: &BTreeMap<NameField, Personal<String>>) -> SealedProfile {
    let seal = |(&field, name)| (field, key.seal(read_model::place(field), name));
    SealedProfile {
        key: key.id(),
        names: names.iter().map(seal).collect(),
    }
}
