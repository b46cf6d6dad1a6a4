//! `after=<id>` is answered with greater ids and does not move anybody else's ids.

use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{
    ManualClock, SOME_DAY_MS, Store, grants, millisecond, numbers, spawn_app, until, worker,
};

/// The greatest id of another process in this millisecond.
fn of_another(millisecond: u64) -> u64 {
    millisecond << 22 | 1_023 << 12 | 4_095
}

#[tokio::test]
async fn after_affects_only_its_own_answer() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let app = spawn_app(&store.url(), &clock);
    app.leased().await;
    let ahead = of_another(SOME_DAY_MS + 1_900);
    let above = app.ids(&format!("count=3&after={ahead}")).await;
    assert!(above[0] > ahead);

    let others = app.ids("").await[0];
    assert_eq!(millisecond(others), SOME_DAY_MS, "other ids do not move");

    clock.set(millisecond(above[0]));
    let later = app.ids("count=10000").await;
    assert_eq!(millisecond(later[0]), millisecond(above[0]));
    let again = later.iter().find(|id| above.contains(id));
    assert_eq!(again, None, "an id issued ahead is not issued again");
}

#[tokio::test]
async fn after_may_lead_the_later_of_clock_and_last_id_by_two_seconds() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let app = spawn_app(&store.url(), &clock);
    app.leased().await;
    let two_seconds_ahead = of_another(SOME_DAY_MS + 2_000);
    let above = app.ids(&format!("after={two_seconds_ahead}")).await[0];
    assert!(above > two_seconds_ahead);

    for too_far in [
        // An id of the process itself is in the millisecond between.
        (SOME_DAY_MS + 2_002) << 22,
        of_another(SOME_DAY_MS + 59_000),
        of_another(SOME_DAY_MS + 3_600_000),
        i64::MAX.unsigned_abs(),
    ] {
        let refused = app.get(&format!("/?after={too_far}")).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["errors"][0]["parameter"], "after", "{problem}");
    }
    assert_eq!(millisecond(app.ids("").await[0]), SOME_DAY_MS);

    // The clock steps back a little, so the last id is now later than the clock.
    clock.set(SOME_DAY_MS - 900);
    let above = app.ids(&format!("after={two_seconds_ahead}")).await[0];
    assert!(above > two_seconds_ahead);
}

#[tokio::test]
async fn a_caller_who_sends_an_id_of_ours_is_told_to_wait_but_never_refused() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let app = spawn_app(&store.url(), &clock);
    app.leased().await;
    let mut last = of_another(SOME_DAY_MS + 2_000);
    let told_to_wait = loop {
        let answer = app.get(&format!("/?count=10000&after={last}")).await;
        if answer.status() != StatusCode::OK {
            break answer;
        }
        last = numbers(&answer.json().await.unwrap())[9_999];
        assert!(millisecond(last) <= SOME_DAY_MS + 3_000);
    };
    assert_eq!(told_to_wait.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(told_to_wait.headers()["retry-after"], "1");
    assert!(millisecond(last) > SOME_DAY_MS + 2_990);

    // Neither a clock that steps back nor one that goes on makes the last id a wrong one.
    clock.set(SOME_DAY_MS - 1_000);
    let told_to_wait = app.get(&format!("/?count=10000&after={last}")).await;
    assert_eq!(told_to_wait.status(), StatusCode::SERVICE_UNAVAILABLE);
    clock.set(SOME_DAY_MS + 1_000);
    assert!(app.ids(&format!("count=10000&after={last}")).await[0] > last);
    clock.set(SOME_DAY_MS + 4_000);
    assert!(app.ids(&format!("count=10000&after={last}")).await[0] > last);
}

#[tokio::test]
async fn no_request_for_ids_causes_a_lease() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let app = spawn_app(&store.url(), &clock);
    app.leased().await;
    let id = app.ids("").await[0];
    for second in 1..15 {
        clock.set(SOME_DAY_MS + second * 1_000);
        for lead_ms in [1_999, 19_000, 45_000, 59_000, 65_000] {
            let after = of_another(SOME_DAY_MS + second * 1_000 + lead_ms);
            app.get(&format!("/?count=10000&after={after}")).await;
        }
        app.get(&format!("/?after={}", i64::MAX)).await;
    }
    // The renewal that the clock causes comes after any renewal that a request could have caused.
    let renewed_at = SOME_DAY_MS + 25_000;
    clock.set(renewed_at);
    let grants = until("the window is renewed", || async {
        let grants = grants(&store, worker(id)).await;
        (grants.last()?.1 == renewed_at + 60_000).then_some(grants)
    })
    .await;
    let first = (SOME_DAY_MS, SOME_DAY_MS + 60_000);
    assert_eq!(grants, [first, (first.1, renewed_at + 60_000)]);
}
