//! The fold of the read model: what an event does to its user's row.
//!
//! Pure: knows nothing of storage, transport or keys; names come sealed for the read model.

use crate::domain::{NameField, UserId};
use crate::privacy::cipher::{KeyId, Sealed};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use uuid::Uuid;

/// The revision of a user who is deleted: no event has a higher one.
pub const ERASED: u64 = i64::MAX as u64;

/// What the read model knows of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Of the last event applied.
    pub revision: u64,
    /// The id of that event; none if an earlier version applied it, which kept no ids: the log has to confirm the row.
    pub event: Option<Uuid>,
    /// The user's data; none if there never was any, or there is none any more.
    pub entry: Option<Entry>,
}

/// A user's data, sealed under the user's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The user's key.
    pub key: KeyId,
    /// The names, sealed for the read model.
    pub names: BTreeMap<NameField, Sealed>,
}

/// An event as the read model needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEvent {
    /// Its id.
    pub id: Uuid,
    /// Whose event it is.
    pub user: UserId,
    /// Its number among the user's events.
    pub revision: u64,
    /// What it does.
    pub effect: Effect,
}

/// What an event does to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// All names are there from here on.
    Begin(Entry),
    /// These names are different from here on. They only go with names under the same key.
    Change(Entry),
    /// The key is destroyed: no data is kept.
    Forget,
    /// Only the revision counts.
    Nothing,
    /// The user is deleted.
    Erase,
}

/// What to do with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was applied before.
    Duplicate,
    /// This is the row from here on.
    Apply(Row),
    /// Events before it are missing, or its names are under another key than the row's: only the log tells.
    Gap,
    /// Another event has its place in the row, or may have: the row has to be made anew from the log.
    Conflict,
}

impl Row {
    /// Whether the user is deleted, and the log has confirmed it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.revision == ERASED && self.event.is_some()
    }
}

/// Judges an event by the row that is there.
#[must_use]
pub fn judge(row: Option<&Row>, event: &DirectoryEvent) -> Verdict {
    match row {
        Some(row) if row.is_final() => Verdict::Duplicate,
        _ if event.effect == Effect::Erase => Verdict::Apply(Row {
            revision: ERASED,
            event: Some(event.id),
            entry: None,
        }),
        Some(row) if row.event.is_none() => Verdict::Conflict,
        Some(row) if row.revision == event.revision && row.event != Some(event.id) => {
            Verdict::Conflict
        }
        _ => judge_place(row, event),
    }
}

fn judge_place(row: Option<&Row>, event: &DirectoryEvent) -> Verdict {
    let next = row.map_or(0, |row| row.revision.saturating_add(1));
    match event.revision.cmp(&next) {
        Ordering::Less => Verdict::Duplicate,
        Ordering::Greater => Verdict::Gap,
        Ordering::Equal if is_of_another_key(row, &event.effect) => Verdict::Gap,
        Ordering::Equal => Verdict::Apply(Row {
            revision: event.revision,
            event: Some(event.id),
            entry: evolve(row.and_then(|row| row.entry.clone()), &event.effect),
        }),
    }
}

fn is_of_another_key(row: Option<&Row>, effect: &Effect) -> bool {
    let entry = row.and_then(|row| row.entry.as_ref());
    matches!((entry, effect), (Some(entry), Effect::Change(changed)) if entry.key != changed.key)
}

fn evolve(entry: Option<Entry>, effect: &Effect) -> Option<Entry> {
    match effect {
        Effect::Begin(entry) => Some(entry.clone()),
        Effect::Change(changed) => entry.map(|mut entry| {
            entry.names.extend(changed.names.clone());
            entry
        }),
        Effect::Nothing => entry,
        Effect::Forget | Effect::Erase => None,
    }
}

#[cfg(test)]
mod tests;
