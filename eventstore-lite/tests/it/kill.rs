//! Kills the executable with `kill -9` under load, again and again. Acknowledged events are still there, complete and
//! at the acknowledged place. `STORE_KILLS` sets the number of kills.

mod faults;
mod load;

use std::sync::Arc;

use faults::faults;
use load::Load;

use crate::support::process::{EXECUTABLE, Process};
use crate::support::{any, append, connect, event, new_id, read_all, soon};

const KILLS: usize = 8;
/// How many more batches are acknowledged before the next kill: minimum and maximum.
const BATCHES: std::ops::Range<usize> = 50..500;

fn kills() -> usize {
    let kills = std::env::var("STORE_KILLS");
    kills.map_or(KILLS, |kills| {
        kills.parse().expect("STORE_KILLS is a number")
    })
}

#[tokio::test]
async fn every_acknowledged_event_survives_kill_9() {
    let db = tempfile::tempdir().unwrap();
    let load = Arc::new(Load::default());
    let mut log = Vec::new();
    for kill in 0..kills() {
        let server = Process::start(db.path()).await;
        let writers = load.begin(&server.address).await;
        let enough = load.count().await + BATCHES.start + kill * 89 % BATCHES.len();
        soon("enough batches", load.reached(enough)).await;
        server.kill().await;
        soon("the writers' end", writers.join_all()).await;
        Process::killed_while_it_opens(db.path()).await;

        let server = Process::start(db.path()).await;
        let mut client = connect(&server.address).await;
        let next = append(&mut client, "next", any(), vec![event(&new_id(), "x")]);
        let next = next.await.unwrap();
        log = read_all(&mut client).await;
        assert_eq!(log.last().unwrap().commit_position, next.position);
        assert_eq!(
            faults(&load.acknowledged().await, &log),
            [""; 0],
            "kill {kill}"
        );
        server.kill().await;
    }
    verified(db.path()).await;
    let acknowledged = load.acknowledged().await;
    println!(
        "{} kills, {} batches acknowledged, {} events in the log",
        kills(),
        acknowledged.len(),
        log.len()
    );
    faults::control(&acknowledged, &log);
}

async fn verified(db: &std::path::Path) {
    let mut verify = tokio::process::Command::new(EXECUTABLE);
    verify.arg("verify").arg("--db").arg(db).kill_on_drop(true);
    let verified = soon("the verification", verify.output()).await.unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused() {
    let db = tempfile::tempdir().unwrap();
    let first = Process::start(db.path()).await;
    let mut second = tokio::process::Command::new(EXECUTABLE);
    second
        .args(["--insecure", "--node-port", "0", "--db"])
        .arg(db.path())
        .kill_on_drop(true);
    let ended = soon("the refusal", second.output()).await.unwrap();
    assert!(!ended.status.success());
    assert!(String::from_utf8_lossy(&ended.stderr).contains("in use"));
    first.kill().await;
}
