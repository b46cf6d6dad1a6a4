//! The client reconnects by itself after the server was down.

use event_streams::{AppendError, Direction, Expected};
use futures::FutureExt as _;

use crate::support::{Store, event, soon, until};

#[tokio::test]
async fn calls_fail_at_once_while_the_server_is_down_and_work_when_it_is_back() {
    let mut store = Store::start().await;
    let streams = store.connect();
    soon(streams.check()).await.unwrap();
    store.stop().await;
    until(async || streams.check().await.is_err()).await;
    let unavailable = |reason: &str| assert!(reason.contains("connect"), "{reason}");
    // A call that is ready at its first poll did not wait.
    for _ in 0..1_000 {
        let append = streams.append("s", Expected::NoStream, vec![event("A.v1")]);
        let Some(Err(AppendError::Unavailable(reason))) = append.now_or_never() else {
            panic!("the append waits");
        };
        unavailable(&reason.reason);
        let read = streams.read("s", Direction::ForwardFrom(0), 1);
        read.now_or_never().expect("the call waits").unwrap_err();
        let tombstone = streams.tombstone("s", Expected::Any);
        tombstone
            .now_or_never()
            .expect("the call waits")
            .unwrap_err();
        let page = streams.read_all(&["s"], None, 1);
        page.now_or_never().expect("the call waits").unwrap_err();
        streams
            .check()
            .now_or_never()
            .expect("the call waits")
            .unwrap_err();
    }
    store.start_again().await;
    until(async || streams.check().await.is_ok()).await;
    let append = streams.append("s", Expected::NoStream, vec![event("A.v1")]);
    assert_eq!(soon(append).await.unwrap().revision, 0);
}

#[tokio::test]
async fn calls_work_again_after_a_restart_of_the_server() {
    let mut store = Store::start().await;
    let streams = store.connect();
    for revision in 0..3 {
        let expected = match revision {
            0 => Expected::NoStream,
            n => Expected::Revision(n - 1),
        };
        let append = streams.append("s", expected, vec![event("Happened.v1")]);
        assert_eq!(soon(append).await.unwrap().revision, revision);
        let read = soon(streams.read("s", Direction::ForwardFrom(0), 10)).await;
        assert_eq!(read.unwrap().len() as u64, revision + 1);
        store.stop().await;
        store.start_again().await;
        until(async || streams.check().await.is_ok()).await;
    }
}

#[tokio::test]
async fn a_check_reports_whether_the_server_is_up() {
    let mut store = Store::start().await;
    let streams = store.connect();
    until(async || streams.check().await.is_ok()).await;
    store.stop().await;
    until(async || streams.check().await.is_err()).await;
    store.start_again().await;
    until(async || streams.check().await.is_ok()).await;
}
