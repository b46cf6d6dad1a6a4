//! Events that were read from the log because the queue had not delivered them. If it does not deliver them in time either,
//! messages were lost, and readiness says so for a while.

use super::health::{State, set};
use crate::domain::UserId;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The queue may deliver an event this late.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// The most events that are remembered, and the most that count as lost.
const MOST: usize = 10_000;
/// How often the events that are missing are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long readiness shows a lost message.
const SHOWN_FOR: Duration = Duration::from_mins(10);

/// The events that the queue has not delivered yet.
#[derive(Debug)]
pub(super) struct LateDeliveries {
    patience: Duration,
    events: Mutex<LateEvents>,
}

/// Users and revisions, each with the time since when the event is missing or counts as lost.
#[derive(Debug, Default)]
struct LateEvents {
    missing: BTreeMap<(UserId, u64), Instant>,
    lost: BTreeMap<(UserId, u64), Instant>,
}

impl LateDeliveries {
    /// The queue may deliver an event as late as `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            events: Mutex::default(),
        }
    }

    /// Notes events that were read from the log after later ones had been delivered.
    pub(super) fn expect(&self, user: UserId, revisions: Range<u64>) {
        let missing = &mut self.lock().missing;
        for revision in revisions.take(MOST) {
            if missing.len() < MOST {
                missing.insert((user, revision), Instant::now());
            }
        }
    }

    /// Notes a delivery. The message is then not lost, however late it is.
    pub(super) fn delivered(&self, event: (UserId, u64)) {
        let mut events = self.lock();
        events.missing.remove(&event);
        events.lost.remove(&event);
    }

    /// Reports lost messages for ever: each once in the log, and all of the last ten minutes in `state`.
    pub(super) async fn watch(&self, state: &State) {
        loop {
            set(state, self.look());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn look(&self) -> Result<(), String> {
        let mut events = self.lock();
        let LateEvents { missing, lost } = &mut *events;
        lost.retain(|_, since| since.elapsed() < SHOWN_FOR);
        missing.retain(|(user, revision), since| {
            let is_late = since.elapsed() > self.patience;
            if is_late {
                tracing::error!(%user, revision, "a message was lost; its event was read from the log");
                if lost.len() < MOST {
                    lost.insert((*user, *revision), Instant::now());
                }
            }
            !is_late
        });
        let Some((user, revision)) = lost.keys().next() else {
            return Ok(());
        };
        let count = lost.len();
        Err(format!(
            "messages were lost, and their events read from the log: {count}, such as that of user {user} at revision {revision}"
        ))
    }

    fn lock(&self) -> MutexGuard<'_, LateEvents> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::watch;

    #[tokio::test(start_paused = true)]
    async fn no_more_is_remembered_than_the_limit() {
        let late = LateDeliveries::new(PATIENCE);
        late.expect(UserId::new(7), 0..u64::MAX);
        tokio::time::advance(PATIENCE * 2).await;
        let reason = late.look().unwrap_err();
        assert!(reason.contains(&format!(": {MOST}, ")), "{reason}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_come_within_a_minute_is_an_alarm_for_ten_minutes() {
        let late = LateDeliveries::new(PATIENCE);
        let user = UserId::new(7);
        let (state, mut health) = watch::channel(Ok(()));
        let began = Instant::now();
        late.expect(user, 1..4);
        late.delivered((user, 1));
        let watched = async {
            health.wait_for(Result::is_err).await.unwrap();
            assert!(began.elapsed() > PATIENCE && began.elapsed() < PATIENCE + LOOK_EVERY * 2);
            let reason: String = health.borrow().clone().unwrap_err();
            assert!(
                reason.ends_with(": 2, such as that of user 7 at revision 2"),
                "{reason}"
            );
            late.delivered((user, 2));
            let one_is_left = |state: &Result<(), String>| {
                state.as_ref().is_err_and(|reason| {
                    reason.ends_with(": 1, such as that of user 7 at revision 3")
                })
            };
            health.wait_for(one_is_left).await.unwrap();
            health.wait_for(Result::is_ok).await.unwrap();
            assert!(began.elapsed() >= PATIENCE + SHOWN_FOR);
        };
        tokio::select! {
            () = late.watch(&state) => {}
            watched = tokio::time::timeout(SHOWN_FOR * 2, watched) => watched.unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_comes_late_ends_the_alarm() {
        let late = LateDeliveries::new(PATIENCE);
        let user = UserId::new(7);
        late.expect(user, 1..2);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(late.look(), Ok(()), "it may still come");
        tokio::time::advance(LOOK_EVERY).await;
        assert!(late.look().is_err());
        late.delivered((user, 1));
        assert_eq!(late.look(), Ok(()));
    }
}
