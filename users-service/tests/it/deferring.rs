//! Commands that are executed later, because their clients prefer not to wait (`Prefer: respond-async`).

use crate::bus::{Bus, command_sender, intake};
use crate::support::{App, id, spawn_app, until, user};
use event_streams::Expected;
use messaging::QueueKind;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use users_service::clock::Clock;

const DAY: u64 = 24 * 60 * 60 * 1_000;
const DEAD: &str = "users.dead";
const SEALED: &str = "application/vnd.users-service.sealed-command";

/// Routes whose clients may prefer asynchronous answers, and a queue that nobody consumes yet.
async fn deferring() -> (App, Bus) {
    let (app, bus) = tokio::join!(spawn_app(), Bus::new());
    bus.declare(QueueKind::Plain).await;
    let app = app.deferring(command_sender(bus.account("users-command-api")));
    (app, bus)
}

async fn later(app: &App, method: Method, path: &str, body: &Value) -> Response {
    let request = app.request(method, path).header("Prefer", "respond-async");
    request.json(body).send().await.unwrap()
}

async fn later_under(app: &App, key: &str, body: &Value) -> Response {
    let request = app
        .request(Method::POST, "/")
        .header("Prefer", "respond-async");
    let request = request.header("Idempotency-Key", key);
    request.json(body).send().await.unwrap()
}

/// The path of the status of a command that was accepted.
fn link(answer: &Response) -> String {
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert_eq!(answer.headers()["preference-applied"], "respond-async");
    answer.headers()["location"].to_str().unwrap().to_owned()
}

