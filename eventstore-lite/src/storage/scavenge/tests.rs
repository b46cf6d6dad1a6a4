//! Compares reads of random streams before and after a scavenge, and looks for leftovers in the files.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::append_rules::Expected;
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::event::{Direction, LINK, METADATA, NewEvent, Position, RecordedEvent, STREAM_DELETED};
use crate::storage::{
    self, AllRead, Change, Outcome, StreamFollow, StreamPage, StreamRead, Write, schema,
};
use crate::stream_name::StreamName;

const STREAMS: usize = 4;
const HOUR: i64 = 3_600 * crate::clock::TICKS_PER_SECOND;

fn open(folder: &TempDir) -> Arc<Storage> {
    let mut config = Config::new(folder.path());
    config.unsafe_disable_flush_to_disk = true;
    Arc::new(Storage::open(&config).unwrap())
}

async fn scavenge(storage: &Arc<Storage>) -> ScavengeProgress {
    let ScavengeStart::Started(scavenge) = storage.start_scavenge(CancellationToken::new()) else {
        panic!("another scavenge runs");
    };
    scavenge.ended().await
}

fn new_event(event_type: &str, data: Vec<u8>) -> NewEvent {
    NewEvent {
        id: Uuid::new_v4(),
        event_type: event_type.to_owned(),
        is_json: true,
        data: data.into(),
        metadata: "".into(),
    }
}

async fn write(storage: &Storage, stream: &str, expected: Expected, change: Change) -> Outcome {
    let write = Write {
        stream: StreamName::stored(stream),
        expected,
        change,
        deadline: None,
    };
    storage.write(write).await.unwrap()
}

