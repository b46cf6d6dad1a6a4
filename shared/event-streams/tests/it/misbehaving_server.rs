//! Invalid and unusual answers of a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use event_streams::{Delivery, EventStreams};
use eventstore_protocol::event_id;
use eventstore_protocol::shared::StreamIdentifier;
use eventstore_protocol::streams::read_req::options::CountOption;
use eventstore_protocol::streams::read_resp::read_event::RecordedEvent;
use eventstore_protocol::streams::read_resp::{
    CaughtUp, Checkpoint, Content, ReadEvent, StreamNotFound,
};
use eventstore_protocol::streams::{ReadReq, ReadResp};
use tokio::net::TcpListener;
use tonic::Status;

use crate::stand_in::{Script, StandIn};
use crate::support::{connect_to, soon, until};

/// An answer without messages and with the status OK.
const ENDED: (&[u8], Option<&str>) = (b"", Some("0"));

/// The status codes for unauthenticated calls and for denied permissions.
const REFUSALS: [&str; 2] = ["16", "7"];

#[tokio::test]
async fn refused_credentials_make_the_server_unavailable_and_are_not_in_the_reason() {
    for status in REFUSALS {
        let router = Router::new().fallback(async move |request: Request<Body>| {
            let is_read = request.uri().path().ends_with("/Read");
            grpc((b"", Some(if is_read { status } else { "12" })))
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let url = format!("esdb://admin:secret@{address}?tls=false");
        let streams = EventStreams::connect(&url).unwrap();
        until(async || {
            let reason = streams.check().await.unwrap_err().reason;
            assert!(!reason.contains("secret"), "{reason}");
            reason.contains("denied")
        })
        .await;
    }
}

#[tokio::test]
async fn a_subscription_that_the_server_ended_with_success_is_opened_again() {
    let reads = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::clone(&reads);
    let router = Router::new().fallback(async move |request: Request<Body>| {
        if request.uri().path().ends_with("/Read") {
            count.fetch_add(1, Ordering::SeqCst);
            grpc(ENDED)
        } else {
            // This is the batch session, which stays open.
            std::future::pending().await
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    let streams = connect_to(address);
    soon(streams.check()).await.unwrap();
    is_opened_again(&streams, || reads.load(Ordering::SeqCst)).await;
}

/// A server that finds neither the log nor any stream.
struct NotFound;

impl Script for NotFound {
    fn read(&self, _: &ReadReq) -> Result<Vec<ReadResp>, Status> {
        let content = Some(Content::StreamNotFound(StreamNotFound::default()));
        Ok(vec![ReadResp { content }])
    }
}

#[tokio::test]
async fn a_subscription_to_a_log_that_is_not_found_is_opened_again() {
    let server = StandIn::start(NotFound).await;
    let streams = server.connect();
    is_opened_again(&streams, || server.count("subscribe")).await;
}

async fn is_opened_again(streams: &EventStreams, opened: impl Fn() -> usize) {
    let before = opened();
    let mut subscription = streams.subscribe_all(&["user-"], None);
    for _ in 0..3 {
        let delivery = soon(subscription.next()).await;
        assert!(matches!(delivery, Delivery::Interrupted(_)), "{delivery:?}");
    }
    assert!(opened() >= before + 3);
    until(async || streams.check().await.is_ok()).await;
}

fn grpc((body, status): (&'static [u8], Option<&'static str>)) -> Response<Body> {
    let mut response = Response::builder().header("content-type", "application/grpc");
    if let Some(status) = status {
        response = response.header("grpc-status", status);
    }
    response.body(Body::from(body)).unwrap()
}

/// A server that sends a checkpoint with an impossible position before the first event. The real server does so when a
/// filtered subscription reaches the end of a short log.
struct ShortLog;

impl Script for ShortLog {
    fn read(&self, request: &ReadReq) -> Result<Vec<ReadResp>, Status> {
        let options = request.options.as_ref().unwrap();
        if !matches!(options.count_option, Some(CountOption::Subscription(_))) {
            return Ok(Vec::new());
        }
        let impossible = Content::Checkpoint(Checkpoint {
            commit_position: u64::MAX,
            prepare_position: u64::MAX,
        });
        let event = RecordedEvent {
            id: Some(event_id::write(uuid::Uuid::from_u128(1), true)),
            stream_identifier: Some(StreamIdentifier {
                stream_name: "user-1".into(),
            }),
            commit_position: 64,
            prepare_position: 64,
            ..RecordedEvent::default()
        };
        let event = Content::Event(ReadEvent {
            event: Some(event),
            ..ReadEvent::default()
        });
        let contents = [impossible, Content::CaughtUp(CaughtUp {}), event];
        Ok(contents
            .map(|content| ReadResp {
                content: Some(content),
            })
            .into())
    }
}

#[tokio::test]
async fn an_impossible_position_is_not_delivered_and_hides_no_event() {
    let server = StandIn::start(ShortLog).await;
    let streams = server.connect();
    let mut all = streams.subscribe_all(&["user-"], None);
    assert_eq!(soon(all.next()).await, Delivery::CaughtUp);
    let Delivery::Event(event) = soon(all.next()).await else {
        panic!("the checkpoint hides the event");
    };
    assert_eq!(event.stream, "user-1");
    let page = soon(streams.read_all(&["user-"], None, 10)).await.unwrap();
    assert_eq!((page.position, page.end), (None, true));
}
