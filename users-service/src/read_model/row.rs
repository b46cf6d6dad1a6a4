//! A row of the read model.

use crate::domain::NameField;
use crate::privacy::cipher::{KeyId, Sealed};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The revision in the row of a deleted user. No event has a higher one.
pub const ERASED: u64 = i64::MAX as u64;

/// What the read model knows of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The revision of the last event applied.
    pub revision: u64,
    /// The id of that event. `None` if an earlier version applied it, which kept no ids; then the log has to confirm the row.
    pub event: Option<Uuid>,
    /// The user's data. `None` if the user is deleted, or the key is destroyed.
    pub profile: Option<SealedProfile>,
}

/// A user's data, sealed under the user's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedProfile {
    /// The user's key.
    pub key: KeyId,
    /// The names, sealed for the read model.
    pub names: BTreeMap<NameField, Sealed>,
}

impl Row {
    /// Whether the user is deleted, and the log has confirmed it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.revision == ERASED && self.event.is_some()
    }
}
