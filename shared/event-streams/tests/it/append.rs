//! Appends and deletions: the server refuses wrong expectations, and stores no append twice.

use bytes::Bytes;
use event_streams::{AppendError, Direction, EventStreams, Expected, NewEvent};
use futures::future::join_all;

use crate::support::{LossyProxy, Store, connect_to, event, soon};

#[tokio::test]
async fn an_append_at_another_revision_is_refused() {
    let store = Store::start().await;
    let streams = store.connect();
    let two = vec![event("A.v1"), event("B.v1")];
    let appended = streams.append("s", Expected::NoStream, two).await.unwrap();
    assert_eq!(appended.revision, 1);
    for wrong in [
        Expected::NoStream,
        Expected::Revision(0),
        Expected::Revision(2),
    ] {
        let refused = streams.append("s", wrong, vec![event("C.v1")]).await;
        assert_eq!(refused, Err(AppendError::Conflict { actual: Some(1) }));
    }
    let next = streams
        .append("s", Expected::Revision(1), vec![event("C.v1")])
        .await
        .unwrap();
    assert!(next.revision == 2 && next.position > appended.position);
    let any = streams
        .append("s", Expected::Any, vec![event("D.v1")])
        .await
        .unwrap();
    assert_eq!(any.revision, 3);
}

#[tokio::test]
async fn a_repeated_append_is_the_same_write() {
    let store = Store::start().await;
    let streams = store.connect();
    let events = vec![event("A.v1"), event("B.v1")];
    let first = streams
        .append("s", Expected::NoStream, events.clone())
        .await;
    let again = streams.append("s", Expected::NoStream, events).await;
    assert_eq!(first.unwrap(), again.unwrap());
    assert_eq!(count(&streams, "s").await, 2);
}

#[tokio::test]
async fn a_refused_append_does_not_fail_others() {
    let store = Store::start().await;
    let streams = store.connect();
    let taken = streams
        .append("taken", Expected::NoStream, vec![event("A.v1")])
        .await;
    taken.unwrap();
    let appends = (0..200).map(|n| {
        let streams = streams.clone();
        async move {
            let stream = if n % 4 == 0 {
                "taken".to_owned()
            } else {
                format!("s-{n}")
            };
            let events = vec![event("A.v1")];
            (n, streams.append(&stream, Expected::NoStream, events).await)
        }
    });
    for (n, outcome) in soon(join_all(appends)).await {
        if n % 4 == 0 {
            assert_eq!(outcome, Err(AppendError::Conflict { actual: Some(0) }));
        } else {
            assert_eq!(outcome.unwrap().revision, 0);
        }
    }
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_is_stored_once() {
    let store = Store::start().await;
    let proxy = LossyProxy::to(store.address()).await;
    let streams = connect_to(proxy.address());
    let begin = streams
        .append("s", Expected::NoStream, vec![event("A.v1")])
        .await;
    begin.unwrap();
    for revision in 1..6 {
        proxy.lose_next_answer();
        let expected = Expected::Revision(revision - 1);
        let append = streams.append("s", expected, vec![event("B.v1")]);
        assert_eq!(soon(append).await.unwrap().revision, revision);
        assert!(proxy.has_lost_an_answer());
    }
    assert_eq!(count(&streams, "s").await, 6);
}

#[tokio::test]
async fn appends_across_a_restart_are_stored_once() {
    let mut store = Store::start().await;
    let streams = store.connect();
    let appends: Vec<_> = (0..300)
        .map(|n| {
            let streams = streams.clone();
            tokio::spawn(async move {
                let stream = format!("s-{n}");
                streams
                    .append(&stream, Expected::NoStream, vec![event("A.v1")])
                    .await
            })
        })
        .collect();
    store.stop().await;
    store.start_again().await;
    for append in appends {
        assert_eq!(soon(append).await.unwrap().unwrap().revision, 0);
    }
    for n in 0..300 {
        assert_eq!(count(&streams, &format!("s-{n}")).await, 1);
    }
}

#[tokio::test]
async fn a_tombstoned_stream_takes_no_more_events() {
    let store = Store::start().await;
    let streams = store.connect();
    streams
        .tombstone("never-was", Expected::NoStream)
        .await
        .unwrap();
    let append = streams
        .append("never-was", Expected::Any, vec![event("A.v1")])
        .await;
    assert_eq!(append, Err(AppendError::StreamDeleted));
    let again = streams.tombstone("never-was", Expected::Any).await;
    assert_eq!(again, Err(AppendError::StreamDeleted));
    let soft = streams.delete("never-was", Expected::Any).await;
    assert_eq!(soft, Err(AppendError::StreamDeleted));
}

#[tokio::test]
async fn a_deletion_at_another_revision_is_refused() {
    let store = Store::start().await;
    let streams = store.connect();
    let created = streams
        .append("s", Expected::NoStream, vec![event("A.v1")])
        .await;
    created.unwrap();
    for (refused, actual) in [
        (streams.tombstone("s", Expected::Revision(3)).await, Some(0)),
        (streams.delete("s", Expected::Revision(3)).await, Some(0)),
        (streams.delete("never-was", Expected::Any).await, None),
    ] {
        assert_eq!(refused, Err(AppendError::Conflict { actual }));
    }
    streams.delete("s", Expected::Revision(0)).await.unwrap();
}

#[tokio::test]
async fn a_success_that_wrote_nothing_is_an_error() {
    let store = Store::start().await;
    let streams = store.connect();
    let events = vec![event("A.v1")];
    let written = streams
        .append("s", Expected::NoStream, events.clone())
        .await;
    written.unwrap();
    streams.delete("s", Expected::Any).await.unwrap();
    let again = streams.append("s", Expected::NoStream, events).await;
    assert_eq!(again, Err(AppendError::NotWritten));
    assert_eq!(count(&streams, "s").await, 0);
    let nothing = streams.append("s", Expected::Any, Vec::new()).await;
    assert_eq!(nothing, Err(AppendError::NotWritten));
}

#[tokio::test]
async fn an_append_that_is_too_large_is_refused() {
    let store = Store::start().await;
    let streams = store.connect();
    // The first exceeds the server's limit for an append, the second the limit for a message.
    for size in [1_100_000, 20_000_000] {
        let large = NewEvent {
            data: Bytes::from(format!("\"{}\"", "x".repeat(size))),
            ..event("A.v1")
        };
        let refused = streams.append("s", Expected::Any, vec![large]).await;
        assert_eq!(refused, Err(AppendError::TooLarge));
    }
}

async fn count(streams: &EventStreams, stream: &str) -> usize {
    let events = soon(streams.read(stream, Direction::ForwardFrom(0), 1000)).await;
    events.unwrap().len()
}
