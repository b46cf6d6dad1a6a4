//! Persistent subscriptions, through an official Rust client.

use uuid::Uuid;

use super::super::client::{
    Client, DeletePersistentSubscriptionOptions, Error, GetPersistentSubscriptionInfoOptions,
    ListPersistentSubscriptionsOptions, NakAction, PersistentSubscriptionOptions,
    PersistentSubscriptionToAllOptions, ReplayParkedMessagesOptions, ResolvedEvent, StreamPosition,
    SubscribeToPersistentSubscriptionOptions,
};
use super::{append, connect, name, on_stream};
use crate::support::soon;

fn from_start() -> PersistentSubscriptionOptions {
    PersistentSubscriptionOptions::default().start_from(StreamPosition::Start)
}

async fn create(client: &Client, stream: &str) -> Result<(), Error> {
    let options = from_start();
    let create = client.create_persistent_subscription(stream, "group", &options);
    create.await
}

fn id(event: &ResolvedEvent) -> [Uuid; 1] {
    [event.get_original_event().id]
}

fn revision(event: &ResolvedEvent) -> Option<u64> {
    event.event.as_ref().map(|event| event.revision)
}

#[tokio::test]
async fn a_group_is_created_updated_found_and_deleted() {
    let (_server, client) = connect().await;
    let stream = name();
    create(&client, &stream).await.unwrap();
    let again = create(&client, &stream).await;
    assert!(matches!(again, Err(Error::ResourceAlreadyExists)));
    let changed = from_start().max_retry_count(3);
    let update = client.update_persistent_subscription(&*stream, "group", &changed);
    update.await.unwrap();
    let listing = ListPersistentSubscriptionsOptions::default();
    let listed = client.list_persistent_subscriptions_for_stream(&stream, &listing);
    let listed = listed.await.unwrap();
    let retries: Vec<_> = listed
        .iter()
        .map(|info| {
            info.settings
                .as_ref()
                .map(|settings| settings.max_retry_count)
        })
        .collect();
    assert_eq!(retries, [Some(3)]);
    let delete = async || {
        let options = DeletePersistentSubscriptionOptions::default();
        let delete = client.delete_persistent_subscription(&*stream, "group", &options);
        delete.await
    };
    delete().await.unwrap();
    assert!(matches!(delete().await, Err(Error::ResourceNotFound)));
}

#[tokio::test]
async fn an_event_is_delivered_until_it_is_acknowledged() {
    let (_server, client) = connect().await;
    let stream = name();
    append(&client, &stream, 2).await;
    create(&client, &stream).await.unwrap();
    let options = SubscribeToPersistentSubscriptionOptions::default();
    let group = client.subscribe_to_persistent_subscription(&*stream, "group", &options);
    let mut group = group.await.unwrap();
    let first = soon("an event", group.next()).await.unwrap();
    group
        .nack_ids(id(&first), NakAction::Retry, "once more")
        .await
        .unwrap();
    let mut revisions = Vec::new();
    while revisions.len() < 2 {
        let event = soon("an event", group.next()).await.unwrap();
        revisions.push(event.get_original_event().revision);
        group.ack_ids(id(&event)).await.unwrap();
    }
    revisions.sort_unstable();
    assert_eq!(revisions, [0, 1]);
}

#[tokio::test]
async fn a_parked_event_is_replayed() {
    let (_server, client) = connect().await;
    let stream = name();
    append(&client, &stream, 1).await;
    create(&client, &stream).await.unwrap();
    let options = SubscribeToPersistentSubscriptionOptions::default();
    let group = client.subscribe_to_persistent_subscription(&*stream, "group", &options);
    let mut group = group.await.unwrap();
    let event = soon("an event", group.next()).await.unwrap();
    group
        .nack_ids(id(&event), NakAction::Park, "later")
        .await
        .unwrap();
    soon("that it is parked", async {
        let options = GetPersistentSubscriptionInfoOptions::default();
        loop {
            let info = client.get_persistent_subscription_info(&stream, "group", &options);
            if info.await.unwrap().stats.parked_message_count == 1 {
                break;
            }
        }
    })
    .await;
    let options = ReplayParkedMessagesOptions::default();
    let replay = client.replay_parked_messages(&stream, "group", &options);
    replay.await.unwrap();
    let again = soon("the parked event", group.next()).await.unwrap();
    assert_eq!(revision(&again), Some(0));
    group.ack_ids(id(&again)).await.unwrap();
}

#[tokio::test]
async fn a_group_of_all_is_filtered() {
    let (_server, client) = connect().await;
    let stream = name();
    let options = PersistentSubscriptionToAllOptions::default()
        .start_from(StreamPosition::Start)
        .filter(on_stream(&stream));
    let create = client.create_persistent_subscription_to_all(&stream, &options);
    create.await.unwrap();
    append(&client, &stream, 2).await;
    let options = SubscribeToPersistentSubscriptionOptions::default();
    let group = client.subscribe_to_persistent_subscription_to_all(&stream, &options);
    let mut group = group.await.unwrap();
    for revision in 0..2 {
        let event = soon("an event", group.next()).await.unwrap();
        assert_eq!(event.get_original_stream_id(), stream);
        assert_eq!(event.get_original_event().revision, revision);
        group.ack_ids(id(&event)).await.unwrap();
    }
    let options = DeletePersistentSubscriptionOptions::default();
    let delete = client.delete_persistent_subscription_to_all(&stream, &options);
    delete.await.unwrap();
}
