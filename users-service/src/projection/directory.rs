//! The fold of the read model: how an event changes its user's row.
//!
//! This module is pure. It does not know storage, transport or keys; names arrive sealed for the read model.

use crate::domain::UserId;
use crate::read_model::{ERASED, Row, SealedProfile};
use std::cmp::Ordering;
use uuid::Uuid;

/// An event as the read model needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEvent {
    /// The event's id.
    pub id: Uuid,
    /// The user.
    pub user: UserId,
    /// Its number among the user's events.
    pub revision: u64,
    /// How it changes the row.
    pub effect: Effect,
}

/// How an event changes a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Sets all names.
    Begin(SealedProfile),
    /// Changes these names. They must be sealed under the same key as the row's names.
    Change(SealedProfile),
    /// Removes the data, because the key is destroyed.
    Forget,
    /// Changes nothing but the revision.
    Nothing,
    /// The user is deleted.
    Erase,
}

/// The decision about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The event was applied before.
    Duplicate,
    /// The event is applied, and this is the new row.
    Apply(Row),
    /// Earlier events are missing, or the names are sealed under another key than the row's. The log has to be read.
    Gap,
    /// The row has, or may have, another event at this revision. It has to be rebuilt from the log.
    Conflict,
}

/// Judges an event by the row that is there.
#[must_use]
pub fn judge(row: Option<&Row>, event: &DirectoryEvent) -> Verdict {
    match row {
        Some(row) if row.is_final() => Verdict::Duplicate,
        _ if event.effect == Effect::Erase => Verdict::Apply(Row {
            revision: ERASED,
            event: Some(event.id),
            profile: None,
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
            profile: evolve(row.and_then(|row| row.profile.clone()), &event.effect),
        }),
    }
}

fn is_of_another_key(row: Option<&Row>, effect: &Effect) -> bool {
    let profile = row.and_then(|row| row.profile.as_ref());
    matches!((profile, effect), (Some(profile), Effect::Change(changed)) if profile.key != changed.key)
}

fn evolve(profile: Option<SealedProfile>, effect: &Effect) -> Option<SealedProfile> {
    match effect {
        Effect::Begin(profile) => Some(profile.clone()),
        Effect::Change(changed) => profile.map(|mut profile| {
            profile.names.extend(changed.names.clone());
            profile
        }),
        Effect::Nothing => profile,
        Effect::Forget | Effect::Erase => None,
    }
}

#[cfg(test)]
mod tests;
