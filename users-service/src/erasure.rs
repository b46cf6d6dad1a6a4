//! The steps of an erasure. Every step can be repeated, so an interrupted erasure is simply resumed.
//!
//! The order: append `UserDeleted` to the user's stream, append a tombstone to the stream `users`, destroy the key, release
//! the name, and, when the publisher is past the stream's last event, count the user's events, and tombstone the user's stream. (A
//! journal belongs in
//! [`Erasure::erase`], before its first write. Waiting for recipients belongs in the eraser's last step.)

use crate::domain::{Claim, UserId};
use crate::privacy::cipher::KeyId;
use crate::privacy::subject_keys::{KeysError, SubjectKeys};
use crate::stored_event::{
    ReservationEvent, TOMBSTONES, UserCount, snapshot_streams, tombstone, user_stream,
};
use event_streams::{AppendError, Direction, EventStreams, Expected, ReadError, Unavailable};
use uuid::Uuid;

/// The namespace of the ids of tombstones. A tombstone's id is derived from the user, so the store recognises a repeated
/// append. This is safe because a tombstone is not a fence.
const TOMBSTONE_IDS: Uuid = Uuid::from_u128(0x6f0e_9a4c_6d3b_4b57_9b1e_7a50_2c1d_8e33);

/// The namespace of the ids of counts, for the same reason.
const COUNT_IDS: Uuid = Uuid::from_u128(0x2b8e_51f7_93d0_4c1a_8f65_d1c7_4e09_ab42);
/// How many events of a stream are read at once.
const PAGE: usize = 500;

/// The steps of an erasure that follow `UserDeleted`.
#[derive(Debug, Clone)]
pub struct Erasure {
    store: EventStreams,
    keys: SubjectKeys,
}

/// A step failed. The whole erasure can be retried.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// The event store failed.
    #[error(transparent)]
    Store(#[from] AppendError),
    /// The user's stream cannot be read.
    #[error(transparent)]
    Read(#[from] Unavailable),
    /// The key store failed.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl Erasure {
    /// Uses these stores.
    #[must_use]
    pub fn new(store: EventStreams, keys: SubjectKeys) -> Self {
        Self { store, keys }
    }

    /// Appends the tombstone that outlives the user, then destroys the key. Both are durable when this returns.
    ///
    /// # Errors
    /// If a store fails.
    pub async fn erase(&self, user: UserId, key: KeyId) -> Result<(), ErasureError> {
        let id = Uuid::new_v5(&TOMBSTONE_IDS, &user.number().to_be_bytes());
        // All users share this stream, so no revision is expected. Its readers accept a repeated tombstone.
        let tombstone = vec![tombstone(id, user)];
        self.store
            .append(TOMBSTONES, Expected::Any, tombstone)
            .await?;
        Ok(self.keys.destroy(key).await?)
    }

    /// Releases a reservation, unless it has changed since this claim.
    ///
    /// # Errors
    /// If the store is unavailable. A conflict is not an error.
    pub async fn release(&self, claim: &Claim) -> Result<(), ErasureError> {
        let released = vec![ReservationEvent::Released.encode(Uuid::new_v4())];
        let expected = Expected::Revision(claim.revision);
        let reservation = claim.reservation.as_str();
        match self.store.append(reservation, expected, released).await {
            Ok(_) | Err(AppendError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Appends what is counted of the user's events to the stream of tombstones. It outlives the events, without personal data.
    /// Does nothing if the user's stream is tombstoned: it was counted before.
    ///
    /// # Errors
    /// If the store is unavailable.
    pub(crate) async fn count(&self, user: UserId) -> Result<(), ErasureError> {
        let stream = user_stream(user);
        let mut count = UserCount::default();
        let mut from = 0;
        loop {
            let page = self.store.read(&stream, Direction::ForwardFrom(from), PAGE);
            let page = match page.await {
                Ok(page) => page,
                Err(ReadError::StreamDeleted) => return Ok(()),
                Err(ReadError::Unavailable(error)) => return Err(error.into()),
            };
            for event in &page {
                if let Err(error) = count.add(event) {
                    tracing::warn!(%user, %error, "an event of an erased user is not counted");
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => from = last.revision + 1,
                Some(_) | None => break,
            }
        }
        let id = Uuid::new_v5(&COUNT_IDS, &user.number().to_be_bytes());
        let counted = vec![count.encode(id, user)];
        let appended = self.store.append(TOMBSTONES, Expected::Any, counted).await;
        Ok(appended.map(drop)?)
    }

    /// Tombstones the streams of the user's snapshots, whether or not they exist, and then the user's stream, so that a scavenge
    /// removes all their data.
    ///
    /// # Errors
    /// If the store is unavailable. An existing tombstone is not an error.
    pub(crate) async fn hard_delete(&self, user: UserId, last: u64) -> Result<(), ErasureError> {
        for snapshots in snapshot_streams(user) {
            self.tombstone(&snapshots, Expected::Any).await?;
        }
        let expected = Expected::Revision(last);
        self.tombstone(&user_stream(user), expected).await
    }

    async fn tombstone(&self, stream: &str, expected: Expected) -> Result<(), ErasureError> {
        match self.store.tombstone(stream, expected).await {
            Ok(()) | Err(AppendError::StreamDeleted) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
