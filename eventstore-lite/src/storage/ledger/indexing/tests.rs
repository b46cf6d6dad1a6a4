//! Compares system streams after random changes, with system streams on and off, with what the log requires.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Ledger, MOST_EVENTS};
use crate::append_rules::Expected;
use crate::config::Config;
use crate::event::{Direction, LINK, METADATA, NewEvent, Position, RecordedEvent, ResolvedEvent};
use crate::storage::{
    self, AllRead, Change, ScavengeStart, Storage, StreamFollow, StreamPage, StreamRead, Write,
    read_stream, schema,
};
use crate::stream_name::StreamName;
use crate::system_streams::{self, IndexedEvent};

const NAMES: [&str; 4] = ["cat-0", "cat-1-x", "dog-1", "plain"];
const TYPES: [&str; 3] = ["apple", "pear", LINK];

#[derive(Clone, Debug)]
enum Step {
    /// Stream, type, correlation id, number of events.
    Append(usize, usize, u8, usize),
    Limit(usize, u8),
    Delete(usize),
    Tombstone(usize),
    Scavenge,
    /// Whether system streams are on.
    Restart(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stream = 0..NAMES.len();
    let append = (stream.clone(), 0..TYPES.len(), 0..3_u8, 0..4_usize);
    let step = prop_oneof![
        10 => append.prop_map(|(stream, kind, id, count)| Step::Append(stream, kind, id, count)),
        1 => (stream.clone(), 1..4_u8).prop_map(|(stream, count)| Step::Limit(stream, count)),
        2 => stream.clone().prop_map(Step::Delete),
        1 => stream.prop_map(Step::Tombstone),
        1 => Just(Step::Scavenge),
        2 => any::<bool>().prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

async fn open(folder: &TempDir, system_projections: bool) -> Arc<Storage> {
    let mut config = Config::new(folder.path());
    config.unsafe_disable_flush_to_disk = true;
    config.system_projections = system_projections;
    let storage = Arc::new(Storage::open(&config).unwrap());
    storage.link_earlier_events(&CancellationToken::new()).await;
    storage
}

fn event(event_type: &str, data: &str, metadata: String) -> NewEvent {
    NewEvent {
        id: Uuid::new_v4(),
        event_type: event_type.to_owned(),
        is_json: true,
        data: data.to_owned().into(),
        metadata: metadata.into(),
    }
}

async fn change(storage: &Storage, stream: &str, change: Change) {
    let write = Write {
        stream: StreamName::stored(stream),
        expected: Expected::Any,
        change,
        deadline: None,
    };
    storage.write(write).await.unwrap();
}

async fn append(storage: &Storage, stream: &str, events: usize) {
    let events = (0..events).map(|_| event("happened", "{}", String::new()));
    change(storage, stream, Change::Append(events.collect())).await;
}

async fn limit(storage: &Storage, stream: &str, json: &str) {
    let metadata = event(METADATA, json, String::new());
    let metastream = format!("$${stream}");
    change(storage, &metastream, Change::Append(vec![metadata])).await;
}

async fn scavenge(storage: &Arc<Storage>) {
    let ScavengeStart::Started(scavenge) = storage.start_scavenge(CancellationToken::new()) else {
        panic!("another scavenge runs");
    };
    scavenge.ended().await;
}

async fn make(storage: &Arc<Storage>, step: &Step) {
    match step {
        Step::Append(stream, kind, id, count) => {
            let metadata = |n: usize| match (n, id) {
                (0, 1..) => format!(r#"{{"$correlationId":"c{id}"}}"#),
                _ => String::new(),
            };
            let events = (0..*count).map(|n| event(TYPES[*kind], "0@cat-0", metadata(n)));
            change(storage, NAMES[*stream], Change::Append(events.collect())).await;
        }
        Step::Limit(stream, count) => {
            limit(
                storage,
                NAMES[*stream],
                &format!(r#"{{"$maxCount":{count}}}"#),
            )
            .await;
        }
        Step::Delete(stream) => change(storage, NAMES[*stream], Change::SoftDelete).await,
        Step::Tombstone(stream) => change(storage, NAMES[*stream], Change::Tombstone).await,
        Step::Scavenge => scavenge(storage).await,
        Step::Restart(_) => unreachable!("a restart is no change"),
    }
}

async fn log(storage: &Storage) -> Vec<RecordedEvent> {
    let read = AllRead {
        direction: Direction::Forwards,
        from: Position::START,
        limit: usize::MAX,
        filter: None,
        resolve_links: false,
    };
    let page = storage.read_all(read).await.unwrap().unwrap();
    assert!(page.is_end);
    let events = page.scanned.into_iter().filter_map(|scanned| scanned.event);
    events.map(|event| event.event.unwrap()).collect()
}

async fn read(storage: &Storage, name: &str, direction: Direction) -> Vec<ResolvedEvent> {
    let read = StreamRead {
        stream: StreamName::stored(name),
        direction,
        from: match direction {
            Direction::Forwards => 0,
            Direction::Backwards => u64::MAX,
        },
        limit: 1_000,
        resolve_links: true,
    };
    match storage.read_stream(read).await.unwrap() {
        StreamPage::Events { events, .. } => events,
        StreamPage::Missing | StreamPage::Tombstoned => vec![],
    }
}

/// The expected records of each system stream, by revision: the event that made the link, and the content of the
/// link.
type Model = BTreeMap<String, Vec<(Position, String)>>;

fn model(events: impl IntoIterator<Item = RecordedEvent>) -> Model {
    let mut model = Model::new();
    for event in events {
        let indexed = IndexedEvent {
            stream: &event.stream,
            revision: event.revision,
            event_type: &event.event_type,
            data: &event.data,
            metadata: &event.metadata,
        };
        for link in system_streams::links(&indexed) {
            let (stream, target) = (link.stream.as_str(), link.target.as_str());
            let content = if stream.starts_with("$category-") {
                target.to_owned()
            } else {
                format!("{}@{target}", event.revision)
            };
            let records = model.entry(stream.to_owned()).or_default();
            records.push((event.position, content));
        }
    }
    model
}

/// For a link to a user's own link, the model does not know the content.
fn compare(read: &[ResolvedEvent], model: &[(Position, String)]) -> Result<(), TestCaseError> {
    prop_assert_eq!(read.len(), model.len());
    for (revision, (resolved, (position, content))) in read.iter().zip(model).enumerate() {
        let record = resolved.link.as_ref().or(resolved.event.as_ref()).unwrap();
        prop_assert_eq!(record.revision, revision as u64);
        prop_assert_eq!(record.position, *position);
        let data = std::str::from_utf8(&record.data).unwrap();
        prop_assert!(
            data == content || data == "0@cat-0",
            "{data}, expected {content}"
        );
    }
    Ok(())
}

/// Checks that a resolved link has the event that a read of its target stream finds.
async fn is_resolved(storage: &Storage, resolved: &ResolvedEvent) -> Result<(), TestCaseError> {
    let Some(link) = &resolved.link else {
        return Ok(());
    };
    let (revision, stream) = std::str::from_utf8(&link.data)
        .unwrap()
        .split_once('@')
        .unwrap();
    let target = read(storage, stream, Direction::Forwards).await;
    let target = target.iter().find_map(|other| {
        let record = other.link.as_ref().or(other.event.as_ref()).unwrap();
        (record.revision == revision.parse::<u64>().unwrap()).then_some(record.id)
    });
    let found = resolved.event.as_ref().map(|event| event.id);
    prop_assert_eq!(found, target, "{}@{}", revision, stream);
    Ok(())
}

async fn check(steps: &[Step]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, mut on) = (open(&folder, false).await, false);
    let mut ever = BTreeMap::new();
    for step in steps {
        if let Step::Restart(next) = step {
            storage.close().await;
            on = *next;
            storage = open(&folder, on).await;
        } else if on || !matches!(step, Step::Scavenge) {
            // Events that are removed while system streams are off never get links.
            make(&storage, step).await;
        }
        ever.extend(log(&storage).await.into_iter().map(|e| (e.position.0, e)));
    }
    storage.close().await;
    storage = open(&folder, true).await;
    let model = model(ever.into_values());
    for name in ["$streams", "$ce-cat", "$ce-dog", "$category-cat"]
        .into_iter()
        .chain(["$et-apple", "$et-$deleted", "$et-$metadata", "$bc-c1"])
    {
        let expected = model.get(name).map_or(&[][..], Vec::as_slice);
        let forwards = read(&storage, name, Direction::Forwards).await;
        compare(&forwards, expected)?;
        let mut backwards = read(&storage, name, Direction::Backwards).await;
        backwards.reverse();
        compare(&backwards, expected)?;
        for resolved in &forwards {
            is_resolved(&storage, resolved).await?;
        }
    }
    storage.close().await;
    let damage = storage::verify(folder.path()).unwrap();
    prop_assert_eq!(damage, Vec::<String>::new());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn system_streams_match_the_log_whenever_they_were_on(steps in steps()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(check(&steps))?;
    }
}

fn revisions(events: &[ResolvedEvent]) -> Vec<u64> {
    let record = |event: &ResolvedEvent| event.link.clone().or(event.event.clone()).unwrap();
    events.iter().map(|event| record(event).revision).collect()
}

#[tokio::test]
async fn without_system_projections_nothing_is_linked() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder, false).await;
    append(&storage, "cat-1", 3).await;
    storage.close().await;
    let connection = Connection::open(schema::file(folder.path())).unwrap();
    let links: i64 = connection
        .query_row("SELECT count(*) FROM links", [], |row| row.get(0))
        .unwrap();
    assert_eq!(links, 0);
}

#[tokio::test]
async fn a_system_stream_can_be_limited_deleted_and_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder, true).await;
    let all = async || revisions(&read(&storage, "$ce-cat", Direction::Forwards).await);
    append(&storage, "cat-1", 3).await;
    append(&storage, "$ce-cat", 1).await;
    append(&storage, "cat-2", 1).await;
    assert_eq!(all().await, [0, 1, 2, 3, 4]);
    limit(&storage, "$ce-cat", r#"{"$maxCount":2}"#).await;
    assert_eq!(all().await, [3, 4]);
    limit(&storage, "$ce-cat", r#"{"$maxAge":3600}"#).await;
    assert_eq!(all().await, [0, 1, 2, 3, 4]);
    change(&storage, "$ce-cat", Change::SoftDelete).await;
    assert_eq!(all().await, [0; 0]);
    append(&storage, "cat-1", 1).await;
    assert_eq!(all().await, [5]);
    change(&storage, "$ce-cat", Change::Tombstone).await;
    append(&storage, "cat-1", 1).await;
    assert_eq!(all().await, [0; 0]);
    let backwards = read(&storage, "$streams", Direction::Backwards).await;
    assert!(!backwards.is_empty());
    storage.close().await;
    assert_eq!(
        storage::verify(folder.path()).unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn an_event_in_the_stream_of_its_own_type_is_linked_after_itself() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder, true).await;
    append(&storage, "$et-happened", 2).await;
    let records = read(&storage, "$et-happened", Direction::Forwards).await;
    assert_eq!(revisions(&records), [0, 1, 2, 3]);
    let links = records.iter().map(|record| record.link.is_some());
    assert_eq!(links.collect::<Vec<_>>(), [false, true, false, true]);
}

#[tokio::test]
async fn a_link_stays_when_a_scavenge_removes_its_target() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder, true).await;
    append(&storage, "cat-1", 2).await;
    change(&storage, "cat-1", Change::Tombstone).await;
    let before = read(&storage, "$ce-cat", Direction::Forwards).await;
    scavenge(&storage).await;
    let after = read(&storage, "$ce-cat", Direction::Forwards).await;
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    let targets = after.iter().map(|record| record.event.is_some());
    assert_eq!(targets.collect::<Vec<_>>(), [false; 3]);
}

