//! The event store or the broker is down, comes back, or starts late.

use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{ManualClock, SOME_DAY_MS, Store, millisecond, spawn_app};

#[tokio::test]
async fn ids_go_on_to_the_end_of_the_window_while_the_store_is_away() {
    let mut store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let app = spawn_app(&store.url(), &clock);
    app.leased().await;
    let before = app.ids("").await[0];
    store.stop().await;

    clock.set(SOME_DAY_MS + 59_999);
    let last = app.ids("").await[0];
    assert_eq!(millisecond(last), SOME_DAY_MS + 59_999);
    app.dependency("event store", "up").await;

    clock.set(SOME_DAY_MS + 60_000);
    let refused = app.get("/").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    app.dependency("event store", "down: ").await;

    store.start_again().await;
    app.leased().await;
    let later = app.ids("count=2").await;
    assert!(before < last && last < later[0]);
}

#[tokio::test]
async fn a_service_that_is_started_before_the_store_becomes_ready_by_itself() {
    let mut store = Store::start().await;
    store.stop().await;
    let app = spawn_app(&store.url(), &ManualClock::at(SOME_DAY_MS));
    app.dependency("event store", "down: ").await;
    app.dependency("broker", "down: ").await;
    assert_eq!(app.get("/_healthz").await.status(), StatusCode::OK);
    assert_eq!(app.get("/").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    store.start_again().await;
    app.leased().await;
    assert_eq!(app.ids("").await.len(), 1);
}

#[tokio::test]
async fn without_the_broker_the_service_gives_ids_and_is_degraded() {
    let store = Store::start().await;
    let app = spawn_app(&store.url(), &ManualClock::at(SOME_DAY_MS));
    app.leased().await;
    app.dependency("broker", "down: ").await;
    let ready = app.get("/_readyz").await;
    assert_eq!(ready.status(), StatusCode::OK);
    let ready: Value = ready.json().await.unwrap();
    assert_eq!(ready["status"], "degraded");
    assert_eq!(app.ids("").await.len(), 1);
}