async fn append(storage: &Storage, stream: &str, events: Vec<NewEvent>) -> Outcome {
    write(storage, stream, Expected::Any, Change::Append(events)).await
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize, usize),
    Metadata(usize, String),
    Link(usize, u64),
    Delete(usize),
    Tombstone(usize),
    /// All existing events become an hour older.
    Age,
    /// The clock is set to this many hours from now.
    Clock(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stream = 0..STREAMS;
    let metadata = prop_oneof![
        (1..4_u8).prop_map(|count| format!(r#"{{"$maxCount":{count}}}"#)),
        (0..9_u8).prop_map(|first| format!(r#"{{"$tb":{first}}}"#)),
        (1..4_u8, 0..9_u8)
            .prop_map(|(count, first)| format!(r#"{{"$maxCount":{count},"$tb":{first}}}"#)),
        Just(r#"{"$maxAge":1800}"#.to_owned()),
        Just("{}".to_owned()),
    ];
    let step = prop_oneof![
        8 => (stream.clone(), 1..5_usize).prop_map(|(s, n)| Step::Append(s, n)),
        4 => (stream.clone(), metadata).prop_map(|(s, m)| Step::Metadata(s, m)),
        2 => (stream.clone(), 0..9_u64).prop_map(|(s, revision)| Step::Link(s, revision)),
        2 => stream.clone().prop_map(Step::Delete),
        1 => stream.prop_map(Step::Tombstone),
        1 => Just(Step::Age),
        1 => (-2..3_i64).prop_map(Step::Clock),
    ];
    prop::collection::vec(step, 1..30)
}

async fn apply(storage: &Storage, step: &Step) {
    let name = |stream: &usize| format!("s{stream}");
    match step {
        Step::Append(stream, count) => {
            let events = (0..*count).map(|_| new_event("happened", b"{}".to_vec()));
            append(storage, &name(stream), events.collect()).await;
        }
        Step::Metadata(stream, json) => {
            let event = new_event(METADATA, json.clone().into());
            append(storage, &format!("$$s{stream}"), vec![event]).await;
        }
        Step::Link(stream, revision) => {
            let link = new_event(LINK, format!("{revision}@s{stream}").into());
            append(storage, "links", vec![link]).await;
        }
        Step::Delete(stream) => {
            write(storage, &name(stream), Expected::Any, Change::SoftDelete).await;
        }
        Step::Tombstone(stream) => {
            write(storage, &name(stream), Expected::Any, Change::Tombstone).await;
        }
        Step::Age => {
            let older = format!("UPDATE events SET created = created - {HOUR}");
            change(storage, older).await;
        }
        Step::Clock(hours) => {
            let clock = Clock::At(clock::now() + hours * HOUR);
            let set = storage.writer.between_groups(move |ledger| {
                ledger.set_clock(clock);
                Ok(())
            });
            set.await.unwrap();
        }
    }
}

/// Changes rows directly, bypassing the rules.
async fn change(storage: &Storage, sql: String) {
    let changed = storage.writer.between_groups(move |ledger| {
        run::transaction(ledger.connection(), |connection| {
            connection.execute_batch(&sql)
        })
    });
    changed.await.unwrap();
}

fn names() -> impl Iterator<Item = String> {
    let named = (0..STREAMS).flat_map(|stream| [format!("s{stream}"), format!("$$s{stream}")]);
    named.chain(["links".to_owned()])
}

/// The results of all kinds of stream reads, as text.
async fn seen(storage: &Storage) -> Vec<String> {
    let mut seen = Vec::new();
    for name in names() {
        let stream = StreamName::stored(&name);
        let end = storage.last_revision(stream.clone()).await.unwrap();
        seen.push(format!("{name}: {end:?}"));
        for from in [0, 1, 2, 5, 9, u64::MAX] {
            for limit in [1, 3, 32] {
                for direction in [Direction::Forwards, Direction::Backwards] {
                    let read = StreamRead {
                        stream: stream.clone(),
                        direction,
                        from,
                        limit,
                        resolve_links: true,
                    };
                    seen.push(format!(
                        "{read:?} {:?}",
                        storage.read_stream(read.clone()).await
                    ));
                }
            }
            // A subscription to a tombstoned stream does not begin.
            if end.is_ok() {
                let follow = StreamFollow {
                    stream: stream.clone(),
                    from,
                    resolve_links: true,
                    only_visible: true,
                    limit: StreamFollow::MOST,
                };
                let followed = storage.follow_stream(follow.clone()).await.unwrap();
                seen.push(format!("{follow:?} {:?}", followed.events));
            }
        }
    }
    seen
}

/// Reads the log. Also checks reads in both directions from every position.
async fn log(storage: &Storage) -> Vec<RecordedEvent> {
    let read = |direction, from| AllRead {
        direction,
        from,
        limit: usize::MAX,
        filter: None,
        resolve_links: false,
    };
    let forwards = storage.read_all(read(Direction::Forwards, Position::START));
    let log = events(forwards.await.unwrap().unwrap());
    let positions: Vec<_> = log.iter().map(|event| event.position).collect();
    let head = storage.committed().0;
    for place in (0..=head + 64).step_by(64).map(Position) {
        let here = positions.partition_point(|position| *position < place);
        let forwards = storage.read_all(read(Direction::Forwards, place)).await;
        let found = events(forwards.unwrap().unwrap()).into_iter();
        assert!(
            found
                .map(|event| event.position)
                .eq(positions[here..].iter().copied())
        );
        let backwards = storage.read_all(read(Direction::Backwards, place)).await;
        let found = events(backwards.unwrap().unwrap()).into_iter();
        assert!(
            found
                .map(|event| event.position)
                .eq(positions[..here].iter().rev().copied())
        );
    }
    log
}

fn events(page: crate::storage::AllPage) -> Vec<RecordedEvent> {
    assert!(page.is_end);
    let events = page.scanned.into_iter().map(|scanned| scanned.event);
    events.map(|event| event.unwrap().event.unwrap()).collect()
}

async fn visible(storage: &Storage, name: &StreamName) -> Vec<u64> {
    let read = StreamRead {
        stream: name.clone(),
        direction: Direction::Backwards,
        from: u64::MAX,
        limit: 1_000,
        resolve_links: false,
    };
    match storage.read_stream(read).await.unwrap() {
        StreamPage::Events { events, .. } => {
            let events = events.into_iter().map(|event| event.event.unwrap());
            events.map(|event| event.revision).collect()
        }
        StreamPage::Missing | StreamPage::Tombstoned => vec![],
    }
}

/// The events that must stay in the log: tombstones, visible events, and the last event of every stream that is not
/// tombstoned.
async fn expected(storage: &Storage, log: &[RecordedEvent]) -> Vec<Position> {
    let mut remaining = Vec::new();
    for event in log {
        let later = |other: &&RecordedEvent| {
            other.stream == event.stream && other.revision > event.revision
        };
        let tombstoned = storage
            .last_revision(event.stream.clone())
            .await
            .unwrap()
            .is_err();
        let is_last = !log.iter().any(|other| later(&other)) && !tombstoned;
        let is_visible = visible(storage, &event.stream)
            .await
            .contains(&event.revision);
        if is_last || is_visible || event.event_type == STREAM_DELETED {
            remaining.push(event.position);
        }
    }
    remaining
}

/// Runs the steps, calls `scavenging`, and compares the state before and after it.
async fn check(
    steps: &[Step],
    scavenging: impl AsyncFn(&Arc<Storage>),
) -> std::result::Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder);
    for step in steps {
        apply(&storage, step).await;
    }
    let before = seen(&storage).await;
    let remaining = expected(&storage, &log(&storage).await).await;
    scavenging(&storage).await;
    for (after, before) in seen(&storage).await.iter().zip(&before) {
        prop_assert_eq!(after, before);
    }
    let left: Vec<_> = log(&storage)
        .await
        .iter()
        .map(|event| event.position)
        .collect();
    prop_assert_eq!(left, remaining);
    let again = scavenge(&storage).await;
    prop_assert_eq!((again.removed, again.steps), (0, 0));
    for name in names() {
        append_next(&storage, &name).await?;
    }
    storage.close().await;
    prop_assert_eq!(
        storage::verify(folder.path()).unwrap(),
        Vec::<String>::new()
    );
    Ok(())
}

/// Checks that an append at the last revision succeeds and gets the next revision.
async fn append_next(storage: &Storage, name: &str) -> std::result::Result<(), TestCaseError> {
    let Ok(last) = storage
        .last_revision(StreamName::stored(name))
        .await
        .unwrap()
    else {
        return Ok(());
    };
    let at_end = last.map_or(Expected::NoStream, Expected::Revision);
    let events = vec![new_event("next", b"{}".to_vec())];
    let written = write(storage, name, at_end, Change::Append(events)).await;
    let next = last.map_or(0, |last| last + 1);
    prop_assert!(
        matches!(written, Outcome::Written { revision: Some(revision), .. } if revision == next),
        "{name}: {written:?}"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn reads_see_the_same_before_and_after_a_scavenge(steps in steps()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(check(&steps, async |storage| {
            assert_eq!(scavenge(storage).await.ended, Some(ScavengeEnd::Completed));
        }))?;
    }
}

#[tokio::test]
async fn a_scavenge_that_removes_too_much_or_too_little_is_detected() {
    let limited = [
        Step::Append(0, 4),
        Step::Metadata(0, r#"{"$maxCount":2}"#.to_owned()),
    ];
    let honest = check(&limited, async |storage| {
        scavenge(storage).await;
    });
    honest.await.unwrap();
    let eager = check(&limited, async |storage| {
        scavenge(storage).await;
        change(storage, "DELETE FROM events WHERE revision = 2".to_owned()).await;
    });
    assert!(
        eager
            .await
            .unwrap_err()
            .to_string()
            .contains("left == right")
    );
    let idle = check(&limited, async |_| {});
    assert!(
        idle.await
            .unwrap_err()
            .to_string()
            .contains("left == right")
    );
}

/// How often `mark` occurs in the files of a folder.
fn found(folder: &Path, mark: &str) -> usize {
    let files = std::fs::read_dir(folder).unwrap();
    let contents = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    let mark = mark.as_bytes();
    contents
        .map(|content| {
            content
                .windows(mark.len())
                .filter(|bytes| *bytes == mark)
                .count()
        })
        .sum()
}

/// A fixed sequence of scattered numbers below `end`.
fn scattered(end: usize) -> impl FnMut() -> usize {
    let mut state: u64 = 1;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % end
    }
}

/// Writes many streams whose events are scattered over the log. Events of the streams `s<n>` with an even number hold
/// one mark, those with an odd number another.
async fn interleaved(storage: &Storage) {
    let (mut stream, mut size) = (scattered(60), scattered(4));
    for _ in 0..4_000 {
        let stream = stream();
        let mark = ["even-canary", "odd-canary"][stream % 2];
        let data = mark.repeat([1, 10, 50, 150][size()]).into_bytes();
        let event = new_event("happened", data);
        append(storage, &format!("s{stream}"), vec![event]).await;
    }
}

async fn tombstone_even(storage: &Storage) {
    for stream in (0..60).step_by(2) {
        let name = format!("s{stream}");
        write(storage, &name, Expected::Any, Change::Tombstone).await;
    }
}

#[tokio::test]
async fn bytes_that_sqlite_leaves_behind_are_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder);
    interleaved(&storage).await;
    tombstone_even(&storage).await;
    // Deletes the events and truncates the log, so far only with SQLite's own means.
    let streams = (0..60).map(|stream| StreamName::stored(&format!("s{}", stream * 37 % 60)));
    let streams: Vec<_> = streams.collect();
    loop {
        let streams = streams.clone();
        let removed = storage.writer.between_groups(move |ledger| {
            run::transaction(ledger.connection(), |connection| {
                run::set_erasing(connection, true)?;
                discard::remove(connection, &streams, 0)
            })
        });
        let removed = removed.await.unwrap();
        assert!(removed.events <= discard::MOST_EVENTS);
        if removed.events == 0 {
            break;
        }
    }
    let cut = storage
        .writer
        .between_groups(|ledger| pages::cut_journal(ledger.connection()));
    assert!(cut.await.unwrap());
    assert!(found(folder.path(), "even-canary") > 0, "the control");

    let scavenged = scavenge(&storage).await;
    assert_eq!(scavenged.ended, Some(ScavengeEnd::Completed));
    assert!(
        scavenged.removed == 0 && scavenged.overwritten > 0,
        "{scavenged:?}"
    );
    assert_eq!(found(folder.path(), "even-canary"), 0);
    assert!(found(folder.path(), "odd-canary") > 0);
    storage.close().await;
    assert_eq!(
        storage::verify(folder.path()).unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_transaction_deletes_few_events_or_few_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder);
    let (small, large) = (vec![b'x'; 10], vec![b'x'; 400_000]);
    let small = (0..700).map(|_| new_event("small", small.clone()));
    append(&storage, "small", small.collect()).await;
    for _ in 0..7 {
        append(&storage, "large", vec![new_event("large", large.clone())]).await;
    }
    for stream in ["small", "large"] {
        write(&storage, stream, Expected::Any, Change::Tombstone).await;
    }
    let remove = |stream: &str| {
        let streams = [StreamName::stored(stream)];
        let remove = storage.writer.between_groups(move |ledger| {
            run::transaction(ledger.connection(), |connection| {
                discard::remove(connection, &streams, 0)
            })
        });
        async { remove.await.unwrap() }
    };
    let removed = |events, streams_done| discard::RemovedEvents {
        events,
        streams_done,
    };
    assert_eq!(remove("small").await, removed(256, 0));
    assert_eq!(remove("small").await, removed(256, 0));
    assert_eq!(remove("small").await, removed(188, 1));
    assert_eq!(remove("large").await, removed(3, 0));
}

#[tokio::test]
async fn writes_go_on_between_the_steps_of_a_scavenge() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder);
    interleaved(&storage).await;
    tombstone_even(&storage).await;
    let ScavengeStart::Started(scavenge) = storage.start_scavenge(CancellationToken::new()) else {
        panic!("no scavenge runs");
    };
    let ScavengeStart::InProgress(same) = storage.start_scavenge(CancellationToken::new()) else {
        panic!("a second scavenge runs");
    };
    assert_eq!(same.id, scavenge.id);
    let mut written = 0;
    while scavenge.is_running() {
        append(&storage, "beside", vec![new_event("happened", vec![])]).await;
        written += 1;
    }
    let ended = scavenge.ended().await;
    assert_eq!(ended.ended, Some(ScavengeEnd::Completed));
    assert!(ended.removed > 1_000, "{ended:?}");
    assert!(
        written >= ended.steps / 2,
        "{written} writes during {} steps",
        ended.steps
    );
    let ScavengeStart::Started(_) = storage.start_scavenge(CancellationToken::new()) else {
        panic!("the first scavenge still runs");
    };
}

#[tokio::test]
async fn a_read_of_the_past_delays_the_end_of_a_scavenge_and_no_write() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder);
    append(
        &storage,
        "s",
        vec![new_event("happened", b"canary".to_vec())],
    )
    .await;
    let reader = schema::open_reader(folder.path()).unwrap();
    let past = reader.unchecked_transaction().unwrap();
    let count = || past.query_row("SELECT count(*) FROM events", [], |row| row.get(0));
    assert_eq!(count(), Ok(1));
    write(&storage, "s", Expected::Any, Change::Tombstone).await;
    let ScavengeStart::Started(scavenge) = storage.start_scavenge(CancellationToken::new()) else {
        panic!("no scavenge runs");
    };
    let mut progress = scavenge.progress.clone();
    progress
        .wait_for(|progress| progress.waits_for_readers)
        .await
        .unwrap();
    append(&storage, "s2", vec![new_event("happened", vec![])]).await;
    assert_eq!(count(), Ok(1));
    assert!(scavenge.is_running() && found(folder.path(), "canary") > 0);
    drop(past);
    assert_eq!(scavenge.ended().await.ended, Some(ScavengeEnd::Completed));
    assert_eq!(found(folder.path(), "canary"), 0);
}

