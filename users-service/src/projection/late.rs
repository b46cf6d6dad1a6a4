//! Events that were read from the log because the queue had not delivered them. If it never delivers them, messages were lost.

use crate::domain::UserId;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The queue may deliver an event this late.
const PATIENCE: Duration = Duration::from_mins(1);
/// The most events that are remembered.
const MOST: usize = 10_000;

/// Events that the queue has not delivered yet, with the time since when they are missing.
#[derive(Debug, Default)]
pub(super) struct LateDeliveries(Mutex<HashMap<(UserId, u64), Instant>>);

impl LateDeliveries {
    /// Notes events that were read from the log after later ones had been delivered.
    pub(super) fn expect(&self, user: UserId, revisions: Range<u64>) {
        let mut missing = self.lock();
        for revision in revisions.take(MOST) {
            if missing.len() < MOST {
                missing.insert((user, revision), Instant::now());
            }
        }
    }

    pub(super) fn delivered(&self, event: (UserId, u64)) {
        self.lock().remove(&event);
    }

    /// Reports each event that was not delivered in time once, and returns the number of such events.
    pub(super) fn alarm(&self) -> usize {
        let mut missing = self.lock();
        let before = missing.len();
        missing.retain(|(user, revision), since| {
            let late = since.elapsed() > PATIENCE;
            if late {
                tracing::error!(%user, revision, "a message was lost; its event was read from the log");
            }
            !late
        });
        before - missing.len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(UserId, u64), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_is_remembered_than_the_limit() {
        let late = LateDeliveries::default();
        late.expect(UserId::new(7), 0..u64::MAX);
        tokio::time::advance(PATIENCE * 2).await;
        assert_eq!(late.alarm(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_queue_does_not_deliver_within_a_minute_is_reported_once() {
        let late = LateDeliveries::default();
        let user = UserId::new(7);
        late.expect(user, 1..3);
        late.delivered((user, 1));
        assert_eq!(late.alarm(), 0);
        tokio::time::advance(PATIENCE * 2).await;
        assert_eq!(late.alarm(), 1);
        assert_eq!(late.alarm(), 0);
    }
}
