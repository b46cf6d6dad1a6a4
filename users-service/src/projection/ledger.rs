//! What the ledger says of an event: whether it is the next one of its user.
//!
//! This module is pure. It does not know storage, transport or names.

use crate::privacy::cipher::KeyId;
use crate::read_model::{ERASED, ProvenChange, ProvenEvent};
use std::cmp::Ordering;
use uuid::Uuid;

/// How far a read model is with one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The revision of the last event applied.
    pub revision: u64,
    /// The id of that event.
    pub event: Uuid,
    /// The key of the user's names. `None` if there are none.
    pub key: Option<KeyId>,
}

/// The decision about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The event was applied before.
    Duplicate,
    /// The event is applied, and this is the new entry.
    Apply(Entry),
    /// Earlier events are missing, or the names are sealed under another key than before. The log has to be read.
    Gap,
    /// Another event was applied at this revision. Everything has to be read from the log again.
    Conflict,
}

impl Entry {
    /// Whether the user is deleted.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.revision == ERASED
    }
}

/// Judges an event by the entry that is there.
#[must_use]
pub fn judge(entry: Option<&Entry>, event: &ProvenEvent) -> Verdict {
    match entry {
        Some(entry) if entry.is_final() => match event.change {
            // What is counted of a deleted user is the last word about the user.
            ProvenChange::Counted(_) => Verdict::Apply(*entry),
            ProvenChange::Created(_)
            | ProvenChange::Patched(_)
            | ProvenChange::Nothing
            | ProvenChange::Deleted
            | ProvenChange::Tombstoned => Verdict::Duplicate,
        },
        _ if event.is_erasure() => Verdict::Apply(Entry {
            revision: ERASED,
            event: event.id,
            key: None,
        }),
        Some(entry) if entry.revision == event.revision && entry.event != event.id => {
            Verdict::Conflict
        }
        _ => judge_place(entry, event),
    }
}

fn judge_place(entry: Option<&Entry>, event: &ProvenEvent) -> Verdict {
    let next = entry.map_or(0, |entry| entry.revision.saturating_add(1));
    let key = entry.and_then(|entry| entry.key);
    match event.revision.cmp(&next) {
        Ordering::Less => Verdict::Duplicate,
        Ordering::Greater => Verdict::Gap,
        Ordering::Equal if is_of_another_key(key, event) => Verdict::Gap,
        Ordering::Equal => Verdict::Apply(Entry {
            revision: event.revision,
            event: event.id,
            key: key_after(key, event),
        }),
    }
}

fn is_of_another_key(key: Option<KeyId>, event: &ProvenEvent) -> bool {
    let is_change = matches!(event.change, ProvenChange::Patched(Some(_)));
    is_change && key.is_some() && key != event.key()
}

fn key_after(key: Option<KeyId>, event: &ProvenEvent) -> Option<KeyId> {
    match event.change {
        ProvenChange::Created(_) => event.key(),
        ProvenChange::Patched(Some(_)) | ProvenChange::Nothing => key,
        ProvenChange::Patched(None)
        | ProvenChange::Deleted
        | ProvenChange::Tombstoned
        | ProvenChange::Counted(_) => None,
    }
}

#[cfg(test)]
mod tests;
