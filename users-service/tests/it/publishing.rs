use crate::bus::{Bus, PACE, published, receive, until_published};
use crate::support::{App, id, spawn_app, until, user};
use event_streams::Direction;
use messaging::{Consumer, Delivery};
use private_broker::PrivateBroker;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use users_service::integration::publisher::Pace;

pub(crate) async fn app_and_bus() -> (App, Bus) {
    tokio::join!(spawn_app(), Bus::new())
}

pub(crate) async fn types(probe: &mut Consumer, count: usize) -> Vec<String> {
    let received = receive(probe, count).await;
    let event_type = |delivery: &Delivery| delivery.header("cloudEvents:type").unwrap().to_owned();
    received.iter().map(event_type).collect()
}

fn body(delivery: &Delivery) -> Value {
    serde_json::from_slice(&delivery.body).unwrap()
}

/// Who wrote the last checkpoint.
async fn holder(app: &App) -> Value {
    let last = app
        .store
        .read("publisher-users", Direction::BackwardFromEnd, 1);
    let last: Value = serde_json::from_slice(&last.await.unwrap()[0].data).unwrap();
    last["holder"].clone()
}

#[tokio::test]
async fn every_event_of_a_user_is_published_in_order() {
    let (app, bus) = app_and_bus().await;
    let mut probe = bus.probe().await;
    let _publisher = bus.publisher(&app, PACE);
    let ada = app.created("ada").await;
    app.patch(&ada, &json!({"given_name": "Augusta"})).await;
    app.delete(&ada).await;
    let received = receive(&mut probe, 3).await;
    for (revision, (delivery, event_type)) in received
        .iter()
        .zip(["user.created.v1", "user.patched.v1", "user.deleted.v1"])
        .enumerate()
    {
        assert_eq!(delivery.header("cloudEvents:type"), Some(event_type));
        assert_eq!(delivery.header("cloudEvents:subject"), Some(id(&ada)));
        let sequence = revision.to_string();
        assert_eq!(
            delivery.header("cloudEvents:sequence"),
            Some(sequence.as_str())
        );
        assert_eq!(body(delivery)["id"], id(&ada));
    }
    until_published(&app).await;
}

#[tokio::test]
async fn the_trace_of_a_command_goes_on_in_the_message_of_its_event() {
    let (app, bus) = app_and_bus().await;
    let mut probe = bus.probe().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let create = app.request(Method::POST, "/").json(&user("ada"));
    let create = create.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    assert!(create.send().await.unwrap().status().is_success());
    app.append("users-77", "RegistrationAbandoned.v1", "{}")
        .await;
    let _publisher = bus.publisher(&app, PACE);
    let received = receive(&mut probe, 2).await;
    let span = received[0].id().unwrap().replace('-', "").split_off(16);
    let parent = format!("00-{trace}-{span}-00");
    let header = |message: usize| received[message].header("cloudEvents:traceparent");
    assert_eq!(header(0), Some(parent.as_str()));
    assert_eq!(header(1), None, "a fence belongs to no command");
}

#[tokio::test]
async fn a_fence_is_published_so_that_revisions_have_no_gaps() {
    let (app, bus) = app_and_bus().await;
    let mut probe = bus.probe().await;
    app.append("users-77", "RegistrationAbandoned.v1", "{}")
        .await;
    let _publisher = bus.publisher(&app, PACE);
    assert_eq!(types(&mut probe, 1).await, ["user.fenced.v1"]);
}

#[tokio::test]
async fn what_no_queue_takes_is_kept_until_one_does() {
    let (app, bus) = app_and_bus().await;
    let publisher = bus.publisher(&app, PACE);
    publisher.ready().await;
    let before = published(&app).await;
    let ada = app.created("ada").await;
    publisher.unhealthy("no queue takes the message").await;
    let created = app.events(&format!("users-{}", id(&ada))).await[0].position;
    assert!(
        published(&app).await < Some(created),
        "the checkpoint must not pass it"
    );
    assert!(published(&app).await >= before);
    let mut probe = bus.probe().await;
    assert_eq!(types(&mut probe, 1).await, ["user.created.v1"]);
    publisher.ready().await;
    until_published(&app).await;
}

