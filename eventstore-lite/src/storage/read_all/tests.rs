//! Reads of the log from indexes find what a scan finds, and cost the same among more events that do not match.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proptest::prelude::*;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::*;
use crate::append_rules::Expected;
use crate::checkpoints::Checkpoints;
use crate::config::Config;
use crate::event::{METADATA, NewEvent};
use crate::filter::Subject;
use crate::storage::{Change, ScavengeStart, Storage, Write, schema};
use crate::stream_name::StreamName;

const NAMES: [&str; 5] = ["cat-0", "cat-1", "cats", "dog-0", "$sys-0"];
const TYPES: [&str; 4] = ["apple", "apricot", "pear", "$own"];
/// Some match nothing, some match everything, and some match the same event twice. A single prefix that begins with
/// `^` stands for a regular expression.
const PREFIXES: [&[&str]; 9] = [
    &["^cat-[1-9]"],
    &["^ap.*e$"],
    &["cat-"],
    &["cat-1", "cat-"],
    &["cat", "dog-"],
    &["ap", "apple"],
    &["$", "pear"],
    &["none-"],
    &[],
];

#[derive(Clone, Debug)]
enum Step {
    Append(usize, usize, usize),
    Limit(usize),
    Delete(usize),
    Tombstone(usize),
    Scavenge,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stream = 0..NAMES.len();
    let append = (stream.clone(), 0..TYPES.len(), 0..5_usize);
    let step = prop_oneof![
        20 => append.prop_map(|(stream, kind, count)| Step::Append(stream, kind, count)),
        2 => stream.clone().prop_map(Step::Limit),
        2 => stream.clone().prop_map(Step::Delete),
        1 => stream.prop_map(Step::Tombstone),
        1 => Just(Step::Scavenge),
    ];
    prop::collection::vec(step, 1..40)
}

fn open(folder: &TempDir, system_projections: bool) -> Arc<Storage> {
    let mut config = Config::new(folder.path());
    config.unsafe_disable_flush_to_disk = true;
    config.system_projections = system_projections;
    Arc::new(Storage::open(&config).unwrap())
}

fn event(event_type: &str, data: &'static str) -> NewEvent {
    NewEvent {
        id: Uuid::new_v4(),
        event_type: event_type.to_owned(),
        is_json: true,
        data: data.into(),
        metadata: "".into(),
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

async fn append(storage: &Storage, stream: &str, event_type: &str, count: usize) {
    let events = (0..count).map(|_| event(event_type, "{}"));
    change(storage, stream, Change::Append(events.collect())).await;
}

async fn make(storage: &Arc<Storage>, step: &Step) {
    match step {
        Step::Append(stream, kind, count) => {
            append(storage, NAMES[*stream], TYPES[*kind], *count).await;
        }
        Step::Limit(stream) => {
            let limit = event(METADATA, r#"{"$maxCount":2}"#);
            let metastream = format!("$${}", NAMES[*stream]);
            change(storage, &metastream, Change::Append(vec![limit])).await;
        }
        Step::Delete(stream) => change(storage, NAMES[*stream], Change::SoftDelete).await,
        Step::Tombstone(stream) => change(storage, NAMES[*stream], Change::Tombstone).await,
        Step::Scavenge => {
            let ScavengeStart::Started(scavenge) = storage.start_scavenge(CancellationToken::new())
            else {
                panic!("another scavenge runs");
            };
            scavenge.ended().await;
        }
    }
}

fn filter(subject: Subject, prefixes: &[&str]) -> Arc<Filter> {
    if let [regex] = prefixes
        && regex.starts_with('^')
    {
        return Arc::new(Filter::new(subject, regex, vec![]).unwrap());
    }
    let prefixes = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
    Arc::new(Filter::new(subject, "", prefixes).unwrap())
}

/// Everything that a subscription or a read with this filter receives, in pages of `read.limit` and with a checkpoint
/// after every third place.
fn received(mut read: AllRead, page: impl Fn(&AllRead) -> AllPage) -> Vec<String> {
    let mut received = Vec::new();
    let mut checkpoints = Checkpoints::new(3, read.from);
    loop {
        let page = page(&read);
        read.from = page.next(&read);
        for scanned in page.scanned {
            if read.direction == Direction::Forwards {
                let before = std::iter::from_fn(|| checkpoints.before(scanned.position));
                received.extend(before.map(|position| format!("{position:?}")));
            }
            received.extend(scanned.event.map(|event| format!("{event:?}")));
            if read.direction == Direction::Forwards {
                let at = checkpoints.at(scanned.position);
                received.extend(at.map(|position| format!("{position:?}")));
            }
        }
        if page.is_end {
            let end = checkpoints.at_end();
            received.extend(end.map(|position| format!("{position:?}")));
            return received;
        }
    }
}

/// Reads the log from `from` with every filter, by a scan and from indexes. Returns how often indexes could be used.
fn compare(connection: &Connection, from: Position, limit: usize) -> Result<usize, TestCaseError> {
    let mut compared = 0;
    for (subject, prefixes) in PREFIXES
        .into_iter()
        .flat_map(|prefixes| [Subject::StreamName, Subject::EventType].map(|s| (s, prefixes)))
    {
        for direction in [Direction::Forwards, Direction::Backwards] {
            let filter = filter(subject, prefixes);
            let read = AllRead {
                direction,
                from,
                limit,
                filter: Some(Arc::clone(&filter)),
                resolve_links: true,
            };
            let scanned = received(read.clone(), |read| {
                scan(Pager::new(connection, read)).unwrap().unwrap()
            });
            for most in [1, 256] {
                let Some(sources) = by_prefix::sources(connection, &filter, most).unwrap() else {
                    continue;
                };
                let found = received(read.clone(), |read| {
                    by_prefix::read(Pager::new(connection, read), &sources)
                        .unwrap()
                        .unwrap()
                });
                prop_assert_eq!(&found, &scanned, "{:?} {:?}", read, sources);
                compared += 1;
            }
        }
    }
    Ok(compared)
}

async fn check(steps: &[Step], system_projections: bool) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder, system_projections);
    for step in steps {
        make(&storage, step).await;
    }
    let head = storage.committed();
    storage.close().await;
    let connection = schema::open_reader(folder.path()).unwrap();
    let mut compared = 0;
    for (from, limit) in [
        (Position::START, 256),
        (head.after(1), 1),
        (head.boundary(), 2),
        (Position(head.0 / 2).boundary(), 3),
        (Position(head.0 / 3).boundary().following(), 4),
        (Position(u64::MAX), 1),
    ] {
        compared += compare(&connection, from, limit)?;
    }
    prop_assert!(compared > 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn indexes_find_what_a_scan_finds_with_the_same_checkpoints(steps in steps(), links in any::<bool>()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(check(&steps, links))?;
    }
}

/// Creates streams `cat-…`, half of them before and half after `noise` other events.
async fn noisy(noise: usize, streams: usize, system_projections: bool) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder, system_projections);
    for number in 0..streams {
        if number == streams / 2 {
            for _ in 0..noise / 512 {
                append(&storage, "dog-1", "pear", 512).await;
            }
        }
        append(&storage, &format!("cat-{number}"), "apple", 1).await;
    }
    storage.close().await;
    folder
}

