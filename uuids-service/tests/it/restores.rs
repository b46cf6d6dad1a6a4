//! An event store that is restored from an older backup has forgotten windows. `uuids-service restored` sets a floor above
//! them; without it, a process that had one of them notices.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use event_streams::{EventStreams, Expected};
use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use uuids_service::{
    config::{RestoredConfig, WindowsConfig},
    restored,
    startup::Application,
};

use crate::{
    rivals::{occupy_all_but, window},
    support::{
        Backup, ManualClock, SOME_DAY_MS, Store, TestApp, config, grants, spawn_in, until, worker,
    },
};

/// More than the longest window.
const TWO_MINUTES_MS: u64 = 120_000;

/// A store with one process, which has issued ids in a window that a backup lacks.
struct Restoration {
    store: Store,
    backup: Backup,
    data: TempDir,
    clock: Arc<ManualClock>,
    app: TestApp,
    issued: HashSet<u64>,
}

impl Restoration {
    /// Prepares the store; the backup is not restored yet.
    async fn prepare() -> Self {
        let mut store = Store::start().await;
        let clock = ManualClock::at(SOME_DAY_MS);
        let data = tempfile::tempdir().unwrap();
        let app = spawn_in(data.path(), &store.url(), clock.clone());
        app.leased().await;
        let mut issued: HashSet<u64> = app.ids("count=10000").await.into_iter().collect();
        let backup = store.back_up().await;
        clock.set(SOME_DAY_MS + TWO_MINUTES_MS);
        app.leased().await;
        issued.extend(app.ids("count=10000").await);
        Self {
            store,
            backup,
            data,
            clock,
            app,
            issued,
        }
    }

    async fn restore(&mut self) {
        self.store.restore(&self.backup).await;
    }

    async fn set_floor(&self, floor_ms: u64) -> anyhow::Result<()> {
        set_floor(&self.store, self.data.path(), floor_ms, &self.clock).await
    }

    /// The end of the last window, which the backup lacks.
    fn until_ms(&self) -> u64 {
        until_ms(self.data.path())
    }

    /// Issues ids, none of which was issued before.
    async fn issues_new_ids(&mut self) {
        let ids = self.app.ids("count=10000").await;
        let twice = ids.iter().find(|id| !self.issued.insert(**id));
        assert_eq!(twice, None, "issued twice");
    }
}

pub(crate) fn until_ms(data: &Path) -> u64 {
    let record = std::fs::read(data.join("last-window.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    record["until_ms"].as_u64().unwrap()
}

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
async fn a_process_that_starts_on_a_restored_store_waits_for_the_floor() {
    let mut world = Restoration::prepare().await;
    let until_ms = world.until_ms();
    let data = world.data.path();
    world.app.stop().await;
    world.store.restore(&world.backup).await;
    // The clock steps back too, to a time for which the lost window was granted.
    world.clock.set(SOME_DAY_MS + TWO_MINUTES_MS);
    world.app = spawn_in(data, &world.store.url(), world.clock.clone());
    let lacks = "down: the event store lacks a window";
    world.app.dependency("event store", lacks).await;
    assert_eq!(
        world.app.get("/").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );

    world.set_floor(until_ms).await.unwrap();
    let no_number = "down: no worker number is free";
    world.app.dependency("event store", no_number).await;
    world.clock.set(until_ms);
    world.app.leased().await;
    world.issues_new_ids().await;
}

#[tokio::test]
async fn a_process_that_runs_notices_that_the_store_was_restored_and_stops_issuing() {
    let mut world = Restoration::prepare().await;
    world.restore().await;
    // It renews its window 20 s after the last time.
    world.clock.set(SOME_DAY_MS + TWO_MINUTES_MS + 21_000);
    let lacks = "down: the event store lacks a window";
    world.app.dependency("event store", lacks).await;
    assert_eq!(
        world.app.get("/").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );

    let until_ms = world.until_ms();
    world.set_floor(until_ms).await.unwrap();
    world.clock.set(until_ms);
    world.app.leased().await;
    world.issues_new_ids().await;
}

#[tokio::test]
async fn a_lower_floor_of_another_machine_does_not_satisfy_the_process() {
    let mut world = Restoration::prepare().await;
    world.restore().await;
    world.clock.set(SOME_DAY_MS + TWO_MINUTES_MS + 21_000);
    let other = tempfile::tempdir().unwrap();
    let until_ms = world.until_ms();
    let too_low = set_floor(&world.store, other.path(), until_ms - 1, &world.clock);
    too_low.await.unwrap();
    world.clock.set(until_ms);
    let lacks = "down: the event store lacks a window";
    world.app.dependency("event store", lacks).await;
    world.set_floor(until_ms).await.unwrap();
    world.app.leased().await;
    world.issues_new_ids().await;
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

#[tokio::test]
async fn no_window_is_used_before_the_record_has_it() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let data = tempfile::tempdir().unwrap();
    let app = spawn_in(data.path(), &store.url(), clock.clone());
    app.leased().await;
    let id = app.ids("").await[0];
    let file = data.path().join("last-window.json");
    let before = std::fs::read(&file).unwrap();
    std::fs::write(&file, "garbage").unwrap();
    clock.set(SOME_DAY_MS + 30_000);
    until("the window is renewed in the log", || async {
        (grants(&store, worker(id)).await.len() == 2).then_some(())
    })
    .await;
    assert_eq!(app.ids("").await.len(), 1, "the first window goes on");
    clock.set(SOME_DAY_MS + 60_000);
    app.dependency("event store", "down: the record of windows")
        .await;

    std::fs::write(&file, before).unwrap();
    app.leased().await;
    assert_eq!(until_ms(data.path()), SOME_DAY_MS + 90_000);
}

#[tokio::test]
async fn a_renewal_is_not_used_if_the_log_before_it_is_another_one() {
    let mut store = Store::start().await;
    let streams = EventStreams::connect(&store.url()).unwrap();
    occupy_all_but(77, SOME_DAY_MS + 3_600_000, &streams).await;
    let backup = store.back_up().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let data = tempfile::tempdir().unwrap();
    let app = spawn_in(data.path(), &store.url(), clock.clone());
    app.leased().await;
    assert_eq!(worker(app.ids("").await[0]), 77);

    // In the restored log the number is at the same revision, but by another process.
    store.restore(&backup).await;
    let others = window(SOME_DAY_MS, SOME_DAY_MS + 60_000);
    // A connection of its own, because the other one may still find the store away.
    let streams = EventStreams::connect(&store.url()).unwrap();
    let appended = streams.append("uuids-worker-77", Expected::NoStream, vec![others]);
    assert_eq!(appended.await.unwrap().revision, 0);
    clock.set(SOME_DAY_MS + 25_000);
    let lacks = "down: the event store lacks a window";
    app.dependency("event store", lacks).await;
    assert_eq!(app.get("/").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    tokio::time::timeout(Duration::from_mins(1), app.stop())
        .await
        .unwrap();
}
