//! Persistent subscriptions across restarts and kills: parked events, progress, and written checkpoints.

use std::path::Path;

use eventstore_lite::wire::persistent_subscriptions::SubscriptionInfo;
use eventstore_lite::wire::persistent_subscriptions::create_req::settings::CheckpointAfter;
use eventstore_lite::{Config, Server};

use crate::support::groups::{GROUP, Groups, revision, settings, stream};
use crate::support::process::Process;
use crate::support::{
    Client, any, append, connect, delete_stream, event, http_1, new_id, read_stream, soon, start,
};

const STREAM: &str = "orders";

async fn write(client: &mut Client, count: usize) {
    let events = (0..count).map(|_| event(&new_id(), "{}"));
    append(client, STREAM, any(), events.collect())
        .await
        .unwrap();
}

async fn started(db: &Path) -> Server {
    Server::start(Config::new(db)).await.unwrap()
}

/// The number of parked events, by each way of querying it.
async fn parked(server: &Server) -> [i64; 4] {
    let mut groups = Groups::connect(server.address()).await;
    let info = groups.info(STREAM).await.parked_message_count;
    let listed = groups.list().await[0].parked_message_count;
    let host = format!("Host: {}", server.address());
    let page = http_1(
        server,
        &format!("GET /web/api/groups HTTP/1.1\r\n{host}"),
        b"",
    )
    .await;
    let (_, page) = page.split_once("\r\n\r\n").unwrap();
    let page: serde_json::Value = serde_json::from_str(page).unwrap();
    let shown = page[0]["parked"].as_str().unwrap().parse().unwrap();
    let figures = http_1(server, &format!("GET /metrics HTTP/1.1\r\n{host}"), b"").await;
    let mut lines = figures.lines();
    let figure =
        lines.find_map(|line| line.strip_prefix("eventstore_persistent_sub_parked_messages "));
    [info, listed, shown, figure.unwrap().parse().unwrap()]
}

/// Parks this many events of the group.
async fn park(groups: &mut Groups, client: &mut Client, count: usize) {
    write(client, count).await;
    let before = groups.info(STREAM).await.parked_message_count;
    let mut member = groups.join(STREAM).await;
    let events = member.take(count).await;
    member.park(&events);
    let end = before + i64::try_from(count).unwrap();
    let is_parked = |info: &SubscriptionInfo| info.parked_message_count == end;
    groups
        .until(STREAM, "that they are parked", is_parked)
        .await;
}

/// Deletes the group and creates it again. The earlier events are deleted, so the new group gets none of them.
async fn create_again(groups: &mut Groups, client: &mut Client) {
    groups.delete(STREAM).await;
    delete_stream(client, STREAM).await;
    groups.create(STREAM, settings()).await;
}

#[tokio::test]
async fn a_recreated_group_counts_only_events_that_it_parked_itself() {
    let (db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut groups = Groups::connect(server.address()).await;
    groups.create(STREAM, settings()).await;
    park(&mut groups, &mut client, 5).await;
    assert_eq!(parked(&server).await, [5; 4]);
    create_again(&mut groups, &mut client).await;
    assert_eq!(parked(&server).await, [0; 4]);
    park(&mut groups, &mut client, 1).await;
    assert_eq!(parked(&server).await, [1; 4]);
    server.shutdown().await;

    let server = started(db.path()).await;
    assert_eq!(parked(&server).await, [1; 4]);
    let mut groups = Groups::connect(server.address()).await;
    let mut client = connect(server.address()).await;
    create_again(&mut groups, &mut client).await;
    assert_eq!(parked(&server).await, [0; 4]);
    server.shutdown().await;
    let server = started(db.path()).await;
    assert_eq!(parked(&server).await, [0; 4]);
    server.shutdown().await;
}

#[tokio::test]
async fn parked_events_that_were_replayed_are_parked_until_they_are_acknowledged() {
    let db = tempfile::tempdir().unwrap();
    let server = Process::start(db.path()).await;
    let mut client = connect(&server.address).await;
    let mut groups = Groups::connect(&server.address).await;
    groups.create(STREAM, settings()).await;
    park(&mut groups, &mut client, 5).await;
    let noted = |info: &SubscriptionInfo| info.last_checkpointed_event_position == "4";
    groups.until(STREAM, "the checkpoint", noted).await;
    groups.replay(STREAM).await;
    let mut member = groups.join(STREAM).await;
    let events = member.take(5).await;
    assert_eq!(
        events.iter().map(revision).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4]
    );
    member.ack(&[events[1].clone(), events[3].clone()]);
    let three_left = |info: &SubscriptionInfo| info.total_in_flight_messages == 3;
    groups
        .until(STREAM, "two acknowledgements", three_left)
        .await;
    server.kill().await;

    // After two more kills, each event is still parked once.
    for _ in 0..2 {
        let server = Process::start(db.path()).await;
        let mut groups = Groups::connect(&server.address).await;
        assert_eq!(groups.info(STREAM).await.parked_message_count, 3);
        let mut client = connect(&server.address).await;
        let parked = read_stream(&mut client, "$persistentsubscription-orders::group-parked");
        let links: Vec<_> = parked.await.into_iter().map(|link| link.data).collect();
        assert_eq!(links, ["0@orders", "2@orders", "4@orders"]);
        server.kill().await;
    }
    let server = Process::start(db.path()).await;
    let mut groups = Groups::connect(&server.address).await;
    groups.replay(STREAM).await;
    let mut member = groups.join(STREAM).await;
    let events = member.take(3).await;
    assert_eq!(events.iter().map(revision).collect::<Vec<_>>(), [0, 2, 4]);
    member.ack(&events);
    let none_left = |info: &SubscriptionInfo| info.total_in_flight_messages == 0;
    groups
        .until(STREAM, "the acknowledgements", none_left)
        .await;
    server.kill().await;
    let server = Process::start(db.path()).await;
    let mut groups = Groups::connect(&server.address).await;
    assert_eq!(groups.info(STREAM).await.parked_message_count, 0);
    server.kill().await;
}