/// How many instructions SQLite executes to read everything that passes the filter, and the number of events that
/// pass.
fn steps_to_read(folder: &TempDir, filter: Arc<Filter>, direction: Direction) -> (u64, usize) {
    let connection = schema::open_reader(folder.path()).unwrap();
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    let count = move || {
        counted.fetch_add(1, Relaxed);
        false
    };
    connection.progress_handler(1, Some(count)).unwrap();
    let from = match direction {
        Direction::Forwards => Position::START,
        Direction::Backwards => Position(u64::MAX),
    };
    let mut all = AllRead {
        direction,
        from,
        limit: usize::MAX,
        filter: Some(filter),
        resolve_links: false,
    };
    let mut found = 0;
    loop {
        let page = read(&connection, &all).unwrap().unwrap();
        all.from = page.next(&all);
        let events = page
            .scanned
            .iter()
            .filter(|scanned| scanned.event.is_some());
        found += events.count();
        if page.is_end {
            return (steps.load(Relaxed), found);
        }
    }
}

/// Whether a read costs the same among many more events that do not match.
async fn is_steady(filter: Arc<Filter>, streams: usize, system_projections: bool) -> bool {
    let small = noisy(6 * 512, streams, system_projections).await;
    let large = noisy(30 * 512, streams, system_projections).await;
    let directions = [Direction::Forwards, Direction::Backwards];
    let costs = directions.map(|direction| {
        let (small, found) = steps_to_read(&small, Arc::clone(&filter), direction);
        assert_eq!(found, streams);
        let (large, found) = steps_to_read(&large, Arc::clone(&filter), direction);
        assert_eq!(found, streams);
        (small, large)
    });
    costs.iter().all(|(small, large)| small == large)
}

#[tokio::test]
async fn a_prefix_of_few_streams_costs_the_same_among_more_other_events() {
    let cats = filter(Subject::StreamName, &["cat-"]);
    assert!(is_steady(Arc::clone(&cats), 20, false).await);
    assert!(is_steady(filter(Subject::StreamName, &["^cat-[0-9]*$"]), 20, false).await);
    // The control: this expression has no known prefix, so the log is scanned.
    let cats = filter(Subject::StreamName, &["^(?!dog)cat-"]);
    assert!(!is_steady(cats, 20, false).await);
}

#[tokio::test]
async fn with_system_streams_the_same_holds_for_a_category_of_many_streams() {
    let cats = filter(Subject::StreamName, &["cat-"]);
    assert!(is_steady(Arc::clone(&cats), 300, true).await);
    assert!(!is_steady(cats, 300, false).await);
}

#[tokio::test]
async fn with_system_streams_the_same_holds_for_a_prefix_of_types() {
    let apples = filter(Subject::EventType, &["app"]);
    assert!(is_steady(Arc::clone(&apples), 20, true).await);
    assert!(!is_steady(apples, 20, false).await);
}