#[tokio::test]
async fn a_link_to_a_link_resolves_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder, true).await;
    append(&storage, "cat-1", 2).await;
    let link = event(LINK, "1@$ce-cat", String::new());
    change(&storage, "links", Change::Append(vec![link])).await;
    let resolved = read(&storage, "links", Direction::Forwards).await;
    let found = resolved[0].event.as_ref().unwrap();
    assert_eq!(
        (found.stream.as_str(), found.revision, &found.data[..]),
        ("$ce-cat", 1, &b"1@cat-1"[..])
    );
}

#[tokio::test]
async fn damaged_links_are_found() {
    let damages = [
        (
            "DELETE FROM links WHERE revision = 1",
            "the revision before it",
        ),
        (
            "UPDATE links SET target = 99",
            "one of its streams does not exist",
        ),
        ("UPDATE streams SET last = 9 WHERE name = '$ce-cat'", "ends"),
        ("UPDATE log SET linked = 64", "beyond the head"),
    ];
    for (damage, finding) in damages {
        let folder = tempfile::tempdir().unwrap();
        let storage = open(&folder, true).await;
        append(&storage, "cat-1", 3).await;
        storage.close().await;
        let connection = Connection::open(schema::file(folder.path())).unwrap();
        connection.execute_batch(damage).unwrap();
        let found = storage::verify(folder.path()).unwrap().join(" ");
        assert!(found.contains(finding), "{damage}: {found}");
    }
}

