//! Writes snapshots of users, so that a long history is not read from its beginning.
//!
//! Invariants:
//! - A snapshot is written beside the answer. If it fails, nothing else does.
//! - A snapshot needs no lock: it expects the revision of the snapshot before it, and a reader checks it against the user's
//!   stream.
//! - After an erasure the stream of snapshots is tombstoned, so a late snapshot is refused.

use super::user_history::{SnapshotNeed, UserHistory};
use crate::domain::UserId;
use crate::privacy::cipher::SubjectKey;
use crate::stored_event::{UserSnapshot, snapshot_stream};
use event_streams::{AppendError, EventStreams, Expected, ReadError};
use std::sync::Arc;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// The most snapshots that are written at the same time. A snapshot that is not written now is written by a later command.
const AT_ONCE: u32 = 8;

/// Writes snapshots.
#[derive(Debug, Clone)]
pub(super) struct Snapshots {
    store: EventStreams,
    permits: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
enum SnapshotError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Snapshots {
    pub(super) fn new(store: EventStreams) -> Self {
        let permits = Arc::new(Semaphore::new(AT_ONCE as usize));
        Self { store, permits }
    }

    /// Returns when no snapshot is being written.
    pub(super) async fn settled(&self) {
        // The semaphore is never closed.
        let _ = self.permits.acquire_many(AT_ONCE).await;
    }

    /// Writes a snapshot of this history in the background.
    pub(super) fn write_later(&self, user: UserId, history: &UserHistory, key: &SubjectKey) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return;
        };
        let Some(snapshot) = history.snapshot(user, key) else {
            return;
        };
        let (store, need) = (self.store.clone(), history.need());
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = write(&store, user, snapshot, need).await {
                tracing::debug!(%error, "a snapshot was not written");
            }
        });
    }
}

async fn write(
    store: &EventStreams,
    user: UserId,
    snapshot: UserSnapshot,
    need: SnapshotNeed,
) -> Result<(), SnapshotError> {
    let stream = snapshot_stream(user);
    let expected = if let Some(last) = store.read_last(&stream).await? {
        if need == SnapshotNeed::Soon && UserSnapshot::decode(&last).is_ok() {
            return Ok(());
        }
        Expected::Revision(last.revision)
    } else {
        store.set_max_count(&stream, 1).await?;
        Expected::NoStream
    };
    let snapshot = vec![snapshot.encode(Uuid::new_v4(), user)];
    store.append(&stream, expected, snapshot).await?;
    Ok(())
}
