//! The version of the layout: an old database is migrated; a newer one is refused and not changed.

use std::path::Path;

use eventstore_lite::{Config, Server};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::process::EXECUTABLE;
use crate::support::{any, append, connect, event, new_id, read_all, soon, start};

/// A closed database with two events.
async fn written() -> TempDir {
    let (db, server) = start().await;
    let mut client = connect(server.address()).await;
    for data in ["one", "two"] {
        let event = event(&new_id(), data);
        append(&mut client, "s", any(), vec![event]).await.unwrap();
    }
    server.shutdown().await;
    db
}

fn open(db: &Path) -> Connection {
    Connection::open(db.join("events.db")).unwrap()
}

fn version(connection: &Connection) -> i64 {
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0));
    version.unwrap()
}

fn set(connection: &Connection, pragma: &str, value: i64) {
    connection.pragma_update(None, pragma, value).unwrap();
}

#[tokio::test]
async fn a_database_from_before_versions_is_migrated() {
    let db = tempfile::tempdir().unwrap();
    let newest = version(&open(written().await.path()));
    open(db.path())
        .execute_batch(include_str!("../fixtures/version-0.sql"))
        .unwrap();
    assert_eq!(version(&open(db.path())), 0);

    let server = Server::start(Config::new(db.path())).await.unwrap();
    let mut client = connect(server.address()).await;
    let log = read_all(&mut client).await;
    let data: Vec<_> = log.iter().map(|event| &event.data[..]).collect();
    assert_eq!(data, [b"one", b"two"]);
    let next = append(&mut client, "s", any(), vec![event(&new_id(), "three")]);
    let next = next.await.unwrap();
    assert_eq!((next.revision, next.position), (Some(2), 192));
    server.shutdown().await;
    let connection = open(db.path());
    assert_eq!(version(&connection), newest);
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'events_by_id'";
    let indexes = connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    assert_eq!(indexes.unwrap(), 0, "an unused index");
}

#[tokio::test]
async fn a_newer_database_is_refused_and_not_changed() {
    let db = written().await;
    // While this connection is open, the change is in the write-ahead log.
    let connection = open(db.path());
    set(&connection, "user_version", 1_000);
    let files = ["events.db", "events.db-wal"].map(|name| db.path().join(name));
    let contents = || files.clone().map(|file| std::fs::read(file).unwrap());
    let before = contents();

    let mut server = Command::new(EXECUTABLE);
    server
        .args(["--insecure", "--node-port", "0", "--db"])
        .arg(db.path());
    let ended = soon("the refusal", server.kill_on_drop(true).output()).await;
    let ended = ended.unwrap();
    let reason = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success());
    for part in ["version 1000", "versions up to", "Nothing was changed"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert!(contents() == before, "the refused database was changed");
}

#[tokio::test]
async fn the_database_of_another_program_is_refused() {
    let db = tempfile::tempdir().unwrap();
    set(&open(db.path()), "application_id", 7);
    let refused = Server::start(Config::new(db.path())).await.err().unwrap();
    assert!(format!("{refused:#}").contains("another program"));
    assert!(!open(db.path()).table_exists(None, "events").unwrap());
}
