//! `uuids-service restored --floor`: what it refuses, that it can be repeated, and that several may run at once.

use std::path::Path;

use event_streams::EventStreams;
use serde_json::Value;
use uuids_service::{
    config::{RestoredConfig, WindowsConfig},
    restored,
    startup::Application,
};

use crate::{
    restores::{Restoration, TWO_MINUTES_MS},
    support::{ManualClock, SOME_DAY_MS, Store, config, until},
};

pub(crate) async fn set_floor(
    store: &Store,
    data: &Path,
    floor_ms: u64,
    clock: &ManualClock,
) -> anyhow::Result<()> {
    let config = RestoredConfig {
        floor_ms,
        windows: WindowsConfig {
            eventstore_url: store.url(),
            data: data.to_owned(),
        },
    };
    restored::run(&config, clock).await
}

/// The end of the last window of each worker number.
async fn last_ends(store: &Store) -> Vec<u64> {
    let streams = EventStreams::connect(&store.url()).unwrap();
    let mut ends = vec![0; 1_024];
    let mut after = None;
    loop {
        let page = streams.read_all(&["uuids-worker-"], after, 1_000).await;
        let page = page.unwrap();
        for event in &page.events {
            let worker: usize = event.stream["uuids-worker-".len()..].parse().unwrap();
            let data: Value = serde_json::from_slice(&event.data).unwrap();
            ends[worker] = data["until_ms"].as_u64().unwrap();
        }
        if page.end {
            return ends;
        }
        after = page.position;
    }
}

/// Asserts that the result is an error whose text has `part`.
fn refused(result: anyhow::Result<()>, part: &str) {
    let error = format!("{:#}", result.expect_err(part));
    assert!(error.contains(part), "{error}");
}

#[tokio::test]
async fn a_floor_is_refused_while_a_process_has_a_window() {
    let world = Restoration::prepare().await;
    let until_ms = world.until_ms();
    let before = last_ends(&world.store).await;
    let running = world.set_floor(until_ms + 1_000).await;
    refused(running, "a process may be running");
    assert_eq!(last_ends(&world.store).await, before, "nothing was written");

    // The process has stopped, and its window is over.
    world.app.stop().await;
    world.clock.set(until_ms);
    let data = world.data.path();
    let floor = set_floor(&world.store, data, until_ms + 1_000, &world.clock);
    floor.await.unwrap();
}

#[tokio::test]
async fn a_floor_below_what_was_issued_is_refused() {
    let mut world = Restoration::prepare().await;
    world.clock.set(SOME_DAY_MS + 2 * TWO_MINUTES_MS);
    let until_ms = world.until_ms();
    world.app.stop().await;
    let (store, data) = (&mut world.store, world.data.path());
    let by_the_log = set_floor(store, data, until_ms - 1, &world.clock).await;
    refused(by_the_log, "the floor is too low: worker number");

    store.restore(&world.backup).await;
    let by_the_record = set_floor(store, data, until_ms - 1, &world.clock).await;
    refused(by_the_record, &format!("had a window until {until_ms}"));
    set_floor(store, data, until_ms, &world.clock)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_floor_far_above_the_clock_is_refused() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let data = tempfile::tempdir().unwrap();
    let an_hour_ms = 3_600_000;
    for too_far in [
        SOME_DAY_MS + an_hour_ms + 1,
        // The time of day in milliseconds since 1970.
        SOME_DAY_MS + 1_420_070_400_000,
        u64::MAX,
    ] {
        let floor = set_floor(&store, data.path(), too_far, &clock).await;
        assert!(floor.is_err(), "{too_far}");
    }
    assert_eq!(last_ends(&store).await, [0; 1_024], "nothing was written");
    let floor = set_floor(&store, data.path(), SOME_DAY_MS + an_hour_ms, &clock);
    floor.await.unwrap();
}

#[tokio::test]
async fn two_floors_set_at_once_leave_the_higher_one() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let data = tempfile::tempdir().unwrap();
    let set = |floor_ms| set_floor(&store, data.path(), floor_ms, &clock);
    let higher = SOME_DAY_MS + 20;
    let (low, same, high) = tokio::join!(set(SOME_DAY_MS + 10), set(higher), set(higher));
    same.unwrap();
    high.unwrap();
    if let Err(error) = low {
        refused(Err(error), "the floor is too low");
    }
    assert_eq!(last_ends(&store).await, [higher; 1_024]);
}

#[tokio::test]
async fn an_interrupted_command_can_be_run_again() {
    let mut world = Restoration::prepare().await;
    world.restore().await;
    world.clock.set(SOME_DAY_MS + TWO_MINUTES_MS + 21_000);
    let until_ms = world.until_ms();
    let floors = async || {
        let ends = last_ends(&world.store).await;
        ends.iter().filter(|end| **end == until_ms).count()
    };
    let some = async {
        until("some numbers have the floor", || async {
            (floors().await > 0).then_some(())
        })
        .await;
    };
    tokio::select! {
        done = world.set_floor(until_ms) => done.unwrap(),
        () = some => assert!(floors().await > 0),
    }
    world.set_floor(until_ms).await.unwrap();
    assert_eq!(last_ends(&world.store).await, [until_ms; 1_024]);
    world.clock.set(until_ms);
    world.app.leased().await;
}

#[tokio::test]
async fn an_unreadable_record_is_an_error_at_start_and_for_the_floor() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("last-window.json"), "garbage").unwrap();
    let config = config(data.path(), &store.url(), "amqp://127.0.0.1:9/%2f");
    let built = Application::build(&config, clock.clone()).map(|_| ());
    refused(built, "last-window.json");
    let floor = set_floor(&store, data.path(), SOME_DAY_MS, &clock).await;
    refused(floor, "last-window.json");
    assert_eq!(last_ends(&store).await, [0; 1_024], "nothing was written");
}
