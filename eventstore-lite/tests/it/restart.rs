//! Written events remain, and after a restart the log continues where it ended.

use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;

use eventstore_lite::{Config, Server};
use rusqlite::Connection;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::task::JoinSet;

use crate::support::process::EXECUTABLE;
use crate::support::{
    any, append, connect, event, id_of, new_id, read_all, read_stream, soon, start,
};

#[tokio::test]
async fn after_a_restart_everything_is_there_and_positions_continue() {
    let (db, server) = start().await;
    let mut client = connect(server.address()).await;
    let first = append(&mut client, "s", any(), vec![event(&new_id(), "one")])
        .await
        .unwrap();
    let empty = append(&mut client, "s", any(), vec![]).await.unwrap();
    let before = read_all(&mut client).await;
    server.shutdown().await;

    let server = Server::start(Config::new(db.path())).await.unwrap();
    let mut client = connect(server.address()).await;
    assert_eq!(read_all(&mut client).await, before);
    let next = append(&mut client, "s", any(), vec![event(&new_id(), "two")])
        .await
        .unwrap();
    assert_eq!(next.revision, Some(1));
    assert!(first.position < empty.position && empty.position < next.position);
}

#[tokio::test]
async fn a_retry_after_a_restart_is_recognised() {
    let (db, server) = start().await;
    let retried = event(&new_id(), "once");
    let mut client = connect(server.address()).await;
    let first = append(&mut client, "s", any(), vec![retried.clone()])
        .await
        .unwrap();
    server.shutdown().await;

    let server = Server::start(Config::new(db.path())).await.unwrap();
    let mut client = connect(server.address()).await;
    let second = append(&mut client, "s", any(), vec![retried])
        .await
        .unwrap();
    assert_eq!(first, second);
    assert_eq!(read_stream(&mut client, "s").await.len(), 1);
}

#[tokio::test]
async fn a_database_in_use_is_refused_until_its_server_has_stopped() {
    let (db, server) = start().await;
    let refused = Server::start(Config::new(db.path())).await.err().unwrap();
    assert!(refused.to_string().contains("in use"), "{refused}");
    server.shutdown().await;
    Server::start(Config::new(db.path())).await.unwrap();
}

#[tokio::test]
async fn events_that_are_acknowledged_while_the_server_stops_are_there() {
    const WRITERS: usize = 64;
    let (db, server) = start().await;
    let client = connect(server.address()).await;
    let (acknowledged, mut some) = tokio::sync::mpsc::unbounded_channel();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (mut client, acknowledged) = (client.clone(), acknowledged.clone());
        writers.spawn(async move {
            loop {
                let id = new_id();
                if append(&mut client, "s", any(), vec![event(&id, "x")])
                    .await
                    .is_err()
                {
                    return;
                }
                acknowledged.send(id).unwrap();
            }
        });
    }
    drop(acknowledged);
    let mut ids = vec![soon("an acknowledgement", some.recv()).await.unwrap()];
    soon("the shutdown", server.shutdown()).await;
    soon("the end of the writers", writers.join_all()).await;
    while let Some(id) = some.recv().await {
        ids.push(id);
    }

    let server = Server::start(Config::new(db.path())).await.unwrap();
    let mut client = connect(server.address()).await;
    let stored: HashSet<_> = read_stream(&mut client, "s")
        .await
        .iter()
        .map(id_of)
        .collect();
    assert!(
        ids.iter().all(|id| stored.contains(id)),
        "an acknowledged event is missing"
    );
}

/// Ten million ticks are a second.
const TICKS_PER_YEAR: i64 = 365 * 24 * 3_600 * 10_000_000;

/// Creates a stream whose only event has a creation time one year ahead.
async fn a_year_ahead(db: &Path) {
    let server = Server::start(Config::new(db)).await.unwrap();
    let mut client = connect(server.address()).await;
    let event = event(&new_id(), "ahead");
    append(&mut client, "s", any(), vec![event]).await.unwrap();
    server.shutdown().await;
    let database = Connection::open(db.join("events.db")).unwrap();
    let later = format!("UPDATE events SET created = created + {TICKS_PER_YEAR}");
    database.execute_batch(&later).unwrap();
}

#[tokio::test]
async fn events_expire_after_a_clock_was_ahead() {
    let db = tempfile::tempdir().unwrap();
    a_year_ahead(db.path()).await;
    let server = Server::start(Config::new(db.path())).await.unwrap();
    let mut client = connect(server.address()).await;
    let mut limit = event(&new_id(), r#"{"$maxAge":1}"#);
    let json = "application/json".to_owned();
    limit.metadata.insert("content-type".to_owned(), json);
    append(&mut client, "$$s", any(), vec![limit])
        .await
        .unwrap();
    let next = vec![event(&new_id(), "of now")];
    append(&mut client, "s", any(), next).await.unwrap();
    soon("the end of its second", async {
        while read_stream(&mut client, "s").await.len() > 1 {}
    })
    .await;
    assert_eq!(read_stream(&mut client, "s").await[0].data, &b"ahead"[..]);
}

/// Waits for a line with this text.
async fn logged(lines: &mut Lines<BufReader<ChildStdout>>, text: &str) -> String {
    let wait = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("a line");
            if line.contains(text) {
                return line;
            }
        }
    };
    soon(text, wait).await
}

#[tokio::test]
async fn a_last_event_ahead_of_the_clock_is_logged() {
    let db = tempfile::tempdir().unwrap();
    a_year_ahead(db.path()).await;
    let mut command = Command::new(EXECUTABLE);
    command.args(["--insecure", "--node-port", "0", "--db"]);
    command
        .arg(db.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ahead = "ahead of the clock";
    logged(&mut lines, ahead).await;
    let line: serde_json::Value =
        serde_json::from_str(&logged(&mut lines, "\"address\"").await).unwrap();
    let address = line["fields"]["address"].as_str().unwrap();
    // The warning is repeated when the next event is created earlier, and not after that.
    let mut client = connect(address).await;
    for data in ["now", "later"] {
        let event = event(&new_id(), data);
        append(&mut client, "s", any(), vec![event]).await.unwrap();
    }
    logged(&mut lines, ahead).await;
    append(&mut client, "s", any(), vec![event(&new_id(), "x")])
        .await
        .unwrap();
    child.kill().await.unwrap();
    let mut rest = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        rest.push_str(&line);
    }
    assert!(!rest.contains(ahead), "{rest}");
}
