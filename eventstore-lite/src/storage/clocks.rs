//! Tests with a clock that was wrong for a while. Each event has the time of its clock, and `$maxAge` goes by that
//! time.

use std::sync::Arc;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::{self, Clock, TICKS_PER_SECOND};
use crate::event::{Direction, LINK, METADATA, RecordedEvent, ResolvedEvent};

const MINUTE: i64 = 60 * TICKS_PER_SECOND;
const HOUR: i64 = 60 * MINUTE;
const YEAR: i64 = 365 * 24 * HOUR;

fn open(folder: &TempDir) -> Arc<Storage> {
    let mut config = Config::new(folder.path());
    config.unsafe_disable_flush_to_disk = true;
    Arc::new(Storage::open(&config).unwrap())
}

async fn set_clock(storage: &Storage, clock: Clock) {
    let set = storage.writer.between_groups(move |ledger| {
        ledger.set_clock(clock);
        Ok(())
    });
    set.await.unwrap();
}

async fn append_as(storage: &Storage, stream: &str, event_type: &str, data: &str) {
    let event = NewEvent {
        id: Uuid::new_v4(),
        event_type: event_type.to_owned(),
        is_json: true,
        data: data.to_owned().into(),
        metadata: "".into(),
    };
    let write = Write {
        stream: StreamName::stored(stream),
        expected: Expected::Any,
        change: Change::Append(vec![event]),
        deadline: None,
    };
    storage.write(write).await.unwrap();
}

/// Appends with the clock set to `from_now` relative to the present.
async fn append_at(storage: &Storage, from_now: i64, data: &str) {
    set_clock(storage, Clock::At(clock::now() + from_now)).await;
    append_as(storage, "s", "happened", data).await;
}

fn text(event: &RecordedEvent) -> String {
    String::from_utf8(event.data.to_vec()).unwrap()
}

fn texts(events: Vec<ResolvedEvent>) -> Vec<String> {
    let events = events.into_iter().filter_map(|event| event.event);
    events.map(|event| text(&event)).collect()
}

async fn page(storage: &Storage, stream: &str, direction: Direction) -> Vec<ResolvedEvent> {
    let read = StreamRead {
        stream: StreamName::stored(stream),
        direction,
        from: if direction == Direction::Forwards {
            0
        } else {
            u64::MAX
        },
        limit: 100,
        resolve_links: true,
    };
    let page = storage.read_stream(read).await.unwrap();
    let StreamPage::Events { events, .. } = page else {
        panic!("{page:?}");
    };
    events
}

/// The events that each kind of reader sees: forwards, backwards, as a new subscriber, and through links.
async fn seen(storage: &Storage) -> [Vec<String>; 4] {
    let follow = StreamFollow {
        stream: StreamName::stored("s"),
        from: 0,
        resolve_links: false,
        only_visible: true,
        limit: StreamFollow::MOST,
    };
    let followed = storage.follow_stream(follow).await.unwrap();
    let mut backwards = texts(page(storage, "s", Direction::Backwards).await);
    backwards.reverse();
    [
        texts(page(storage, "s", Direction::Forwards).await),
        backwards,
        texts(followed.events),
        texts(page(storage, "links", Direction::Forwards).await),
    ]
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
    let events = page.scanned.into_iter().filter_map(|scanned| scanned.event);
    events.filter_map(|event| event.event).collect()
}

#[tokio::test]
async fn an_event_has_the_time_of_the_clock_when_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = open(&folder);
    let times = [0, YEAR, -HOUR, 0].map(|from_now| clock::now() + from_now);
    for time in times {
        set_clock(&storage, Clock::At(time)).await;
        append_as(&storage, "s", "happened", "{}").await;
        storage.close().await;
        storage = open(&folder);
    }
    let created: Vec<_> = log(&storage)
        .await
        .iter()
        .map(|event| event.created)
        .collect();
    assert_eq!(created, times);
    assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn old_events_expire_whatever_the_clock_said_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(folder.path());
    config.system_projections = true;
    let storage = Arc::new(Storage::open(&config).unwrap());
    for (from_now, data) in [
        (-5 * HOUR, "expired"),
        (YEAR, "ahead"),
        (-4 * HOUR, "expired"),
        (-3 * HOUR, "expired"),
        (-2 * YEAR, "behind"),
        (-MINUTE, "young"),
        (-2 * HOUR, "last"),
    ] {
        append_at(&storage, from_now, data).await;
    }
    for revision in 0..7 {
        append_as(&storage, "links", LINK, &format!("{revision}@s")).await;
    }
    append_as(&storage, "$$s", METADATA, r#"{"$maxAge":3600}"#).await;
    append_as(&storage, "$$$et-happened", METADATA, r#"{"$maxAge":3600}"#).await;
    let visible = ["ahead", "young"].map(str::to_owned).to_vec();
    assert_eq!(seen(&storage).await, [(); 4].map(|()| visible.clone()));
    let types = page(&storage, "$et-happened", Direction::Forwards).await;
    assert_eq!(texts(types), visible);

    let ScavengeStart::Started(scavenge) = storage.start_scavenge(CancellationToken::new()) else {
        panic!("another scavenge runs");
    };
    assert_eq!(scavenge.ended().await.removed, 4);
    assert_eq!(seen(&storage).await, [(); 4].map(|()| visible.clone()));
    let left: Vec<_> = log(&storage).await.iter().map(text).collect();
    assert_eq!(left[..3], ["ahead", "young", "last"]);
    assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
    storage.close().await;
    let storage = open(&folder);
    assert_eq!(seen(&storage).await, [(); 4].map(|()| visible.clone()));
}
