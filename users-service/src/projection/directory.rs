//! The fold of the read model: what an event does to its user's row.
//!
//! Pure: knows nothing of storage, transport or keys; names come sealed for the read model.

use crate::domain::UserId;
use crate::read_model::{ERASED, Row, SealedProfile};
use std::cmp::Ordering;
use uuid::Uuid;

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
    Begin(SealedProfile),
    /// These names are different from here on. They only go with names under the same key.
    Change(SealedProfile),
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
