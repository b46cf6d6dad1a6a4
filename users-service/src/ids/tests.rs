use super::*;
use anyhow::bail;
use futures::future::FutureExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// One request: how many, and above which.
type Request = (usize, Option<UserId>);

/// Counts up from `next`, writes down what it was asked for, and answers only while it is let.
#[derive(Clone)]
struct Counter {
    next: Arc<AtomicU64>,
    asked: Arc<Mutex<Vec<Request>>>,
    gate: Arc<Semaphore>,
}

impl Counter {
    fn closed() -> Self {
        Self {
            next: Arc::new(AtomicU64::new(1)),
            asked: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    fn open() -> Self {
        let counter = Self::closed();
        counter.gate.add_permits(1_000);
        counter
    }

    fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

impl IdService for Counter {
    fn fetch(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> BoxFuture<'_, anyhow::Result<Vec<UserId>>> {
        async move {
            self.asked.lock().unwrap().push((count, after));
            self.gate.acquire().await?.forget();
            let first = self.next.fetch_add(count as u64, Ordering::SeqCst);
            Ok((first..first + count as u64).map(UserId::new).collect())
        }
        .boxed()
    }
}

struct Away;

impl IdService for Away {
    fn fetch(&self, _: usize, _: Option<UserId>) -> BoxFuture<'_, anyhow::Result<Vec<UserId>>> {
        async { bail!("away") }.boxed()
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

#[tokio::test]
async fn those_who_wait_are_served_by_one_request() {
    let counter = Counter::closed();
    let source = IdSource::new(vec![Box::new(counter.clone())]);
    let mut waiting = JoinSet::new();
    let ask = |waiting: &mut JoinSet<_>| {
        let source = source.clone();
        waiting.spawn(async move { source.next().await });
    };
    ask(&mut waiting);
    while counter.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    (0..99).for_each(|_| ask(&mut waiting));
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
        .asked()
        .into_iter()
        .map(|(count, _)| count)
        .collect();
    assert_eq!(counts, [1 + SPARE, 99 - SPARE + SPARE]);
}

#[tokio::test]
async fn each_request_asks_above_the_last_id() {
    let counter = Counter::open();
    let source = IdSource::new(vec![Box::new(counter.clone())]);
    for _ in 0..=SPARE + 1 {
        source.next().await.unwrap();
    }
    let last = UserId::new(1 + SPARE as u64);
    assert_eq!(
        counter.asked(),
        [(1 + SPARE, None), (1 + SPARE, Some(last))]
    );
}

#[tokio::test(start_paused = true)]
async fn ids_older_than_a_second_are_thrown_away() {
    let counter = Counter::open();
    let source = IdSource::new(vec![Box::new(counter.clone())]);
    assert_eq!(source.next().await, Ok(UserId::new(1)));
    tokio::time::advance(FRESH + Duration::from_millis(1)).await;
    assert_eq!(source.next().await, Ok(UserId::new(2 + SPARE as u64)));
    assert_eq!(counter.asked().len(), 2);
}

#[tokio::test]
async fn the_next_service_is_asked_while_the_first_is_away() {
    let source = IdSource::new(vec![Box::new(Away), Box::new(Counter::open())]);
    assert_eq!(source.next().await, Ok(UserId::new(1)));
}

#[tokio::test]
async fn nobody_waits_in_vain_when_all_are_away() {
    let source = IdSource::new(vec![Box::new(Away)]);
    assert_eq!(source.next().await, Err(NoIds));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let source = IdSource::new(vec![Box::new(Counter::closed())]);
    assert_eq!(source.next().await, Err(NoIds));
}

#[tokio::test]
async fn those_who_wait_are_bounded() {
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
    fn fetch(&self, count: usize, _: Option<UserId>) -> BoxFuture<'_, anyhow::Result<Vec<UserId>>> {
        async move {
            tokio::time::sleep(FRESH * 2).await;
            Ok((1..=count as u64).map(UserId::new).collect())
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn ids_that_took_long_to_come_serve_those_who_waited_for_them() {
    let source = IdSource::new(vec![Box::new(Slow)]);
    assert_eq!(source.next().await, Ok(UserId::new(1)));
}
