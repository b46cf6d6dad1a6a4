//! Reads the histories of users from the store.
//!
//! Invariants:
//! - Nothing is cached between calls, and a key is looked up after the stream was read. So an answer shows at least everything
//!   that was durable when the request arrived.
//! - A history that fits into one read costs one read. A longer one costs a snapshot too, and not the events before it.
//! - A snapshot is used only if the stream has the event that it names, with the same id.

use super::reservation::UserStatus;
use super::user_history::{HistoryError, SnapshotNeed, UserHistory};
use crate::domain::UserId;
use crate::stored_event::{UserSnapshot, snapshot_stream, user_stream};
use event_streams::{Direction, EventStreams, ReadError, RecordedEvent};
use std::ops::Range;
use uuid::Uuid;

/// How many events one read of a long history returns.
const PAGE: usize = 500;

/// The number of events after which a history is read from a snapshot, unless it is configured.
pub const SNAPSHOT_EVERY: usize = 100;

/// Reads the histories of users.
#[derive(Debug, Clone)]
pub struct UserHistories {
    store: EventStreams,
    /// A history of so many events is read from a snapshot.
    every: usize,
}

/// An event that is looked for, and the revisions that it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sought {
    pub(super) event: Uuid,
    pub(super) revisions: Range<u64>,
}

impl UserHistories {
    /// Reads from this store.
    #[must_use]
    pub fn new(store: EventStreams) -> Self {
        let every = SNAPSHOT_EVERY;
        Self { store, every }
    }

    /// Reads histories of so many events from snapshots.
    #[must_use]
    pub fn snapshot_every(self, every: usize) -> Self {
        let every = every.max(2);
        Self { every, ..self }
    }

    /// Reads the user's history.
    ///
    /// # Errors
    /// If the store is unavailable, or an event cannot be decoded.
    pub async fn read(&self, user: UserId) -> Result<UserHistory, HistoryError> {
        let history = self.read_on(user, UserHistory::default()).await?;
        Ok(history.require_known_events()?)
    }

    /// Reads the user's history in order to erase the user. Events that cannot be decoded do not prevent an erasure, as long as
    /// another event names the user's key.
    ///
    /// # Errors
    /// If the store is unavailable, or an event cannot be decoded and no other event names a key.
    pub async fn read_to_erase(&self, user: UserId) -> Result<UserHistory, HistoryError> {
        let history = self.read_on(user, UserHistory::default()).await?;
        Ok(history.require_key()?)
    }

    /// Reads the user's status. `None` if an event cannot be decoded, unless the user was deleted all the same.
    ///
    /// # Errors
    /// If the store is unavailable.
    pub async fn read_status(&self, user: UserId) -> Result<Option<UserStatus>, HistoryError> {
        let history = self.read_on(user, UserHistory::default()).await?;
        let status = history.status();
        let is_certain = status == UserStatus::Erased || history.require_known_events().is_ok();
        Ok(is_certain.then_some(status))
    }

    /// Reads the user's history, and looks for this event.
    pub(super) async fn read_seeking(
        &self,
        user: UserId,
        sought: &Sought,
    ) -> Result<UserHistory, HistoryError> {
        let history = self
            .read_on(user, UserHistory::seeking(sought.event))
            .await?;
        let end = history.seen_from().unwrap_or(0).min(sought.revisions.end);
        let unseen = sought.revisions.start..end;
        if history.found().is_some() || unseen.is_empty() {
            return Ok(history);
        }
        let found = Box::pin(self.search(user, sought.event, unseen)).await?;
        Ok(history.with_found(found))
    }

