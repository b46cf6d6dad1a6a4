//! Tests of the features of an official Rust client.

mod persistent;

use std::time::Duration;

use uuid::Uuid;

use super::client::{
    AppendToStreamOptions, BatchAppendOptions, Client, DeleteStreamOptions, Error, EventData,
    ReadAllOptions, ReadStream, ReadStreamOptions, StreamMetadataBuilder, StreamMetadataResult,
    StreamPosition, SubscribeToAllOptions, SubscribeToStreamOptions, SubscriptionFilter,
    TombstoneStreamOptions,
};
use super::{Server, State, expecting};
use crate::support::soon;

async fn connect() -> (Server, Client) {
    let server = Server::new().await;
    let client = Client::new(server.url.parse().unwrap()).unwrap();
    (server, client)
}

/// A new stream name, for a store that others may use too.
fn name() -> String {
    format!("conformance{}-1", Uuid::new_v4().simple())
}

fn event(number: u64) -> EventData {
    let event = EventData::json("numbered", &serde_json::json!({ "number": number }));
    event.unwrap().id(Uuid::new_v4())
}

fn events(count: u64) -> Vec<EventData> {
    (0..count).map(event).collect()
}

async fn append(client: &Client, stream: &str, count: u64) {
    let any = AppendToStreamOptions::default();
    let appended = client.append_to_stream(stream, &any, events(count)).await;
    appended.unwrap();
}

async fn revisions(mut events: ReadStream) -> Result<Vec<u64>, Error> {
    let mut revisions = Vec::new();
    while let Some(event) = events.next().await? {
        revisions.push(event.get_original_event().revision);
    }
    Ok(revisions)
}

async fn read(client: &Client, stream: &str) -> Result<Vec<u64>, Error> {
    let whole = ReadStreamOptions::default();
    revisions(client.read_stream(stream, &whole).await?).await
}

fn on_stream(stream: &str) -> SubscriptionFilter {
    SubscriptionFilter::on_stream_name().add_prefix(stream)
}

#[tokio::test]
async fn an_expected_revision_is_enforced() {
    let (_server, client) = connect().await;
    let stream = name();
    let new = expecting(State::NoStream);
    let written = client.append_to_stream(&*stream, &new, events(2)).await;
    assert_eq!(written.unwrap().next_expected_version, 1);
    let refused = client.append_to_stream(&*stream, &new, event(2)).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, Error::WrongExpectedVersion { .. }));
    let exists = expecting(State::StreamExists);
    let written = client.append_to_stream(&*stream, &exists, event(2)).await;
    assert_eq!(written.unwrap().next_expected_version, 2);
    assert_eq!(read(&client, &stream).await.unwrap(), [0, 1, 2]);
}

#[tokio::test]
async fn a_repeated_append_is_recognised() {
    let (_server, client) = connect().await;
    let (stream, events) = (name(), events(3));
    let new = expecting(State::NoStream);
    let first = client
        .append_to_stream(&*stream, &new, events.clone())
        .await;
    let again = client.append_to_stream(&*stream, &new, events).await;
    assert_eq!(first.unwrap().position, again.unwrap().position);
    assert_eq!(read(&client, &stream).await.unwrap(), [0, 1, 2]);
}

#[tokio::test]
async fn a_stream_is_read_in_both_directions_from_anywhere() {
    let (_server, client) = connect().await;
    let stream = name();
    append(&client, &stream, 5).await;
    let middle = ReadStreamOptions::default()
        .position(StreamPosition::Position(2))
        .max_count(2);
    let page = client.read_stream(&*stream, &middle).await.unwrap();
    assert_eq!(revisions(page).await.unwrap(), [2, 3]);
    let backwards = ReadStreamOptions::default()
        .backwards()
        .position(StreamPosition::End);
    let page = client.read_stream(&*stream, &backwards).await.unwrap();
    assert_eq!(revisions(page).await.unwrap(), [4, 3, 2, 1, 0]);
    let missing = read(&client, &name()).await;
    assert!(matches!(missing, Err(Error::ResourceNotFound)));
}

