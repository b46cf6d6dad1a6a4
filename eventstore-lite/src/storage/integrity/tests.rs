//! Every kind of damage is found, and nothing else is.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rusqlite::Connection;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::*;
use crate::append_rules::Expected;
use crate::config::Config;
use crate::event::{METADATA, NewEvent};
use crate::storage::ledger::Ledger;
use crate::storage::{Change, ScavengeStart, Storage, Write};

fn config(folder: &TempDir) -> Config {
    let mut config = Config::new(folder.path());
    config.unsafe_disable_flush_to_disk = true;
    config
}

fn event(event_type: &str, data: &str) -> NewEvent {
    NewEvent {
        id: Uuid::new_v4(),
        event_type: event_type.to_owned(),
        is_json: true,
        data: data.to_owned().into(),
        metadata: "".into(),
    }
}

async fn write(storage: &Storage, stream: &str, change: Change) {
    let write = Write {
        stream: StreamName::stored(stream),
        expected: Expected::Any,
        change,
        deadline: None,
    };
    storage.write(write).await.unwrap();
}

async fn append(storage: &Storage, stream: &str, events: usize) {
    let events = (0..events).map(|_| event("happened", "{}")).collect();
    write(storage, stream, Change::Append(events)).await;
}

/// Streams of every kind: plain, limited, soft-deleted, recreated, and tombstoned.
async fn database() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::open(&config(&folder)).unwrap();
    for stream in ["plain", "limited", "deleted", "again", "gone", "more"] {
        append(&storage, stream, 3).await;
    }
    let limit = event(METADATA, r#"{"$maxCount":2}"#);
    write(&storage, "$$limited", Change::Append(vec![limit])).await;
    for stream in ["deleted", "again"] {
        write(&storage, stream, Change::SoftDelete).await;
    }
    append(&storage, "again", 2).await;
    write(&storage, "gone", Change::Tombstone).await;
    storage.close().await;
    folder
}

/// SQL that damages the database (`PLAIN` is a stream's id), and a part of the finding.
const DAMAGES: &[(&str, &str)] = &[
    ("DELETE FROM log", "0 heads"),
    ("UPDATE log SET head = 64", "beyond the head"),
    (
        "UPDATE events SET position = position + 1 WHERE position = 64",
        "not at a boundary",
    ),
    (
        "UPDATE events SET id = x'00' WHERE position = 64",
        "id of 1 bytes",
    ),
    (
        "DELETE FROM streams WHERE name = 'plain'",
        "belongs to no stream",
    ),
    (
        "DELETE FROM events WHERE stream = PLAIN AND revision = 1",
        "the revision before it is missing",
    ),
    (
        "UPDATE events SET revision = 9 WHERE stream = PLAIN AND revision = 0;
             UPDATE events SET revision = 0 WHERE stream = PLAIN AND revision = 1;
             UPDATE events SET revision = 1 WHERE stream = PLAIN AND revision = 9",
        "not after its predecessor",
    ),
    (
        "DELETE FROM events WHERE stream = PLAIN AND revision = 0",
        "has no beginning",
    ),
    (
        "DELETE FROM events WHERE stream = PLAIN AND revision = 2",
        "ends with revision 1, but its row says 2",
    ),
    (
        "UPDATE streams SET last = 1 WHERE name = 'gone'",
        "ends with revision 2",
    ),
    (
        "UPDATE streams SET tombstoned = 1 WHERE name = 'plain'",
        "disagree about a tombstone",
    ),
    (
        "UPDATE streams SET tombstoned = 0 WHERE name = 'gone'",
        "disagree about a tombstone",
    ),
];

/// Like [`DAMAGES`], for data that is derived from the events.
const ERRORS: &[(&str, &str)] = &[
    (
        "UPDATE streams SET max_count = 3 WHERE name = 'limited'",
        "differ from its metadata",
    ),
    (
        "UPDATE streams SET has_metadata = 0 WHERE name = 'deleted'",
        "differ from its metadata",
    ),
    (
        "UPDATE streams SET has_metadata = 1, truncate_before = 2 WHERE name = 'plain'",
        "differ from its metadata",
    ),
];

#[tokio::test]
async fn every_damage_is_found_and_refused_at_start() {
    let folder = database().await;
    assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
    let file = schema::file(folder.path());
    let sound = fs::read(&file).unwrap();
    for (damage, finding) in DAMAGES {
        fs::write(&file, &sound).unwrap();
        let connection = Connection::open(&file).unwrap();
        let plain = "(SELECT id FROM streams WHERE name = 'plain')";
        connection
            .execute_batch(&damage.replace("PLAIN", plain))
            .unwrap();
        drop(connection);
        let found = verify(folder.path()).unwrap();
        assert!(
            found.iter().any(|text| text.contains(finding)),
            "{damage}: {found:?}"
        );
        let refused = Storage::open(&config(&folder))
            .err()
            .map(|error| format!("{error:#}"));
        let refused = refused.unwrap_or_else(|| panic!("{damage}: not refused"));
        for part in [finding, "eventstore-lite verify", file.to_str().unwrap()] {
            assert!(refused.contains(part), "{damage}: {refused}");
        }
    }
}

