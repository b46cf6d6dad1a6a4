//! The unmodified client crate talks to the server.

use std::time::Duration;

use eventstore::{
    AppendToStreamOptions, Client, DeleteStreamOptions, EventData, ExpectedRevision,
    PersistentSubscriptionOptions, ReadAllOptions, ReadStreamOptions, StreamMetadataBuilder,
    StreamPosition, SubscribeToAllOptions, SubscribeToStreamOptions, SubscriptionFilter,
    TombstoneStreamOptions,
};
use eventstore_lite::Server;

use crate::support::{soon, start};

/// A single node is asked at once.
fn client(server: &Server) -> Client {
    let settings = format!("{}&discoveryInterval=1", server.url())
        .parse()
        .unwrap();
    Client::new(settings).unwrap()
}

fn event(number: u64) -> EventData {
    EventData::json("numbered", &serde_json::json!({ "number": number })).unwrap()
}

#[tokio::test]
async fn it_appends_reads_and_deletes() {
    let (_db, server) = start().await;
    let client = client(&server);
    let no_stream = AppendToStreamOptions::default().expected_revision(ExpectedRevision::NoStream);
    let written = client
        .append_to_stream("s", &no_stream, vec![event(0), event(1)])
        .await
        .unwrap();
    assert_eq!(written.next_expected_version, 1);
    let refused = client
        .append_to_stream("s", &no_stream, event(2))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, eventstore::Error::WrongExpectedVersion { .. }),
        "{refused}"
    );

    let mut events = client
        .read_stream("s", &ReadStreamOptions::default())
        .await
        .unwrap();
    let mut revisions = Vec::new();
    while let Some(event) = events.next().await.unwrap() {
        revisions.push(event.get_original_event().revision);
    }
    assert_eq!(revisions, [0, 1]);

    client
        .delete_stream("s", &DeleteStreamOptions::default())
        .await
        .unwrap();
    let mut gone = client
        .read_stream("s", &ReadStreamOptions::default())
        .await
        .unwrap();
    assert!(matches!(
        gone.next().await,
        Err(eventstore::Error::ResourceNotFound)
    ));
    client
        .tombstone_stream("s", &TombstoneStreamOptions::default())
        .await
        .unwrap();
    let refused = client
        .append_to_stream("s", &AppendToStreamOptions::default(), event(3))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, eventstore::Error::ResourceDeleted),
        "{refused}"
    );
}

#[tokio::test]
async fn it_appends_in_batches() {
    let (_db, server) = start().await;
    let client = client(&server);
    let batch = client
        .batch_append(&eventstore::BatchAppendOptions::default())
        .await
        .unwrap();
    for number in 0..3 {
        let written = batch
            .append_to_stream("s", ExpectedRevision::Any, vec![event(number)])
            .await
            .unwrap();
        assert_eq!(written.current_revision(), Some(number));
        assert!(written.current_position().is_some());
    }
}

#[tokio::test]
async fn it_reads_and_follows_the_log() {
    let (_db, server) = start().await;
    let client = client(&server);
    let filter = SubscriptionFilter::on_stream_name().add_prefix("a-");
    let from_start = SubscribeToAllOptions::default()
        .position(StreamPosition::Start)
        .filter(filter);
    let stream_from_start = SubscribeToStreamOptions::default().start_from(StreamPosition::Start);
    let mut all = client.subscribe_to_all(&from_start).await;
    let mut stream = client.subscribe_to_stream("a-1", &stream_from_start).await;
    for (number, name) in (0..).zip(["a-1", "b-1", "a-1", "a-2"]) {
        client
            .append_to_stream(name, &AppendToStreamOptions::default(), event(number))
            .await
            .unwrap();
    }
    let mut followed = Vec::new();
    for _ in 0..3 {
        let event = soon("an event", all.next()).await.unwrap();
        followed.push(event.get_original_stream_id().to_owned());
    }
    assert_eq!(followed, ["a-1", "a-1", "a-2"]);
    for revision in 0..2 {
        let event = soon("an event", stream.next()).await.unwrap();
        assert_eq!(event.get_original_event().revision, revision);
    }
    let backwards = ReadAllOptions::default()
        .backwards()
        .position(StreamPosition::End)
        .max_count(2);
    let mut events = client.read_all(&backwards).await.unwrap();
    let mut names = Vec::new();
    while let Some(event) = events.next().await.unwrap() {
        names.push(event.get_original_stream_id().to_owned());
    }
    assert_eq!(names, ["a-2", "a-1"]);
}

#[tokio::test]
async fn it_sets_the_metadata_of_streams() {
    let (_db, server) = start().await;
    let client = client(&server);
    let metadata = StreamMetadataBuilder::new()
        .max_count(1)
        .max_age(Duration::from_hours(1))
        .build();
    client
        .set_stream_metadata("s", &AppendToStreamOptions::default(), &metadata)
        .await
        .unwrap();
    for number in 0..3 {
        client
            .append_to_stream("s", &AppendToStreamOptions::default(), event(number))
            .await
            .unwrap();
    }
    let mut events = client
        .read_stream("s", &ReadStreamOptions::default())
        .await
        .unwrap();
    let last = events.next().await.unwrap().unwrap();
    assert_eq!(last.get_original_event().revision, 2);
    assert!(events.next().await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_not_there_yet_says_so() {
    let (_db, server) = start().await;
    let refused = client(&server)
        .create_persistent_subscription("s", "group", &PersistentSubscriptionOptions::default())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, eventstore::Error::UnsupportedFeature),
        "{refused}"
    );
}
