//! The ids of this process, shared by the HTTP routes and the RabbitMQ server.
//!
//! Invariants: no lock is held while waiting; no request waits longer than [`MAX_WAIT`]; readiness says whether an id
//! could be issued now.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use crate::{
    clock::Clock,
    domain::{
        id::Id,
        issuer::{Issued, Issuer, Need, Refusal},
        window::Window,
    },
};

/// How long a request may wait for a window, or for the clock.
pub(crate) const MAX_WAIT: Duration = Duration::from_millis(250);

/// Hands out ids to requests, from the windows that the lease keeper grants.
pub(crate) struct Ids {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    granted: Notify,
}

struct State {
    issuer: Issuer,
    /// Why the latest attempt to get a window failed; `None` after a success.
    failure: Option<String>,
}

impl Ids {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Mutex::new(State {
                issuer: Issuer::default(),
                failure: Some("no answer yet".to_owned()),
            }),
            granted: Notify::new(),
        }
    }

    /// The next `count` ids, all above `after`.
    pub(crate) async fn take(&self, count: u16, after: Option<Id>) -> Result<Issued, Refusal> {
        let waited = timeout(MAX_WAIT, self.take_in_time(count, after)).await;
        waited.unwrap_or_else(|_| self.issue(count, after))
    }

    /// Adds a window and wakes the requests that wait for one.
    pub(crate) fn grant(&self, worker: u16, window: Window) {
        let mut state = self.state();
        state.issuer.grant(worker, window);
        state.failure = None;
        drop(state);
        self.granted.notify_waiters();
    }

    /// Gives up the window; no id is issued until another one is granted.
    pub(crate) fn revoke(&self) {
        self.state().issuer.revoke();
    }

    /// Records why no new window was granted; current windows stay valid. Returns whether it is the first failure since the
    /// last success.
    pub(crate) fn record_failure(&self, reason: String) -> bool {
        self.state().failure.replace(reason).is_none()
    }

    /// What this process needs from the log.
    pub(crate) fn need(&self) -> Need {
        self.state().issuer.need(self.clock.now_ms())
    }

    /// Fails with the reason if no id could be issued now.
    pub(crate) fn check(&self) -> Result<(), String> {
        let state = self.state();
        match state.issuer.clone().issue(self.clock.now_ms(), 1, None) {
            Ok(_) => Ok(()),
            Err(Refusal::AheadOfTheClock { by_ms }) if Duration::from_millis(by_ms) <= MAX_WAIT => {
                Ok(())
            }
            Err(refusal) => Err(state.failure.clone().unwrap_or_else(|| refusal.to_string())),
        }
    }

    async fn take_in_time(&self, count: u16, after: Option<Id>) -> Result<Issued, Refusal> {
        loop {
            let mut granted = pin!(self.granted.notified());
            granted.as_mut().enable();
            let pause = match self.issue(count, after) {
                Err(Refusal::OutOfWindow) => MAX_WAIT,
                Err(Refusal::AheadOfTheClock { by_ms }) => Duration::from_millis(by_ms),
                settled @ (Ok(_) | Err(Refusal::AfterTooFar)) => return settled,
            };
            // Either a new window or the advancing clock may help, so each of them ends the pause.
            let _ = timeout(pause, granted).await;
        }
    }

    fn issue(&self, count: u16, after: Option<Id>) -> Result<Issued, Refusal> {
        let now_ms = self.clock.now_ms();
        self.state().issuer.issue(now_ms, count, after)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod crowd;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::Instant;

    use super::*;
    use crate::domain::id::Tick;

    struct ManualClock(AtomicU64);

    impl Clock for ManualClock {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn ids_at(now_ms: u64) -> Ids {
        Ids::new(Arc::new(ManualClock(now_ms.into())))
    }

    fn window(from_ms: u64, until_ms: u64) -> Window {
        Window { from_ms, until_ms }
    }

    fn id(millisecond: u64) -> Id {
        Id::new(Tick::first_of(millisecond), 0)
    }

    #[test]
    fn a_client_may_rely_on_250_ms() {
        assert_eq!(MAX_WAIT, Duration::from_millis(250));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_a_quarter_of_a_second() {
        let ids = ids_at(1_000);
        let without_a_window = ids.take(1, None).await.err();
        assert_eq!(without_a_window, Some(Refusal::OutOfWindow));
        ids.grant(5, window(10_000, 70_000));
        let started = Instant::now();
        let before_the_window = ids.take(1, None).await.err();
        assert_eq!(
            before_the_window,
            Some(Refusal::AheadOfTheClock { by_ms: 8_000 })
        );
        let tick_of_the_timer = Duration::from_millis(1);
        assert!((MAX_WAIT..=MAX_WAIT + tick_of_the_timer).contains(&started.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_in_the_window_costs_no_wait() {
        let ids = ids_at(1_000);
        ids.grant(5, window(1_000, 2_000));
        let started = Instant::now();
        assert_eq!(ids.take(10_000, None).await.unwrap().count(), 10_000);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_too_far_ahead_is_refused_without_a_wait() {
        let ids = ids_at(1_000);
        let started = Instant::now();
        let refused = ids.take(1, Some(id(3_001))).await.err();
        assert_eq!(refused, Some(Refusal::AfterTooFar));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_request_is_answered_once_the_window_reaches_far_enough() {
        let ids = ids_at(1_000);
        ids.grant(5, window(1_000, 2_000));
        let mut waiting = pin!(ids.take(1, Some(id(2_500))));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        ids.grant(5, window(2_000, 2_400));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        ids.grant(5, window(2_400, 3_000));
        let id = waiting.await.unwrap().ids().next().unwrap();
        assert_eq!((id.millisecond(), id.worker()), (2_500, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_ahead_of_the_clock_is_answered_once_the_clock_has_moved_on() {
        let hands = Arc::new(ManualClock(1_000.into()));
        let ids = Ids::new(Arc::clone(&hands) as Arc<dyn Clock>);
        ids.grant(5, window(2_100, 60_000));
        let mut waiting = pin!(ids.take(1, None));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        hands.0.store(1_100, Ordering::SeqCst);
        let id = waiting.await.unwrap().ids().next().unwrap();
        assert_eq!(id.millisecond(), 2_100);
    }

    #[tokio::test]
    async fn the_process_is_ready_while_it_can_issue_an_id() {
        let hands = Arc::new(ManualClock(1_000.into()));
        let ids = Ids::new(Arc::clone(&hands) as Arc<dyn Clock>);
        assert_eq!(ids.check(), Err("no answer yet".to_owned()));
        ids.grant(5, window(1_000, 2_000));
        assert!(ids.record_failure("away".to_owned()), "the first failure");
        assert!(!ids.record_failure("still away".to_owned()));
        assert_eq!(ids.check(), Ok(()), "the window is still good");
        hands.0.store(2_000, Ordering::SeqCst);
        assert_eq!(ids.check(), Err("still away".to_owned()));
        ids.grant(5, window(2_000, 60_000));
        assert_eq!(ids.check(), Ok(()));
    }

    #[test]
    fn the_process_is_ready_while_a_request_would_succeed_within_its_wait() {
        let ids = ids_at(1_000);
        ids.grant(5, window(2_250, 60_000));
        assert_eq!(ids.check(), Ok(()));
        let ids = ids_at(1_000);
        ids.grant(5, window(2_251, 60_000));
        assert_eq!(
            ids.check(),
            Err("the ids are ahead of the clock".to_owned())
        );
    }
}