#[tokio::test]
async fn replayed_events_of_a_recreated_group_are_not_parked_again() {
    let (db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut groups = Groups::connect(server.address()).await;
    groups.create(STREAM, settings()).await;
    park(&mut groups, &mut client, 2).await;
    groups.replay(STREAM).await;
    groups.join(STREAM).await.take(2).await;
    create_again(&mut groups, &mut client).await;
    assert_eq!(parked(&server).await, [0; 4]);
    server.shutdown().await;
    let server = started(db.path()).await;
    assert_eq!(parked(&server).await, [0; 4]);
    server.shutdown().await;
}

/// The visible checkpoints of the group of `source`, and the revision of the first.
async fn checkpoints(client: &mut Client, source: &str) -> (u64, Vec<String>) {
    let name = format!("$persistentsubscription-{source}::{GROUP}-checkpoint");
    let events = read_stream(client, &name).await;
    let first = events.first().map_or(0, |event| event.stream_revision);
    let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
    (
        first,
        events.iter().map(|event| text(&event.data)).collect(),
    )
}

#[tokio::test]
async fn a_checkpoint_is_written_even_when_the_client_has_left() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut groups = Groups::connect(server.address()).await;
    let mut late = settings();
    late.checkpoint_after = Some(CheckpointAfter::CheckpointAfterMs(1_000));
    groups.create(STREAM, late).await;
    write(&mut client, 20).await;
    let mut member = groups.join(STREAM).await;
    let events = member.take(20).await;
    member.ack(&events);
    let settled = |info: &SubscriptionInfo| info.total_in_flight_messages == 0;
    groups.until(STREAM, "the acknowledgements", settled).await;
    drop(member);
    soon("the checkpoint", async {
        while checkpoints(&mut client, STREAM).await.1 != ["\"19\""] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_server_that_stops_saves_what_was_acknowledged() {
    let (db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut groups = Groups::connect(server.address()).await;
    let mut rarely = settings();
    rarely.min_checkpoint_count = 1_000;
    groups.create(STREAM, rarely).await;
    write(&mut client, 3).await;
    let mut member = groups.join(STREAM).await;
    let events = member.take(3).await;
    member.ack(&events[..2]);
    let one_left = |info: &SubscriptionInfo| info.total_in_flight_messages == 1;
    groups.until(STREAM, "the acknowledgements", one_left).await;
    server.shutdown().await;

    let server = started(db.path()).await;
    let mut groups = Groups::connect(server.address()).await;
    let mut member = groups.join(STREAM).await;
    assert_eq!(revision(&member.next().await), 2);
    server.shutdown().await;
}

#[tokio::test]
async fn a_group_of_all_does_not_receive_its_own_events() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut groups = Groups::connect(server.address()).await;
    groups.create("$all", settings()).await;
    let mut member = groups.join("$all").await;
    write(&mut client, 1).await;
    loop {
        let next = member.next().await;
        member.ack(std::slice::from_ref(&next));
        if stream(&next) == STREAM {
            break;
        }
    }
    soon("a checkpoint", async {
        while checkpoints(&mut client, "$all").await.1.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    write(&mut client, 1).await;
    assert_eq!(stream(&member.next().await), STREAM);
    server.shutdown().await;
}
