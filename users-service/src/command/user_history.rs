//! The history of a user, folded from the events of the user's stream one by one. No event is kept, and no key is needed
//! until the names are opened.

use super::reservation::UserStatus;
use crate::domain::{ActiveUser, Claim, UserId, UserState};
use crate::privacy::cipher::{KeyId, SubjectKey};
use crate::privacy::subject_keys::{KeysError, Lookup, SubjectKeys};
use crate::stored_event::{
    CurrentNames, SealedNames, StoredEvent, Undecodable, Unopened, UserSnapshot,
};
use event_streams::{RecordedEvent, Unavailable};
use uuid::Uuid;

/// What the events of one user's stream say, with sealed personal values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserHistory {
    /// Whether there is an event of any known type.
    known: bool,
    deleted: bool,
    tombstoned: bool,
    /// The last committed claim.
    claim: Option<Claim>,
    key: Option<KeyId>,
    /// The current names, if the user was created.
    profile: Option<CurrentNames>,
    last: Option<LastEvent>,
    changed: Option<u64>,
    /// The error of the first event that this program cannot decode.
    foreign: Option<Undecodable>,
    /// An event that is looked for.
    sought: Option<Uuid>,
    /// The revision of the event that is looked for.
    found: Option<u64>,
    /// The first event that was folded, or looked at.
    seen_from: Option<u64>,
    need: SnapshotNeed,
}

/// Whether a history needs a snapshot, so that the next read is short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum SnapshotNeed {
    #[default]
    None,
    /// The history still fits into one read, but not for long. A command that adds to it should write a snapshot.
    Soon,
    /// The last snapshot is old, or there is none.
    Now,
}

/// The last event of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastEvent {
    /// The event's id.
    pub id: Uuid,
    /// The event's revision.
    pub revision: u64,
}

/// Whether a user is active.
#[derive(Debug, Clone)]
pub enum Activity {
    /// The user is active and has this key.
    Active(SubjectKey),
    /// The user is not active, and has this state.
    Inactive(UserState),
}

