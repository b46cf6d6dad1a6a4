//! What a user's stream says: read whole, first without any key, then opened.
//!
//! Invariant: nothing is remembered between calls, and a key is looked up after the stream was read, so whoever is
//! answered from here is answered from what was durable when the request came.

use super::reservation::UserStatus;
use crate::domain::{Claim, User, UserEvent, UserId, UserState};
use crate::privacy::cipher::{KeyId, SubjectKey};
use crate::privacy::subject_keys::{KeysError, Lookup, SubjectKeys};
use crate::stored_event::{SealedNames, StoredEvent, Undecodable, Unopened, user_stream};
use event_streams::{Direction, EventStreams, ReadError, RecordedEvent, Unavailable};

/// How many events are asked for at once.
const PAGE: usize = 500;

/// All events of one user's stream, still sealed.
#[derive(Debug, Clone, Default)]
pub struct UserHistory {
    events: Vec<StoredEvent>,
    /// The first event that is no event of a user, as far as this program knows.
    foreign: Option<Undecodable>,
    revision: Option<u64>,
    tombstoned: bool,
}

/// Whether a user lives.
#[derive(Debug, Clone)]
pub enum Life {
    /// Under this key.
    Alive(SubjectKey),
    /// Not yet, or no more.
    Over(UserState),
}

/// Why a history could not be read or unsealed. Holds no personal data.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The event store is away.
    #[error(transparent)]
    Store(#[from] Unavailable),
    /// An event is unknown or malformed.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// A value does not open, or is none.
    #[error(transparent)]
    Unopened(#[from] Unopened),
    /// The key store failed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The key is neither there nor destroyed. This is no erasure.
    #[error("key {0} is lost")]
    KeyLost(KeyId),
}

impl UserHistory {
    /// Reads the user's stream to its end.
    ///
    /// # Errors
    /// When the store is away, or an event cannot be understood.
    pub async fn read(store: &EventStreams, user: UserId) -> Result<Self, HistoryError> {
        let history = Self::read_to_erase(store, user).await?;
        match history.foreign {
            Some(error) => Err(error.into()),
            None => Ok(history),
        }
    }

    /// [`read`](Self::read) for who erases the user: what somebody else wrote to the stream does not prevent that, as long
    /// as the user's key is known.
    ///
    /// # Errors
    /// When the store is away, or no event that can be understood names a key.
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
                        return history.with_key();
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

    fn with_key(self) -> Result<Self, HistoryError> {
        match (&self.foreign, self.key()) {
            (Some(foreign), None) => Err(foreign.clone().into()),
            (Some(_) | None, _) => Ok(self),
        }
    }

    /// What the stream says without any key.
    #[must_use]
    pub fn status(&self) -> UserStatus {
        if self.tombstoned {
            return UserStatus::Erased;
        }
        match (self.claim(), self.revision) {
            _ if self.events.contains(&StoredEvent::Deleted) => UserStatus::Erased,
            (Some(claim), Some(revision)) => UserStatus::Alive {
                claim: claim.clone(),
                revision,
            },
            _ if self.events.is_empty() => UserStatus::Absent,
            _ => UserStatus::Abandoned,
        }
    }

    /// The key that the user's data is sealed under; none if there never was any data, or the stream is tombstoned.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        self.sealed().next().map(|names| names.key)
    }

    /// The claim that was committed last.
    #[must_use]
    pub fn claim(&self) -> Option<&Claim> {
        self.sealed().next_back().map(|names| &names.claim)
    }

    /// The revision of the last event; none if there is none, or the stream is tombstoned.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.revision
    }

    fn sealed(&self) -> impl DoubleEndedIterator<Item = &SealedNames> {
        self.events.iter().filter_map(StoredEvent::sealed)
    }

    /// Whether the user lives, as the stream and the key store say now; no sealed value is opened for it.
    ///
    /// # Errors
    /// When the key store fails or lost the key.
    pub async fn life(&self, keys: &SubjectKeys) -> Result<Life, HistoryError> {
        let over = match (self.status(), self.key()) {
            (UserStatus::Absent, _) => UserState::Absent,
            (UserStatus::Erased, _) => UserState::Erased,
            (UserStatus::Abandoned, _) | (UserStatus::Alive { .. }, None) => UserState::Abandoned,
            (UserStatus::Alive { .. }, Some(id)) => match keys.find(id).await? {
                Lookup::Destroyed => UserState::Erased,
                Lookup::Missing => return Err(HistoryError::KeyLost(id)),
                Lookup::Found(key) => return Ok(Life::Alive(key)),
            },
        };
        Ok(Life::Over(over))
    }

    /// The user, opened with this key.
    ///
    /// # Errors
    /// When a value does not open.
    pub fn open(&self, key: &SubjectKey) -> Result<UserState, HistoryError> {
        let open = |event: &StoredEvent| event.open(key);
        let events: Vec<UserEvent> = self.events.iter().map(open).collect::<Result<_, _>>()?;
        Ok(event_sourcing::fold::<User>(&events))
    }
}
