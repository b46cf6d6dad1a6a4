use super::*;
use anyhow::anyhow;
use futures::future::FutureExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The count and the `after` of a request.
type Request = (usize, Option<UserId>);

/// Counts up from `next` and records the requests. It answers one request for each permit of the gate.
#[derive(Clone)]
struct Counter {
    next: Arc<AtomicU64>,
    requests: Arc<Mutex<Vec<Request>>>,
    gate: Arc<Semaphore>,
}

impl Counter {
    fn closed() -> Self {
        Self {
            next: Arc::new(AtomicU64::new(1)),
            requests: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    fn open() -> Self {
        let counter = Self::closed();
        counter.gate.add_permits(1_000);
        counter
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl IdService for Counter {
    fn fetch(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        async move {
            self.requests.lock().unwrap().push((count, after));
            self.gate.acquire().await.unwrap().forget();
            let first = self.next.fetch_add(count as u64, Ordering::SeqCst);
            Ok((first..first + count as u64).map(UserId::new).collect())
        }
        .boxed()
    }
}

struct Failing;

impl IdService for Failing {
    fn fetch(&self, _: usize, _: Option<UserId>) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        async { Err(anyhow!("unavailable").into()) }.boxed()
    }
}

#[tokio::test]
async fn ids_increase_and_each_is_handed_out_once() {
    let source = IdSource::new(vec![Box::new(Counter::open())]);
    let mut last = UserId::new(0);
    for _ in 0..100 {
        let id = source.next().await.unwrap();
        assert!(id > last);
        last = id;
    }
}

/// A service that gives the last id again.
struct Repeating;

impl IdService for Repeating {
    fn fetch(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        let first = after.map_or(1, UserId::number);
        async move { Ok((first..).map(UserId::new).take(count).collect()) }.boxed()
    }
}

#[tokio::test]
async fn an_id_that_a_service_gives_again_is_handed_out_once() {
    let source = IdSource::new(vec![Box::new(Repeating)]);
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(source.next().await.unwrap());
    }
    assert!(ids.is_sorted_by(|a, b| a < b));
}

#[tokio::test]
async fn all_waiting_callers_are_served_by_one_request() {
    let counter = Counter::closed();
    let source = IdSource::new(vec![Box::new(counter.clone())]);
    let mut waiting = JoinSet::new();
    let request = |waiting: &mut JoinSet<_>| {
        let source = source.clone();
        waiting.spawn(async move { source.next().await });
    };
    request(&mut waiting);
    while counter.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    (0..99).for_each(|_| request(&mut waiting));
    while source.waiting.capacity() > WAITING - 99 {
        tokio::task::yield_now().await;
    }
    counter.gate.add_permits(1_000);
    let mut ids: Vec<UserId> = waiting
        .join_all()
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 100);
    let counts: Vec<usize> = counter
        .requests()
        .into_iter()
        .map(|(count, _)| count)
        .collect();
    assert_eq!(
        counts,
        [1 + FEWEST_SPARE, 99 - FEWEST_SPARE + 2 * FEWEST_SPARE]
    );
}

#[tokio::test(start_paused = true)]
async fn busy_callers_cost_few_requests_and_quiet_ones_waste_few_ids() {
    let counter = Counter::open();
    let source = IdSource::new(vec![Box::new(counter.clone())]);
    let requests = || counter.requests().len();
    // A thousand ids in a second.
    for _ in 0..1_000 {
        source.next().await.unwrap();
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let busy = requests();
    assert!(busy <= 20, "{busy} requests");
    // An id every two seconds.
    for _ in 0..20 {
        tokio::time::advance(FRESH * 2).await;
        source.next().await.unwrap();
    }
    assert_eq!(requests(), busy + 20);
    let (count, _) = counter.requests()[requests() - 1];
    assert_eq!(count, 1 + FEWEST_SPARE);
}

#[tokio::test(start_paused = true)]
async fn spare_ids_double_when_they_lasted_less_than_the_tenth_of_a_second_and_else_halve() {
    let counter = Counter::open();
    let source = IdSource::new(vec![Box::new(counter.clone())]);
    // The time since the request before, and how many spare ids the next one fetches.
    for (after, spare) in [
        (Duration::ZERO, 8),
        (Duration::ZERO, 16),
        (LASTING * 9 / 10, 32),
        (LASTING, 16),
        (LASTING * 2, 8),
        (LASTING * 2, 8),
    ] {
        tokio::time::advance(after).await;
        for _ in 0..=spare {
            source.next().await.unwrap();
        }
        let (count, _) = *counter.requests().last().unwrap();
        assert_eq!(count, 1 + spare, "after {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_spare_id_is_handed_out_for_a_whole_second() {
    let counter = Counter::open();
    let source = IdSource::new(vec![Box::new(counter.clone())]);
    source.next().await.unwrap();
    tokio::time::advance(FRESH).await;
    source.next().await.unwrap();
    assert_eq!(counter.requests().len(), 1);
}

#[tokio::test]
async fn each_request_fetches_ids_above_the_last_one() {
    let counter = Counter::open();
    let source = IdSource::new(vec![Box::new(counter.clone())]);
    for _ in 0..=FEWEST_SPARE + 1 {
        source.next().await.unwrap();
    }
    let last = UserId::new(1 + FEWEST_SPARE as u64);
    assert_eq!(
        counter.requests(),
        [(1 + FEWEST_SPARE, None), (1 + 2 * FEWEST_SPARE, Some(last))]
    );
}

#[tokio::test(start_paused = true)]
async fn spare_ids_older_than_a_second_are_discarded() {
    let counter = Counter::open();
    let source = IdSource::new(vec![Box::new(counter.clone())]);
    assert_eq!(source.next().await, Ok(UserId::new(1)));
    tokio::time::advance(FRESH + Duration::from_millis(1)).await;
    assert_eq!(
        source.next().await,
        Ok(UserId::new(2 + FEWEST_SPARE as u64))
    );
    assert_eq!(counter.requests().len(), 2);
}

#[tokio::test]
async fn the_next_service_is_used_while_the_first_fails() {
    let source = IdSource::new(vec![Box::new(Failing), Box::new(Counter::open())]);
    assert_eq!(source.next().await, Ok(UserId::new(1)));
}

#[tokio::test]
async fn a_caller_fails_at_once_when_all_services_fail() {
    let source = IdSource::new(vec![Box::new(Failing)]);
    assert_eq!(source.next().await, Err(NoIds));
}

/// Times out after as long as a real transport does.
struct TimesOutAfter(Duration);

impl IdService for TimesOutAfter {
    fn fetch(&self, _: usize, _: Option<UserId>) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        async {
            tokio::time::sleep(self.0).await;
            Err(FetchError::TimedOut)
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn every_caller_learns_within_two_seconds_that_no_ids_can_be_had() {
    type Services = Vec<Box<dyn IdService>>;
    let hanging: [fn() -> Services; 3] = [
        // Neither the broker nor the id service answers.
        || {
            let transports = [over_broker::TIMEOUT, over_http::TIMEOUT];
            transports
                .map(|after| Box::new(TimesOutAfter(after)) as _)
                .into()
        },
        // The broker is away, and the id service does not answer.
        || {
            vec![
                Box::new(Failing),
                Box::new(TimesOutAfter(over_http::TIMEOUT)),
            ]
        },
        // A request never ends.
        || vec![Box::new(Counter::closed())],
    ];
    for services in hanging {
        let source = IdSource::new(services());
        let mut callers = JoinSet::new();
        for after_ms in (0..2_000).step_by(50) {
            let source = source.clone();
            callers.spawn(async move {
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                let asked = Instant::now();
                assert_eq!(source.next().await, Err(NoIds));
                asked.elapsed()
            });
        }
        let waits = callers.join_all().await;
        assert_eq!(waits.len(), 40);
        let longest = waits.into_iter().max().unwrap();
        assert!(longest <= Duration::from_secs(2), "{longest:?}");
    }
}

#[test]
fn a_request_that_tries_both_transports_in_vain_ends_before_its_callers_give_up() {
    assert!(over_broker::TIMEOUT + over_http::TIMEOUT < PATIENCE);
}

#[tokio::test]
async fn the_number_of_waiting_callers_is_bounded() {
    let counter = Counter::closed();
    let source = IdSource::new(vec![Box::new(counter.clone())]);
    let mut waiting: Vec<_> = (0..=WAITING).map(|_| Box::pin(source.next())).collect();
    let refused = waiting
        .iter_mut()
        .filter_map(FutureExt::now_or_never)
        .count();
    assert_eq!(refused, 1);
}

struct Slow;

impl IdService for Slow {
    fn fetch(
        &self,
        count: usize,
        _: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        async move {
            tokio::time::sleep(FRESH * 3 / 2).await;
            Ok((1..=count as u64).map(UserId::new).collect())
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn ids_of_a_slow_answer_are_handed_to_the_callers_that_waited_for_it() {
    let source = IdSource::new(vec![Box::new(Slow)]);
    assert_eq!(source.next().await, Ok(UserId::new(1)));
}

/// Hangs until `answers` is set, and then counts up from a million. It counts requests and probes; a probe fetches one id.
#[derive(Clone, Default)]
struct Hanging {
    answers: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    probes: Arc<AtomicUsize>,
}

const MILLION: u64 = 1_000_000;

impl IdService for Hanging {
    fn fetch(
        &self,
        count: usize,
        _: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        async move {
            let counter = if count == 1 {
                &self.probes
            } else {
                &self.requests
            };
            counter.fetch_add(1, Ordering::SeqCst);
            if self.answers.load(Ordering::SeqCst) {
                return Ok((MILLION..).map(UserId::new).take(count).collect());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            Err(FetchError::TimedOut)
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_request_in_flight_waits_for_a_route_that_hangs() {
    let hanging = Hanging::default();
    let other = Counter::open();
    let source = IdSource::new(vec![Box::new(hanging.clone()), Box::new(other.clone())]);
    for _ in 0..1_000 {
        assert!(source.next().await.unwrap() < UserId::new(MILLION));
        // The stock gets too old, so each call makes a request.
        tokio::time::advance(FRESH + Duration::from_millis(1)).await;
    }
    assert_eq!(other.requests().len(), 1_000);
    assert_eq!(hanging.requests.load(Ordering::SeqCst), 1);
    assert!(hanging.probes.load(Ordering::SeqCst) > 1);
}

#[tokio::test(start_paused = true)]
async fn a_route_is_open_again_after_a_probe_was_answered() {
    let hanging = Hanging::default();
    let source = IdSource::new(vec![Box::new(hanging.clone()), Box::new(Counter::open())]);
    assert_eq!(source.next().await, Ok(UserId::new(1)));
    hanging.answers.store(true, Ordering::SeqCst);
    let back = async {
        while source.next().await.unwrap() < UserId::new(MILLION) {
            tokio::time::sleep(FRESH).await;
        }
    };
    let within_the_longest_pause = tokio::time::timeout(Duration::from_secs(4), back);
    within_the_longest_pause.await.unwrap();
    assert_eq!(hanging.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn callers_fail_at_once_while_all_routes_are_closed() {
    let hanging = Hanging::default();
    let source = IdSource::new(vec![Box::new(hanging.clone())]);
    for _ in 0..1_000 {
        assert_eq!(source.next().await, Err(NoIds));
    }
    assert_eq!(hanging.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_route_that_fails_at_once_is_not_closed() {
    let counter = Counter::open();
    let source = IdSource::new(vec![Box::new(Failing), Box::new(counter.clone())]);
    for _ in 0..=FEWEST_SPARE + 1 {
        source.next().await.unwrap();
    }
    assert_eq!(counter.requests().len(), 2);
}

/// A service whose clock was wrong for a moment: its first ids are far ahead. Later it refuses an `after` that is more than
/// a hundred above its count, as the real service does with two seconds.
#[derive(Clone, Default)]
struct WrongForAMoment {
    was_wrong: Arc<AtomicBool>,
    right: Arc<AtomicU64>,
}

impl IdService for WrongForAMoment {
    fn fetch(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        let first = if self.was_wrong.swap(true, Ordering::SeqCst) {
            1 + self.right.fetch_add(count as u64, Ordering::SeqCst)
        } else {
            MILLION
        };
        let too_far = after.is_some_and(|after| after > UserId::new(first + 100));
        async move {
            if too_far {
                return Err(FetchError::AfterTooFar);
            }
            Ok((first..).map(UserId::new).take(count).collect())
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_far_ahead_breaks_the_order_once_and_no_creation_fails() {
    let source = IdSource::new(vec![Box::new(WrongForAMoment::default())]);
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(source.next().await.unwrap());
        tokio::time::advance(FRESH + Duration::from_millis(1)).await;
    }
    assert_eq!(ids[0], UserId::new(MILLION));
    assert!(ids[1] < ids[0]);
    assert!(ids[1..].is_sorted_by(|a, b| a < b));
}
