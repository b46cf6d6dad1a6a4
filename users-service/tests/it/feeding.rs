//! The feed of events: `GET /events`.

use crate::bus::{Bus, PACE, until_published};
use crate::publishing::app_and_bus;
use crate::support::{App, id, serve_routes, spawn_app, until};
use actix_web::web::Data;
use event_streams::Expected;
use messaging::Consumer;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use users_service::feed::api::{FeedRoute, events};
use users_service::feed::{Feed, FeedError, FeedPosition, Listener, Selection, Start};

/// An app, a bus, and a queue, so that messages are taken.
async fn app_and_queue() -> (App, Bus, Consumer) {
    let (app, bus) = app_and_bus().await;
    let queue = bus.probe().await;
    (app, bus, queue)
}

/// A process with the feed of this app.
struct Feeding {
    feed: Feed,
    address: SocketAddr,
    shutdown: CancellationToken,
    _stops_when_dropped: DropGuard,
}

/// A running feed over HTTP, which has reached the publisher's mark.
async fn feeding(app: &App) -> Feeding {
    let feed = Feed::new(app.store.clone());
    let shutdown = CancellationToken::new();
    let route = FeedRoute::new(feed.clone(), shutdown.clone());
    let address = serve_routes(None, shutdown.clone(), move |config| {
        config.app_data(Data::new(route.clone())).configure(events);
    });
    let (state, mut health) = watch::channel(Err("starting".to_owned()));
    let (source, stop) = (feed.clone(), shutdown.clone());
    tokio::spawn(async move { source.run(&state, &stop).await });
    health.wait_for(Result::is_ok).await.unwrap();
    Feeding {
        feed,
        address,
        _stops_when_dropped: shutdown.clone().drop_guard(),
        shutdown,
    }
}

/// A block of lines, which ends with an empty line.
#[derive(Debug, Default, Clone, PartialEq)]
struct Block {
    id: String,
    event: String,
    data: Value,
}

/// A client of the feed.
struct Client {
    answer: Response,
    text: String,
    /// The last id, which a browser would send back.
    last: String,
    /// How many blocks had no event.
    idle: u32,
}

impl Feeding {
    async fn request(&self, query: &str, last: Option<&str>) -> Response {
        let url = format!("http://{}/events{query}", self.address);
        let mut request = reqwest::Client::new().request(Method::GET, url);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        request.send().await.unwrap()
    }

    async fn listen(&self, query: &str) -> Client {
        Client::of(self.request(query, None).await).await
    }

    async fn go_on(&self, query: &str, last: &str) -> Client {
        Client::of(self.request(query, Some(last)).await).await
    }
}

impl Client {
    async fn of(answer: Response) -> Self {
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut client = Self {
            answer,
            text: String::new(),
            last: String::new(),
            idle: 0,
        };
        // The first block has no event, but an id.
        let opening = client.block().await.unwrap();
        assert_eq!((opening.event.as_str(), opening.data), ("", Value::Null));
        client
    }