#[tokio::test]
async fn a_read_that_starts_while_a_scavenge_waits_for_readers_does_not_delay_it() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder);
    let event = new_event("happened", b"canary".to_vec());
    append(&storage, "s", vec![event]).await;
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let mut past = Box::pin(storage.readers.run(move |past| {
        past.query_row("SELECT 1 FROM events", [], |_| Ok(()))?;
        assert!(ended.recv().is_err());
        Ok(())
    }));
    assert!(futures::poll!(&mut past).is_pending());
    write(&storage, "s", Expected::Any, Change::Tombstone).await;
    let deadline = Duration::from_mins(1);
    let course = async {
        let mut scavenge = Box::pin(scavenge(&storage));
        while !storage.readers.slots().are_taken() {
            assert!(futures::poll!(&mut scavenge).is_pending());
            tokio::task::yield_now().await;
        }
        let mut next = Box::pin(storage.readers.run(|_| Ok(())));
        assert!(futures::poll!(&mut next).is_pending());
        drop(end);
        past.await.unwrap();
        let (scavenge, next) = tokio::join!(scavenge, next);
        assert_eq!(scavenge.ended, Some(ScavengeEnd::Completed));
        next.unwrap();
    };
    tokio::time::timeout(deadline, course).await.unwrap();
    assert_eq!(found(folder.path(), "canary"), 0);
}

