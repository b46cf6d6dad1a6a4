//! Worker numbers that other processes hold, take over or spoil.

use std::sync::Arc;

use event_streams::{EventStreams, Expected, NewEvent};
use futures::{StreamExt as _, stream};
use serde_json::json;
use uuid::Uuid;

use crate::support::{ManualClock, SOME_DAY_MS, Store, TestApp, millisecond, spawn_app, worker};

const WORKERS: u16 = 1_024;

fn event(event_type: &'static str, data: &serde_json::Value) -> NewEvent {
    NewEvent {
        id: Uuid::new_v4(),
        event_type: event_type.into(),
        data: data.to_string().into(),
        metadata: Vec::new().into(),
    }
}

/// A window of another process.
pub(crate) fn window(from_ms: u64, until_ms: u64) -> NewEvent {
    let data = json!({"holder": Uuid::new_v4(), "from_ms": from_ms, "until_ms": until_ms});
    event("WindowGranted.v1", &data)
}

/// Occupies every number but one: most are held, one is spoiled, one tombstoned.
pub(crate) async fn occupy_all_but(free: u16, until_ms: u64, streams: &EventStreams) {
    let others = (0..WORKERS).filter(|worker| *worker != free);
    let occupied = stream::iter(others).for_each_concurrent(64, |worker| async move {
        let name = format!("uuids-worker-{worker}");
        match worker {
            3 => streams.tombstone(&name, Expected::NoStream).await.unwrap(),
            worker => {
                let window = window(SOME_DAY_MS, until_ms);
                let event = if worker == 4 {
                    event("Garbage.v1", &json!({}))
                } else {
                    window
                };
                streams
                    .append(&name, Expected::NoStream, vec![event])
                    .await
                    .unwrap();
            }
        }
    });
    occupied.await;
}

#[tokio::test]
async fn the_one_number_whose_last_window_is_over_is_taken() {
    let store = Store::start().await;
    let streams = EventStreams::connect(&store.url()).unwrap();
    let until_ms = SOME_DAY_MS + 20_000;
    occupy_all_but(77, until_ms, &streams).await;
    let over = window(SOME_DAY_MS - 60_000, SOME_DAY_MS);
    streams
        .append("uuids-worker-77", Expected::NoStream, vec![over])
        .await
        .unwrap();

    let clock = ManualClock::at(SOME_DAY_MS);
    let first = spawn_app(&store.url(), &clock);
    first.leased().await;
    assert_eq!(worker(first.ids("").await[0]), 77);

    let second = spawn_app(&store.url(), &clock);
    second
        .dependency("event store", "down: no worker number is free")
        .await;
    clock.set(until_ms);
    second.leased().await;
    let id = second.ids("").await[0];
    assert_ne!(worker(id), 77);
    assert_eq!(millisecond(id), until_ms);
}

/// A process that holds the one free number, and a second one with the same clock.
async fn two_for_one_number(store: &Store, clock: &Arc<ManualClock>) -> (TestApp, TestApp) {
    let streams = EventStreams::connect(&store.url()).unwrap();
    occupy_all_but(77, SOME_DAY_MS + 3_600_000, &streams).await;
    let first = spawn_app(&store.url(), clock);
    first.leased().await;
    (first, spawn_app(&store.url(), clock))
}

const NO_NUMBER: &str = "down: no worker number is free";

#[tokio::test]
async fn a_number_is_not_granted_again_after_a_strangers_window_that_overlaps() {
    for (from_ms, until_ms) in [
        (0, 1),
        (SOME_DAY_MS, SOME_DAY_MS),
        (SOME_DAY_MS + 59_999, SOME_DAY_MS + 60_000),
    ] {
        let store = Store::start().await;
        let clock = ManualClock::at(SOME_DAY_MS);
        let (first, second) = two_for_one_number(&store, &clock).await;
        let streams = EventStreams::connect(&store.url()).unwrap();
        let strangers = window(from_ms, until_ms);
        streams
            .append("uuids-worker-77", Expected::Revision(0), vec![strangers])
            .await
            .unwrap();
        clock.set(SOME_DAY_MS + 30_000);
        second.dependency("event store", NO_NUMBER).await;
        assert_eq!(first.ids("").await.len(), 1, "its window is still its own");
        clock.set(SOME_DAY_MS + 600_000);
        first.dependency("event store", NO_NUMBER).await;
        second.dependency("event store", NO_NUMBER).await;
    }
}

#[tokio::test]
async fn a_number_whose_stream_was_deleted_is_not_granted_again() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let (first, second) = two_for_one_number(&store, &clock).await;
    let streams = EventStreams::connect(&store.url()).unwrap();
    streams
        .delete("uuids-worker-77", Expected::Revision(0))
        .await
        .unwrap();
    second.dependency("event store", NO_NUMBER).await;
    assert_eq!(first.ids("").await.len(), 1, "its window is still its own");
    clock.set(SOME_DAY_MS + 600_000);
    second.dependency("event store", NO_NUMBER).await;
}

#[tokio::test]
async fn a_process_whose_number_was_taken_takes_another_and_goes_on_upwards() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let app = spawn_app(&store.url(), &clock);
    app.leased().await;
    let before = app.ids("").await[0];

    let streams = EventStreams::connect(&store.url()).unwrap();
    let name = format!("uuids-worker-{}", worker(before));
    let rivals = window(SOME_DAY_MS + 60_000, SOME_DAY_MS + 120_000);
    streams
        .append(&name, Expected::Revision(0), vec![rivals])
        .await
        .unwrap();

    clock.set(SOME_DAY_MS + 60_000);
    app.leased().await;
    let later = app.ids("").await[0];
    assert!(later > before);
    assert_ne!(worker(later), worker(before));
}
