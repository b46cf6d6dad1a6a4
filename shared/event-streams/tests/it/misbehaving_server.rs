//! Answers that no good server gives, and that make the vendor's client panic or spin.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use event_streams::{Delivery, EventStreams};
use tokio::net::TcpListener;

use crate::support::{connect_to, soon, until};

/// No message, and the status OK at once.
const ENDED: (&[u8], Option<&str>) = (b"", Some("0"));

/// One message, `ReadResp { stream_not_found: {} }`, which has no place in a subscription.
const NOT_FOUND: (&[u8], Option<&str>) = (b"\x00\x00\x00\x00\x02\x22\x00", None);

/// Not authenticated, and not permitted.
const REFUSALS: [&str; 2] = ["16", "7"];

#[tokio::test]
async fn a_server_that_refuses_the_credentials_is_not_available_and_the_reason_repeats_none() {
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
    is_opened_again(ENDED).await;
}

#[tokio::test]
async fn a_subscription_over_which_the_client_panicked_is_opened_again() {
    is_opened_again(NOT_FOUND).await;
}

async fn is_opened_again(answer: (&'static [u8], Option<&'static str>)) {
    let reads = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::clone(&reads);
    let router = Router::new().fallback(async move |request: Request<Body>| {
        if request.uri().path().ends_with("/Read") {
            count.fetch_add(1, Ordering::SeqCst);
            grpc(answer)
        } else {
            grpc((b"", Some("12")))
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });

    let streams = connect_to(address);
    until(async || streams.check().await.is_ok()).await;
    let before = reads.load(Ordering::SeqCst);
    let mut subscription = streams.subscribe_all(&["user-"], None);
    for _ in 0..3 {
        let delivery = soon(subscription.next()).await;
        assert!(matches!(delivery, Delivery::Interrupted(_)), "{delivery:?}");
    }
    assert!(reads.load(Ordering::SeqCst) >= before + 3);
    streams.check().await.unwrap();
}

fn grpc((body, status): (&'static [u8], Option<&'static str>)) -> Response<Body> {
    let mut response = Response::builder().header("content-type", "application/grpc");
    if let Some(status) = status {
        response = response.header("grpc-status", status);
    }
    response.body(Body::from(body)).unwrap()
}
