//! `kill -9` of the executable under load: what was acknowledged is there.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::support::process::Process;
use crate::support::{Appended, any, append, connect, event, id_of, new_id, read_all, soon};

const WRITERS: usize = 16;
const ACKNOWLEDGED: usize = 400;
const ROUNDS: usize = 3;

/// Event id → where it was said to be.
type Acknowledged = Arc<Mutex<HashMap<String, Appended>>>;

#[tokio::test]
async fn every_acknowledged_event_survives_kill_9() {
    let db = tempfile::tempdir().unwrap();
    let acknowledged = Acknowledged::default();
    let mut last_position = 0;
    for round in 1..=ROUNDS {
        let server = Process::start(db.path()).await;
        let writers = write(&server.address, &acknowledged).await;
        soon(
            "enough events",
            reached(&acknowledged, round * ACKNOWLEDGED),
        )
        .await;
        server.kill().await;
        soon("the writers' end", writers.join_all()).await;

        let server = Process::start(db.path()).await;
        let mut client = connect(&server.address).await;
        let log = read_all(&mut client).await;
        let stored: HashMap<_, _> = log.iter().map(|event| (id_of(event), event)).collect();
        assert_eq!(stored.len(), log.len(), "an event is there twice");
        for (id, appended) in acknowledged.lock().await.iter() {
            let event = stored.get(id).expect("an acknowledged event is missing");
            assert_eq!(event.commit_position, appended.position);
            assert_eq!(Some(event.stream_revision), appended.revision);
        }
        let next = append(&mut client, "next", any(), vec![event(&new_id(), "x")])
            .await
            .unwrap();
        assert!(
            next.position > last_position
                && log
                    .iter()
                    .all(|event| event.commit_position < next.position)
        );
        last_position = next.position;
        server.kill().await;
    }
}

/// Writes until the server is gone.
async fn write(address: &str, acknowledged: &Acknowledged) -> JoinSet<()> {
    let client = connect(address).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (mut client, acknowledged) = (client.clone(), Arc::clone(acknowledged));
        writers.spawn(async move {
            loop {
                let id = new_id();
                let stream = format!("load-{}", writer % 5);
                let Ok(appended) =
                    append(&mut client, &stream, any(), vec![event(&id, "load")]).await
                else {
                    return;
                };
                acknowledged.lock().await.insert(id, appended);
            }
        });
    }
    writers
}

async fn reached(acknowledged: &Acknowledged, count: usize) {
    while acknowledged.lock().await.len() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused() {
    let db = tempfile::tempdir().unwrap();
    let first = Process::start(db.path()).await;
    let mut second = tokio::process::Command::new(crate::support::process::EXECUTABLE);
    second
        .args(["--insecure", "--node-port", "0", "--db"])
        .arg(db.path())
        .kill_on_drop(true);
    let ended = soon("the refusal", second.output()).await.unwrap();
    assert!(!ended.status.success());
    assert!(String::from_utf8_lossy(&ended.stderr).contains("in use"));
    first.kill().await;
}