async fn status(app: &App, link: &str) -> (u16, Value) {
    let answer = app.request(Method::GET, link).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn pending() -> (u16, Value) {
    (200, json!({"status": "pending"}))
}

async fn until_not_pending(app: &App, link: &str) -> (u16, Value) {
    until("the command has an outcome", async || {
        let status = status(app, link).await;
        (status != pending()).then_some(status)
    })
    .await
}

/// The `ETag` and the body of `GET`.
async fn read(app: &App, user: &Value) -> (String, Value) {
    let answer = app.get(user).await;
    let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
    (etag, answer.json().await.unwrap())
}

async fn number_of_users(app: &App) -> usize {
    let log = app.log().await;
    let created = log
        .iter()
        .filter(|event| event.event_type == "UserCreated.v1");
    created.count()
}

#[tokio::test]
async fn a_command_is_pending_until_it_is_done_and_its_status_has_the_result() {
    let (app, bus) = deferring().await;
    let accepted = later(&app, Method::POST, "/", &user("ada")).await;
    let created = link(&accepted);
    assert_eq!(accepted.json::<Value>().await.unwrap(), pending().1);
    assert_eq!(status(&app, &created).await, pending());
    assert_eq!(number_of_users(&app).await, 0);
    let _consumer = bus.commands(&app).await;
    let (code, done) = until_not_pending(&app, &created).await;
    let ada = json!({"id": done["result"]["id"]});
    let mut expected = user("ada");
    expected["id"] = ada["id"].clone();
    let (etag, read) = read(&app, &ada).await;
    assert_eq!(read, expected);
    let result = json!({"status": 201, "id": ada["id"], "etag": etag});
    let expected = json!({"status": "done", "result": result});
    assert_eq!((code, &done), (200, &expected));

    let path = format!("/{}", id(&ada));
    let augusta = json!({"given_name": "Augusta"});
    let patched = link(&later(&app, Method::PATCH, &path, &augusta).await);
    let done = until_not_pending(&app, &patched).await.1;
    let (etag, read) = self::read(&app, &ada).await;
    assert_eq!(read["given_name"], "Augusta");
    let result = json!({"status": 204, "id": ada["id"], "etag": etag});
    assert_eq!(done, json!({"status": "done", "result": result}));
    let deleted = link(&later(&app, Method::DELETE, &path, &json!(null)).await);
    let result = json!({"status": "done", "result": {"status": 204, "id": ada["id"]}});
    assert_eq!(until_not_pending(&app, &deleted).await, (200, result));
    assert!(!app.is_there(&ada).await);
}

#[tokio::test]
async fn a_refused_command_has_the_problem_in_its_status() {
    let (app, bus) = deferring().await;
    app.created("ada").await;
    let _consumer = bus.commands(&app).await;
    let taken = link(&later(&app, Method::POST, "/", &user("ADA")).await);
    let (code, refused) = until_not_pending(&app, &taken).await;
    assert_eq!((code, &refused["status"]), (200, &json!("refused")));
    assert_eq!(
        refused["problem"]["type"],
        "urn:problem-type:username-taken"
    );
    assert_eq!(refused["problem"]["status"], 409);
    assert!(!refused.to_string().contains("ADA"));
    let nobody = link(&later(&app, Method::PATCH, "/12345", &json!({"given_name": "A."})).await);
    let (_, refused) = until_not_pending(&app, &nobody).await;
    assert_eq!(refused["problem"]["status"], 404);
}

#[tokio::test]
async fn the_condition_of_a_command_is_checked_when_it_is_executed() {
    let (app, bus) = deferring().await;
    let created = app.create(&user("ada")).await;
    let etag = created.headers()["etag"].clone();
    let ada: Value = created.json().await.unwrap();
    let of_ada = format!("/{}", id(&ada));
    let mut links = Vec::new();
    for name in ["Augusta", "A."] {
        let patch = app
            .request(Method::PATCH, &of_ada)
            .header("Prefer", "respond-async");
        let patch = patch.header("If-Match", etag.clone());
        let accepted = patch
            .json(&json!({"given_name": name}))
            .send()
            .await
            .unwrap();
        links.push(link(&accepted));
    }
    let _consumer = bus.commands(&app).await;
    let first = until_not_pending(&app, &links[0]).await.1;
    assert_eq!(first["status"], "done");
    let second = until_not_pending(&app, &links[1]).await.1;
    assert_eq!(second["problem"]["status"], 412);
}

#[tokio::test]
async fn a_command_is_validated_before_it_is_accepted() {
    let (app, bus) = deferring().await;
    let wrong = later(&app, Method::POST, "/", &json!({"username": "x"})).await;
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let malformed = app
        .request(Method::POST, "/")
        .header("Prefer", "respond-async");
    let malformed = malformed
        .header("content-type", "application/json")
        .body("{");
    assert_eq!(
        malformed.send().await.unwrap().status(),
        StatusCode::BAD_REQUEST
    );
    assert!(bus.messages("users").await.is_empty());
}

#[tokio::test]
async fn without_the_preference_or_without_a_queue_a_command_is_executed_at_once() {
    let (app, bus) = deferring().await;
    let other = app.request(Method::POST, "/").header("Prefer", "wait=10");
    let created = other.json(&user("ada")).send().await.unwrap();
    assert_eq!(created.status(), StatusCode::CREATED);
    assert_eq!(created.headers().get("preference-applied"), None);
    assert!(bus.messages("users").await.is_empty());
    let app = spawn_app().await;
    let created = later(&app, Method::POST, "/", &user("ada")).await;
    assert_eq!(created.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn an_unknown_status_is_404_also_if_it_looks_like_a_known_one() {
    let (app, _bus) = deferring().await;
    let known = link(&later(&app, Method::POST, "/", &user("ada")).await);
    let (path, text) = known.rsplit_once('/').unwrap();
    let reversed: String = text.chars().rev().collect();
    let other = if &text[20..21] == "A" { "B" } else { "A" };
    let altered = [&text[..20], other, &text[21..]].concat();
    for unknown in [
        reversed.as_str(),
        &altered,
        &text[1..],
        "",
        "x",
        "1509466340062097408",
        "%c3%a9",
    ] {
        let answer = app.request(Method::GET, &format!("{path}/{unknown}"));
        assert_eq!(
            answer.send().await.unwrap().status(),
            StatusCode::NOT_FOUND,
            "{unknown}"
        );
    }
    assert_eq!(status(&app, &known).await, pending());
    let allowed = app.request(Method::POST, &known).send().await.unwrap();
    assert_eq!(allowed.status(), StatusCode::METHOD_NOT_ALLOWED);
    let head = app.request(Method::HEAD, &known).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_status_survives_a_restart_and_ends_with_the_memory_of_the_command() {
    let (app, bus) = deferring().await;
    let time = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&time);
    let clock = Clock::new(move || shown.load(Ordering::SeqCst));
    let other = clock.clone();
    let app = app.with_handler(|handler| handler.with_clock(other));
    let app = app.deferring(command_sender(bus.broker.clone()).with_clock(clock.clone()));
    let never = link(&later(&app, Method::POST, "/", &user("ada")).await);
    bus.take("users").await;
    let done = link(&later(&app, Method::POST, "/", &user("bob")).await);
    let parts = (intake().with_clock(clock), QueueKind::Plain);
    let _consumer = bus.consumer(&app, app.handler.clone(), parts).await;
    let result = until_not_pending(&app, &done).await;
    assert_eq!(result.1["status"], "done");

    let restarted = app.with_handler(|handler| handler);
    assert_eq!(status(&restarted, &done).await, result);
    time.store(30 * DAY - 1, Ordering::SeqCst);
    assert_eq!(status(&restarted, &never).await, pending());
    time.store(30 * DAY, Ordering::SeqCst);
    assert_eq!(status(&restarted, &never).await.0, 404);
    assert_eq!(status(&restarted, &done).await, result);
}

#[tokio::test]
async fn after_the_erasure_a_status_says_gone_and_that_of_the_deletion_says_done() {
    let (app, bus) = deferring().await;
    let _consumer = bus.commands(&app).await;
    let created = link(&later(&app, Method::POST, "/", &user("ada")).await);
    let done = until_not_pending(&app, &created).await.1;
    let ada = json!({"id": done["result"]["id"]});
    let path = format!("/{}", id(&ada));
    let changes = json!({"given_name": "Augusta"});
    let patched = link(&later(&app, Method::PATCH, &path, &changes).await);
    until_not_pending(&app, &patched).await;
    let unchanged = link(&later(&app, Method::PATCH, &path, &changes).await);
    assert_eq!(
        until_not_pending(&app, &unchanged).await,
        status(&app, &patched).await
    );
    let deleted = link(&later(&app, Method::DELETE, &path, &json!(null)).await);
    until_not_pending(&app, &deleted).await;
    let check = async || {
        for gone in [&created, &patched, &unchanged] {
            let (code, problem) = status(&app, gone).await;
            assert_eq!(
                (code, &problem["type"]),
                (410, &json!("urn:problem-type:gone"))
            );
        }
        let (code, done) = status(&app, &deleted).await;
        assert_eq!((code, &done["status"]), (200, &json!("done")));
    };
    check().await;
    let stream = format!("users-{}", id(&ada));
    app.store.tombstone(&stream, Expected::Any).await.unwrap();
    check().await;
    let memories = app.whole_log().await.into_iter();
    let memories: Vec<_> = memories
        .filter(|event| event.event_type == "CommandAccepted.v1")
        .collect();
    for memory in memories {
        app.store
            .tombstone(&memory.stream, Expected::Any)
            .await
            .unwrap();
    }
    for link in [&created, &patched, &unchanged, &deleted] {
        assert_eq!(status(&app, link).await.0, 410);
    }
}

/// A deletion in the queue, which a process accepted when the user's last revision was this one, and has not decided yet. Returns
/// the link to its status and the stream that remembers it.
async fn undecided_deletion(
    (app, bus): (&App, &Bus),
    user: &Value,
    revision: Option<u64>,
) -> (String, String) {
    let path = format!("/{}", id(user));
    let link = link(&later(app, Method::DELETE, &path, &json!(null)).await);
    let message = bus.messages("users").await.remove(0);
    let command = message["properties"]["message_id"].as_str().unwrap();
    let memory = format!("command-{command}");
    let mut accepted = json!({"command_id": uuid::Uuid::new_v4(), "user_id": id(user)});
    if let Some(revision) = revision {
        accepted["revision"] = revision.into();
    }
    app.append(&memory, "CommandAccepted.v1", &accepted.to_string())
        .await;
    (link, memory)
}

#[tokio::test]
async fn the_status_of_a_deletion_is_not_contradicted_by_its_owner() {
    let (app, bus) = deferring().await;
    let ada = app.created("ada").await;
    let (link, memory) = undecided_deletion((&app, &bus), &ada, Some(0)).await;
    assert_eq!(status(&app, &link).await, pending());
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    let done = status(&app, &link).await;
    let result = json!({"status": 204, "id": ada["id"]});
    assert_eq!(done, (200, json!({"status": "done", "result": result})));
    // Its owner can decide nothing else any more, for instance that a condition was not met.
    let last = app.events(&memory).await.pop().unwrap();
    assert_eq!(
        (last.revision, last.event_type.as_str()),
        (1, "CommandDone.v1")
    );
    // Commands for one user are executed in order.
    let path = format!("/{}", id(&ada));
    let later = later(&app, Method::PATCH, &path, &json!({"given_name": "A."})).await;
    let later = self::link(&later);
    let _consumer = bus.commands(&app).await;
    until_not_pending(&app, &later).await;
    assert_eq!(status(&app, &link).await, done);
}

#[tokio::test]
async fn a_deletion_that_was_accepted_after_the_erasure_is_pending_until_somebody_decides_it() {
    let (app, bus) = deferring().await;
    let ada = app.created("ada").await;
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    let (link, _) = undecided_deletion((&app, &bus), &ada, None).await;
    assert_eq!(status(&app, &link).await, pending());
    let _consumer = bus.commands(&app).await;
    // The consumer cannot know what the process found that had accepted the deletion, but the user is deleted.
    let done = until_not_pending(&app, &link).await;
    assert_eq!(done.1["result"]["status"], 204, "{done:?}");
    assert_eq!(status(&app, &link).await, done);
}

#[tokio::test]
async fn with_the_broker_away_or_hanging_a_command_is_executed_at_once() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = hanging.local_addr().unwrap().port();
    for port in [1, port] {
        let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        let broker = messaging::Broker::connect(&url, "test").unwrap();
        let app = spawn_app().await;
        let app = app.deferring(command_sender(broker));
        for name in ["ada", "bob"] {
            let created = later(&app, Method::POST, "/", &user(name)).await;
            assert_eq!(created.status(), StatusCode::CREATED);
            assert_eq!(created.headers().get("preference-applied"), None);
        }
    }
}

#[tokio::test]
async fn a_queue_that_is_missing_is_declared_for_the_next_command() {
    let (app, bus) = deferring().await;
    link(&later(&app, Method::POST, "/", &user("ada")).await);
    bus.manage("DELETE", "queues", "users", &Value::Null).await;
    let number = AtomicU64::new(0);
    until("a command is accepted again", async || {
        let name = format!("bob{}", number.fetch_add(1, Ordering::SeqCst));
        let answer = later(&app, Method::POST, "/", &user(&name)).await;
        match answer.status() {
            StatusCode::ACCEPTED => Some(()),
            executed => {
                assert_eq!(executed, StatusCode::CREATED);
                None
            }
        }
    })
    .await;
    assert_eq!(bus.messages("users").await.len(), 1);
}

/// A way to the broker on which answers can be held back.
struct Way {
    url: String,
    is_mute: watch::Sender<bool>,
}

impl Way {
    async fn to(bus: &Bus) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().to_string();
        let (login, place) = bus.url().split_once('@').unwrap();
        let (broker, vhost) = place.split_once('/').unwrap();
        let (is_mute, mute) = watch::channel(false);
        tokio::spawn(carry(listener, broker.to_owned(), mute));
        let url = format!("{login}@{here}/{vhost}");
        Self { url, is_mute }
    }
}

async fn carry(listener: TcpListener, broker: String, mute: watch::Receiver<bool>) {
    while let Ok((client, _)) = listener.accept().await {
        let (mut from_client, mut to_client) = client.into_split();
        let server = TcpStream::connect(&broker).await.unwrap();
        let (mut from_server, mut to_server) = server.into_split();
        tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
        let mut mute = mute.clone();
        tokio::spawn(async move {
            let mut bytes = vec![0; 4096];
            while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                mute.wait_for(|mute| !mute).await.unwrap();
                to_client.write_all(&bytes[..read]).await.unwrap();
            }
        });
    }
}

