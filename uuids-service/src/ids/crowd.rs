//! Callers who take many ids leave enough for others.

use std::sync::Arc;

use tokio::{
    task::{JoinSet, yield_now},
    time::{Duration, Instant, interval, sleep, timeout},
};

use super::*;
use crate::domain::issuer::Need;

const START_MS: u64 = 1_000_000;
const MINUTE: Duration = Duration::from_mins(1);
/// What the layout allows.
const IDS_PER_MS: u64 = 4_096;

/// A clock that follows tokio's, which the test controls.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now_ms(&self) -> u64 {
        START_MS + u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

/// Grants windows as the lease keeper does.
async fn keep_leased(ids: Arc<Ids>) {
    let mut checks = interval(Duration::from_millis(100));
    let mut from_ms = 0;
    loop {
        checks.tick().await;
        if ids.need() != Need::Nothing {
            let until_ms = ids.clock.now_ms() + 60_000;
            ids.grant(5, Window { from_ms, until_ms });
            from_ms = until_ms;
        }
    }
}

/// Takes 10,000 ids at a time, as fast as it gets them. Returns how many it got in a minute.
async fn take_many(ids: Arc<Ids>) -> u64 {
    let started = Instant::now();
    let mut taken = 0;
    while started.elapsed() < MINUTE {
        if let Ok(issued) = ids.take(10_000, None).await {
            taken += u64::try_from(issued.count()).unwrap();
        }
        yield_now().await;
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn beside_callers_who_take_ten_thousand_at_a_time_others_get_ids_within_250_ms() {
    let ids = Arc::new(Ids::new(Arc::new(TokioClock(Instant::now()))));
    let _keeper = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(keep_leased(ids.clone())));
    let mut greedy = JoinSet::new();
    for _ in 0..2 {
        greedy.spawn(take_many(ids.clone()));
    }
    let started = Instant::now();
    let mut served = 0;
    while started.elapsed() < MINUTE {
        for count in [1, 9, 1_000] {
            let asked = Instant::now();
            let answer = timeout(MAX_WAIT, ids.take(count, None)).await;
            let answer = answer.expect("an answer within 250 ms");
            assert!(answer.is_ok(), "{answer:?} after {:?}", asked.elapsed());
            served += 1;
        }
        sleep(Duration::from_millis(37)).await;
    }
    assert!(served > 3_000, "{served}");
    let taken: u64 = greedy.join_all().await.into_iter().sum();
    let most = 60_000 * IDS_PER_MS;
    assert!(
        taken > most / 10 * 9,
        "only {taken} ids of {most} were taken"
    );
}
