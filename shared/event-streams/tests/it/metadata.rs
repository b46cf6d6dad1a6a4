//! The metadata of streams.

use bytes::Bytes;
use event_streams::{AppendError, EventStreams, Expected, NewEvent};
use futures::future::try_join_all;

use crate::support::{Store, event};

async fn metadata(streams: &EventStreams, stream: &str) -> Option<(u64, String)> {
    let last = streams.read_last(&format!("$${stream}")).await.unwrap()?;
    let text = String::from_utf8(last.data.to_vec()).unwrap();
    Some((last.revision, text))
}

async fn append(streams: &EventStreams, stream: &str, event: NewEvent) {
    let appended = streams.append(stream, Expected::Any, vec![event]).await;
    appended.unwrap();
}

fn written(text: &'static str) -> NewEvent {
    NewEvent {
        data: Bytes::from_static(text.as_bytes()),
        ..event("$metadata")
    }
}

#[tokio::test]
async fn a_limit_is_written_once_by_any_number_of_writers() {
    let store = Store::start().await;
    let streams = store.connect();
    append(&streams, "s", event("A.v1")).await;
    append(&streams, "s", event("B.v1")).await;
    let writers = (0..8).map(|_| streams.ensure_max_count("s", 1));
    try_join_all(writers).await.unwrap();
    let limit = r#"{"$maxCount":1}"#.to_owned();
    assert_eq!(metadata(&streams, "s").await, Some((0, limit)));
    let last = streams.read_last("s").await.unwrap().unwrap();
    assert_eq!(last.revision, 1);
    let first = streams
        .read("s", event_streams::Direction::ForwardFrom(0), 10)
        .await;
    assert_eq!(first.unwrap(), [last]);
}

#[tokio::test]
async fn a_limit_keeps_the_other_metadata_of_the_stream() {
    let store = Store::start().await;
    let streams = store.connect();
    append(&streams, "s", event("A.v1")).await;
    for (before, after) in [
        (r#"{"team":"names"}"#, r#"{"$maxCount":1,"team":"names"}"#),
        (r#"{"$maxCount":7}"#, r#"{"$maxCount":1}"#),
        ("no json", r#"{"$maxCount":1}"#),
    ] {
        append(&streams, "$$s", written(before)).await;
        streams.ensure_max_count("s", 1).await.unwrap();
        let (_, text) = metadata(&streams, "s").await.unwrap();
        let text: serde_json::Value = serde_json::from_str(&text).unwrap();
        let after: serde_json::Value = serde_json::from_str(after).unwrap();
        assert_eq!(text, after);
    }
}

#[tokio::test]
async fn a_deleted_or_tombstoned_stream_gets_no_limit() {
    let store = Store::start().await;
    let streams = store.connect();
    for stream in ["deleted", "tombstoned"] {
        append(&streams, stream, event("A.v1")).await;
    }
    streams.delete("deleted", Expected::Any).await.unwrap();
    let before = metadata(&streams, "deleted").await;
    streams.ensure_max_count("deleted", 1).await.unwrap();
    assert_eq!(metadata(&streams, "deleted").await, before);
    assert_eq!(streams.read_last("deleted").await, Ok(None));
    streams
        .tombstone("tombstoned", Expected::Any)
        .await
        .unwrap();
    streams.ensure_max_count("tombstoned", 1).await.unwrap();
    let refused = streams
        .append("tombstoned", Expected::Any, vec![event("B.v1")])
        .await;
    assert_eq!(refused, Err(AppendError::StreamDeleted));
}
