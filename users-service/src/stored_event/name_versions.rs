//! The stored versions of the events that have names, and how the names of an earlier version become today's.
//!
//! Names are sealed, so they are upcast when they are opened: each version says where it keeps each of today's names.

use crate::domain::NameField;
use std::sync::OnceLock;

/// Stored name of [`UserEvent::Created`](crate::domain::UserEvent::Created).
pub const USER_CREATED: &str = "UserCreated.v1";
/// Stored name of [`UserEvent::Patched`](crate::domain::UserEvent::Patched).
pub const USER_PATCHED: &str = "UserPatched.v1";

/// Stored name of [`UserSnapshot`](super::UserSnapshot).
pub const USER_SNAPSHOT: &str = "UserSnapshot.v1";

/// A stored version of an event that has names.
#[derive(Debug)]
pub struct NamesVersion {
    /// The stored name and version.
    pub stored: &'static str,
    /// What the event means today.
    pub meaning: NamesMeaning,
    /// Where this version keeps today's names.
    pub names: &'static [NameSource],
}

/// What an event with names means today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamesMeaning {
    /// [`UserEvent::Created`](crate::domain::UserEvent::Created)
    Created,
    /// [`UserEvent::Patched`](crate::domain::UserEvent::Patched)
    Patched,
}

/// Where a version keeps one of today's names.
#[derive(Debug)]
pub struct NameSource {
    /// The name of today.
    pub field: NameField,
    /// The stored member.
    pub member: &'static str,
    /// Makes the name of today from the value of the member.
    pub upcast: fn(String) -> String,
}

impl PartialEq for NamesVersion {
    fn eq(&self, other: &Self) -> bool {
        self.stored == other.stored
    }
}

impl Eq for NamesVersion {}

/// Where today's versions keep the names: each in a member of its own.
const TODAY: [NameSource; 3] = [
    unchanged(NameField::Username),
    unchanged(NameField::GivenName),
    unchanged(NameField::FamilyName),
];

const fn unchanged(field: NameField) -> NameSource {
    NameSource {
        field,
        member: field.as_str(),
        upcast: std::convert::identity,
    }
}

/// Today's version of a creation.
pub(super) static CREATED: NamesVersion = NamesVersion {
    stored: USER_CREATED,
    meaning: NamesMeaning::Created,
    names: &TODAY,
};

/// Today's version of a patch.
pub(super) static PATCHED: NamesVersion = NamesVersion {
    stored: USER_PATCHED,
    meaning: NamesMeaning::Patched,
    names: &TODAY,
};

/// A snapshot holds all names, as a creation does. It is not in a user's stream.
pub(super) static SNAPSHOT: NamesVersion = NamesVersion {
    stored: USER_SNAPSHOT,
    meaning: NamesMeaning::Created,
    names: &TODAY,
};

static MORE: OnceLock<&'static [NamesVersion]> = OnceLock::new();

/// Makes this process read more versions than its own, from now on. Only the first call counts.
///
/// Tests add a version in this way. An old version that was really stored belongs into this module.
pub fn read_more_versions(versions: &'static [NamesVersion]) {
    MORE.get_or_init(|| versions);
}

/// The version with this stored name.
pub(super) fn version(stored: &str) -> Option<&'static NamesVersion> {
    let more = MORE.get().copied().unwrap_or_default();
    let mut all = [&CREATED, &PATCHED].into_iter().chain(more);
    all.find(|version| version.stored == stored)
}
