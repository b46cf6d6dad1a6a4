//! Subscriptions during concurrent writes receive every event once, in order and without gaps.

use eventstore_lite::wire::shared::Empty;
use eventstore_lite::wire::streams::ReadResp;
use eventstore_lite::wire::streams::read_req::options::filter_options::{
    Expression, Filter, Window,
};
use eventstore_lite::wire::streams::read_req::options::{
    AllOptions, FilterOption, FilterOptions, StreamOption, all_options,
};
use eventstore_lite::wire::streams::read_resp::read_event::RecordedEvent;
use tokio::task::JoinSet;
use tonic::{Code, Streaming};

use crate::support::{
    Client, all_from_start, any, append, connect, event, for_ever, from_start, new_id, next_event,
    open, read_all, read_request, soon, start,
};

const WRITERS: usize = 8;
const EACH: usize = 60;
const ALL: usize = WRITERS * EACH;

fn write_concurrently(client: &Client) -> JoinSet<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = client.clone();
        writers.spawn(async move {
            for number in 0..EACH {
                let stream = if number % 2 == 0 {
                    "even".to_owned()
                } else {
                    format!("odd-{writer}")
                };
                append(&mut client, &stream, any(), vec![event(&new_id(), "x")])
                    .await
                    .unwrap();
            }
        });
    }
    writers
}

async fn take(answers: &mut Streaming<ReadResp>, count: usize) -> Vec<RecordedEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        events.push(next_event(answers).await);
    }
    events
}

fn prefixed(prefix: &str) -> FilterOption {
    FilterOption::Filter(FilterOptions {
        filter: Some(Filter::StreamIdentifier(Expression {
            regex: String::new(),
            prefix: vec![prefix.to_owned()],
        })),
        window: Some(Window::Max(4)),
        checkpoint_interval_multiplier: 1,
    })
}

#[tokio::test]
async fn the_log_is_delivered_once_and_in_order_while_it_grows() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut early = open(&mut client, read_request(all_from_start(), for_ever()))
        .await
        .unwrap();
    let writers = write_concurrently(&client);
    let first = next_event(&mut early).await;
    // Subscribes in the middle, and moves from events on disk to live events.
    let mut late = open(&mut client, read_request(all_from_start(), for_ever()))
        .await
        .unwrap();
    let mut early_events = vec![first];
    early_events.extend(take(&mut early, ALL - 1).await);
    let late_events = take(&mut late, ALL).await;
    writers.join_all().await;
    let log = read_all(&mut client).await;
    assert_eq!(early_events, log);
    assert_eq!(late_events, log);
}

#[tokio::test]
async fn a_filtered_subscription_and_one_of_a_stream_receive_their_part_of_the_log() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut options = read_request(all_from_start(), for_ever());
    options.filter_option = Some(prefixed("odd-"));
    let mut odd = open(&mut client, options).await.unwrap();
    let mut even = open(&mut client, read_request(from_start("even"), for_ever()))
        .await
        .unwrap();
    let writers = write_concurrently(&client);
    let odd = take(&mut odd, ALL / 2).await;
    let even = take(&mut even, ALL / 2).await;
    writers.join_all().await;
    let log = read_all(&mut client).await;
    let (expected_even, expected_odd): (Vec<_>, Vec<_>) = log
        .into_iter()
        .partition(|event| event.stream_identifier.as_ref().unwrap().stream_name == "even");
    assert_eq!(odd, expected_odd);
    assert_eq!(even, expected_even);
}

#[tokio::test]
async fn a_subscription_resumed_after_any_event_misses_none() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let writers = write_concurrently(&client);
    let mut received: Vec<RecordedEvent> = Vec::new();
    while received.len() < ALL {
        let all_option = received
            .last()
            .map_or(all_options::AllOption::Start(Empty {}), after);
        let all = StreamOption::All(AllOptions {
            all_option: Some(all_option),
        });
        let mut answers = open(&mut client, read_request(all, for_ever()))
            .await
            .unwrap();
        let count = 37.min(ALL - received.len());
        received.extend(take(&mut answers, count).await);
    }
    writers.join_all().await;
    assert_eq!(received, read_all(&mut client).await);
}

fn after(event: &RecordedEvent) -> all_options::AllOption {
    all_options::AllOption::Position(
        eventstore_lite::wire::streams::read_req::options::Position {
            commit_position: event.commit_position,
            prepare_position: event.prepare_position,
        },
    )
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_delays_nobody() {
    let (_db, server) = start().await;
    let mut idle_client = connect(server.address()).await;
    let mut idle = open(&mut idle_client, read_request(all_from_start(), for_ever()))
        .await
        .unwrap();
    let mut client = connect(server.address()).await;
    let mut busy = open(&mut client, read_request(all_from_start(), for_ever()))
        .await
        .unwrap();
    for _ in 0..30 {
        let large = vec![b'x'; 1_000_000];
        append(&mut client, "large", any(), vec![event(&new_id(), large)])
            .await
            .unwrap();
    }
    assert_eq!(take(&mut busy, 30).await, take(&mut idle, 30).await);
}

#[tokio::test]
async fn a_server_that_stops_tells_its_subscribers_to_reconnect() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut all = open(&mut client, read_request(all_from_start(), for_ever()))
        .await
        .unwrap();
    let mut stream = open(&mut client, read_request(from_start("s"), for_ever()))
        .await
        .unwrap();
    let mut batch = client
        .batch_append(tokio_stream::pending())
        .await
        .unwrap()
        .into_inner();
    soon("the shutdown", server.shutdown()).await;
    for answers in [&mut all, &mut stream] {
        while let Ok(answer) = soon("the end", answers.message()).await.map_err(|status| {
            assert_eq!(status.code(), Code::Unavailable);
        }) {
            assert!(answer.is_some(), "a subscription ended without an error");
        }
    }
    let status = soon("the end of the session", batch.message())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}