#[tokio::test]
async fn a_command_that_the_broker_confirms_too_late_is_executed_at_once_and_only_once() {
    let (app, bus) = deferring().await;
    let ada = app.created("ada").await;
    let path = format!("/{}", id(&ada));
    let way = Way::to(&bus).await;
    let broker = messaging::Broker::connect(&way.url, "test").unwrap();
    let app = app.deferring(command_sender(broker));
    let king = json!({"family_name": "King"});
    link(&later(&app, Method::PATCH, &path, &king).await);
    way.is_mute.send_replace(true);
    let augusta = json!({"given_name": "Augusta"});
    let executed = later(&app, Method::PATCH, &path, &augusta).await;
    assert_eq!(executed.status(), StatusCode::NO_CONTENT);
    until("the command is in the queue all the same", async || {
        (bus.messages("users").await.len() == 2).then_some(())
    })
    .await;
    app.patch(&ada, &json!({"given_name": "A."})).await;
    let _consumer = bus.commands(&app).await;
    // A later command for the same user shows that the earlier ones were executed.
    let rename = json!({"command": "PatchUser", "data": {"id": ada["id"], "username": "lady"}});
    bus.command(json!({}), &rename.to_string()).await;
    let read = until("the last command is executed", async || {
        let read: Value = app.get(&ada).await.json().await.unwrap();
        (read["username"] == "lady").then_some(read)
    })
    .await;
    assert_eq!(read["given_name"], "A.");
    assert_eq!(read["family_name"], "King");
}

