//! Subscribers during random appends and deletions, each with its own pauses and reconnections. Each receives every
//! event of its part once and in order. `SUBSCRIBERS_SEED` repeats the choices of a run.

use std::sync::Arc;

use eventstore_lite::wire::shared::Empty;
use eventstore_lite::wire::streams::delete_req::{Options, options::ExpectedStreamRevision};
use eventstore_lite::wire::streams::read_req::options::filter_options::{
    Expression, Filter, Window,
};
use eventstore_lite::wire::streams::read_req::options::{
    AllOptions, FilterOption, FilterOptions, Position, StreamOption, StreamOptions, all_options,
    stream_options,
};
use eventstore_lite::wire::streams::read_resp::read_event::RecordedEvent;
use eventstore_lite::wire::streams::{DeleteReq, ReadResp};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Streaming;

use crate::support::{
    Client, any, append, connect, event, for_ever, identifier, new_id, next_event, open, read_all,
    read_request, read_stream, soon, start,
};

const WRITERS: u64 = 4;
const ACTIONS: usize = 150;
const SUBSCRIBERS: u64 = 32;
/// Streams that are deleted occasionally, and streams that are not. Each ends with an event that marks its end, in
/// this order.
const STREAMS: [&str; 5] = ["gone-0", "gone-1", "kept-0", "kept-1", "kept-2"];
const DELETED: &str = "gone-";
const END: &[u8] = b"end";