#[tokio::test]
async fn derived_data_is_repaired_at_start() {
    let folder = database().await;
    let file = schema::file(folder.path());
    let sound = fs::read(&file).unwrap();
    for (error, finding) in ERRORS {
        fs::write(&file, &sound).unwrap();
        let connection = Connection::open(&file).unwrap();
        connection.execute_batch(error).unwrap();
        drop(connection);
        let found = verify(folder.path()).unwrap();
        assert!(
            found.iter().any(|text| text.contains(finding)),
            "{error}: {found:?}"
        );
        let storage = Storage::open(&config(&folder)).unwrap();
        storage.close().await;
        assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_wrong_index_is_rebuilt() {
    let folder = database().await;
    let file = schema::file(folder.path());
    let connection = Connection::open(&file).unwrap();
    // A partial index lacks a row. Its schema is then rewritten, so that it looks like the full index.
    let damage = "DROP INDEX events_by_revision;
        CREATE UNIQUE INDEX events_by_revision ON events (stream, revision) WHERE position <> 64;
        PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = 'CREATE UNIQUE INDEX events_by_revision ON events (stream, revision)'
            WHERE name = 'events_by_revision';
        PRAGMA writable_schema = RESET";
    connection.execute_batch(damage).unwrap();
    drop(connection);
    let connection = Connection::open(&file).unwrap();
    let wrong = |found: &[String]| found.iter().any(|text| text.contains("events_by_revision"));
    assert!(wrong(&verify(folder.path()).unwrap()));
    assert!(wrong(&check_and_mend(&connection).unwrap()));
    assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
}

/// SQLite's own functions end a text at its first NUL.
const NAMES: [&str; 6] = ["a\0b", "\0", "a\0", "$$\0", "*?[-\0", "größe-\"1\"\n"];

#[tokio::test]
async fn streams_of_any_name_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.system_projections = true;
    let storage = Arc::new(Storage::open(&config).unwrap());
    for name in NAMES {
        append(&storage, name, 3).await;
        let limit = event(METADATA, r#"{"$maxCount":2}"#);
        write(
            &storage,
            &format!("$${name}"),
            Change::Append(vec![limit.clone(), limit]),
        )
        .await;
        assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
        write(&storage, name, Change::SoftDelete).await;
        append(&storage, name, 1).await;
        write(&storage, name, Change::Tombstone).await;
        assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
    }
    let ScavengeStart::Started(scavenge) = storage.start_scavenge(CancellationToken::new()) else {
        panic!("another scavenge runs");
    };
    scavenge.ended().await;
    assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
    storage.close().await;
    Storage::open(&config).unwrap().close().await;
}

#[tokio::test]
async fn a_file_with_wrong_bytes_is_found() {
    let folder = database().await;
    let file = schema::file(folder.path());
    let sound = fs::read(&file).unwrap();
    for (page, refused) in [(0, true), (sound.len() / 4096 - 1, false)] {
        let mut bytes = sound.clone();
        bytes[page * 4096..][..64].fill(0xAA);
        fs::write(&file, bytes).unwrap();
        assert_ne!(verify(folder.path()).unwrap(), Vec::<String>::new());
        let opened = Storage::open(&config(&folder));
        assert!(!refused || format!("{:#}", opened.err().unwrap()).contains("damaged"));
    }
}

#[tokio::test]
async fn damage_before_the_end_is_found_too() {
    let folder = database().await;
    let storage = Storage::open(&config(&folder)).unwrap();
    append(&storage, "long", END + 1).await;
    storage.close().await;
    let connection = Connection::open(schema::file(folder.path())).unwrap();
    for (damage, finding) in [
        (
            "DELETE FROM events WHERE position = 128",
            "the revision before it",
        ),
        ("DELETE FROM events WHERE position <= 192", "revision none"),
    ] {
        connection.execute_batch(damage).unwrap();
        let found = verify(folder.path()).unwrap().join(" ");
        assert!(found.contains(finding), "{damage}: {found}");
    }
    check_end(&connection).unwrap();
}

/// How many instructions SQLite executes to check and open a store with this many streams.
async fn steps_to_start(streams: usize) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::open(&config(&folder)).unwrap();
    for number in 0..streams {
        append(&storage, &format!("s-{number}"), 2).await;
    }
    storage.close().await;
    let connection = schema::open_writer(folder.path(), false).unwrap();
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    let count = move || {
        counted.fetch_add(1, Relaxed);
        false
    };
    connection.progress_handler(1, Some(count)).unwrap();
    check_end(&connection).unwrap();
    Ledger::remembering(connection, END).unwrap();
    steps.load(Relaxed)
}

#[tokio::test]
async fn a_start_costs_the_same_in_a_large_store() {
    let small = steps_to_start(END).await;
    assert!(small > 0);
    assert_eq!(small, steps_to_start(8 * END).await);
}
