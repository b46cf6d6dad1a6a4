//! All appends share one session, and each gets its own answer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use event_streams::{AppendError, Direction, Expected};
use eventstore_protocol::google::rpc;
use eventstore_protocol::shared::WrongExpectedVersion;
use eventstore_protocol::shared::wrong_expected_version::CurrentStreamRevisionOption;
use eventstore_protocol::streams::batch_append_resp::Result as Outcome;
use eventstore_protocol::streams::{BatchAppendReq, BatchAppendResp};
use futures::future::join_all;
use prost::Message as _;
use prost_types::Any;

use crate::stand_in::{Script, StandIn, answer, stored};
use crate::support::{Store, event, soon};

fn refusal(code: rpc::Code, message: &str, details: Option<Any>) -> Outcome {
    Outcome::Error(rpc::Status {
        code: code.into(),
        message: message.to_owned(),
        details,
    })
}

fn conflict(actual: u64) -> Outcome {
    let current = CurrentStreamRevisionOption::CurrentStreamRevision(actual);
    let details = WrongExpectedVersion {
        current_stream_revision_option: Some(current),
        expected_stream_position_option: None,
    };
    let details = Any {
        type_url: "type.googleapis.com/event_store.client.WrongExpectedVersion".to_owned(),
        value: details.encode_to_vec(),
    };
    refusal(
        rpc::Code::AlreadyExists,
        "WrongExpectedVersion",
        Some(details),
    )
}

/// A server that refuses appends that expect no stream and stores all others.
struct Conflicts;

impl Script for Conflicts {
    fn append(&self, item: BatchAppendReq) -> Vec<BatchAppendResp> {
        use eventstore_protocol::streams::batch_append_req::options::ExpectedStreamPosition;
        let expected = item.options.as_ref().unwrap().expected_stream_position;
        let outcome = match expected {
            Some(ExpectedStreamPosition::NoStream(())) => conflict(41),
            _ => stored(),
        };
        vec![answer(item, outcome)]
    }
}

#[tokio::test]
async fn a_thousand_refused_appends_end_no_session_and_fail_no_other_append() {
    let server = StandIn::start(Conflicts).await;
    let streams = server.connect();
    let appends = (0..2_000).map(|n| {
        let streams = streams.clone();
        let expected = if n % 2 == 0 {
            Expected::NoStream
        } else {
            Expected::Any
        };
        async move { (n, streams.append("s", expected, vec![event("A.v1")]).await) }
    });
    for (n, outcome) in soon(join_all(appends)).await {
        if n % 2 == 0 {
            assert_eq!(outcome, Err(AppendError::Conflict { actual: Some(41) }));
        } else {
            outcome.unwrap();
        }
    }
    assert_eq!(server.count("session"), 1);
    assert_eq!(server.received().items.len(), 2_000);
}

#[tokio::test]
async fn many_appends_to_one_stream_are_in_flight_at_once() {
    let store = Store::start().await;
    let streams = store.connect();
    let appends = (0..200).map(|_| streams.append("s", Expected::Any, vec![event("A.v1")]));
    let mut revisions: Vec<_> = soon(join_all(appends))
        .await
        .into_iter()
        .map(|appended| appended.unwrap().revision)
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (0..200).collect::<Vec<_>>());
    let events = streams.read("s", Direction::ForwardFrom(0), 1000).await;
    assert_eq!(events.unwrap().len(), 200);
}

/// A server that answers appends in pairs, the later one first.
#[derive(Default)]
struct Swaps(Mutex<Option<BatchAppendReq>>);

impl Script for Swaps {
    fn append(&self, item: BatchAppendReq) -> Vec<BatchAppendResp> {
        let mut first = self.0.lock().unwrap();
        match first.take() {
            None => {
                *first = Some(item);
                Vec::new()
            }
            Some(first) => vec![answer(item, conflict(1)), answer(first, stored())],
        }
    }
}

#[tokio::test]
async fn answers_may_come_in_any_order() {
    let server = StandIn::start(Swaps::default()).await;
    let streams = server.connect();
    let append = || streams.append("s", Expected::NoStream, vec![event("A.v1")]);
    let (first, second) = soon(async { tokio::join!(biased; append(), append()) }).await;
    first.unwrap();
    assert_eq!(second, Err(AppendError::Conflict { actual: Some(1) }));
}

/// A server that is not ready at first: it answers an error with code 0, then a timeout.
#[derive(Default)]
struct NotReady(AtomicUsize);

impl Script for NotReady {
    fn append(&self, item: BatchAppendReq) -> Vec<BatchAppendResp> {
        let outcome = match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => refusal(rpc::Code::Ok, "Server Is Not Ready", Some(Any::default())),
            1 => refusal(rpc::Code::DeadlineExceeded, "Timeout", None),
            _ => stored(),
        };
        vec![answer(item, outcome)]
    }
}

#[tokio::test]
async fn an_append_to_a_server_that_is_not_ready_is_repeated_with_the_same_ids_on_the_same_session()
{
    let server = StandIn::start(NotReady::default()).await;
    let streams = server.connect();
    let append = streams.append("s", Expected::NoStream, vec![event("A.v1")]);
    soon(append).await.unwrap();
    assert_eq!(server.count("session"), 1);
    let received = server.received();
    let ids: Vec<_> = received
        .items
        .iter()
        .map(|item| item.proposed_messages[0].id.clone())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0]));
}

#[tokio::test]
async fn one_session_survives_a_thousand_deletions_and_conflicts() {
    let server = StandIn::start(Conflicts).await;
    let streams = server.connect();
    for n in 0..1_000 {
        let stream = format!("s-{n}");
        let (tombstoned, refused) = tokio::join!(
            streams.tombstone(&stream, Expected::Any),
            streams.append("s", Expected::NoStream, vec![event("A.v1")]),
        );
        tombstoned.unwrap();
        assert_eq!(refused, Err(AppendError::Conflict { actual: Some(41) }));
    }
    assert_eq!(server.count("session"), 1);
    assert_eq!(server.count("tombstone"), 1_000);
}
