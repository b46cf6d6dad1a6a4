//! Ids over HTTP are unique, ascend, and can be explained.

use std::collections::HashSet;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{ManualClock, SOME_DAY_MS, Store, millisecond, spawn_app, worker};

#[tokio::test]
async fn an_id_says_when_and_by_whom_it_was_issued() {
    let store = Store::start().await;
    let app = spawn_app(&store.url(), &ManualClock::at(SOME_DAY_MS));
    app.leased().await;
    let ids = app.ids("").await;
    assert_eq!(ids.len(), 1, "one by default");
    assert_eq!(millisecond(ids[0]), SOME_DAY_MS);
    let explained: Value = app.get(&format!("/{}", ids[0])).await.json().await.unwrap();
    let expected = json!({
        "id": ids[0].to_string(), "timestamp": "2026-05-28T08:00:19.999Z", "worker": worker(ids[0]), "sequence": 0
    });
    assert_eq!(explained, expected);
}

#[tokio::test]
async fn the_originals_example_is_explained() {
    let store = Store::start().await;
    let app = spawn_app(&store.url(), &ManualClock::at(SOME_DAY_MS));
    let explained: Value = app.get("/1509466340062097408").await.json().await.unwrap();
    let expected = json!({
        "id": "1509466340062097408", "timestamp": "2026-05-28T08:00:19.999Z", "worker": 247, "sequence": 0
    });
    assert_eq!(explained, expected);
}

#[tokio::test]
async fn two_processes_with_the_same_clock_never_issue_the_same_id() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let apps = [
        spawn_app(&store.url(), &clock),
        spawn_app(&store.url(), &clock),
    ];
    let batches = join_all(apps.iter().map(|app| async {
        app.leased().await;
        join_all((0..20).map(|_| app.ids("count=1000"))).await
    }))
    .await;
    let ids: HashSet<u64> = batches.into_iter().flatten().flatten().collect();
    assert_eq!(ids.len(), 2 * 20 * 1_000);
    let workers: HashSet<u64> = ids.into_iter().map(worker).collect();
    assert_eq!(workers.len(), 2);
}

#[tokio::test]
async fn ids_go_upwards_and_on_into_the_next_millisecond() {
    let store = Store::start().await;
    let app = spawn_app(&store.url(), &ManualClock::at(SOME_DAY_MS));
    app.leased().await;
    let mut ids = Vec::new();
    for count in [1, 10_000, 1, 300, 1] {
        ids.extend(app.ids(&format!("count={count}")).await);
    }
    assert!(ids.is_sorted_by(|a, b| a < b));
    assert_eq!(ids.len(), 10_303);
    assert_eq!(
        millisecond(ids[10_302]),
        SOME_DAY_MS + 2,
        "4,096 ids per millisecond"
    );
}

#[tokio::test]
async fn a_restart_with_a_clock_that_stepped_back_issues_no_id_again() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let mut ids = HashSet::new();
    for step_back_ms in [0, 1, 50_000, 100_000] {
        clock.set(SOME_DAY_MS - step_back_ms);
        let app = spawn_app(&store.url(), &clock);
        app.leased().await;
        ids.extend(app.ids("count=10000").await);
        app.stop().await;
    }
    assert_eq!(ids.len(), 4 * 10_000);
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_gets_a_window_there() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let app = spawn_app(&store.url(), &clock);
    app.leased().await;
    let before = app.ids("").await[0];
    clock.set(SOME_DAY_MS + 3_600_000);
    app.leased().await;
    let later = app.ids("").await[0];
    assert_eq!(millisecond(later), SOME_DAY_MS + 3_600_000);
    assert_eq!(
        worker(later),
        worker(before),
        "nobody else wanted the number"
    );
}
