//! Commands over the queue `users`: what is executed, when it is acknowledged, what is answered, and what is a dead letter.

use crate::bus::{Bus, Role, intake, receive};
use crate::support::{App, Counter, id, spawn_app, until, user};
use event_streams::Expected;
use futures::future::{BoxFuture, FutureExt as _};
use messaging::QueueKind;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use users_service::command::handler::CommandHandler;
use users_service::domain::{UserEvent, UserId};
use users_service::ids::{FetchError, IdService, IdSource};
use users_service::stored_event::{Fence, StoredEvent, TOMBSTONES, tombstone, user_stream};
use uuid::Uuid;

const DEAD: &str = "users.dead";
const REPLIES: &str = "replies";

/// An id service that the test controls.
#[derive(Default)]
struct Ids {
    counter: Counter,
    is_away: AtomicBool,
    hangs: AtomicBool,
    requests: AtomicUsize,
    requested: Notify,
}

struct Service(Arc<Ids>);

impl IdService for Service {
    fn fetch(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        let ids = &self.0;
        ids.requests.fetch_add(1, Ordering::SeqCst);
        ids.requested.notify_one();
        if ids.hangs.load(Ordering::SeqCst) {
            return futures::future::pending().boxed();
        }
        if ids.is_away.load(Ordering::SeqCst) {
            return async { Err(anyhow::anyhow!("away").into()) }.boxed();
        }
        ids.counter.fetch(count, after)
    }
}

impl Ids {
    fn hanging() -> Arc<Self> {
        let ids = Arc::new(Self::default());
        ids.hangs.store(true, Ordering::SeqCst);
        ids
    }

    fn away() -> Arc<Self> {
        let ids = Arc::new(Self::default());
        ids.is_away.store(true, Ordering::SeqCst);
        ids
    }

    fn handler(self: &Arc<Self>, app: &App) -> CommandHandler {
        let service = Service(Arc::clone(self));
        app.handler_with(IdSource::new(vec![Box::new(service)]))
    }
}

async fn app_and_bus() -> (App, Bus) {
    let (app, bus) = tokio::join!(spawn_app(), Bus::new());
    bus.declare(QueueKind::Plain).await;
    (app, bus)
}

fn text(command: &str, data: &Value) -> String {
    json!({"command": command, "data": data}).to_string()
}

fn create(username: &str) -> String {
    text("CreateUser", &user(username))
}

/// The properties of a message whose reply goes to `replies`.
fn answered(message_id: &str) -> Value {
    json!({"message_id": message_id, "reply_to": REPLIES, "correlation_id": message_id})
}

/// Sends messages one by one, and returns the reply to each.
struct Client<'a> {
    bus: &'a Bus,
    replies: messaging::Consumer,
}

impl<'a> Client<'a> {
    async fn of(bus: &'a Bus) -> Self {
        let replies = bus.inbox(REPLIES).await;
        Self { bus, replies }
    }

    async fn ask(&mut self, body: &str) -> Value {
        let key = Uuid::new_v4().to_string();
        self.ask_under(&key, body).await
    }

    async fn ask_under(&mut self, key: &str, body: &str) -> Value {
        self.bus.command(answered(key), body).await;
        let reply = receive(&mut self.replies, 1).await.remove(0);
        assert_eq!(reply.correlation_id(), Some(key));
        assert_eq!(reply.content_type(), Some("application/json"));
        serde_json::from_slice(&reply.body).unwrap()
    }
}

/// The bodies and the reasons of the dead letters.
async fn dead_letters(bus: &Bus) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let letters = bus.messages(DEAD).await.into_iter();
    let letters = letters.map(|dead| {
        let reason = &dead["properties"]["headers"]["reason"];
        (text(&dead["payload"]), text(reason))
    });
    letters.collect()
}

async fn until_dead(bus: &Bus, count: usize) -> Vec<(String, String)> {
    until("the dead letters are there", async || {
        let dead = dead_letters(bus).await;
        (dead.len() == count).then_some(dead)
    })
    .await
}

