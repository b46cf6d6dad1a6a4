//! How a user is forgotten, step by step; every step may be repeated, and whoever finds it half done goes on.
//!
//! Order: `UserDeleted` in the user's stream, tombstone in stream `users`, key destroyed, name released, and, once the
//! publisher is past it, the user's stream tombstoned. ([`Erasure::erase`] is where a journal belongs, before its first
//! write; the eraser's last step is where recipients are waited for.)

use crate::domain::{Claim, UserId};
use crate::privacy::cipher::KeyId;
use crate::privacy::subject_keys::{KeysError, SubjectKeys};
use crate::stored_event::{ReservationEvent, TOMBSTONES, tombstone, user_stream};
use event_streams::{AppendError, EventStreams, Expected};
use uuid::Uuid;

/// What the ids of tombstones are derived under. A tombstone fences nobody, so to repeat it is the same write.
const TOMBSTONE_IDS: Uuid = Uuid::from_u128(0x6f0e_9a4c_6d3b_4b57_9b1e_7a50_2c1d_8e33);

/// The steps of an erasure that follow `UserDeleted`.
#[derive(Debug, Clone)]
pub struct Erasure {
    store: EventStreams,
    keys: SubjectKeys,
}

/// Why a step was not done; the whole erasure may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// The event store did not take it.
    #[error(transparent)]
    Store(#[from] AppendError),
    /// The key store did not forget.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl Erasure {
    /// Erases with these stores.
    #[must_use]
    pub fn new(store: EventStreams, keys: SubjectKeys) -> Self {
        Self { store, keys }
    }

    /// Writes the tombstone that outlives the user, then destroys the key. Both are durable when this returns.
    ///
    /// # Errors
    /// When either cannot be done now.
    pub async fn erase(&self, user: UserId, key: KeyId) -> Result<(), ErasureError> {
        let id = Uuid::new_v5(&TOMBSTONE_IDS, &user.number().to_be_bytes());
        // The one shared stream: its readers do not mind a repeated tombstone.
        let tombstone = vec![tombstone(id, user)];
        self.store
            .append(TOMBSTONES, Expected::Any, tombstone)
            .await?;
        Ok(self.keys.destroy(key).await?)
    }

    /// Releases a reservation, unless anybody claimed it after this very claim.
    ///
    /// # Errors
    /// When the store is away. That somebody was quicker is none.
    pub async fn release(&self, claim: &Claim) -> Result<(), ErasureError> {
        let released = vec![ReservationEvent::Released.encode(Uuid::new_v4())];
        let expected = Expected::Revision(claim.revision);
        let reservation = claim.reservation.as_str();
        match self.store.append(reservation, expected, released).await {
            Ok(_) | Err(AppendError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tombstones the user's stream, so that a scavenge removes all its data.
    ///
    /// # Errors
    /// When the store is away. That it is tombstoned already is none.
    pub(crate) async fn hard_delete(&self, user: UserId, last: u64) -> Result<(), ErasureError> {
        let stream = user_stream(user);
        match self
            .store
            .tombstone(&stream, Expected::Revision(last))
            .await
        {
            Ok(()) | Err(AppendError::StreamDeleted) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