/// A history cannot be read or opened. Contains no personal data.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The event store is unavailable.
    #[error(transparent)]
    Store(#[from] Unavailable),
    /// An event is unknown or malformed.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// A value does not open, or is missing.
    #[error(transparent)]
    Unopened(#[from] Unopened),
    /// The key store failed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The key is neither in the key store nor destroyed. This is not an erasure.
    #[error("key {0} is lost")]
    KeyLost(KeyId),
}

impl UserHistory {
    /// A history without events, which looks for the event with this id.
    pub(super) fn seeking(event: Uuid) -> Self {
        Self {
            sought: Some(event),
            ..Self::default()
        }
    }

    /// The history of a tombstoned stream.
    pub(super) fn of_tombstoned() -> Self {
        Self {
            tombstoned: true,
            ..Self::default()
        }
    }

    /// Looks at an event without folding it.
    fn look_at(&mut self, event: &RecordedEvent) {
        self.seen_from.get_or_insert(event.revision);
        if self.sought == Some(event.id) {
            self.found = Some(event.revision);
        }
    }

    /// Goes on from a snapshot with the events that follow it. Returns false if the events do not include the one that the
    /// snapshot names: then the snapshot does not belong to this stream.
    pub(super) fn resume(&mut self, snapshot: &UserSnapshot, events: &[RecordedEvent]) -> bool {
        let (id, revision) = snapshot.last;
        let last = events
            .iter()
            .position(|event| (event.id, event.revision) == (id, revision));
        let Some(last) = last else {
            return false;
        };
        let (before, after) = events.split_at(last + 1);
        for event in before {
            self.look_at(event);
        }
        self.known = true;
        self.claim = Some(snapshot.names.claim.clone());
        self.key = Some(snapshot.names.key);
        self.profile = Some(CurrentNames::of_snapshot(&snapshot.names));
        self.last = Some(LastEvent { id, revision });
        self.changed = Some(snapshot.changed);
        for event in after {
            self.fold(event);
        }
        true
    }

    /// Notes whether the history needs a snapshot, so that later reads are short.
    pub(super) fn needing(self, need: SnapshotNeed) -> Self {
        Self { need, ..self }
    }

    /// Adds the next event of the stream.
    pub(super) fn fold(&mut self, event: &RecordedEvent) {
        self.look_at(event);
        let (id, revision) = (event.id, event.revision);
        self.last = Some(LastEvent { id, revision });
        let event = match StoredEvent::decode(event) {
            Ok(event) => event,
            Err(error) => {
                self.foreign.get_or_insert(error);
                return;
            }
        };
        self.known = true;
        match event {
            StoredEvent::Created(names) => {
                self.profile = Some(CurrentNames::default());
                self.change(revision, &names);
            }
            StoredEvent::Patched(names) => self.change(revision, &names),
            StoredEvent::Deleted => {
                self.deleted = true;
                self.changed = Some(revision);
            }
            StoredEvent::RegistrationAbandoned | StoredEvent::RenameFenced => {}
        }
    }

    fn change(&mut self, revision: u64, names: &SealedNames) {
        self.claim = Some(names.claim.clone());
        self.key.get_or_insert(names.key);
        self.changed = Some(revision);
        if let Some(profile) = &mut self.profile {
            profile.merge(names);
        }
    }

    /// Fails if an event cannot be decoded.
    pub(super) fn require_known_events(self) -> Result<Self, Undecodable> {
        match self.foreign {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// Fails if an event cannot be decoded and no other event names a key.
    pub(super) fn require_key(self) -> Result<Self, Undecodable> {
        match (self.foreign, self.key) {
            (Some(foreign), None) => Err(foreign),
            (foreign, _) => Ok(Self { foreign, ..self }),
        }
    }

    /// The user's status, which is known without any key.
    #[must_use]
    pub fn status(&self) -> UserStatus {
        match (&self.claim, self.revision()) {
            _ if self.tombstoned || self.deleted => UserStatus::Erased,
            (Some(claim), Some(revision)) => UserStatus::Active {
                claim: claim.clone(),
                revision,
            },
            _ if self.known => UserStatus::Abandoned,
            _ => UserStatus::Absent,
        }
    }

    /// The key of the user. `None` if there never was personal data, or the stream is tombstoned.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        self.key
    }

    /// The last committed claim.
    #[must_use]
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// The revision of the last event. `None` if there is no event, or the stream is tombstoned.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.last.map(|last| last.revision)
    }

    /// The revision of the last event that changed the user. A fence changes nothing.
    #[must_use]
    pub fn changed(&self) -> Option<u64> {
        self.changed
    }

    /// The revision of the event that was looked for, if the stream has it.
    pub(super) fn found(&self) -> Option<u64> {
        self.found
    }

    /// The same history, whose event was found by a search among earlier events.
    pub(super) fn with_found(self, found: Option<u64>) -> Self {
        Self { found, ..self }
    }

    /// The revision of the first event that was folded or looked at.
    pub(super) fn seen_from(&self) -> Option<u64> {
        self.seen_from
    }

    /// Whether the history needs a snapshot.
    pub(super) fn need(&self) -> SnapshotNeed {
        self.need
    }

    /// A snapshot of the history. `None` if the user is not active, or the names do not open with the key.
    pub(super) fn snapshot(&self, user: UserId, key: &SubjectKey) -> Option<UserSnapshot> {
        let UserStatus::Active { claim, .. } = self.status() else {
            return None;
        };
        let profile = self.profile.as_ref()?.open(key).ok()?;
        let last = self.last?;
        Some(UserSnapshot {
            names: UserSnapshot::seal(user, profile, &claim, key),
            last: (last.id, last.revision),
            changed: self.changed?,
        })
    }

    /// Whether the user is active, according to the stream and the key store. No sealed value is opened.
    ///
    /// # Errors
    /// If the key store fails or has lost the key.
    pub async fn activity(&self, keys: &SubjectKeys) -> Result<Activity, HistoryError> {
        let state = match (self.status(), self.key()) {
            (UserStatus::Absent, _) => UserState::Absent,
            (UserStatus::Erased, _) => UserState::Erased,
            (UserStatus::Abandoned, _) | (UserStatus::Active { .. }, None) => UserState::Abandoned,
            (UserStatus::Active { .. }, Some(id)) => match keys.find(id).await? {
                Lookup::Destroyed => UserState::Erased,
                Lookup::Missing => return Err(HistoryError::KeyLost(id)),
                Lookup::Found(key) => return Ok(Activity::Active(key)),
            },
        };
        Ok(Activity::Inactive(state))
    }

    /// The state of an active user, opened with this key.
    ///
    /// # Errors
    /// If a value does not open.
    pub fn open(&self, key: &SubjectKey) -> Result<UserState, HistoryError> {
        let (Some(profile), Some(claim)) = (&self.profile, &self.claim) else {
            return Ok(UserState::Absent);
        };
        let profile = profile.open(key)?;
        let claim = claim.clone();
        Ok(UserState::Active(ActiveUser { profile, claim }))
    }
}

#[cfg(test)]
mod tests;