/// Stops the consumer, and checks that it has acknowledged every message. (Messages that it has taken are not shown before.)
async fn nothing_is_left(bus: &Bus, consumer: Role) {
    consumer.stop().await;
    let left = bus.messages("users").await;
    assert!(left.is_empty(), "{left:?}");
}

async fn usernames(app: &App) -> Vec<String> {
    let mut names = Vec::new();
    for event in app.log().await {
        if event.event_type == "UserCreated.v1" {
            let id = event.stream.strip_prefix("users-").unwrap();
            let read: Value = app.get(&json!({"id": id})).await.json().await.unwrap();
            names.push(read["username"].as_str().unwrap_or("deleted").to_owned());
        }
    }
    names
}

async fn until_created(app: &App, expected: &[&str]) {
    until(&format!("{expected:?} exist"), async || {
        let mut names = usernames(app).await;
        names.sort_unstable();
        (names == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn users_are_created_changed_and_deleted_by_messages() {
    let (app, bus) = app_and_bus().await;
    let consumer = bus.commands(&app).await;
    let mut client = Client::of(&bus).await;
    let created = client.ask(&create("ada")).await;
    let mut expected = user("ada");
    expected["id"] = created["id"].clone();
    let answer = app.get(&created).await;
    let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
    let reply = json!({"status": 201, "id": created["id"], "etag": etag});
    assert_eq!(created, reply);
    assert_eq!(answer.json::<Value>().await.unwrap(), expected);
    let id = &created["id"];
    let changes = json!({"id": id, "given_name": "Augusta"});
    let patched = client.ask(&text("PatchUser", &changes)).await;
    expected["given_name"] = json!("Augusta");
    let answer = app.get(&created).await;
    let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(patched, json!({"status": 204, "id": id, "etag": etag}));
    assert_eq!(answer.json::<Value>().await.unwrap(), expected);
    let deleted = client.ask(&text("DeleteUser", &json!({"id": id}))).await;
    assert_eq!(deleted, json!({"status": 204, "id": id}));
    assert!(!app.is_there(&created).await);
    let again = client.ask(&text("DeleteUser", &json!({"id": id}))).await;
    assert_eq!((&again["status"], &again["id"]), (&json!(404), id));
    assert_eq!(again["problem"]["type"], "urn:problem-type:not-found");
    nothing_is_left(&bus, consumer).await;
}

#[tokio::test]
async fn a_message_without_an_id_and_without_an_address_for_a_reply_is_executed() {
    let (app, bus) = app_and_bus().await;
    let consumer = bus.commands(&app).await;
    bus.command(json!({}), &create("ada")).await;
    until_created(&app, &["ada"]).await;
    consumer.ready().await;
}

#[tokio::test]
async fn the_queue_is_declared_as_clients_of_the_original_declare_it_unless_it_is_configured() {
    let (_, bus) = app_and_bus().await;
    let queue = bus.manage("GET", "queues", "users", &Value::Null).await;
    // RabbitMQ 4 adds the type of a queue that was declared without one.
    let mut arguments = queue["arguments"].as_object().unwrap().clone();
    arguments.retain(|name, value| name != "x-queue-type" || *value != "classic");
    assert!(arguments.is_empty(), "{arguments:?}");
    assert_eq!(
        (&queue["durable"], &queue["type"]),
        (&json!(true), &json!("classic"))
    );
    let (app, cluster) = tokio::join!(spawn_app(), Bus::new());
    let kind = (intake(), QueueKind::Log);
    let _consumer = cluster.consumer(&app, app.handler.clone(), kind).await;
    let queue = cluster.manage("GET", "queues", "users", &Value::Null).await;
    assert_eq!(queue["type"], "quorum");
    cluster.command(json!({}), &create("ada")).await;
    until_created(&app, &["ada"]).await;
}

fn create_under(id: &Value, username: &str) -> String {
    let mut data = user(username);
    data["id"] = id.clone();
    text("CreateUser", &data)
}

/// Ids that were used before: abandoned, erased, erased and hard-deleted, and one that only a tombstone names.
async fn used_ids(app: &App) -> Vec<Value> {
    let abandoned = UserId::new(70);
    let fence = Fence::RegistrationAbandoned.encode(Uuid::new_v4(), abandoned);
    let stream = user_stream(abandoned);
    let fenced = app.store.append(&stream, Expected::NoStream, vec![fence]);
    fenced.await.unwrap();
    let erased = app.created("eve").await;
    app.delete(&erased).await;
    let purged = app.created("ida").await;
    app.delete(&purged).await;
    let stream = format!("users-{}", id(&purged));
    app.store.tombstone(&stream, Expected::Any).await.unwrap();
    let tombstone = vec![tombstone(Uuid::new_v4(), UserId::new(90))];
    let appended = app.store.append(TOMBSTONES, Expected::Any, tombstone);
    appended.await.unwrap();
    vec![
        json!(70),
        erased["id"].clone(),
        purged["id"].clone(),
        json!(90),
    ]
}

#[tokio::test]
async fn an_id_is_taken_as_text_or_number_if_nobody_ever_had_it() {
    let (app, bus) = app_and_bus().await;
    let _consumer = bus.commands(&app).await;
    let mut client = Client::of(&bus).await;
    let (text, number) = ("1509466340062097408", 1_509_466_340_062_097_409_u64);
    let created = client.ask(&create_under(&json!(text), "ada")).await;
    assert_eq!(
        (&created["status"], &created["id"]),
        (&json!(201), &json!(text))
    );
    let created = client.ask(&create_under(&json!(number), "bob")).await;
    assert_eq!(created["id"], number.to_string());
    let mut used = used_ids(&app).await;
    used.push(json!(text));
    let events = app.log().await.len();
    for id in used {
        let refused = client.ask(&create_under(&id, "zoe")).await;
        assert_eq!(refused["status"], 409, "{id}");
        assert_eq!(refused["problem"]["type"], "urn:problem-type:id-used");
    }
    let after = app.log().await.len();
    assert_eq!(after, events, "a name was claimed for a used id");
    let not_ids = [json!(0), json!(-1), json!(1.5), json!("07"), json!("x")];
    for wrong in not_ids.into_iter().chain([json!(u64::MAX), json!(null)]) {
        let refused = client.ask(&create_under(&wrong, "zoe")).await;
        assert_eq!(refused["status"], 422, "{wrong}");
    }
}

#[tokio::test]
async fn a_creation_under_a_chosen_id_that_is_repeated_is_answered_as_the_first_time() {
    let (app, bus) = app_and_bus().await;
    let _consumer = bus.commands(&app).await;
    let mut client = Client::of(&bus).await;
    let with_id = |id: u64| create_under(&json!(id), "ada");
    for _ in 0..3 {
        let created = client.ask_under("k", &with_id(7)).await;
        assert_eq!(
            (&created["status"], &created["id"]),
            (&json!(201), &json!("7"))
        );
    }
    assert_eq!(client.ask_under("k", &with_id(8)).await["status"], 422);
    assert_eq!(client.ask_under("k", &create("ada")).await["status"], 422);
    for _ in 0..3 {
        let used = client.ask_under("other", &with_id(7)).await;
        assert_eq!(used["problem"]["type"], "urn:problem-type:id-used");
    }
    let deleted = client.ask(&text("DeleteUser", &json!({"id": 7}))).await;
    assert_eq!(deleted["status"], 204);
    assert_eq!(client.ask_under("k", &with_id(7)).await["status"], 410);
    assert_eq!(client.ask_under("other", &with_id(7)).await["status"], 409);
}

#[tokio::test]
async fn the_data_of_a_command_obeys_the_rules_of_http_and_a_refusal_is_no_dead_letter() {
    let (app, bus) = app_and_bus().await;
    let _consumer = bus.commands(&app).await;
    let mut client = Client::of(&bus).await;
    let pointers = |refused: &Value| {
        let errors = refused["problem"]["errors"].as_array().unwrap().iter();
        errors
            .map(|error| error["pointer"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let three = json!({"username": "e v e", "given_name": "", "other": 1});
    let refused = client.ask(&text("CreateUser", &three)).await;
    assert_eq!(refused["status"], 422);
    let expected = ["#/username", "#/given_name", "#/family_name", "#"];
    assert_eq!(pointers(&refused), expected);
    let refused = client.ask(&text("PatchUser", &three)).await;
    assert_eq!(
        pointers(&refused),
        ["#/id", "#/username", "#/given_name", "#"]
    );
    let refused = client
        .ask(&text("DeleteUser", &json!({"id": "1", "username": "ada"})))
        .await;
    assert_eq!(pointers(&refused), ["#"]);
    client.ask(&create("ada")).await;
    let taken = client.ask(&create("ada")).await;
    assert_eq!(taken["problem"]["type"], "urn:problem-type:username-taken");
    assert_eq!(taken.get("id"), None);
    assert!(dead_letters(&bus).await.is_empty());
    assert_eq!(usernames(&app).await, ["ada"]);
}

#[tokio::test]
async fn a_repeated_message_id_is_executed_once_whoever_takes_it() {
    let (app, bus) = app_and_bus().await;
    let _consumers = (bus.commands(&app).await, bus.commands(&app).await);
    let mut replies = bus.inbox(REPLIES).await;
    for _ in 0..20 {
        bus.command(answered("k"), &create("ada")).await;
    }
    let replies = receive(&mut replies, 20).await;
    let first: Value = serde_json::from_slice(&replies[0].body).unwrap();
    assert_eq!(first["status"], 201);
    for reply in &replies {
        let reply: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(reply, first);
    }
    assert_eq!(usernames(&app).await, ["ada"]);
}

#[tokio::test]
async fn a_message_id_and_an_idempotency_key_of_http_are_different_keys() {
    let (app, bus) = app_and_bus().await;
    let _consumer = bus.commands(&app).await;
    let mut client = Client::of(&bus).await;
    let post = app
        .request(reqwest::Method::POST, "/")
        .header("Idempotency-Key", "k");
    let by_http = post.json(&user("ada")).send().await.unwrap();
    assert_eq!(by_http.status(), StatusCode::CREATED);
    let by_queue = client.ask_under("k", &create("bob")).await;
    assert_eq!(by_queue["status"], 201);
    until_created(&app, &["ada", "bob"]).await;
}

#[tokio::test]
async fn an_event_of_a_message_names_its_sender_its_conversation_and_its_cause() {
    let (app, bus) = app_and_bus().await;
    let _consumer = bus.commands(&app).await;
    let (trace, other) = (Uuid::new_v4(), Uuid::new_v4());
    let parent = format!("00-{}-00f067aa0ba902b7-01", trace.simple());
    let traced = json!({"headers": {"traceparent": parent}, "correlation_id": other.to_string()});
    let correlated = json!({"correlation_id": other.to_string()});
    let personal = json!({"correlation_id": "Ada Lovelace"});
    let mut conversations = Vec::new();
    for (number, properties) in [traced, correlated, personal].into_iter().enumerate() {
        bus.command(properties, &create(&format!("ada{number}")))
            .await;
        let event = until("the user exists", async || {
            let created = app.log().await;
            let mut created = created
                .into_iter()
                .filter(|event| event.event_type == "UserCreated.v1");
            created.nth(number)
        })
        .await;
        let metadata: Value = serde_json::from_slice(&event.metadata).unwrap();
        assert_eq!(metadata["caller"], "queue");
        conversations.push(metadata["$correlationId"].as_str().unwrap().to_owned());
    }
    assert_eq!(conversations[..2], [trace.to_string(), other.to_string()]);
    assert!(Uuid::try_parse(&conversations[2]).is_ok());
}

#[tokio::test]
async fn a_message_stays_in_the_queue_while_the_store_is_away() {
    let (mut app, bus) = app_and_bus().await;
    let consumer = bus.commands(&app).await;
    consumer.ready().await;
    app.stop_store().await;
    bus.command(answered("k"), &create("ada")).await;
    consumer
        .unhealthy("1 waiting: a dependency of the command is unavailable")
        .await;
    consumer.stop().await;
    let waiting = bus.messages("users").await;
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0]["properties"]["message_id"], "k");
    assert!(dead_letters(&bus).await.is_empty());
}

#[tokio::test]
async fn a_message_of_a_killed_consumer_is_executed_by_the_next_one_and_only_once() {
    let (app, bus) = app_and_bus().await;
    for key in [json!({}), answered("k")] {
        let ids = Ids::hanging();
        let first = bus.commands_with(&app, ids.handler(&app)).await;
        let name = format!("ada{}", key.as_object().unwrap().len());
        bus.command(key, &create(&name)).await;
        ids.requested.notified().await;
        first.kill().await;
    }
    let _next = bus.commands(&app).await;
    until_created(&app, &["ada0", "ada3"]).await;
    assert_eq!(usernames(&app).await.len(), 2);
}

#[tokio::test]
async fn what_passes_by_itself_uses_up_no_attempt() {
    let (app, bus) = app_and_bus().await;
    bus.command(answered("k"), &create("ada")).await;
    let mut client = Client::of(&bus).await;
    for _ in 0..5 {
        let ids = Ids::away();
        let consumer = bus.commands_with(&app, ids.handler(&app)).await;
        until("some attempts failed", async || {
            (ids.requests.load(Ordering::SeqCst) >= 4).then_some(())
        })
        .await;
        consumer.unhealthy("1 waiting").await;
        consumer.stop().await;
    }
    let ids = Ids::away();
    let consumer = bus.commands_with(&app, ids.handler(&app)).await;
    consumer.unhealthy("1 waiting").await;
    ids.is_away.store(false, Ordering::SeqCst);
    until_created(&app, &["ada"]).await;
    consumer.ready().await;
    let reply = receive(&mut client.replies, 1).await.remove(0);
    assert_eq!(reply.correlation_id(), Some("k"));
    assert!(dead_letters(&bus).await.is_empty());
}

/// Takes messages, begins to execute one of them, and dies.
async fn take_and_die(app: &App, bus: &Bus) {
    let ids = Ids::hanging();
    let consumer = bus.commands_with(app, ids.handler(app)).await;
    ids.requested.notified().await;
    consumer.kill().await;
}

#[tokio::test]
async fn a_message_that_kills_the_process_three_times_is_a_dead_letter_and_no_other_is() {
    let (app, bus) = app_and_bus().await;
    let mut replies = bus.inbox(REPLIES).await;
    let ada = app.created("ada").await;
    let poison = create("poison");
    bus.command(answered("poison"), &poison).await;
    bus.command(answered("healthy"), &create("healthy")).await;
    for kills in 1..=3 {
        take_and_die(&app, &bus).await;
        if kills == 1 {
            let changes = json!({"id": ada["id"], "given_name": "Augusta"});
            bus.command(json!({}), &text("PatchUser", &changes)).await;
        }
        assert!(dead_letters(&bus).await.is_empty());
    }
    let consumer = bus.commands(&app).await;
    let dead = until_dead(&bus, 1).await;
    let reason = "it was delivered three times without an outcome";
    assert_eq!(dead, [(poison.clone(), reason.to_owned())]);
    until_created(&app, &["ada", "healthy"]).await;
    until("ada is changed", async || {
        let read: Value = app.get(&ada).await.json().await.unwrap();
        (read["given_name"] == "Augusta").then_some(())
    })
    .await;
    for reply in receive(&mut replies, 2).await {
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        let expected = if reply.correlation_id() == Some("poison") {
            500
        } else {
            201
        };
        assert_eq!(answer["status"], expected);
    }
    consumer.ready().await;

    // Moved back by an operator, it has three more deliveries, under its own id.
    let letter = bus.take(DEAD).await.remove(0);
    assert_eq!(letter["properties"]["message_id"], "poison");
    bus.command(answered("poison"), &poison).await;
    until_created(&app, &["ada", "healthy", "poison"]).await;
}

#[tokio::test]
async fn a_message_about_a_user_who_cannot_be_read_becomes_a_dead_letter_and_holds_up_nobody() {
    let (app, bus) = app_and_bus().await;
    let ada = app.created("ada").await;
    let stream = format!("users-{}", id(&ada));
    app.append(&stream, "UserPromoted.v9", "{}").await;
    let parts = (intake(), QueueKind::Plain);
    let consumer = bus.command_consumer(&app, app.handler.clone(), parts).await;
    let _consumer = Bus::consume(consumer.giving_up_after(Duration::ZERO));
    let changes = text(
        "PatchUser",
        &json!({"id": ada["id"], "given_name": "Augusta"}),
    );
    bus.command(json!({}), &changes).await;
    bus.command(json!({}), &create("bob")).await;
    until("bob exists", async || {
        let created = app.log().await.into_iter();
        let created = created.filter(|event| event.event_type == "UserCreated.v1");
        (created.count() == 2).then_some(())
    })
    .await;
    let dead = until_dead(&bus, 1).await;
    let reason = "unknown event type UserPromoted.v9";
    assert_eq!(dead, [(changes, reason.to_owned())]);
}

#[tokio::test]
async fn what_is_not_a_command_goes_to_the_dead_queue_with_a_reason_for_seven_days() {
    let (app, bus) = app_and_bus().await;
    let consumer = bus.commands(&app).await;
    let malformed = r#"the message is not {"command":"…","data":{…}} in JSON"#;
    let unknown = "the command is unknown";
    let large = create(&"x".repeat(16 * 1024));
    let mut expected = Vec::new();
    for (body, reason) in [
        ("garbage", malformed),
        ("", malformed),
        ("[]", malformed),
        (r#"{"command":"CreateUser"}"#, malformed),
        (r#"{"data":{}}"#, malformed),
        (r#"{"command":"CreateUser","data":[]}"#, malformed),
        (r#"{"command":"CreateUser","data":null}"#, malformed),
        (r#"{"command":1,"data":{}}"#, malformed),
        (r#"{"command":"CreateUser","data":{},"more":1}"#, malformed),
        (
            r#"{"command":"CreateUser","command":"CreateUser","data":{}}"#,
            malformed,
        ),
        (r#"{"command":"createuser","data":{}}"#, unknown),
        (r#"{"command":"Ada Lovelace","data":{}}"#, unknown),
        (&large, "the message has more than 16384 bytes"),
    ] {
        bus.command(json!({}), body).await;
        expected.push((body.to_owned(), reason.to_owned()));
    }
    let key =
        "the message-id is refused: an idempotency key has 1 to 255 printable ASCII characters";
    for wrong in ["é", "\n"] {
        bus.command(json!({"message_id": wrong}), &create("ada"))
            .await;
        expected.push((create("ada"), key.to_owned()));
    }
    let mut dead = until_dead(&bus, expected.len()).await;
    dead.sort_unstable();
    expected.sort_unstable();
    assert_eq!(dead, expected);
    let queue = bus.manage("GET", "queues", DEAD, &Value::Null).await;
    assert_eq!(
        queue["arguments"]["x-message-ttl"],
        7 * 24 * 60 * 60 * 1_000
    );
    consumer.ready().await;
    assert!(app.log().await.is_empty());
}

#[tokio::test]
async fn a_plain_command_is_not_executed_where_plain_commands_are_refused() {
    let (app, bus) = app_and_bus().await;
    let strict = (intake().accepting_plain(false), QueueKind::Plain);
    let _consumer = bus.consumer(&app, app.handler.clone(), strict).await;
    let mut client = Client::of(&bus).await;
    let refused = client.ask(&create("ada")).await;
    assert_eq!(
        refused["problem"]["type"],
        "urn:problem-type:unsupported-media-type"
    );
    let dead = until_dead(&bus, 1).await;
    let reason = "plain commands are refused (COMMANDS_PLAIN=refuse)";
    assert_eq!(dead, [(create("ada"), reason.to_owned())]);
    assert!(app.log().await.is_empty());
}

#[tokio::test]
async fn a_reply_never_has_a_name_and_never_goes_to_a_queue_of_ours() {
    let (app, bus) = app_and_bus().await;
    let _consumer = bus.commands(&app).await;
    let _ids = bus.inbox("uuids").await;
    let mut client = Client::of(&bus).await;
    let name = |word: &str| format!("{word}{}", Uuid::new_v4().simple());
    let data = json!({"username": name("u"), "given_name": name("G"), "family_name": name("F")});
    let names: Vec<_> = data
        .as_object()
        .unwrap()
        .values()
        .map(|name| name.as_str().unwrap())
        .collect();
    let mut with_names_as_members = data.clone();
    for name in &names {
        with_names_as_members[*name] = json!(1);
    }
    let mut wrong = data.clone();
    wrong["username"] = json!(format!("{} {}", names[0], names[1]));
    let as_command = json!({"command": names[0], "data": {}}).to_string();
    for body in [
        text("CreateUser", &data),
        text("CreateUser", &data),
        text("CreateUser", &with_names_as_members),
        text("CreateUser", &wrong),
        text("PatchUser", &data),
        as_command.clone(),
    ] {
        let reply = client.ask(&body).await.to_string();
        assert!(names.iter().all(|name| !reply.contains(name)), "{reply}");
    }
    assert_eq!(until_dead(&bus, 1).await[0].0, as_command);
    bus.take(DEAD).await;

    for (number, ours) in ["users", DEAD, "uuids", "users.directory.g1.0"]
        .into_iter()
        .enumerate()
    {
        bus.command(json!({"reply_to": ours}), &create(&format!("ada{number}")))
            .await;
    }
    until("all four are created", async || {
        (usernames(&app).await.len() == 5).then_some(())
    })
    .await;
    // A reply in `users` would come before this one, and be a dead letter.
    client.ask("garbage").await;
    let dead = until_dead(&bus, 1).await;
    assert_eq!(dead[0].0, "garbage");
    let queue = |name| bus.manage("GET", "queues", name, &Value::Null);
    assert_eq!(queue("uuids").await["messages"].as_u64().unwrap_or(0), 0);
}

#[tokio::test]
async fn a_strange_address_for_a_reply_harms_nobody() {
    let (app, bus) = app_and_bus().await;
    let consumer = bus.commands(&app).await;
    let mut client = Client::of(&bus).await;
    let addresses = [
        "",
        "nobody",
        "amq.rabbitmq.reply-to.x",
        "amq.rabbitmq.reply-to.AAAA",
    ];
    for (number, address) in addresses.into_iter().enumerate() {
        let properties = json!({"reply_to": address, "message_id": format!("m{number}")});
        bus.command(properties, &create(&format!("ada{number}")))
            .await;
        let answer = client.ask(&create(&format!("bob{number}"))).await;
        assert_eq!(answer["status"], 201);
    }
    until("all are created", async || {
        (usernames(&app).await.len() == 8).then_some(())
    })
    .await;
    nothing_is_left(&bus, consumer).await;
}

#[tokio::test]
async fn commands_that_name_one_user_are_executed_in_the_order_of_the_queue() {
    const CHANGES: usize = 60;
    let (app, bus) = app_and_bus().await;
    let (ada, bob) = (app.created("ada").await, app.created("bob").await);
    let names: Vec<_> = (0..CHANGES).map(|number| format!("Name{number}")).collect();
    for name in &names {
        for user in [&ada, &bob] {
            let changes = json!({"id": user["id"], "given_name": name});
            bus.command(json!({}), &text("PatchUser", &changes)).await;
        }
    }
    let zoe = json!({"id": 77, "username": "zoe", "given_name": "Zoe", "family_name": "Z"});
    bus.command(json!({}), &text("CreateUser", &zoe)).await;
    bus.command(
        json!({}),
        &text("PatchUser", &json!({"id": 77, "given_name": "Zoë"})),
    )
    .await;
    let _consumer = bus.commands(&app).await;
    for user in [&ada, &bob] {
        let stream = format!("users-{}", id(user));
        until("all changes are made", async || {
            (app.events(&stream).await.len() == 1 + CHANGES).then_some(())
        })
        .await;
        assert_eq!(given_names(&app, user).await, names);
    }
    until("zoe is changed", async || {
        let read: Value = app.get(&json!({"id": "77"})).await.json().await.unwrap();
        (read["given_name"] == "Zoë").then_some(())
    })
    .await;
    assert!(dead_letters(&bus).await.is_empty());
}

/// The given names that the user has had since the creation, in order.
async fn given_names(app: &App, user: &Value) -> Vec<String> {
    let key = crate::erasing::key(app, user).await;
    let found = app.keys.find(key).await.unwrap();
    let users_service::privacy::subject_keys::Lookup::Found(key) = found else {
        panic!("the user has no key");
    };
    let events = app.events(&format!("users-{}", id(user))).await;
    let changes = events.iter().skip(1).map(|event| {
        let event = StoredEvent::decode(event).unwrap().open(&key).unwrap();
        let UserEvent::Patched { changes, .. } = event else {
            panic!("{event:?} is no change");
        };
        changes.given_name.unwrap().personal().reveal().clone()
    });
    changes.collect()
}

#[tokio::test]
async fn a_command_that_waits_holds_up_no_command_for_another_user() {
    let (app, bus) = app_and_bus().await;
    let ada = app.created("ada").await;
    let ids = Ids::away();
    let consumer = bus.commands_with(&app, ids.handler(&app)).await;
    for number in 0..40 {
        bus.command(json!({}), &create(&format!("bob{number}")))
            .await;
    }
    consumer.unhealthy("waiting").await;
    let mut client = Client::of(&bus).await;
    let changes = json!({"id": ada["id"], "given_name": "Augusta"});
    let patched = client.ask(&text("PatchUser", &changes)).await;
    assert_eq!(patched["status"], 204);
    ids.is_away.store(false, Ordering::SeqCst);
    until("all are created", async || {
        (usernames(&app).await.len() == 41).then_some(())
    })
    .await;
    consumer.ready().await;
}

async fn deletes(bus: &Bus, consumer: &Role, queue: &str) {
    bus.manage("DELETE", "queues", queue, &Value::Null).await;
    until(&format!("{queue} is declared again"), async || {
        let queues = bus.manage("GET", "queues", "", &Value::Null).await;
        let mut queues = queues.as_array().unwrap().iter();
        queues.any(|one| one["name"] == queue).then_some(())
    })
    .await;
    consumer.ready().await;
}

#[tokio::test]
async fn a_deleted_queue_of_commands_is_declared_again() {
    let (app, bus) = app_and_bus().await;
    let consumer = bus.commands(&app).await;
    consumer.ready().await;
    let mut client = Client::of(&bus).await;
    deletes(&bus, &consumer, "users").await;
    assert_eq!(client.ask(&create("ada")).await["status"], 201);
    deletes(&bus, &consumer, DEAD).await;
    assert_eq!(client.ask("garbage").await["status"], 400);
    until_dead(&bus, 1).await;
    assert_eq!(client.ask(&create("bob")).await["status"], 201);
}