    /// Reads the last events, and the snapshot if they are not all.
    async fn read_on(
        &self,
        user: UserId,
        mut history: UserHistory,
    ) -> Result<UserHistory, HistoryError> {
        let stream = user_stream(user);
        let tail = self
            .store
            .read(&stream, Direction::BackwardFromEnd, self.every - 1);
        let mut tail = match tail.await {
            Ok(tail) => tail,
            Err(ReadError::StreamDeleted) => return Ok(UserHistory::of_tombstoned()),
            Err(ReadError::Unavailable(error)) => return Err(error.into()),
        };
        tail.reverse();
        if tail.first().is_none_or(|first| first.revision == 0) {
            for event in &tail {
                history.fold(event);
            }
            let is_long = tail.len() >= self.nearly_all();
            let need = if is_long {
                SnapshotNeed::Soon
            } else {
                SnapshotNeed::None
            };
            return Ok(history.needing(need));
        }
        match self.snapshot(user).await? {
            Some(snapshot) if history.resume(&snapshot, &tail) => {
                let since = history
                    .revision()
                    .unwrap_or(0)
                    .saturating_sub(snapshot.last.1);
                let is_old = since >= self.every as u64 / 2;
                let need = if is_old {
                    SnapshotNeed::Now
                } else {
                    SnapshotNeed::None
                };
                Ok(history.needing(need))
            }
            // Boxed, because it is rare, and every command would carry its state.
            snapshot => Box::pin(self.read_long(user, history, snapshot)).await,
        }
    }

    /// A history of so many events will soon not fit into one read.
    fn nearly_all(&self) -> usize {
        self.every - 1 - self.every / 8
    }

    /// The user's snapshot. `None` if there is none that this program understands.
    async fn snapshot(&self, user: UserId) -> Result<Option<UserSnapshot>, HistoryError> {
        match self.store.read_last(&snapshot_stream(user)).await {
            Ok(last) => Ok(last.and_then(|last| UserSnapshot::decode(&last).ok())),
            Err(ReadError::StreamDeleted) => Ok(None),
            Err(ReadError::Unavailable(error)) => Err(error.into()),
        }
    }

    /// Reads all events, or those since a snapshot that is older than the last events.
    async fn read_long(
        &self,
        user: UserId,
        history: UserHistory,
        snapshot: Option<UserSnapshot>,
    ) -> Result<UserHistory, HistoryError> {
        let mut long = history.clone();
        let mut from = snapshot.as_ref().map_or(0, |snapshot| snapshot.last.1);
        let mut snapshot = snapshot;
        loop {
            let Some(events) = self.page(user, from).await? else {
                return Ok(UserHistory::of_tombstoned());
            };
            let next = events.last().map_or(from, |last| last.revision + 1);
            let is_last = events.len() < PAGE;
            match snapshot.take() {
                Some(snapshot) if !long.resume(&snapshot, &events) => {
                    long = history.clone();
                    from = 0;
                    continue;
                }
                Some(_) => {}
                None => {
                    for event in &events {
                        long.fold(event);
                    }
                }
            }
            if is_last {
                return Ok(long.needing(SnapshotNeed::Now));
            }
            from = next;
        }
    }

    /// The events from this revision on. `None` if the stream is tombstoned.
    async fn page(
        &self,
        user: UserId,
        from: u64,
    ) -> Result<Option<Vec<RecordedEvent>>, HistoryError> {
        let stream = user_stream(user);
        match self
            .store
            .read(&stream, Direction::ForwardFrom(from), PAGE)
            .await
        {
            Ok(events) => Ok(Some(events)),
            Err(ReadError::StreamDeleted) => Ok(None),
            Err(ReadError::Unavailable(error)) => Err(error.into()),
        }
    }

    /// The revision of the event, if it is among these revisions.
    async fn search(
        &self,
        user: UserId,
        event: Uuid,
        mut revisions: Range<u64>,
    ) -> Result<Option<u64>, HistoryError> {
        while !revisions.is_empty() {
            let events = self.page(user, revisions.start).await?.unwrap_or_default();
            if let Some(found) = events.iter().find(|recorded| recorded.id == event) {
                return Ok(Some(found.revision));
            }
            let Some(last) = events.last() else {
                return Ok(None);
            };
            revisions.start = last.revision + 1;
        }
        Ok(None)
    }
}