#[tokio::test]
async fn a_deleted_stream_can_be_recreated_and_a_tombstoned_one_cannot() {
    let (_server, client) = connect().await;
    let stream = name();
    append(&client, &stream, 2).await;
    let delete = DeleteStreamOptions::default();
    client.delete_stream(&*stream, &delete).await.unwrap();
    let gone = read(&client, &stream).await;
    assert!(matches!(gone, Err(Error::ResourceNotFound)));
    append(&client, &stream, 1).await;
    assert_eq!(read(&client, &stream).await.unwrap(), [2]);

    let tombstone = TombstoneStreamOptions::default();
    client.tombstone_stream(&*stream, &tombstone).await.unwrap();
    let any = AppendToStreamOptions::default();
    let refused = client.append_to_stream(&*stream, &any, event(3)).await;
    assert!(matches!(refused.unwrap_err(), Error::ResourceDeleted));
    let refused = read(&client, &stream).await;
    assert!(matches!(refused, Err(Error::ResourceDeleted)));
}

#[tokio::test]
async fn a_batch_session_answers_each_append() {
    let (_server, client) = connect().await;
    let stream = name();
    let batch = client.batch_append(&BatchAppendOptions::default()).await;
    let batch = batch.unwrap();
    for number in 0..3 {
        let written = batch
            .append_to_stream(&*stream, State::Any, events(1))
            .await;
        let written = written.unwrap();
        assert_eq!(written.current_revision(), Some(number));
        assert!(written.current_position().is_some());
    }
    let refused = batch.append_to_stream(&*stream, State::NoStream, events(1));
    assert!(matches!(refused.await, Err(Error::Grpc { .. })));
    assert_eq!(read(&client, &stream).await.unwrap(), [0, 1, 2]);
}

#[tokio::test]
async fn subscriptions_receive_old_and_new_events() {
    let (_server, client) = connect().await;
    let stream = name();
    append(&client, &stream, 2).await;
    let from_start = SubscribeToAllOptions::default()
        .position(StreamPosition::Start)
        .filter(on_stream(&stream));
    let mut all = client.subscribe_to_all(&from_start).await;
    let from_start = SubscribeToStreamOptions::default().start_from(StreamPosition::Start);
    let mut one = client.subscribe_to_stream(&*stream, &from_start).await;
    append(&client, &stream, 2).await;
    for revision in 0..4 {
        for subscription in [&mut all, &mut one] {
            let event = soon("an event", subscription.next()).await.unwrap();
            assert_eq!(event.get_original_stream_id(), stream);
            assert_eq!(event.get_original_event().revision, revision);
        }
    }
}

#[tokio::test]
async fn all_is_read_in_both_directions() {
    let (_server, client) = connect().await;
    let stream = name();
    append(&client, &stream, 3).await;
    let whole = ReadStreamOptions::default();
    let events = client.read_stream(&*stream, &whole).await;
    let first = events.unwrap().next().await.unwrap().unwrap();
    let from = StreamPosition::Position(first.get_original_event().position);
    let forwards = ReadAllOptions::default().position(from).max_count(3);
    let backwards = ReadAllOptions::default()
        .backwards()
        .position(StreamPosition::End)
        .max_count(1);
    let forwards = client.read_all(&forwards).await.unwrap();
    let backwards = client.read_all(&backwards).await.unwrap();
    assert_eq!(revisions(forwards).await.unwrap().len(), 3);
    assert_eq!(revisions(backwards).await.unwrap().len(), 1);
}

#[tokio::test]
async fn metadata_is_stored_and_applied() {
    let (_server, client) = connect().await;
    let stream = name();
    append(&client, &stream, 5).await;
    let metadata = StreamMetadataBuilder::new()
        .max_count(2)
        .max_age(Duration::from_hours(1))
        .build();
    let any = AppendToStreamOptions::default();
    let set = client.set_stream_metadata(&*stream, &any, &metadata).await;
    set.unwrap();
    let whole = ReadStreamOptions::default();
    let read_back = client.get_stream_metadata(&*stream, &whole).await;
    let StreamMetadataResult::Success(read_back) = read_back.unwrap() else {
        panic!("no metadata");
    };
    assert_eq!(read_back.metadata().max_count, Some(2));
    assert_eq!(read(&client, &stream).await.unwrap(), [3, 4]);
}

#[tokio::test]
async fn a_link_resolves_to_its_target() {
    let (_server, client) = connect().await;
    let (target, links) = (name(), name());
    append(&client, &target, 1).await;
    let link = EventData::binary("$>", format!("0@{target}").into());
    let any = AppendToStreamOptions::default();
    client.append_to_stream(&*links, &any, link).await.unwrap();
    let resolving = ReadStreamOptions::default().resolve_link_tos();
    let mut events = client.read_stream(&*links, &resolving).await.unwrap();
    let resolved = events.next().await.unwrap().unwrap();
    assert_eq!(resolved.get_original_stream_id(), links);
    assert!(resolved.event.is_some() && resolved.link.is_some());
}
