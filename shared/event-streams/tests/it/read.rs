//! Reads of one stream and of the log of all streams.

use bytes::Bytes;
use event_streams::{Direction, Expected, NewEvent, ReadError};

use crate::support::{Store, event, soon};

#[tokio::test]
async fn an_event_reads_back_as_it_was_appended() {
    let store = Store::start().await;
    let streams = store.connect();
    let json = NewEvent {
        data: Bytes::from_static(b"{ \"as\" :\"written\" }"),
        metadata: Bytes::from_static(b"{\"m\":1}"),
        ..event("Happened.v1")
    };
    let binary = NewEvent {
        data: Bytes::from_static(b"\xff\x00"),
        ..event("Binary.v1")
    };
    let both = vec![json.clone(), binary.clone()];
    let appended = streams.append("s", Expected::NoStream, both).await.unwrap();
    let read = streams
        .read("s", Direction::ForwardFrom(0), 10)
        .await
        .unwrap();
    for (revision, (sent, read)) in [json, binary].iter().zip(&read).enumerate() {
        assert_eq!(read.revision, revision as u64);
        assert_eq!((&read.id, &read.stream), (&sent.id, &"s".to_owned()));
        assert_eq!(
            (&read.event_type[..], &read.data),
            (&sent.event_type[..], &sent.data)
        );
        assert_eq!(read.metadata, sent.metadata);
        // In milliseconds, between 2020 and 2100.
        assert!(read.created > 1_577_836_800_000 && read.created < 4_102_444_800_000);
    }
    assert_eq!(read[1].position, appended.position);
}

#[tokio::test]
async fn a_stream_is_read_in_both_directions() {
    let store = Store::start().await;
    let streams = store.connect();
    let events = vec![event("A.v1"), event("B.v1"), event("C.v1")];
    let appended = streams.append("s", Expected::NoStream, events).await;
    appended.unwrap();
    for (direction, limit, types) in [
        (Direction::ForwardFrom(0), 2, vec!["A.v1", "B.v1"]),
        (Direction::ForwardFrom(1), 9, vec!["B.v1", "C.v1"]),
        (Direction::ForwardFrom(3), 9, vec![]),
        (Direction::BackwardFromEnd, 2, vec!["C.v1", "B.v1"]),
        (Direction::ForwardFrom(0), 0, vec![]),
    ] {
        let read = streams.read("s", direction, limit).await.unwrap();
        let read: Vec<_> = read.iter().map(|e| e.event_type.as_str()).collect();
        assert_eq!(read, types, "{direction:?}");
    }
    let last = streams.read_last("s").await.unwrap().unwrap();
    assert_eq!(last.revision, 2);
}

#[tokio::test]
async fn a_missing_or_soft_deleted_stream_reads_as_empty_and_a_tombstoned_one_is_an_error() {
    let store = Store::start().await;
    let streams = store.connect();
    assert_eq!(streams.read_last("s").await, Ok(None));
    let appended = streams
        .append("s", Expected::NoStream, vec![event("A.v1")])
        .await;
    appended.unwrap();
    streams.delete("s", Expected::Any).await.unwrap();
    assert_eq!(
        streams.read("s", Direction::ForwardFrom(0), 9).await,
        Ok(Vec::new())
    );
    streams.tombstone("s", Expected::Any).await.unwrap();
    assert_eq!(streams.read_last("s").await, Err(ReadError::StreamDeleted));
}

#[tokio::test]
async fn a_stream_keeps_only_its_max_count_of_events() {
    let store = Store::start().await;
    let streams = store.connect();
    streams.set_max_count("s", 2).await.unwrap();
    for _ in 0..5 {
        let appended = streams
            .append("s", Expected::Any, vec![event("A.v1")])
            .await;
        appended.unwrap();
    }
    let kept = streams
        .read("s", Direction::ForwardFrom(0), 9)
        .await
        .unwrap();
    let kept: Vec<_> = kept.iter().map(|event| event.revision).collect();
    assert_eq!(kept, [3, 4]);
}

#[tokio::test]
async fn the_log_is_read_in_pages_filtered_by_stream() {
    let store = Store::start().await;
    let streams = store.connect();
    for n in 0..30 {
        let stream = if n % 3 == 0 {
            format!("wanted-{n}")
        } else {
            format!("other-{n}")
        };
        let appended = streams
            .append(&stream, Expected::NoStream, vec![event("A.v1")])
            .await;
        appended.unwrap();
    }
    let (mut after, mut read) = (None, Vec::new());
    loop {
        let page = soon(streams.read_all(&["wanted-"], after, 4))
            .await
            .unwrap();
        assert!(page.events.len() <= 4 && page.position >= after);
        read.extend(page.events.into_iter().map(|event| event.stream));
        after = page.position;
        if page.end {
            break;
        }
    }
    let wanted: Vec<_> = (0..30).step_by(3).map(|n| format!("wanted-{n}")).collect();
    assert_eq!(read, wanted);
}

#[tokio::test]
async fn the_end_of_the_log_is_the_position_of_its_last_event() {
    let store = Store::start().await;
    let streams = store.connect();
    assert_eq!(soon(streams.log_end()).await.unwrap(), None);
    for stream in ["a", "b"] {
        let appended = streams.append(stream, Expected::NoStream, vec![event("A.v1")]);
        let appended = appended.await.unwrap();
        let end = soon(streams.log_end()).await.unwrap();
        assert_eq!(end, Some(appended.position));
    }
}
