//! An event store that is restored from an older backup has forgotten windows. `uuids-service restored` sets a floor above
//! them; without it, a process that had one of them notices.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use event_streams::{EventStreams, Expected};
use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    floors::set_floor,
    rivals::{occupy_all_but, window},
    support::{Backup, ManualClock, SOME_DAY_MS, Store, TestApp, grants, spawn_in, until, worker},
};

/// More than the longest window.
pub(crate) const TWO_MINUTES_MS: u64 = 120_000;

/// A store with one process, which has issued ids in a window that a backup lacks.
pub(crate) struct Restoration {
    pub(crate) store: Store,
    pub(crate) backup: Backup,
    pub(crate) data: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) app: TestApp,
    issued: HashSet<u64>,
}

impl Restoration {
    /// Prepares the store; the backup is not restored yet.
    pub(crate) async fn prepare() -> Self {
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

    pub(crate) async fn restore(&mut self) {
        self.store.restore(&self.backup).await;
    }

    pub(crate) async fn set_floor(&self, floor_ms: u64) -> anyhow::Result<()> {
        set_floor(&self.store, self.data.path(), floor_ms, &self.clock).await
    }

    /// The end of the last window, which the backup lacks.
    pub(crate) fn until_ms(&self) -> u64 {
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
