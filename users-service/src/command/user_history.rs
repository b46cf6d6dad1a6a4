//! The history of a user: all events of the user's stream. It is read without a key, and opened later.
//!
//! Invariant: nothing is cached between calls, and a key is looked up after the stream was read. So an answer shows at least
//! everything that was durable when the request arrived.

use super::reservation::UserStatus;
use crate::domain::{Claim, User, UserEvent, UserId, UserState};
use crate::privacy::cipher::{KeyId, SubjectKey};
use crate::privacy::subject_keys::{KeysError, Lookup, SubjectKeys};
use crate::stored_event::{SealedNames, StoredEvent, Undecodable, Unopened, user_stream};
use event_streams::{Direction, EventStreams, ReadError, RecordedEvent, Unavailable};

/// How many events one read returns.
const PAGE: usize = 500;

/// All events of one user's stream, with sealed personal values.
#[derive(Debug, Clone, Default)]
pub struct UserHistory {
    events: Vec<StoredEvent>,
    /// The error of the first event that this program cannot decode.
    foreign: Option<Undecodable>,
    revision: Option<u64>,
    tombstoned: bool,
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
    /// Reads the user's stream to its end.
    ///
    /// # Errors
    /// If the store is unavailable, or an event cannot be decoded.
    pub async fn read(store: &EventStreams, user: UserId) -> Result<Self, HistoryError> {
        let history = Self::read_to_erase(store, user).await?;
        match history.foreign {
            Some(error) => Err(error.into()),
            None => Ok(history),
        }
    }

    /// Reads the user's stream in order to erase the user. Events that cannot be decoded do not prevent an erasure, as long as
    /// another event names the user's key.
    ///
    /// # Errors
    /// If the store is unavailable, or an event cannot be decoded and no other event names a key.
    pub async fn read_to_erase(store: &EventStreams, user: UserId) -> Result<Self, HistoryError> {
        let stream = user_stream(user);
        let mut history = Self::default();
        loop {
            let from = history.revision.map_or(0, |revision| revision + 1);
            let page = store.read(&stream, Direction::ForwardFrom(from), PAGE);
            match page.await {
                Ok(events) => {
                    history.extend(&events);
                    if events.len() < PAGE {
                        return history.require_key();
                    }
                }
                Err(ReadError::StreamDeleted) => return Ok(Self::tombstoned()),
                Err(ReadError::Unavailable(error)) => return Err(error.into()),
            }
        }
    }

    fn tombstoned() -> Self {
        Self {
            tombstoned: true,
            ..Self::default()
        }
    }

    fn extend(&mut self, events: &[RecordedEvent]) {
        for event in events {
            match StoredEvent::decode(event) {
                Ok(event) => self.events.push(event),
                Err(error) => {
                    self.foreign.get_or_insert(error);
                }
            }
            self.revision = Some(event.revision);
        }
    }

    /// Fails if the history has an event that cannot be decoded, and no key.
    fn require_key(self) -> Result<Self, HistoryError> {
        match (&self.foreign, self.key()) {
            (Some(foreign), None) => Err(foreign.clone().into()),
            (Some(_) | None, _) => Ok(self),
        }
    }

    /// The user's status, which is known without any key.
    #[must_use]
    pub fn status(&self) -> UserStatus {
        if self.tombstoned {
            return UserStatus::Erased;
        }
        match (self.claim(), self.revision) {
            _ if self.events.contains(&StoredEvent::Deleted) => UserStatus::Erased,
            (Some(claim), Some(revision)) => UserStatus::Active {
                claim: claim.clone(),
                revision,
            },
            _ if self.events.is_empty() => UserStatus::Absent,
            _ => UserStatus::Abandoned,
        }
    }

    /// The key of the user. `None` if there never was personal data, or the stream is tombstoned.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        self.sealed().next().map(|names| names.key)
    }

    /// The last committed claim.
    #[must_use]
    pub fn claim(&self) -> Option<&Claim> {
        self.sealed().next_back().map(|names| &names.claim)
    }

    /// The revision of the last event. `None` if there is no event, or the stream is tombstoned.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.revision
    }

    fn sealed(&self) -> impl DoubleEndedIterator<Item = &SealedNames> {
        self.events.iter().filter_map(StoredEvent::sealed)
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

    /// The state of the user, opened with this key.
    ///
    /// # Errors
    /// If a value does not open.
    pub fn open(&self, key: &SubjectKey) -> Result<UserState, HistoryError> {
        let open = |event: &StoredEvent| event.open(key);
        let events: Vec<UserEvent> = self.events.iter().map(open).collect::<Result<_, _>>()?;
        Ok(event_sourcing::fold::<User>(&events))
    }
}