#[tokio::test]
async fn a_repeated_command_is_queued_again_while_it_is_pending_and_answered_once_it_is_not() {
    let (app, bus) = deferring().await;
    let links = [
        link(&later_under(&app, "k", &user("ada")).await),
        link(&later_under(&app, "k", &user("ada")).await),
    ];
    assert_eq!(bus.messages("users").await.len(), 2);
    let _consumer = bus.commands(&app).await;
    let done = until_not_pending(&app, &links[0]).await;
    assert_eq!(until_not_pending(&app, &links[1]).await, done);
    let again = later_under(&app, "k", &user("ada")).await;
    assert_eq!(again.status(), StatusCode::CREATED);
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    let reused = later_under(&app, "k", &user("bob")).await;
    assert_eq!(reused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(number_of_users(&app).await, 1);
}

#[tokio::test]
async fn a_message_of_ours_shows_no_name_and_no_key_of_its_caller() {
    let (app, bus) = deferring().await;
    let body = json!({"username": "canary1", "given_name": "Canary2", "family_name": "Canary3"});
    let accepted = later_under(&app, "canary4", &body).await;
    let link = link(&accepted);
    let message = bus.take("users").await.remove(0);
    assert_eq!(message["properties"]["content_type"], SEALED);
    let bytes = base64(message["payload"].as_str().unwrap());
    let shown = format!("{message} {} {link}", String::from_utf8_lossy(&bytes)).to_lowercase();
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.len() > 500);
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

/// Puts a sealed message back, with other properties.
async fn put_back(bus: &Bus, message: &Value, id: &str, content_type: &str, payload: &str) {
    assert_eq!(message["payload_encoding"], "base64");
    let properties = json!({"message_id": id, "content_type": content_type});
    bus.put("users", properties, ("base64", payload)).await;
}

#[tokio::test]
async fn a_sealed_command_that_was_altered_or_is_too_old_is_a_dead_letter() {
    let (app, bus) = deferring().await;
    link(&later(&app, Method::POST, "/", &user("ada")).await);
    let message = bus.take("users").await.remove(0);
    let id = message["properties"]["message_id"].as_str().unwrap();
    let payload = message["payload"].as_str().unwrap();
    let other_id = "0".repeat(64);
    put_back(&bus, &message, &other_id, SEALED, payload).await;
    put_back(
        &bus,
        &message,
        id,
        SEALED,
        &payload.replacen(&payload[..4], "AAAA", 1),
    )
    .await;
    put_back(&bus, &message, id, "application/json", payload).await;
    let consumer = bus.commands(&app).await;
    let reasons = async |count| {
        let dead = until("they are dead letters", async || {
            let dead = bus.messages(DEAD).await;
            (dead.len() == count).then_some(dead)
        })
        .await;
        let reason = |dead: &Value| dead["properties"]["headers"]["reason"].clone();
        let mut reasons: Vec<_> = dead.iter().map(reason).map(|one| one.to_string()).collect();
        reasons.sort_unstable();
        reasons
    };
    let does_not_open = "\"the sealed command does not open\"";
    let reasons_of_three = reasons(3).await;
    assert_eq!(reasons_of_three[1..], [does_not_open, does_not_open][..]);
    consumer.stop().await;
    bus.take(DEAD).await;

    put_back(&bus, &message, id, SEALED, payload).await;
    let next_month = Clock::new(|| Clock::of_machine().now() + 31 * DAY);
    let parts = (intake().with_clock(next_month), QueueKind::Plain);
    let consumer = bus.consumer(&app, app.handler.clone(), parts).await;
    let too_old = "the sealed command is so old that it may have been executed and forgotten";
    assert_eq!(reasons(1).await, [format!("\"{too_old}\"")]);
    assert_eq!(number_of_users(&app).await, 0);
    consumer.stop().await;

    put_back(&bus, &message, id, SEALED, payload).await;
    let strict = (intake().accepting_plain(false), QueueKind::Plain);
    let _consumer = bus.consumer(&app, app.handler.clone(), strict).await;
    until("the command is executed", async || {
        (number_of_users(&app).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_command_is_accepted_while_the_store_is_away() {
    let (mut app, _bus) = deferring().await;
    app.stop_store().await;
    link(&later(&app, Method::POST, "/", &user("ada")).await);
    link(&later_under(&app, "k", &user("bob")).await);
    let now = app.request(Method::POST, "/").json(&user("eve"));
    let now = now.timeout(Duration::from_secs(30)).send().await.unwrap();
    assert_eq!(now.status(), StatusCode::SERVICE_UNAVAILABLE);
}
