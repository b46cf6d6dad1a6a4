//! Reads the histories of users from the store.
//!
//! Invariant: nothing is cached between calls, and a key is looked up after the stream was read. So an answer shows at least
//! everything that was durable when the request arrived.

use super::user_history::{HistoryError, UserHistory};
use crate::domain::UserId;
use crate::stored_event::user_stream;
use event_streams::{Direction, EventStreams, ReadError};
use uuid::Uuid;

/// How many events one read returns.
const PAGE: usize = 500;

/// Reads the histories of users.
#[derive(Debug, Clone)]
pub struct UserHistories {
    store: EventStreams,
}

impl UserHistories {
    /// Reads from this store.
    #[must_use]
    pub fn new(store: EventStreams) -> Self {
        Self { store }
    }

    /// Reads the user's stream to its end.
    ///
    /// # Errors
    /// If the store is unavailable, or an event cannot be decoded.
    pub async fn read(&self, user: UserId) -> Result<UserHistory, HistoryError> {
        let history = self.read_on(user, UserHistory::default()).await?;
        Ok(history.require_known_events()?)
    }

    /// Reads the user's stream in order to erase the user. Events that cannot be decoded do not prevent an erasure, as long as
    /// another event names the user's key.
    ///
    /// # Errors
    /// If the store is unavailable, or an event cannot be decoded and no other event names a key.
    pub async fn read_to_erase(&self, user: UserId) -> Result<UserHistory, HistoryError> {
        let history = self.read_on(user, UserHistory::default()).await?;
        Ok(history.require_key()?)
    }

    /// Reads the user's stream to its end, and looks for the event with this id.
    pub(super) async fn read_seeking(
        &self,
        user: UserId,
        event: Uuid,
    ) -> Result<UserHistory, HistoryError> {
        self.read_on(user, UserHistory::seeking(event)).await
    }

    async fn read_on(
        &self,
        user: UserId,
        mut history: UserHistory,
    ) -> Result<UserHistory, HistoryError> {
        let stream = user_stream(user);
        loop {
            let from = history.revision().map_or(0, |revision| revision + 1);
            let page = self.store.read(&stream, Direction::ForwardFrom(from), PAGE);
            match page.await {
                Ok(events) => {
                    for event in &events {
                        history.fold(event);
                    }
                    if events.len() < PAGE {
                        return Ok(history);
                    }
                }
                Err(ReadError::StreamDeleted) => return Ok(UserHistory::of_tombstoned()),
                Err(ReadError::Unavailable(error)) => return Err(error.into()),
            }
        }
    }
}
