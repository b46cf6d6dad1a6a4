//! A row of the directory, and how events change it. Pure but for the nonces of seals.

use crate::domain::NameField;
use crate::integration::message::ClearNames;
use crate::privacy::cipher::{DoesNotOpen, KeyId, Place, Sealed, SubjectKey};
use crate::privacy::search_secret::SearchSecret;
use crate::read_model::search_terms::terms;
use crate::read_model::{OpenedNames, ProvenChange, UserChanges};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A user that is not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The time of creation, in milliseconds since the Unix epoch.
    pub(super) created: u64,
    /// The user's key.
    pub(super) key: KeyId,
    /// The names, sealed for this generation.
    pub(super) names: BTreeMap<NameField, Sealed>,
    pub(super) terms: SearchTerms,
}

/// The terms of the names that users are found by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SearchTerms {
    username: Vec<i64>,
    family_name: Vec<i64>,
}

impl SearchTerms {
    pub(super) fn all(&self) -> BTreeSet<i64> {
        let all = self.username.iter().chain(&self.family_name);
        all.copied().collect()
    }
}

/// What rows are made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Making<'a> {
    pub(super) secret: &'a SearchSecret,
    pub(super) generation: u32,
}

/// Whether the events may change the row.
pub(super) fn concerns(changes: &UserChanges<'_>) -> bool {
    let changes_nothing = |change: &ProvenChange| matches!(change, ProvenChange::Nothing);
    let mut events = changes.events.iter();
    changes.anew || !events.all(|event| changes_nothing(&event.change))
}

/// Whether there may be a row. There is none before a user's first event.
pub(super) fn may_exist(changes: &UserChanges<'_>) -> bool {
    let first = changes.events.first();
    changes.anew || first.is_none_or(|event| event.revision > 0)
}

impl Making<'_> {
    /// The row after these events. `None` if the user is deleted, was not created, or the key is destroyed.
    pub(super) fn evolve(self, row: Option<Row>, changes: &UserChanges<'_>) -> Option<Row> {
        let mut row = row.filter(|_| !changes.anew);
        for event in &changes.events {
            row = match &event.change {
                ProvenChange::Created(Some(names)) => {
                    let empty = Row {
                        created: event.created,
                        key: names.key.id(),
                        names: BTreeMap::new(),
                        terms: SearchTerms::default(),
                    };
                    Some(self.changed(empty, names))
                }
                ProvenChange::Patched(Some(names)) => row.map(|row| self.changed(row, names)),
                ProvenChange::Nothing => row,
                ProvenChange::Created(None)
                | ProvenChange::Patched(None)
                | ProvenChange::Deleted
                | ProvenChange::Tombstoned
                | ProvenChange::Counted(_) => None,
            };
        }
        row
    }

    fn changed(self, mut row: Row, opened: &OpenedNames) -> Row {
        let generation = generation_text(self.generation);
        for (&field, name) in &opened.names {
            let sealed = opened.key.seal(place(&generation, field), name);
            row.names.insert(field, sealed);
            let terms = terms(self.secret, field, name);
            match field {
                NameField::Username => row.terms.username = terms,
                NameField::FamilyName => row.terms.family_name = terms,
                NameField::GivenName => {}
            }
        }
        row
    }
}

/// Opens the names of a row of this generation.
pub(super) fn open(
    row: &Row,
    key: &SubjectKey,
    generation: u32,
) -> Result<ClearNames, DoesNotOpen> {
    let generation = generation_text(generation);
    let open = |(&field, sealed): (&NameField, &Sealed)| {
        Ok((field, key.open(place(&generation, field), sealed)?))
    };
    row.names.iter().map(open).collect()
}

fn generation_text(generation: u32) -> String {
    format!("g{generation}")
}

/// The place that names are sealed for. A name of one generation does not open in another one.
fn place(generation: &str, field: NameField) -> Place<'_> {
    Place {
        container: "directory",
        event_type: generation,
        field: field.as_str(),
    }
}

#[cfg(test)]
mod tests;