/// How many instructions SQLite executes for pages in the middle of `$ce-cat`, when it has this many links.
async fn steps_to_read(links: u64) -> [u64; 3] {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder, true).await;
    for _ in 0..links / 64 {
        append(&storage, "cat-1", 32).await;
        append(&storage, "cat-2", 32).await;
    }
    limit(&storage, "$ce-cat", r#"{"$maxAge":3600}"#).await;
    storage.close().await;
    let connection = schema::open_reader(folder.path()).unwrap();
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    let count = move || {
        counted.fetch_add(1, Relaxed);
        false
    };
    connection.progress_handler(1, Some(count)).unwrap();
    let stream = StreamName::stored("$ce-cat");
    let page = |direction| StreamRead {
        stream: stream.clone(),
        direction,
        from: links / 2,
        limit: 10,
        resolve_links: false,
    };
    let follow = StreamFollow {
        stream: stream.clone(),
        from: links - 10,
        limit: StreamFollow::MOST,
        resolve_links: false,
        only_visible: false,
    };
    let forwards = read_stream::read(&connection, &page(Direction::Forwards));
    assert!(matches!(forwards.unwrap(), StreamPage::Events { events, .. } if events.len() == 10));
    let after_forwards = steps.swap(0, Relaxed);
    read_stream::read(&connection, &page(Direction::Backwards)).unwrap();
    let after_backwards = steps.swap(0, Relaxed);
    let followed = read_stream::follow(&connection, &follow).unwrap();
    assert_eq!(followed.events.len(), 10);
    [after_forwards, after_backwards, steps.load(Relaxed)]
}