/// The part of the log that a subscriber follows.
#[derive(Clone, Copy, Debug)]
enum Part {
    All,
    Prefixed(&'static str),
    Stream(&'static str),
}

const PARTS: [Part; 6] = [
    Part::All,
    Part::Prefixed("kept-"),
    Part::Prefixed("gone-1"),
    Part::Stream("kept-0"),
    Part::Stream("gone-0"),
    Part::Stream("gone-1"),
];

impl Part {
    fn has(self, event: &RecordedEvent) -> bool {
        match self {
            Self::All => true,
            Self::Prefixed(prefix) => name(event).starts_with(prefix),
            Self::Stream(stream) => name(event) == stream,
        }
    }

    /// Whether this is the last event of this part.
    fn ends_with(self, event: &RecordedEvent) -> bool {
        let mut theirs = STREAMS.iter().filter(|stream| match self {
            Self::All => true,
            Self::Prefixed(prefix) => stream.starts_with(prefix),
            Self::Stream(one) => **stream == one,
        });
        &*event.data == END && theirs.next_back().is_some_and(|last| name(event) == *last)
    }

    async fn open(self, client: &mut Client, last: Option<&RecordedEvent>) -> Streaming<ReadResp> {
        let mut request = read_request(self.after(last), for_ever());
        if let Self::Prefixed(prefix) = self {
            request.filter_option = Some(FilterOption::Filter(FilterOptions {
                filter: Some(Filter::StreamIdentifier(Expression {
                    regex: String::new(),
                    prefix: vec![prefix.to_owned()],
                })),
                window: Some(Window::Max(8)),
                checkpoint_interval_multiplier: 1,
            }));
        }
        open(client, request).await.unwrap()
    }

    fn after(self, last: Option<&RecordedEvent>) -> StreamOption {
        if let Self::Stream(stream) = self {
            let start = stream_options::RevisionOption::Start(Empty {});
            let after = |last: &RecordedEvent| {
                stream_options::RevisionOption::Revision(last.stream_revision)
            };
            return StreamOption::Stream(StreamOptions {
                stream_identifier: Some(identifier(stream)),
                revision_option: Some(last.map_or(start, after)),
            });
        }
        let after = |last: &RecordedEvent| {
            all_options::AllOption::Position(Position {
                commit_position: last.commit_position,
                prepare_position: last.prepare_position,
            })
        };
        let start = all_options::AllOption::Start(Empty {});
        StreamOption::All(AllOptions {
            all_option: Some(last.map_or(start, after)),
        })
    }
}

fn name(event: &RecordedEvent) -> &str {
    let identifier = event.stream_identifier.as_ref().unwrap();
    std::str::from_utf8(&identifier.stream_name).unwrap()
}

#[tokio::test]
async fn every_subscriber_receives_every_event_once_and_in_order() {
    let seed = std::env::var("SUBSCRIBERS_SEED");
    let seed: u64 = seed.map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("SUBSCRIBERS_SEED={seed}");
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    // A stream that never existed cannot be deleted.
    for stream in STREAMS {
        let first = vec![event(&new_id(), "x")];
        append(&mut client, stream, any(), first).await.unwrap();
    }
    let done = Arc::new(watch::Sender::new(0));
    let mut subscribers = JoinSet::new();
    for number in 0..SUBSCRIBERS {
        let rng = SmallRng::seed_from_u64(seed ^ number);
        let client = connect(server.address()).await;
        subscribers.spawn(subscribe(client, done.subscribe(), rng));
    }
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let rng = SmallRng::seed_from_u64(seed ^ (number << 32));
        writers.spawn(write(client.clone(), Arc::clone(&done), rng));
    }
    writers.join_all().await;
    for stream in STREAMS {
        let end = vec![event(&new_id(), END)];
        append(&mut client, stream, any(), end).await.unwrap();
    }
    // From now on nobody pauses.
    done.send_replace(usize::MAX);

    let log = read_all(&mut client).await;
    let mut visible = Vec::new();
    for stream in STREAMS {
        visible.extend(read_stream(&mut client, stream).await);
    }
    let received = soon("the subscribers' end", subscribers.join_all()).await;
    for (part, received) in &received {
        assert_eq!(fault(*part, received, &log, &visible), None, "{part:?}");
    }
    control(&received, &log, &visible);
}

async fn write(mut client: Client, done: Arc<watch::Sender<usize>>, mut rng: SmallRng) {
    for _ in 0..ACTIONS {
        let stream = *STREAMS.choose(&mut rng).unwrap();
        if stream.starts_with(DELETED) && rng.random_bool(0.1) {
            let options = Options {
                stream_identifier: Some(identifier(stream)),
                expected_stream_revision: Some(ExpectedStreamRevision::Any(Empty {})),
            };
            let delete = client.delete(DeleteReq {
                options: Some(options),
            });
            delete.await.unwrap();
        } else {
            let count = rng.random_range(1..4);
            let events = (0..count).map(|_| event(&new_id(), "x")).collect();
            append(&mut client, stream, any(), events).await.unwrap();
        }
        done.send_modify(|done| *done += 1);
    }
}

/// Receives events. Sometimes pauses until more changes are made, and sometimes reconnects after its last event.
async fn subscribe(
    mut client: Client,
    mut done: watch::Receiver<usize>,
    mut rng: SmallRng,
) -> (Part, Vec<RecordedEvent>) {
    let part = *PARTS.choose(&mut rng).unwrap();
    let mut received: Vec<RecordedEvent> = Vec::new();
    let mut answers = part.open(&mut client, None).await;
    loop {
        for _ in 0..rng.random_range(1..60) {
            let event = next_event(&mut answers).await;
            let is_last = part.ends_with(&event);
            received.push(event);
            if is_last {
                return (part, received);
            }
        }
        if rng.random_bool(0.3) {
            let more = rng.random_range(0..100);
            let until = done.borrow().saturating_add(more);
            soon("more changes", done.wait_for(|done| *done >= until))
                .await
                .unwrap();
        }
        if rng.random_bool(0.3) {
            drop(answers);
            answers = part.open(&mut client, received.last()).await;
        }
    }
}

/// Checks the received events. They must be all events of the part, in the order of the log. For a deleted stream, a
/// later subscriber does not receive events that are no longer visible, but nothing else may be missing.
fn fault(
    part: Part,
    received: &[RecordedEvent],
    log: &[RecordedEvent],
    visible: &[RecordedEvent],
) -> Option<&'static str> {
    let whole: Vec<_> = log.iter().filter(|event| part.has(event)).collect();
    if !matches!(part, Part::Stream(stream) if stream.starts_with(DELETED)) {
        return (!received.iter().eq(whole)).then_some("not exactly the events of the log");
    }
    let mut rest = whole.into_iter();
    if !received
        .iter()
        .all(|event| rest.any(|other| other == event))
    {
        return Some("an event twice, or out of order");
    }
    let visible = visible.iter().filter(|event| part.has(event));
    let misses = visible
        .rev()
        .zip(received.iter().rev())
        .any(|(a, b)| a != b);
    misses.then_some("a visible event is missing")
}

/// Plants a fault near the end of what each subscriber received. It must be found.
fn control(
    received: &[(Part, Vec<RecordedEvent>)],
    log: &[RecordedEvent],
    visible: &[RecordedEvent],
) {
    let plants: [fn(&mut Vec<RecordedEvent>); 3] = [
        |received| drop(received.remove(received.len() - 1)),
        |received| received.push(received[received.len() - 1].clone()),
        |received| {
            let length = received.len();
            received.swap(length - 2, length - 1);
        },
    ];
    for (part, received) in received {
        for plant in plants {
            let mut received = received.clone();
            plant(&mut received);
            assert!(fault(*part, &received, log, visible).is_some(), "{part:?}");
        }
    }
}
