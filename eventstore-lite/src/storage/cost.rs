//! The cost of a start, an append and a read does not grow with the store. These tests count steps of SQLite's
//! virtual machine. Every visited row takes some steps. No statement here uses `count(*)`, which counts many rows in
//! one step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tempfile::TempDir;

use super::migrations::{self, MIGRATIONS};
use super::read_stream::{self, StreamPage};
use super::wal_checkpoints::WalCheckpoints;
use super::*;
use crate::event::Direction;

const SMALL: usize = 30;
const LARGE: usize = 100 * SMALL;
const IN_STREAM: usize = 10;
/// A start reads the ids of this many events: all events of a small store.
const REMEMBERED: usize = SMALL * IN_STREAM;
/// About how many steps one row takes.
const ONE_ROW: u64 = 10;

fn stream(number: usize) -> StreamName {
    StreamName::stored(&format!("stream-{number}"))
}

fn append(ledger: &mut Ledger, stream: StreamName, events: usize) {
    append_data(ledger, stream, events, 16);
}

fn append_data(ledger: &mut Ledger, stream: StreamName, events: usize, bytes: usize) {
    let event = || NewEvent {
        id: Uuid::new_v4(),
        event_type: "happened".to_owned(),
        is_json: false,
        data: vec![0; bytes].into(),
        metadata: vec![].into(),
    };
    let write = Write {
        stream,
        expected: Expected::Any,
        change: Change::Append((0..events).map(|_| event()).collect()),
        deadline: None,
    };
    let outcome = ledger.apply(&write).unwrap();
    assert!(matches!(outcome, Outcome::Written { .. }), "{outcome:?}");
}

fn store(streams: usize, in_stream: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let connection = schema::open_writer(folder.path(), false).unwrap();
    let mut ledger = Ledger::open(connection).unwrap();
    ledger.begin().unwrap();
    for number in 0..streams {
        append(&mut ledger, stream(number), in_stream);
    }
    ledger.commit().unwrap();
    folder
}

/// Counts the steps of a connection from now on.
fn count(connection: &rusqlite::Connection) -> Arc<AtomicU64> {
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    let step = move || {
        counted.fetch_add(1, Relaxed);
        false
    };
    connection.progress_handler(1, Some(step)).unwrap();
    steps
}

fn start(store: &TempDir) -> u64 {
    let mut connection = schema::open_writer(store.path(), false).unwrap();
    let steps = count(&connection);
    migrations::migrate(&mut connection, MIGRATIONS).unwrap();
    integrity::check_end(&connection).unwrap();
    Ledger::remembering(connection, REMEMBERED).unwrap();
    steps.load(Relaxed)
}

/// The steps of an append to a stream that is not cached.
fn first_append(store: &TempDir) -> u64 {
    let connection = schema::open_writer(store.path(), false).unwrap();
    let steps = count(&connection);
    let mut ledger = Ledger::remembering(connection, REMEMBERED).unwrap();
    ledger.begin().unwrap();
    append(&mut ledger, stream(SMALL / 2), 1);
    ledger.rollback().unwrap();
    steps.load(Relaxed)
}

/// The steps of reading the first and the last page of a stream, and of a subscription's page.
fn read_one_stream(store: &TempDir, number: usize) -> u64 {
    let connection = schema::open_reader(store.path()).unwrap();
    let steps = count(&connection);
    for (direction, from) in [(Direction::Forwards, 0), (Direction::Backwards, u64::MAX)] {
        let read = StreamRead {
            stream: stream(number),
            direction,
            from,
            limit: IN_STREAM as u64,
            resolve_links: true,
        };
        let page = read_stream::read(&connection, &read).unwrap();
        let StreamPage::Events { events, .. } = page else {
            panic!("{page:?}");
        };
        assert_eq!(events.len(), IN_STREAM);
    }
    let follow = StreamFollow {
        stream: stream(number),
        from: 0,
        resolve_links: false,
        only_visible: true,
        limit: IN_STREAM,
    };
    let followed = read_stream::follow(&connection, &follow).unwrap();
    assert_eq!(followed.events.len(), IN_STREAM);
    read_stream::last_revision(&connection, &stream(number))
        .unwrap()
        .unwrap();
    steps.load(Relaxed)
}