#[tokio::test]
async fn a_page_of_a_system_stream_costs_the_same_among_more_links() {
    let (small, large) = (steps_to_read(128).await, steps_to_read(16 * 128).await);
    for (small, large) in small.into_iter().zip(large) {
        // The bisection by age looks at one more event per doubling of the stream.
        assert!(small > 0 && large < 2 * small, "{small}, then {large}");
    }
}

#[tokio::test]
async fn interrupted_linking_creates_each_link_once() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder, false).await;
    for _ in 0..5 {
        append(&storage, "cat-1", MOST_EVENTS / 2).await;
    }
    let head = storage.committed();
    storage.close().await;
    let mut ledger = Ledger::open(schema::open_writer(folder.path(), false).unwrap()).unwrap();
    ledger.catch_up(Position::START).unwrap();
    let linked = ledger.linked().unwrap();
    assert!(Position::START < linked && linked < head);
    drop(ledger);
    let storage = open(&folder, true).await;
    append(&storage, "cat-1", 1).await;
    storage.close().await;
    let connection = Connection::open(schema::file(folder.path())).unwrap();
    let (links, events): (i64, i64) = connection
        .query_row(
            "SELECT count(DISTINCT target_revision), (SELECT count(*) FROM events) FROM links
             WHERE stream = (SELECT id FROM streams WHERE name = '$ce-cat')",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(links, events);
    assert_eq!(
        storage::verify(folder.path()).unwrap(),
        Vec::<String>::new()
    );
}
