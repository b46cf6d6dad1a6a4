//! Real processes with the clock of this machine: many at once, killed, and paused.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use event_streams::EventStreams;
use futures::future::join_all;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use uuids_service::clock::{Clock as _, SystemClock};

use crate::{
    rivals::occupy_all_but,
    seen::Seen,
    support::{
        ManualClock, NOWHERE, Store, ids_to_take, lines, millisecond, spawn_in, until,
        until_within, worker,
    },
};

const PROCESSES: usize = 50;
const A_DAY_MS: u64 = 86_400_000;

/// A real process; it is killed with the test.
struct Process {
    child: Child,
    _data: TempDir,
    client: Client,
    url: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Process {
    /// Starts a process, and waits until it has a window.
    async fn start(store_url: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let log = data.path().join("log");
        let child = Command::new(env!("CARGO_BIN_EXE_uuids-service"))
            .arg("serve")
            .env("UUIDS_BIND", "127.0.0.1:0")
            .env("UUIDS_DATA", data.path())
            .env("EVENTSTORE_URL", store_url)
            .env("AMQP_URL", format!("amqp://{NOWHERE}/%2f"))
            .env("RUST_LOG", "info")
            .stdout(File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = until("the process listens", || async { address_in(&log) }).await;
        let process = Self {
            child,
            _data: data,
            client: Client::new(),
            url: format!("http://{address}"),
        };
        until("the process issues ids", || async {
            process.take(1).await.ok()
        })
        .await;
        process
    }

    /// One batch of ids, or the status of the refusal.
    async fn take(&self, count: u64) -> Result<Vec<u64>, StatusCode> {
        lines(&self.client, &format!("{}/?count={count}", self.url)).await
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }
}

fn address_in(log: &Path) -> Option<String> {
    let log = fs::read_to_string(log).ok()?;
    log.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        Some(line["fields"]["address"].as_str()?.to_owned())
    })
}

#[tokio::test]
async fn fifty_processes_at_once_issue_no_id_twice_although_some_are_killed() {
    let store = Store::start().await;
    let url = store.url();
    let mut processes = join_all((0..PROCESSES).map(|_| Process::start(&url))).await;
    let mut seen = Seen::default();
    for round in 0.. {
        let batches = join_all(processes.iter().map(|process| process.take(10_000))).await;
        for batch in batches {
            seen.add(batch.unwrap());
        }
        seen.assert_none_twice();
        if seen.count() >= ids_to_take() {
            break;
        }
        // Its successor knows its record and its clock, and takes another number.
        let mut killed = processes.remove(round % PROCESSES);
        killed.kill();
        processes.push(Process::start(&url).await);
    }
    eprintln!("{} ids from {PROCESSES} processes", seen.count());
}

/// Runs `uuids-service restored`. Returns its exit code and what it wrote to standard error.
async fn restored(store_url: &str, floor_ms: u64) -> (Option<i32>, String) {
    let data = tempfile::tempdir().unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_uuids-service"))
        .args(["restored", "--floor", &floor_ms.to_string()])
        .env("UUIDS_DATA", data.path())
        .env("EVENTSTORE_URL", store_url)
        .output();
    let output = output.await.unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), error)
}

#[tokio::test]
async fn the_command_sets_a_floor_or_exits_with_the_reason() {
    let store = Store::start().await;
    let soon_ms = SystemClock.now_ms() + 500;
    assert_eq!(
        restored(&store.url(), soon_ms).await,
        (Some(0), String::new())
    );
    // The process waits until its clock has reached the floor.
    let process = Process::start(&store.url()).await;
    let ids = process.take(1).await.unwrap();
    assert!(millisecond(ids[0]) >= soon_ms);

    let (code, error) = restored(&store.url(), soon_ms + 120_000).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("a process may be running"), "{error}");
}

/// Both processes believe at the same time that they hold the number, each for a time of its own.
#[tokio::test]
async fn two_processes_that_both_hold_one_number_issue_no_id_twice() {
    let store = Store::start().await;
    let streams = EventStreams::connect(&store.url()).unwrap();
    occupy_all_but(77, SystemClock.now_ms() + A_DAY_MS, &streams).await;
    let paused = Process::start(&store.url()).await;
    let mut seen = Seen::default();
    seen.add(paused.take(10_000).await.unwrap());
    paused.signal("-STOP");

    // By the rival's clock the window of the paused process is over.
    let clock = ManualClock::at(SystemClock.now_ms() + 60_000);
    let data = tempfile::tempdir().unwrap();
    let rival = spawn_in(data.path(), &store.url(), clock.clone());
    rival.leased().await;
    let rivals = rival.ids("count=10000").await;
    assert_eq!(worker(rivals[0]), 77);
    seen.add(rivals);

    paused.signal("-CONT");
    let still_its_own = paused.take(10_000).await.unwrap();
    assert_eq!(worker(still_its_own[0]), 77);
    seen.add(still_its_own);
    seen.add(rival.ids("count=10000").await);
    seen.assert_none_twice();
    assert_eq!(seen.count(), 40_000);
}

#[tokio::test]
async fn processes_that_are_paused_or_without_the_store_past_their_windows_issue_no_id_twice() {
    let mut store = Store::start().await;
    let url = store.url();
    let paused = join_all((0..3).map(|_| Process::start(&url))).await;
    let running = join_all((0..3).map(|_| Process::start(&url))).await;
    let seen = Mutex::new(Seen::default());
    let take = async |processes: &[Process]| {
        let batches = join_all(processes.iter().map(|process| process.take(100))).await;
        let taken = batches.iter().filter(|batch| batch.is_ok()).count();
        seen.lock()
            .unwrap()
            .add(batches.into_iter().flatten().flatten());
        taken
    };
    assert_eq!(take(&paused).await + take(&running).await, 6);
    for process in &paused {
        process.signal("-STOP");
    }
    store.stop().await;
    let two_minutes = Duration::from_mins(2);
    until_within(two_minutes, "all windows are over", || async {
        (take(&running).await == 0).then_some(())
    })
    .await;

    store.start_again().await;
    for process in &paused {
        process.signal("-CONT");
    }
    for processes in [&paused, &running] {
        until("all issue ids again", || async {
            (take(processes).await == processes.len()).then_some(())
        })
        .await;
    }
    let seen = seen.into_inner().unwrap();
    seen.assert_none_twice();
    eprintln!("{} ids before, during and after the pause", seen.count());
}
