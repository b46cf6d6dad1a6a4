//! Clocks that step back, and requests that get ahead of the clock.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::future::join_all;
use reqwest::StatusCode;
use uuids_service::clock::Clock;

use crate::{
    seen::Seen,
    support::{
        ManualClock, SOME_DAY_MS, Store, TestApp, millisecond, numbers, spawn_app, spawn_in, until,
        worker,
    },
};

#[tokio::test]
async fn ids_go_on_upwards_when_the_clock_steps_back_by_less_than_a_second() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let app = spawn_app(&store.url(), &clock);
    app.leased().await;
    let before = app.ids("count=10").await;
    clock.set(SOME_DAY_MS - 999);
    let later = app.ids("count=10").await;
    assert!(later[0] > before[9]);
    assert_eq!(millisecond(later[9]), SOME_DAY_MS);
}

#[tokio::test]
async fn a_step_back_within_a_window_is_waited_for_and_order_holds() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let app = spawn_app(&store.url(), &clock);
    app.leased().await;
    let before = app.ids("").await[0];
    clock.set(SOME_DAY_MS - 30_000);
    let refused = app.get("/").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "29");

    clock.set(SOME_DAY_MS - 1_000);
    let later = app.ids("").await[0];
    assert!(later > before);
    assert_eq!(worker(later), worker(before));
}

#[tokio::test]
async fn after_a_step_back_of_more_than_a_window_ids_follow_the_clock_under_another_number() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS + 3_600_000);
    let app = spawn_app(&store.url(), &clock);
    app.leased().await;
    let ahead = app.ids("count=10").await;

    clock.set(SOME_DAY_MS);
    let back = until("ids follow the clock", || async {
        let answer = app.get("/?count=10").await;
        (answer.status() == StatusCode::OK).then_some(answer)
    });
    let back = numbers(&back.await.json().await.unwrap());
    assert!(back.iter().all(|id| millisecond(*id) == SOME_DAY_MS));
    assert_ne!(worker(back[0]), worker(ahead[0]));

    // From here on ids ascend again. Ids issued at the wrong time are not issued again when that time comes.
    clock.set(SOME_DAY_MS + 3_600_000);
    app.leased().await;
    let then = app.ids("count=10000").await;
    assert!(then[0] > back[9]);
    assert!(then.iter().all(|id| !ahead.contains(id)));
}

#[tokio::test]
async fn ids_lead_the_clock_by_a_second_at_most() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let app = spawn_app(&store.url(), &clock);
    app.leased().await;
    let mut last = app.ids("").await[0];
    let now_ms = SOME_DAY_MS - 980;
    clock.set(now_ms);
    let refused = loop {
        let answer = app.get("/?count=10000").await;
        if answer.status() != StatusCode::OK {
            break answer;
        }
        let ids = numbers(&answer.json().await.unwrap());
        assert!(ids[0] > last);
        last = ids[9_999];
        assert!(millisecond(last) <= now_ms + 1_000);
    };
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(
        millisecond(last) > now_ms + 990,
        "nearly the whole second was issued"
    );

    clock.set(now_ms + 3);
    assert!(app.ids("count=10000").await[0] > last);
}

const SECOND_MS: i64 = 1_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Takes 10,000 ids; the clock goes on until there are as many.
async fn taken(app: &TestApp, clock: &ManualClock) -> Vec<u64> {
    until("the service issues ids", || async {
        let ids = app.lines("/?count=10000").await;
        if ids.is_err() {
            clock.step(SECOND_MS);
        }
        ids.ok()
    })
    .await
}

#[tokio::test]
async fn no_step_of_the_clock_repeats_an_id_while_running_or_across_restarts() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let data = tempfile::tempdir().unwrap();
    let start = || spawn_in(data.path(), &store.url(), clock.clone());
    let mut app = start();
    let mut seen = Seen::default();
    for restarts in [false, true] {
        for by_ms in [
            -SECOND_MS, -HOUR_MS, DAY_MS, -DAY_MS, HOUR_MS, -HOUR_MS, DAY_MS,
        ] {
            seen.add(taken(&app, &clock).await);
            if restarts {
                app.stop().await;
                clock.step(by_ms);
                app = start();
            } else {
                clock.step(by_ms);
            }
            seen.add(taken(&app, &clock).await);
            seen.assert_none_twice();
        }
    }
    assert_eq!(seen.count(), 2 * 7 * 20_000);
}

/// Jumps at every look, so that no two looks of one request agree.
struct JumpingClock(AtomicUsize);

impl Clock for JumpingClock {
    fn now_ms(&self) -> u64 {
        let jumps = [
            0,
            1,
            DAY_MS,
            -SECOND_MS,
            3,
            -HOUR_MS,
            0,
            30 * SECOND_MS,
            -DAY_MS,
        ];
        let look = self.0.fetch_add(1, Ordering::SeqCst);
        SOME_DAY_MS.saturating_add_signed(jumps[look % jumps.len()])
    }
}

#[tokio::test]
async fn a_clock_that_jumps_at_every_look_repeats_no_id() {
    let store = Store::start().await;
    let data = tempfile::tempdir().unwrap();
    let clock = Arc::new(JumpingClock(AtomicUsize::new(0)));
    let app = spawn_in(data.path(), &store.url(), clock);
    let mut seen = Seen::default();
    for _ in 0..1_000 {
        let requests = (0..20).map(|_| app.lines("/?count=100"));
        for answer in join_all(requests).await {
            match answer {
                Ok(ids) => seen.add(ids),
                Err(status) => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
            }
        }
        if seen.count() >= 20_000 {
            break;
        }
    }
    assert!(seen.count() >= 20_000, "only {} ids", seen.count());
    seen.assert_none_twice();
}
