//! Places for requests: how many are worked on at once, and for how long.
//!
//! Invariants:
//! - At most as many requests as configured hold a place. The next one is refused at once, and changes nothing.
//! - A request gives its place back within [`WITHIN`], whatever the stores do.
//! - While requests end late, only a few places are open. The first request that ends in time opens the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// How long a request may hold a place. Only a request that makes many calls of a slow store takes so long.
pub const WITHIN: Duration = Duration::from_secs(30);
/// A request that ends after this time is late. One call of the store gives up after this time.
const LATE: Duration = Duration::from_secs(10);
/// While requests end late, one of so many places is open.
const CLOSED: usize = 16;

/// The places for one kind of request. Clones share them.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Places>);

/// Why a request was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overload {
    /// All places are taken. Nothing was done.
    #[error("too many requests are worked on")]
    Full,
    /// The request was worked on for [`WITHIN`] and then given up. It may or may not have taken effect.
    #[error("the request was not finished within {WITHIN:?}")]
    OutOfTime,
}

#[derive(Debug)]
struct Places {
    /// What the places are for, in the plural.
    purpose: &'static str,
    limit: usize,
    taken: AtomicUsize,
    /// Whether the last request that ended was late.
    late: AtomicBool,
    /// Whether a request was refused since half of the places were free.
    shedding: AtomicBool,
}

/// A taken place.
struct TakenPlace<'a>(&'a Places);

impl Admission {
    /// So many places for requests. `purpose` names the requests in the plural.
    #[must_use]
    pub fn new(purpose: &'static str, limit: usize) -> Self {
        Self(Arc::new(Places {
            purpose,
            limit,
            taken: AtomicUsize::new(0),
            late: AtomicBool::new(false),
            shedding: AtomicBool::new(false),
        }))
    }

    /// Does the work of one request, if there is a place for it, and gives it up after [`WITHIN`].
    ///
    /// # Errors
    /// [`Overload`]
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Overload> {
        let _place = self.0.take()?;
        let began = Instant::now();
        let done = tokio::time::timeout(WITHIN, work).await;
        let late = began.elapsed() >= LATE;
        if self.0.late.swap(late, Relaxed) != late {
            let requests = self.0.purpose;
            tracing::warn!(requests, late, "requests end late, or no longer");
        }
        done.map_err(|_| Overload::OutOfTime)
    }

    /// Fails with the reason while requests are refused.
    ///
    /// # Errors
    /// The reason.
    pub fn check(&self) -> Result<(), String> {
        let Places { purpose, .. } = *self.0;
        if self.0.shedding.load(Relaxed) {
            let open = self.0.open();
            return Err(format!(
                "all {open} places for {purpose} are taken, so others are refused"
            ));
        }
        Ok(())
    }
}

impl Places {
    /// How many places may be taken now.
    fn open(&self) -> usize {
        if self.late.load(Relaxed) {
            (self.limit / CLOSED).max(1)
        } else {
            self.limit
        }
    }

    fn take(&self) -> Result<TakenPlace<'_>, Overload> {
        let open = self.open();
        let next = |taken| (taken < open).then_some(taken + 1);
        if self.taken.fetch_update(Relaxed, Relaxed, next).is_ok() {
            return Ok(TakenPlace(self));
        }
        if !self.shedding.swap(true, Relaxed) {
            tracing::warn!(
                requests = self.purpose,
                places = open,
                "requests are refused"
            );
        }
        Err(Overload::Full)
    }
}

impl Drop for TakenPlace<'_> {
    fn drop(&mut self) {
        let taken = self.0.taken.fetch_sub(1, Relaxed) - 1;
        if taken <= self.0.open() / 2 && self.0.shedding.load(Relaxed) {
            self.0.shedding.store(false, Relaxed);
            tracing::info!(requests = self.0.purpose, "requests are taken again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::{FutureExt as _, join_all, pending, ready};
    use std::pin::pin;
    use tokio::sync::oneshot;

    const PLACES: usize = 32;

    /// Work that ends when its sender says so, and has begun.
    fn begun(
        places: &Admission,
    ) -> (
        oneshot::Sender<()>,
        impl Future<Output = Result<(), Overload>>,
    ) {
        let (end, ended) = oneshot::channel();
        let places = places.clone();
        let mut work = Box::pin(async move { places.run(ended.map(drop)).await });
        assert!(work.as_mut().now_or_never().is_none(), "there is a place");
        (end, work)
    }

    #[tokio::test]
    async fn the_next_request_is_refused_at_once_while_all_places_are_taken() {
        let places = Admission::new("tests", PLACES);
        let mut held: Vec<_> = (0..PLACES).map(|_| begun(&places)).collect();
        assert_eq!(places.check(), Ok(()), "nobody was refused yet");
        let refused = places.run(pending::<()>()).now_or_never();
        assert_eq!(refused, Some(Err(Overload::Full)));
        assert_eq!(places.clone().run(ready(())).await, Err(Overload::Full));
        let reason = "all 32 places for tests are taken, so others are refused";
        assert_eq!(places.check(), Err(reason.to_owned()));

        let (end, work) = held.remove(0);
        end.send(()).unwrap();
        assert_eq!(work.await, Ok(()));
        assert_eq!(places.run(ready(7)).await, Ok(7));
        assert!(places.check().is_err(), "nearly all places are taken");
        held.truncate(PLACES / 2);
        assert_eq!(places.check(), Ok(()));
    }

    #[tokio::test]
    async fn a_request_whose_client_leaves_gives_its_place_back() {
        let places = Admission::new("tests", 1);
        for _ in 0..3 {
            drop(begun(&places));
        }
        assert_eq!(places.run(ready(())).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_keeps_its_place_for_ever() {
        let places = Admission::new("tests", 1);
        let began = Instant::now();
        assert_eq!(places.run(pending::<()>()).await, Err(Overload::OutOfTime));
        assert_eq!(began.elapsed(), WITHIN);
        assert_eq!(places.run(ready(())).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn after_late_requests_few_are_tried_until_one_ends_in_time() {
        let places = Admission::new("tests", PLACES);
        let slow = (0..PLACES).map(|_| places.run(tokio::time::sleep(LATE)));
        assert_eq!(join_all(slow).await, [Ok(()); PLACES]);

        let mut tried = pin!(places.run(pending::<()>()));
        assert!(tried.as_mut().now_or_never().is_none());
        let (end, second) = begun(&places);
        assert_eq!(places.run(ready(())).await, Err(Overload::Full));
        end.send(()).unwrap();
        assert_eq!(second.await, Ok(()));
        let opened: Vec<_> = (1..PLACES).map(|_| begun(&places)).collect();
        assert_eq!(places.run(ready(())).await, Err(Overload::Full));
        drop(opened);
        assert_eq!(places.check(), Ok(()));
    }
}
