//! The memory holds the end of the log without a gap, however small it is.

use std::sync::Weak;

use uuid::Uuid;

use super::*;

const ROOM: usize = 10;

fn stream(number: u64) -> StreamName {
    StreamName::stored(&format!("stream-{number}"))
}

/// The event with this number in the log, counted from 1. The streams take turns.
fn event(number: u64, streams: u64) -> RecordedEvent {
    RecordedEvent {
        position: Position(number * 64),
        stream: stream(number % streams),
        revision: number / streams,
        id: Uuid::from_u128(u128::from(number)),
        created: 0,
        event_type: "happened".to_owned(),
        is_json: false,
        data: vec![0; 100].into(),
        metadata: vec![].into(),
    }
}

fn with_room_for(events: usize) -> RecentEvents {
    RecentEvents::new(Position::START, events * weight(&event(1, 1)))
}

fn commit(recent: &RecentEvents, numbers: std::ops::RangeInclusive<u64>, streams: u64) {
    let head = Position(numbers.end() * 64);
    let events = numbers.map(|number| event(number, streams));
    recent.committed(events.collect(), head);
}

fn all_from(number: u64) -> AllRead {
    AllRead {
        direction: Direction::Forwards,
        from: Position(number * 64),
        limit: usize::MAX,
        filter: None,
        resolve_links: false,
    }
}

fn positions(recent: &RecentEvents, from: u64) -> Option<Vec<u64>> {
    let page = recent.read_all(&all_from(from))?.unwrap();
    assert!(page.is_end);
    let numbers = page.scanned.iter().map(|scanned| scanned.position.0 / 64);
    Some(numbers.collect())
}

fn revisions(recent: &RecentEvents, stream: StreamName, from: u64) -> Option<Vec<u64>> {
    let follow = StreamFollow {
        stream,
        from,
        resolve_links: false,
        only_visible: false,
        limit: usize::MAX,
    };
    let followed = recent.follow(&follow)?;
    let events = followed.events.into_iter();
    Some(events.map(|event| event.event.unwrap().revision).collect())
}

#[test]
fn only_the_end_of_the_log_is_read_from_memory() {
    let recent = with_room_for(ROOM);
    commit(&recent, 1..=25, 1);
    assert_eq!(positions(&recent, 15), None);
    assert_eq!(positions(&recent, 16), Some((16..=25).collect()));
    assert_eq!(positions(&recent, 25), Some(vec![25]));
    assert_eq!(positions(&recent, 26), Some(vec![]));
}

#[test]
fn only_the_end_of_a_stream_is_read_from_memory() {
    let recent = with_room_for(ROOM);
    commit(&recent, 1..=24, 4);
    // Stream 0 has the revisions 1 to 6. The last 10 events of the log, 15 to 24, include its revisions 4 to 6.
    assert_eq!(revisions(&recent, stream(0), 3), None);
    assert_eq!(revisions(&recent, stream(0), 4), Some(vec![4, 5, 6]));
    assert_eq!(revisions(&recent, stream(0), 7), Some(vec![]));
    assert_eq!(revisions(&recent, stream(9), 0), None);
}

#[test]
fn a_slow_reader_keeps_no_events_in_memory() {
    let recent = with_room_for(ROOM);
    commit(&recent, 1..=10, 3);
    let slow = all_from(1);
    let first: Vec<Weak<_>> = recent.read().log.iter().map(Arc::downgrade).collect();
    assert!(recent.has(&slow));
    commit(&recent, 11..=1000, 3);
    assert!(!recent.has(&slow));
    assert!(first.iter().all(|event| event.upgrade().is_none()));
    let state = recent.read();
    assert!(state.bytes <= recent.most_bytes);
    assert_eq!(state.log.len(), ROOM);
    assert_eq!(
        state.streams.values().map(VecDeque::len).sum::<usize>(),
        ROOM
    );
}

#[test]
fn an_event_larger_than_the_memory_is_not_kept() {
    let recent = RecentEvents::new(Position::START, 1);
    commit(&recent, 1..=1, 1);
    assert_eq!(positions(&recent, 1), None);
    assert_eq!(positions(&recent, 2), Some(vec![]));
    assert!(recent.read().streams.is_empty());
}

#[test]
fn events_that_may_have_been_removed_are_forgotten() {
    let recent = with_room_for(ROOM);
    commit(&recent, 1..=5, 1);
    recent.forget();
    assert_eq!(positions(&recent, 5), None);
    assert_eq!(revisions(&recent, stream(0), 5), None);
    commit(&recent, 6..=7, 1);
    assert_eq!(positions(&recent, 6), Some(vec![6, 7]));
}

#[test]
fn the_page_of_a_slow_client_is_small() {
    let recent = with_room_for(2 * MOST_EVENTS);
    commit(&recent, 1..=2 * MOST_EVENTS as u64, 1);
    let page = recent.read_all(&all_from(1)).unwrap().unwrap();
    let one = weight(&event(1, 1));
    assert!(page.scanned.len() * one <= MOST_BYTES + one);
    assert!(!page.is_end);
}

#[test]
fn links_are_resolved_from_the_database() {
    let recent = with_room_for(ROOM);
    let mut link = event(1, 1);
    link.event_type = LINK.to_owned();
    recent.committed(vec![link], Position(64));
    let mut read = all_from(1);
    assert!(recent.read_all(&read).is_some());
    read.resolve_links = true;
    assert!(recent.read_all(&read).is_none());
}
