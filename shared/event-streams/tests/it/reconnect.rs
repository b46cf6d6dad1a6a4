//! The connection comes back by itself, whatever became of the server.

use event_streams::{Direction, Expected};

use crate::support::{Store, event, soon, until};

#[tokio::test]
async fn a_call_waits_for_a_server_that_comes_up_later() {
    let mut store = Store::not_yet().await;
    let streams = store.connect();
    until(async || streams.check().await.is_err()).await;
    let early = tokio::spawn({
        let streams = streams.clone();
        async move {
            streams
                .append("s", Expected::NoStream, vec![event("Happened.v1")])
                .await
        }
    });
    store.start_again().await;
    let appended = soon(early).await.unwrap().unwrap();
    assert_eq!(appended.revision, 0);
    soon(streams.check()).await.unwrap();
}

#[tokio::test]
async fn calls_work_again_after_the_server_restarted() {
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
    }
}

#[tokio::test]
async fn a_check_tells_the_truth_about_the_server() {
    let mut store = Store::start().await;
    let streams = store.connect();
    until(async || streams.check().await.is_ok()).await;
    store.stop().await;
    until(async || streams.check().await.is_err()).await;
    store.start_again().await;
    until(async || streams.check().await.is_ok()).await;
}