#[tokio::test]
async fn a_scavenge_that_was_stopped_is_finished_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder);
    append(
        &storage,
        "s",
        vec![new_event("happened", b"canary".to_vec())],
    )
    .await;
    let reader = schema::open_reader(folder.path()).unwrap();
    let past = reader.unchecked_transaction().unwrap();
    past.query_row("SELECT 1 FROM events", [], |_| Ok(()))
        .unwrap();
    write(&storage, "s", Expected::Any, Change::Tombstone).await;
    let ScavengeStart::Started(scavenge) = storage.start_scavenge(CancellationToken::new()) else {
        panic!("no scavenge runs");
    };
    let mut progress = scavenge.progress.clone();
    progress
        .wait_for(|progress| progress.waits_for_readers)
        .await
        .unwrap();
    assert_eq!(scavenge.stop().await.ended, Some(ScavengeEnd::Stopped));
    assert!(storage.readers.run(run::is_erasing).await.unwrap());
    drop(past);
    assert!(found(folder.path(), "canary") > 0);
    let next = super::tests::scavenge(&storage).await;
    assert_eq!(
        (next.ended, next.removed),
        (Some(ScavengeEnd::Completed), 0)
    );
    assert_eq!(found(folder.path(), "canary"), 0);
    assert!(!storage.readers.run(run::is_erasing).await.unwrap());
}

#[tokio::test]
async fn a_large_hole_is_skipped_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder);
    let events = (0..400).map(|_| new_event("happened", vec![]));
    append(&storage, "s", events.collect()).await;
    for json in [r#"{"$tb":390}"#, "{}"] {
        append(&storage, "$$s", vec![new_event(METADATA, json.into())]).await;
        scavenge(&storage).await;
    }
    let read = |direction, from| {
        let stream = StreamName::stored("s");
        let limit = 2;
        let read = StreamRead {
            stream,
            direction,
            from,
            limit,
            resolve_links: false,
        };
        let page = storage.read_stream(read);
        async {
            match page.await.unwrap() {
                StreamPage::Events { events, next, .. } => (events.len(), next),
                StreamPage::Missing | StreamPage::Tombstoned => panic!("the stream is missing"),
            }
        }
    };
    assert_eq!(read(Direction::Forwards, 0).await, (0, Some(390)));
    assert_eq!(read(Direction::Forwards, 390).await, (2, Some(392)));
    assert_eq!(read(Direction::Backwards, 391).await, (2, Some(389)));
    assert_eq!(read(Direction::Backwards, 389).await, (0, None));
}
