//! Subscriptions deliver every event once and in order, also across restarts.

use std::collections::BTreeSet;

use event_streams::{
    Delivery, EventStreams, Expected, NewEvent, Position, RecordedEvent, Subscription,
};

use crate::support::{LossyProxy, Store, connect_to, event, soon};

async fn append(streams: &EventStreams, stream: &str) -> Position {
    let appended = streams.append(stream, Expected::Any, vec![event("A.v1")]);
    soon(appended).await.unwrap().position
}

async fn next_event(subscription: &mut Subscription) -> RecordedEvent {
    loop {
        if let Delivery::Event(event) = soon(subscription.next()).await {
            return event;
        }
    }
}

#[tokio::test]
async fn stored_events_come_first_and_new_events_follow() {
    let store = Store::start().await;
    let streams = store.connect();
    append(&streams, "user-1").await;
    let mut all = streams.subscribe_all(&["user-"], None);
    assert_eq!(next_event(&mut all).await.stream, "user-1");
    while soon(all.next()).await != Delivery::CaughtUp {}
    append(&streams, "other-1").await;
    append(&streams, "user-2").await;
    assert_eq!(next_event(&mut all).await.stream, "user-2");
}

#[tokio::test]
async fn a_subscription_starts_after_the_given_position() {
    let store = Store::start().await;
    let streams = store.connect();
    let first = append(&streams, "user-1").await;
    append(&streams, "user-2").await;
    let mut rest = streams.subscribe_all(&["user-", "other-"], Some(first));
    assert_eq!(next_event(&mut rest).await.stream, "user-2");
}

#[tokio::test]
async fn a_subscription_by_type_delivers_no_other_type() {
    let store = Store::start().await;
    let streams = store.connect();
    append(&streams, "user-1").await;
    let appended = streams.append("user-2", Expected::Any, vec![event("B.v1")]);
    let wanted = soon(appended).await.unwrap().position;
    let last = append(&streams, "user-3").await;
    let mut all = streams.subscribe_all_of_types(&["B."], None);
    let mut delivered = Vec::new();
    loop {
        match soon(all.next()).await {
            Delivery::Event(event) => delivered.push(event.position),
            Delivery::Checkpoint(_) => {}
            Delivery::CaughtUp => break,
            Delivery::Interrupted(reason) => panic!("{reason}"),
        }
    }
    assert_eq!(delivered, [wanted]);
    assert!(last > wanted);
}

#[tokio::test]
async fn a_checkpoint_covers_events_that_the_filter_leaves_out() {
    let store = Store::start().await;
    let streams = store.connect();
    append(&streams, "user-1").await;
    for _ in 0..100 {
        append(&streams, "other-1").await;
    }
    let last = append(&streams, "other-1").await;
    let mut all = streams.subscribe_all(&["user-"], None);
    let mut checkpoint = None;
    loop {
        match soon(all.next()).await {
            Delivery::Checkpoint(position) => checkpoint = Some(position),
            Delivery::CaughtUp => break,
            Delivery::Event(event) => assert_eq!(event.stream, "user-1"),
            Delivery::Interrupted(reason) => panic!("{reason}"),
        }
    }
    assert!(checkpoint >= Some(last), "{checkpoint:?} before {last:?}");
}

#[tokio::test]
async fn a_tombstone_is_delivered_to_subscribers_of_its_stream() {
    let store = Store::start().await;
    let streams = store.connect();
    append(&streams, "user-1").await;
    streams.tombstone("user-1", Expected::Any).await.unwrap();
    let mut all = streams.subscribe_all(&["user-"], None);
    assert_eq!(next_event(&mut all).await.event_type, "A.v1");
    let tombstone = next_event(&mut all).await;
    assert_eq!(tombstone.event_type, "$streamDeleted");
    assert_eq!(tombstone.revision, i64::MAX as u64);
}

