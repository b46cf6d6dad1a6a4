//! The reads and appends of a sweep.

use super::sweep::{Sweep, SweepOutcome, SweepSeen, SweepStep};
use crate::command::reservation::Holder;
use crate::command::user_histories::UserHistories;
use crate::command::user_history::HistoryError;
use crate::domain::{ReservationName, UserId};
use crate::stored_event::{ReservationEvent, user_stream};
use event_streams::{AppendError, EventStreams, NewEvent, ReadError};
use uuid::Uuid;

/// How many events of a reservation the store keeps.
const KEPT: u64 = 1;

/// Performs the steps of a sweep, and reports their results to it.
#[derive(Debug, Clone)]
pub(crate) struct SweepSteps {
    store: EventStreams,
    histories: UserHistories,
}

/// The store failed. The sweep can be repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SweepError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Owner(#[from] HistoryError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl SweepSteps {
    pub(crate) fn new(store: EventStreams) -> Self {
        Self {
            histories: UserHistories::new(store.clone()),
            store,
        }
    }

    pub(crate) async fn perform(&self, mut sweep: Sweep) -> Result<SweepOutcome, SweepError> {
        loop {
            let seen = match sweep.next() {
                SweepStep::Done(outcome) => return Ok(outcome),
                SweepStep::ReadReservation(name) => {
                    SweepSeen::Reservation(self.holder(&name).await?)
                }
                SweepStep::ReadOwner(user) => {
                    SweepSeen::Owner(self.histories.read_status(user).await?)
                }
                SweepStep::Fence {
                    user,
                    fence,
                    expected,
                } => {
                    let fence = fence.encode(Uuid::new_v4(), user);
                    self.append(&user_stream(user), expected, fence).await?
                }
                SweepStep::Release(claim) => {
                    let released = ReservationEvent::Released.encode(Uuid::new_v4());
                    let name = claim.reservation.as_str();
                    self.append(name, Some(claim.revision), released).await?
                }
                SweepStep::KeepLast(name) => {
                    self.store.ensure_max_count(name.as_str(), KEPT).await?;
                    SweepSeen::Appended
                }
            };
            sweep.observe(seen);
        }
    }

    /// Releases a reservation of an erased user, if its last event is any claim of this user.
    pub(crate) async fn release_of_erased(
        &self,
        user: UserId,
        name: &ReservationName,
    ) -> Result<(), SweepError> {
        let sweep = Sweep::of_erased(user, name.clone());
        self.perform(sweep).await.map(drop)
    }

    /// The holder that the reservation's last event names. Nobody, if this program does not know the event.
    async fn holder(&self, name: &ReservationName) -> Result<Holder, SweepError> {
        let last = match self.store.read_last(name.as_str()).await {
            Ok(last) => last,
            Err(ReadError::StreamDeleted) => None,
            Err(error @ ReadError::Unavailable(_)) => return Err(error.into()),
        };
        let Some(last) = last else {
            return Ok(Holder::Nobody(None));
        };
        Ok(match ReservationEvent::decode(&last) {
            Ok(ReservationEvent::Claimed { user, .. }) => Holder::Claimed(user, last.revision),
            Ok(ReservationEvent::Released) | Err(_) => Holder::Nobody(Some(last.revision)),
        })
    }

    async fn append(
        &self,
        stream: &str,
        expected: Option<u64>,
        event: NewEvent,
    ) -> Result<SweepSeen, SweepError> {
        let appended = self.store.append_at(stream, expected, vec![event]);
        let appended = appended.await?;
        Ok(appended.map_or(SweepSeen::Refused, |_| SweepSeen::Appended))
    }
}
