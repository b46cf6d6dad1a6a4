//! The ids of this process, shared by all who serve them.
//!
//! Invariants: no lock is held while waiting; nobody waits longer than [`PATIENCE`]; readiness says whether an id
//! could be had now.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    clock::Clock,
    domain::{
        id::Id,
        issuer::{Issued, Issuer, OutOfWindow},
        window::{AHEAD_MS, Window},
    },
};

/// How long a request may wait for a window that reaches far enough.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);

/// There is no window that reaches as far as was asked, and none came in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no window of time reaches that far yet")]
pub(crate) struct OutOfIds {
    /// In how many seconds there may be one, by this process's clock; at least 1.
    pub(crate) retry_after: u64,
}

/// Where requests take ids and the lease brings windows.
pub(crate) struct Ids {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    granted: Notify,
    wanted: Notify,
}

struct State {
    issuer: Issuer,
    /// Why there is no window yet, or why the last one was not followed by another.
    trouble: Option<String>,
}

impl Ids {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Mutex::new(State {
                issuer: Issuer::default(),
                trouble: Some("no answer yet".to_owned()),
            }),
            granted: Notify::new(),
            wanted: Notify::new(),
        }
    }

    /// The next `count` ids, all above `after`.
    pub(crate) async fn take(&self, count: u16, after: Option<Id>) -> Result<Issued, OutOfIds> {
        if let Ok(issued) = self.issue(count, after) {
            return Ok(issued);
        }
        let waited = tokio::time::timeout(PATIENCE, self.take_once_granted(count, after)).await;
        waited.or_else(|_| self.issue(count, after).map_err(|out| self.out_of_ids(out)))
    }

    /// Takes up a window and wakes those who wait for one.
    pub(crate) fn grant(&self, worker: u16, window: Window) {
        let mut state = self.state();
        state.issuer.grant(worker, window);
        state.trouble = None;
        drop(state);
        self.granted.notify_waiters();
    }

    /// Notes why no window could be had; the ones in hand go on. Tells whether this is news.
    pub(crate) fn trouble(&self, why: String) -> bool {
        self.state().trouble.replace(why).is_none()
    }

    /// How many milliseconds of the windows in hand are still to be used.
    pub(crate) fn remaining_ms(&self) -> u64 {
        self.state().issuer.remaining_ms(self.clock.now_ms())
    }

    /// Returns when somebody asked for more than the windows in hand could give.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Whether an id could be had now; if not, why.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.remaining_ms() > 0 {
            return Ok(());
        }
        let trouble = self.state().trouble.clone();
        Err(trouble.unwrap_or_else(|| "the window of ids is used up".to_owned()))
    }

    async fn take_once_granted(&self, count: u16, after: Option<Id>) -> Issued {
        loop {
            let mut granted = pin!(self.granted.notified());
            granted.as_mut().enable();
            if let Ok(issued) = self.issue(count, after) {
                return issued;
            }
            self.wanted.notify_one();
            granted.await;
        }
    }

    fn issue(&self, count: u16, after: Option<Id>) -> Result<Issued, OutOfWindow> {
        let now_ms = self.clock.now_ms();
        self.state().issuer.issue(now_ms, count, after)
    }

    /// A window that ends at `wanted_until_ms` can be granted once the clock is [`AHEAD_MS`] before that.
    fn out_of_ids(&self, out: OutOfWindow) -> OutOfIds {
        let reach = self.clock.now_ms().saturating_add(AHEAD_MS);
        let retry_after = out
            .wanted_until_ms
            .saturating_sub(reach)
            .div_ceil(1_000)
            .max(1);
        OutOfIds { retry_after }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::Instant;

    use super::*;
    use crate::domain::id::Tick;

    struct Hands(AtomicU64);

    impl Clock for Hands {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn ids_at(now_ms: u64) -> Ids {
        Ids::new(Arc::new(Hands(now_ms.into())))
    }

    fn window(from_ms: u64, until_ms: u64) -> Window {
        Window { from_ms, until_ms }
    }

    fn id(millisecond: u64) -> Id {
        Id::new(Tick::first_of(millisecond), 0)
    }

    #[test]
    fn a_client_may_rely_on_250_ms() {
        assert_eq!(PATIENCE, Duration::from_millis(250));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_a_quarter_of_a_second() {
        let ids = ids_at(1_000);
        let begun = Instant::now();
        let out = ids.take(1, None).await.err();
        let tick_of_the_timer = Duration::from_millis(1);
        assert!((PATIENCE..=PATIENCE + tick_of_the_timer).contains(&begun.elapsed()));
        assert_eq!(out, Some(OutOfIds { retry_after: 1 }));
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_in_the_window_costs_no_wait() {
        let ids = ids_at(1_000);
        ids.grant(5, window(1_000, 2_000));
        let begun = Instant::now();
        assert_eq!(ids.take(10_000, None).await.unwrap().len(), 10_000);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_answered_once_the_window_reaches_far_enough() {
        let ids = Arc::new(ids_at(1_000));
        ids.grant(5, window(1_000, 2_000));
        let waiting = tokio::spawn({
            let ids = Arc::clone(&ids);
            async move { ids.take(1, Some(id(2_500))).await }
        });
        ids.wanted().await;
        ids.grant(5, window(2_000, 2_400));
        ids.wanted().await;
        ids.grant(5, window(2_400, 3_000));
        let id = waiting.await.unwrap().unwrap().next().unwrap();
        assert_eq!((id.millisecond(), id.worker()), (2_500, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_says_when_the_clock_will_allow_it() {
        let ids = ids_at(1_000);
        ids.grant(5, window(1_000, 2_000));
        let out = ids.take(1, Some(id(1_000 + AHEAD_MS + 7_500))).await.err();
        assert_eq!(out, Some(OutOfIds { retry_after: 8 }));
        assert_eq!(
            ids.take(1, None)
                .await
                .unwrap()
                .next()
                .unwrap()
                .millisecond(),
            1_000
        );
    }

    #[tokio::test]
    async fn readiness_is_whether_an_id_could_be_had() {
        let hands = Arc::new(Hands(1_000.into()));
        let ids = Ids::new(Arc::clone(&hands) as Arc<dyn Clock>);
        assert_eq!(ids.check(), Err("no answer yet".to_owned()));
        ids.grant(5, window(1_000, 2_000));
        assert!(ids.trouble("away".to_owned()), "the first to say so");
        assert!(!ids.trouble("still away".to_owned()));
        assert_eq!(ids.check(), Ok(()), "the window is still good");
        hands.0.store(2_000, Ordering::SeqCst);
        assert_eq!(ids.check(), Err("still away".to_owned()));
        ids.grant(5, window(2_000, 3_000));
        assert_eq!(ids.check(), Ok(()));
    }
}