#[tokio::test]
async fn no_event_is_lost_or_repeated_across_restarts() {
    let mut store = Store::start().await;
    let streams = store.connect();
    let mut all = streams.subscribe_all(&["user-"], None);
    for round in 0..3 {
        let writer = tokio::spawn(write(streams.clone(), round));
        for n in 0..50 {
            let event = next_event(&mut all).await;
            assert_eq!(event.stream, format!("user-{round}-{n}"));
            if n == 20 {
                store.stop().await;
                store.start_again().await;
            }
        }
        soon(writer).await.unwrap();
    }
}

async fn write(streams: EventStreams, round: usize) {
    for n in 0..50 {
        let stream = format!("user-{round}-{n}");
        let appended = streams
            .append(&stream, Expected::NoStream, vec![event("A.v1")])
            .await;
        appended.unwrap();
    }
}

#[tokio::test]
async fn an_interruption_is_reported_and_ends_when_the_server_is_back() {
    let mut store = Store::start().await;
    let streams = store.connect();
    let mut all = streams.subscribe_all(&["user-"], None);
    while soon(all.next()).await != Delivery::CaughtUp {}
    store.stop().await;
    assert!(matches!(soon(all.next()).await, Delivery::Interrupted(_)));
    store.start_again().await;
    while soon(all.next()).await != Delivery::CaughtUp {}
}

#[tokio::test]
async fn no_event_is_lost_or_repeated_when_the_connection_breaks() {
    let store = Store::start().await;
    let writer = store.connect();
    for n in 0..500 {
        append(&writer, &format!("user-{n}")).await;
    }
    let proxy = LossyProxy::to(store.address()).await;
    let streams = connect_to(proxy.address());
    let mut all = streams.subscribe_all(&["user-"], None);
    let mut seen = BTreeSet::new();
    for n in 0..500 {
        let event = next_event(&mut all).await;
        assert_eq!(event.stream, format!("user-{n}"));
        assert!(seen.insert(event.position));
        if n % 100 == 50 {
            proxy.lose_next_answer();
        }
    }
}

#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    let store = Store::start().await;
    let streams = store.connect();
    let mut all = streams.subscribe_all(&["user-"], None);
    while soon(all.next()).await != Delivery::CaughtUp {}
    for n in 0..1000 {
        append(&streams, &format!("user-{n}")).await;
    }
    for n in 0..1000 {
        assert_eq!(next_event(&mut all).await.stream, format!("user-{n}"));
    }
}

#[tokio::test]
async fn a_cancelled_wait_loses_nothing() {
    let store = Store::start().await;
    let streams = store.connect();
    let mut all = streams.subscribe_all(&["user-"], None);
    let writer = tokio::spawn(write(streams.clone(), 0));
    let mut n = 0;
    while n < 50 {
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => {}
            delivery = all.next() => {
                if let Delivery::Event(event) = delivery {
                    assert_eq!(event.stream, format!("user-0-{n}"));
                    n += 1;
                }
            }
        }
    }
    soon(writer).await.unwrap();
}

#[tokio::test]
async fn subscriptions_that_are_not_read_block_no_call() {
    let store = Store::start().await;
    let streams = store.connect();
    for n in 0..8 {
        let large = NewEvent {
            data: format!("\"{}\"", "x".repeat(900_000)).into(),
            ..event("A.v1")
        };
        let stream = format!("user-{n}");
        let append = streams.append(&stream, Expected::NoStream, vec![large]);
        soon(append).await.unwrap();
    }
    let mut unread = Vec::new();
    for _ in 0..20 {
        let mut all = streams.subscribe_all(&["user-"], None);
        assert_eq!(next_event(&mut all).await.stream, "user-0");
        unread.push(all);
    }
    append(&streams, "other-1").await;
    let read = soon(streams.read_last("user-7")).await.unwrap();
    assert_eq!(read.unwrap().data.len(), 900_002);
    for mut all in unread {
        for n in 1..8 {
            assert_eq!(next_event(&mut all).await.stream, format!("user-{n}"));
        }
    }
}