/// Waits until this many checkpoints were written.
async fn holder_changes(app: &App, count: u64) {
    let revision = async || {
        let last = app.store.read_last("publisher-users").await.unwrap();
        last.unwrap().revision
    };
    let first = revision().await;
    until("more checkpoints", async || {
        (revision().await >= first + count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_event_whose_key_is_destroyed_is_published_without_data() {
    let (app, bus) = app_and_bus().await;
    let mut probe = bus.probe().await;
    let ada = app.created("ada").await;
    app.delete(&ada).await;
    let _publisher = bus.publisher(&app, PACE);
    let received = receive(&mut probe, 2).await;
    assert_eq!(body(&received[0]), json!({"id": id(&ada), "erased": true}));
    assert_eq!(body(&received[1]), json!({"id": id(&ada)}));
}

#[tokio::test]
async fn what_a_hard_delete_leaves_in_the_log_is_not_published() {
    let (app, bus) = app_and_bus().await;
    let mut probe = bus.probe().await;
    let _publisher = bus.publisher(&app, PACE);
    let ada = app.created("ada").await;
    app.delete(&ada).await;
    until_published(&app).await;
    let _eraser = app.eraser();
    let stream = format!("users-{}", id(&ada));
    until("the stream is gone", async || {
        app.store.read_last(&stream).await.err()
    })
    .await;
    app.created("eda").await;
    let expected = ["user.created.v1", "user.deleted.v1", "user.created.v1"];
    assert_eq!(types(&mut probe, 3).await, expected);
}

#[tokio::test]
async fn a_standby_takes_over_when_the_active_one_is_killed() {
    let (app, bus) = app_and_bus().await;
    let mut probe = bus.probe().await;
    let active = bus.publisher(&app, PACE);
    app.created("ada").await;
    types(&mut probe, 1).await;
    until_published(&app).await;
    let first = holder(&app).await;
    let standby = bus.publisher(&app, PACE);
    standby.ready().await;
    assert_eq!(holder(&app).await, first, "a standby waits");
    active.kill().await;
    app.created("eda").await;
    assert_eq!(types(&mut probe, 1).await, ["user.created.v1"]);
    until_published(&app).await;
    assert_ne!(holder(&app).await, first);
}

#[tokio::test]
async fn a_publisher_that_stops_lets_the_next_one_begin_at_once() {
    let (app, bus) = app_and_bus().await;
    let mut probe = bus.probe().await;
    let hours = Pace {
        takeover: Duration::from_hours(2),
        ..PACE
    };
    let first = bus.publisher(&app, hours);
    first.ready().await;
    first.stop().await;
    let _second = bus.publisher(&app, hours);
    app.created("ada").await;
    assert_eq!(types(&mut probe, 1).await, ["user.created.v1"]);
}

#[tokio::test]
async fn a_second_publisher_fences_the_first_which_stands_by() {
    let (app, bus) = app_and_bus().await;
    let mut probe = bus.probe().await;
    let hours = Pace {
        takeover: Duration::from_hours(2),
        ..PACE
    };
    let first = bus.publisher(&app, hours);
    app.created("ada").await;
    types(&mut probe, 1).await;
    let fenced = holder(&app).await;
    let hasty = Pace {
        takeover: Duration::ZERO,
        ..PACE
    };
    let _second = bus.publisher(&app, hasty);
    until("the second takes over", async || {
        (holder(&app).await != fenced).then_some(())
    })
    .await;
    let taker = holder(&app).await;
    app.created("eda").await;
    until_published(&app).await;
    holder_changes(&app, 20).await;
    assert_eq!(
        holder(&app).await,
        taker,
        "the first does not write any more"
    );
    first.ready().await;
    first.stop().await;
    assert_eq!(holder(&app).await, taker, "not even when it stops");
}

/// The `user.sequence` of each message, in the order of arrival.
pub(crate) async fn sequences(probe: &mut Consumer, count: usize) -> Vec<String> {
    let received = receive(probe, count).await;
    let sequence = |delivery: &Delivery| {
        let header = |name| delivery.header(name).unwrap().to_owned();
        header("cloudEvents:subject") + "." + &header("cloudEvents:sequence")
    };
    received.iter().map(sequence).collect()
}

/// An earlier version stored such a position on a fresh server.
#[tokio::test]
async fn a_checkpoint_beyond_the_end_of_the_log_is_put_right() {
    let (app, bus) = app_and_bus().await;
    let mut probe = bus.probe().await;
    let nowhere = json!({"commit": u64::MAX, "prepare": u64::MAX}).to_string();
    app.append("publisher-users", "PublisherCheckpoint.v1", &nowhere)
        .await;
    assert_eq!(published(&app).await, None, "nobody believes it");
    app.created("ada").await;
    let publisher = bus.publisher(&app, PACE);
    app.created("eda").await;
    let expected = ["user.created.v1", "user.created.v1"];
    assert_eq!(types(&mut probe, 2).await, expected);
    publisher.ready().await;
    until_published(&app).await;
    assert!(published(&app).await <= app.store.log_end().await.unwrap());
}

/// What another team does as `docs/EVENTS.md` tells it: keeps the last revision per user, and takes what is higher.
fn kept(sequences: &[String]) -> std::collections::BTreeMap<&str, Vec<u64>> {
    let mut users = std::collections::BTreeMap::<&str, Vec<u64>>::new();
    for (user, revision) in sequences.iter().filter_map(|one| one.split_once('.')) {
        let revision = revision.parse().unwrap();
        let taken = users.entry(user).or_default();
        if taken.last().is_none_or(|last| *last < revision) {
            taken.push(revision);
        }
    }
    users
}

/// Nothing takes the creations; a queue is there when the changes come.
#[tokio::test]
async fn a_user_is_published_in_order_also_after_a_failure() {
    let (app, bus) = app_and_bus().await;
    let publisher = bus.publisher(&app, PACE);
    let mut users = Vec::new();
    for number in 0..20 {
        users.push(app.created(&format!("ada{number}")).await);
    }
    publisher.unhealthy("no queue takes the message").await;
    let mut probe = bus.probe().await;
    for user in &users {
        app.patch(user, &json!({"given_name": "Augusta"})).await;
    }
    until_all_are_kept(&mut probe, &users, &[0, 1]).await;
}

/// Receives until the last of these revisions was kept of every user, and sees that all of them were.
async fn until_all_are_kept(probe: &mut Consumer, users: &[Value], revisions: &[u64]) {
    let mut received = Vec::new();
    let done = |received: &[String]| {
        let kept = kept(received);
        let done = |taken: &&Vec<u64>| taken.last() == revisions.last();
        kept.values().filter(done).count()
    };
    while done(&received) < users.len() {
        received.extend(sequences(probe, 1).await);
    }
    for user in users {
        assert_eq!(kept(&received)[id(user)], revisions, "{received:?}");
    }
}

/// It is killed while messages are on their way, and comes back while more are written.
#[tokio::test]
async fn a_user_is_published_in_order_also_when_the_broker_is_killed() {
    let node: &'static PrivateBroker = Box::leak(Box::new(PrivateBroker::start().await.unwrap()));
    let (app, bus) = tokio::join!(spawn_app(), Bus::of(node));
    let mut probe = bus.probe().await;
    let publisher = bus.publisher(&app, PACE);
    let mut users = Vec::new();
    for number in 0..30 {
        users.push(app.created(&format!("ada{number}")).await);
    }
    let patch_all = async |name: &str| {
        for user in &users {
            app.patch(user, &json!({"given_name": name})).await;
        }
    };
    let killing = async { node.kill().await.unwrap() };
    tokio::join!(killing, patch_all("Augusta"));
    // Of the first round all may have been confirmed before the broker was gone.
    patch_all("Byron").await;
    publisher.unhealthy("unavailable").await;
    let restarting = async { node.restart().await.unwrap() };
    tokio::join!(restarting, patch_all("Ada"));
    until_all_are_kept(&mut probe, &users, &[0, 1, 2, 3]).await;
    publisher.ready().await;
}