fn first_page_of_all(store: &TempDir) -> u64 {
    let connection = schema::open_reader(store.path()).unwrap();
    let steps = count(&connection);
    let read = AllRead {
        direction: Direction::Forwards,
        from: Position::START,
        limit: IN_STREAM,
        filter: None,
        resolve_links: false,
    };
    let page = read_all::read(&connection, &read).unwrap().unwrap();
    assert_eq!(page.scanned.len(), IN_STREAM);
    steps.load(Relaxed)
}

#[test]
fn a_start_an_append_and_reads_cost_the_same_in_a_large_store() {
    let (small, large) = (store(SMALL, IN_STREAM), store(LARGE, IN_STREAM));
    assert_eq!(start(&small), start(&large));
    assert_eq!(first_append(&small), first_append(&large));
    assert_eq!(
        read_one_stream(&small, SMALL / 2),
        read_one_stream(&large, SMALL / 2)
    );
    assert_eq!(first_page_of_all(&small), first_page_of_all(&large));
}

#[test]
fn a_start_an_append_and_reads_cost_the_same_in_a_long_stream() {
    let (short, long) = (store(SMALL, IN_STREAM), store(SMALL, 100 * IN_STREAM));
    // A read that stops before the end may take one step more than a read up to the end.
    assert!(start(&long) <= start(&short) + ONE_ROW);
    assert!(first_append(&long) <= first_append(&short) + ONE_ROW);
    assert!(read_one_stream(&long, 0) <= read_one_stream(&short, 0) + ONE_ROW);
    assert!(first_page_of_all(&long) <= first_page_of_all(&short) + ONE_ROW);
}

#[test]
fn a_scan_of_all_rows_is_counted() {
    let look = |store: &TempDir| {
        let connection = schema::open_reader(store.path()).unwrap();
        let steps = count(&connection);
        let sql = "SELECT max(revision) FROM events WHERE type = 'other'";
        connection.query_row(sql, [], |_| Ok(())).unwrap();
        steps.load(Relaxed)
    };
    let (small, large) = (store(SMALL, IN_STREAM), store(LARGE, IN_STREAM));
    assert!(look(&large) > 50 * look(&small));
}

/// Bytes of write-ahead log per event of 500 bytes, when `together` appends share a transaction. The first figure is
/// for new streams, the second for further events of these streams.
fn log_per_event(together: usize) -> [u64; 2] {
    const EVENTS: usize = 64 * 128;
    let folder = tempfile::tempdir().unwrap();
    let connection = schema::open_writer(folder.path(), false).unwrap();
    // This disables merges, so the log only grows.
    WalCheckpoints::watch(&connection);
    let mut ledger = Ledger::open(connection).unwrap();
    let [_, (_, log)] = schema::files(folder.path());
    let mut before = 0;
    [0, 1].map(|_| {
        for group in 0..EVENTS / together {
            ledger.begin().unwrap();
            for number in 0..together {
                // The factor and the number of streams have no common divisor, so each stream comes once and
                // neighbours are far apart.
                let number = (group * together + number) * 3125 % EVENTS;
                append_data(&mut ledger, stream(number), 1, 500);
            }
            ledger.commit().unwrap();
        }
        let after = std::fs::metadata(&log).unwrap().len();
        let bytes = after - std::mem::replace(&mut before, after);
        bytes / EVENTS as u64
    })
}

#[test]
fn an_append_writes_few_pages_to_the_log() {
    // With an additional index of ids, the figures were 6,635 and 3,222 bytes for 16, and 2,925 and 1,503 bytes for
    // 64.
    let [created, appended] = log_per_event(16);
    assert!(created < 6_200 && appended < 2_700, "{created}, {appended}");
    let [created, appended] = log_per_event(64);
    assert!(created < 2_800 && appended < 1_350, "{created}, {appended}");
}