    /// The next block. `None` at the end of the answer.
    async fn block(&mut self) -> Option<Block> {
        while !self.text.contains("\n\n") {
            let chunk = self.answer.chunk();
            let chunk = tokio::time::timeout(std::time::Duration::from_mins(1), chunk);
            let chunk = chunk.await.expect("something comes").unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        let (text, rest) = self.text.split_once("\n\n").unwrap();
        let mut block = Block::default();
        for line in text.lines() {
            match line.split_once(": ").unwrap() {
                ("id", value) => value.clone_into(&mut block.id),
                ("event", value) => value.clone_into(&mut block.event),
                ("data", value) => block.data = serde_json::from_str(value).unwrap(),
                ("retry" | "", _) => {}
                other => panic!("{other:?}"),
            }
        }
        if !block.id.is_empty() {
            self.last.clone_from(&block.id);
        }
        let read = self.text.len() - rest.len();
        self.text.drain(..read);
        Some(block)
    }

    /// The next events.
    async fn take(&mut self, count: usize) -> Vec<Block> {
        let mut events = Vec::new();
        while events.len() < count {
            let block = self.block().await.expect("no end");
            self.idle += u32::from(block.event.is_empty());
            assert!(self.idle < 5, "only signs of life come");
            if !block.event.is_empty() {
                events.push(block);
            }
        }
        events
    }
}

/// The user, the type and the revision of each event.
fn changes(events: &[Block]) -> Vec<(&str, &str, Option<u64>)> {
    let mut changes = Vec::new();
    for Block { event, data, .. } in events {
        let subject = data["subject"].as_str().unwrap();
        changes.push((subject, event.as_str(), data["sequence"].as_u64()));
    }
    changes
}

#[tokio::test]
async fn a_listener_gets_ids_types_and_revisions_of_all_changes_and_no_names() {
    let (app, bus, _queue) = app_and_queue().await;
    let _publisher = bus.publisher(&app, PACE);
    let feeding = feeding(&app).await;
    let mut client = feeding.listen("").await;
    let ada = app.created("ada").await;
    app.patch(&ada, &json!({"given_name": "Augusta"})).await;
    app.delete(&ada).await;
    let events = client.take(3).await;
    let ada = id(&ada);
    let expected = [
        (ada, "user.created.v1", Some(0)),
        (ada, "user.patched.v1", Some(1)),
        (ada, "user.deleted.v1", Some(2)),
    ];
    assert_eq!(changes(&events), expected);
    let stored = app.events(&format!("users-{ada}")).await;
    for (event, stored) in events.iter().zip(stored) {
        let mut members: Vec<_> = event.data.as_object().unwrap().keys().collect();
        members.sort();
        assert_eq!(members, ["id", "sequence", "subject", "time", "type"]);
        assert_eq!(event.data["id"], stored.id.to_string());
        assert_eq!(event.data["type"], event.event);
    }
}

#[tokio::test]
async fn a_listener_that_goes_on_after_any_event_misses_none_whichever_process_it_asks() {
    let (app, bus, _queue) = app_and_queue().await;
    let _publisher = bus.publisher(&app, PACE);
    for number in 0..5 {
        let user = app.created(&format!("ada{number}")).await;
        app.patch(&user, &json!({"given_name": "Augusta"})).await;
    }
    until_published(&app).await;
    let (one, other) = (feeding(&app).await, feeding(&app).await);
    let all = one.listen("?from=start").await.take(10).await;
    for (number, event) in all.iter().enumerate() {
        let mut client = other.go_on("?from=start", &event.id).await;
        let rest = client.take(all.len() - number - 1).await;
        assert_eq!(rest, all[number + 1..]);
    }
    // Live events have the same ids in both processes.
    let mut clients = [one.listen("").await, other.listen("").await];
    app.created("bob").await;
    let [first, second] = &mut clients;
    assert_eq!(first.take(1).await, second.take(1).await);
}

#[tokio::test]
async fn nothing_is_shown_before_the_publisher_has_sent_it() {
    let (app, bus, mut queue) = app_and_queue().await;
    let feeding = feeding(&app).await;
    let mut client = feeding.listen("?from=start").await;
    let ada = app.created("ada").await;
    let publisher = bus.publisher(&app, PACE);
    let events = client.take(1).await;
    assert_eq!(changes(&events)[0].0, id(&ada));
    publisher.stop().await;
    assert_eq!(crate::bus::receive(&mut queue, 1).await.len(), 1);
    // While no publisher runs, an event of another stream moves no mark.
    let bob = app.created("bob").await;
    app.append("publisher-users-not", "Other", "{}").await;
    let last = app.log().await.last().unwrap().position;
    assert!(feeding.feed.reached() < Some(FeedPosition(Some(last))));
    let _publisher = bus.publisher(&app, PACE);
    assert_eq!(changes(&client.take(1).await)[0].0, id(&bob));
}

#[tokio::test]
async fn a_listener_selects_events_by_type_and_user() {
    let (app, bus, _queue) = app_and_queue().await;
    let _publisher = bus.publisher(&app, PACE);
    let (ada, bob) = (app.created("ada").await, app.created("bob").await);
    app.delete(&bob).await;
    app.patch(&ada, &json!({"given_name": "Augusta"})).await;
    until_published(&app).await;
    let feeding = feeding(&app).await;
    let (ada, bob) = (id(&ada), id(&bob));
    let of_ada = format!("?from=start&user={ada}");
    let selected = feeding.listen(&of_ada).await.take(2).await;
    let created = (ada, "user.created.v1", Some(0));
    assert_eq!(
        changes(&selected),
        [created, (ada, "user.patched.v1", Some(1))]
    );
    let types = "?from=start&type=user.patched.v1,user.deleted.v1";
    let mut selected = feeding.listen(types).await.take(3).await;
    // The deletion is in the stream of all tombstones too.
    let again = selected.remove(1);
    assert_eq!(changes(&[again]), [(bob, "user.deleted.v1", None)]);
    let deleted = (bob, "user.deleted.v1", Some(1));
    let patched = (ada, "user.patched.v1", Some(1));
    assert_eq!(changes(&selected), [deleted, patched]);
    let both = format!("?from=start&type=user.created.v1&user={bob}");
    let selected = feeding.listen(&both).await.take(1).await;
    assert_eq!(changes(&selected), [(bob, "user.created.v1", Some(0))]);
}

#[tokio::test]
async fn wrong_parameters_are_named_and_an_unknown_last_id_is_refused() {
    let app = spawn_app().await;
    let feeding = feeding(&app).await;
    let wrong = "?from=yesterday&type=user.created.v1,&user=ada";
    let refused = feeding.request(wrong, None).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let refused: Value = refused.json().await.unwrap();
    let named: Vec<_> = refused["errors"].as_array().unwrap().iter().collect();
    let named: Vec<_> = named.iter().map(|error| &error["parameter"]).collect();
    assert_eq!(named, ["from", "type", "user"]);
    let beyond = FeedPosition(Some(event_streams::Position {
        commit: u64::MAX / 2,
        prepare: u64::MAX / 2,
    }));
    for last in ["4711", "ä", &beyond.to_string()] {
        let refused = feeding.request("", Some(last)).await;
        assert_eq!(refused.status(), StatusCode::PRECONDITION_FAILED, "{last}");
        let refused: Value = refused.json().await.unwrap();
        assert_eq!(refused["type"], "urn:problem-type:unknown-position");
    }
    let head = reqwest::Client::new().head(format!("http://{}/events", feeding.address));
    let head = head.send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    until("the listener of HEAD is gone", async || {
        (feeding.feed.listeners() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_deletion_is_shown_although_the_users_stream_is_gone() {
    let (app, bus, _queue) = app_and_queue().await;
    let _publisher = bus.publisher(&app, PACE);
    let feeding = feeding(&app).await;
    let mut client = feeding.listen("").await;
    let ada = app.created("ada").await;
    client.take(1).await;
    let last = client.last.clone();
    drop(client);
    app.delete(&ada).await;
    let stream = format!("users-{}", id(&ada));
    app.store.tombstone(&stream, Expected::Any).await.unwrap();
    app.created("bob").await;
    until_published(&app).await;
    let events = feeding.go_on("", &last).await.take(3).await;
    // A scavenge removes the first of these with the user's stream, and leaves the second.
    let deleted = |sequence| (id(&ada), "user.deleted.v1", sequence);
    assert_eq!(changes(&events)[..2], [deleted(Some(1)), deleted(None)]);
}

#[tokio::test]
async fn an_event_that_only_newer_processes_know_leaves_no_gap() {
    let (app, bus, _queue) = app_and_queue().await;
    let _publisher = bus.publisher(&app, PACE);
    let feeding = feeding(&app).await;
    let mut client = feeding.listen("").await;
    let ada = app.created("ada").await;
    let stream = format!("users-{}", id(&ada));
    app.append(&stream, "UserPromoted.v9", "{}").await;
    app.append("usersfoo", "UserDeleted.v1", r#"{"id":"7"}"#)
        .await;
    app.append("users", "Other", "{}").await;
    app.created("bob").await;
    let events = client.take(3).await;
    let types: Vec<_> = events.iter().map(|event| event.event.as_str()).collect();
    let created = "user.created.v1";
    assert_eq!(types, [created, "user.unknown.v1", created]);
    assert_eq!(events[1].data["sequence"], 1);
}

/// A listener of all events of this feed.
async fn listener(feed: &Feed, start: Start) -> Result<Listener, FeedError> {
    let (selection, shutdown) = (Selection::default(), CancellationToken::new());
    Listener::start(feed.clone(), selection, start, shutdown).await
}

/// Listeners of this feed, each of which has heard its opening.
async fn listeners(feed: &Feed, count: usize) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for _ in 0..count {
        let mut one = listener(feed, Start::Now).await.unwrap();
        one.next().await.unwrap();
        listeners.push(one);
    }
    listeners
}

/// What the store is asked while each of so many listeners hears that a user was created.
async fn calls_while_listening(app: &App, bus: &Bus, feed: &Feed, count: usize) -> u64 {
    let mut listening = listeners(feed, count).await;
    let before = app.store_calls().await;
    let publisher = bus.publisher(app, PACE);
    let ada = app.created(&format!("ada{count}")).await;
    for listener in &mut listening {
        let text = listener.next().await.unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.contains(id(&ada)), "{text}");
    }
    publisher.stop().await;
    app.store_calls().await - before
}

#[tokio::test]
async fn five_thousand_listeners_cost_the_store_as_much_as_one() {
    let (app, bus, _queue) = app_and_queue().await;
    let feeding = feeding(&app).await;
    // The publisher itself makes more calls the longer it runs, so few of them may be counted.
    let one = calls_while_listening(&app, &bus, &feeding.feed, 1).await;
    let many = calls_while_listening(&app, &bus, &feeding.feed, 5_000).await;
    assert!(many < one + 1_000, "{one} calls for one, {many} for 5,000");
}

#[tokio::test]
async fn a_listener_that_does_not_keep_up_is_ended_and_goes_on_after_its_last_id() {
    let (app, bus, _queue) = app_and_queue().await;
    let feeding = feeding(&app).await;
    let mut slow = listeners(&feeding.feed, 1).await.remove(0);
    let mut behind = feeding.feed.reached().unwrap();
    let _publisher = bus.publisher(&app, PACE);
    // Each mark of the publisher is a batch, if something was published.
    let mut users = 0;
    let mut batches = 0;
    while batches < 70 {
        app.created(&format!("ada{users}")).await;
        users += 1;
        until_published(&app).await;
        until("the feed has it", async || {
            (feeding.feed.reached() > Some(behind)).then_some(())
        })
        .await;
        behind = feeding.feed.reached().unwrap();
        batches += 1;
    }
    let last = slow.next().await.unwrap();
    assert!(
        last.starts_with(b": this listener was too slow"),
        "{last:?}"
    );
    assert_eq!(slow.next().await, None);
    let again = listener(&feeding.feed, Start::After(slow.position()));
    let mut again = again.await.unwrap();
    let mut events = 0;
    while events < users {
        let text = again.next().await.unwrap();
        events += String::from_utf8_lossy(&text)
            .matches("user.created.v1\n")
            .count();
    }
    assert_eq!(events, users);
}

#[tokio::test]
async fn listeners_end_when_the_process_stops_and_a_gone_client_gives_its_place_back() {
    let app = spawn_app().await;
    let feeding = feeding(&app).await;
    let gone = feeding.listen("").await;
    let mut staying = feeding.listen("").await;
    assert_eq!(feeding.feed.listeners(), 2);
    drop(gone);
    // The process notices that a client is gone when it writes to it, or when the connection says so.
    until("one listener is left", async || {
        (feeding.feed.listeners() == 1).then_some(())
    })
    .await;
    feeding.shutdown.cancel();
    while staying.block().await.is_some() {}
    until("no listener is left", async || {
        (feeding.feed.listeners() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_a_mark_the_feed_is_unavailable() {
    let app = spawn_app().await;
    let feed = Feed::new(app.store.clone());
    let refused = listener(&feed, Start::Now).await;
    assert!(refused.is_err());
}
