//! Commands with an idempotency key may be repeated at any time: they are executed once.

use crate::support::{App, Counter, id, profile, spawn_app, until, user};
use bytes::Bytes;
use event_streams::{AppendError, Expected, NewEvent};
use futures::future::{BoxFuture, FutureExt as _, join_all};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;
use users_service::domain::UserId;
use users_service::ids::{FetchError, IdService, IdSource};
use users_service::privacy::cipher::SubjectKey;
use users_service::privacy::pseudonym::UsernameSecret;
use users_service::stored_event::{
    AcceptedCommand, CommandEvent, ReservationEvent, tombstone, user_stream,
};
use uuid::Uuid;

/// The name of the header that marks a repeated answer.
const REPLAYED: &str = "idempotency-replayed";

/// No ids, as if the id service were away.
struct NoIds;

impl IdService for NoIds {
    fn fetch(&self, _: usize, _: Option<UserId>) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        async { Err(FetchError::TimedOut) }.boxed()
    }
}

async fn keyed(app: &App, method: Method, path: &str, key: &str, body: &Value) -> Response {
    let request = app.request(method, path).header("Idempotency-Key", key);
    request.json(body).send().await.unwrap()
}

async fn post(app: &App, key: &str, username: &str) -> Response {
    keyed(app, Method::POST, "/", key, &user(username)).await
}

async fn patch(app: &App, key: &str, user: &Value, body: &Value) -> Response {
    keyed(app, Method::PATCH, &format!("/{}", id(user)), key, body).await
}

async fn delete(app: &App, key: &str, user: &Value) -> Response {
    let request = app.request(Method::DELETE, &format!("/{}", id(user)));
    request.header("Idempotency-Key", key).send().await.unwrap()
}

fn is_replayed(answer: &Response) -> bool {
    answer
        .headers()
        .get(REPLAYED)
        .is_some_and(|value| value == "true")
}

/// Status, and whether the answer is a repeated one.
fn told(answer: &Response) -> (u16, bool) {
    (answer.status().as_u16(), is_replayed(answer))
}

async fn created(answer: Response) -> Value {
    assert_eq!(answer.status(), StatusCode::CREATED);
    answer.json().await.unwrap()
}

async fn given_name(app: &App, user: &Value) -> String {
    let read: Value = app.get(user).await.json().await.unwrap();
    read["given_name"].as_str().unwrap().to_owned()
}

fn secret() -> UsernameSecret {
    crate::support::SECRET.repeat(32).parse().unwrap()
}

fn stream_of(method: &str, path: &str, key: &str) -> String {
    secret().command_stream(["anonymous", method, path, key])
}

async fn append(
    app: &App,
    stream: &str,
    expected: Expected,
    event: NewEvent,
) -> Result<u64, AppendError> {
    let appended = app.store.append(stream, expected, vec![event]).await;
    appended.map(|appended| appended.revision)
}

/// A creation whose process died or stalls: it was accepted, and nothing else is stored.
struct Interrupted {
    user: UserId,
    key: SubjectKey,
    command: Uuid,
}

impl Interrupted {
    async fn creation(app: &App, key: &str, username: &str, user: u64) -> Self {
        let stream = stream_of("POST", "/", key);
        let creation = Self {
            user: UserId::new(user),
            key: app.keys.fresh().await.unwrap(),
            command: Uuid::new_v4(),
        };
        let names = profile(username);
        let print = creation.key.fingerprint(&stream, &names.names().map(Some));
        let accepted = CommandEvent::Accepted(AcceptedCommand {
            command: creation.command,
            user: creation.user,
            body: Some((creation.key.id(), print)),
            revision: None,
        });
        let accepted = accepted.encode(Uuid::new_v4());
        append(app, &stream, Expected::NoStream, accepted)
            .await
            .unwrap();
        creation
    }

    async fn claim(&self, app: &App, username: &str) {
        let name = secret().reservation(&profile(username).username);
        let claim = ReservationEvent::claimed(self.user).encode(Uuid::new_v4());
        append(app, name.as_str(), Expected::NoStream, claim)
            .await
            .unwrap();
    }

    /// What the process would append next, whether the names are sealed or not.
    async fn commit(&self, app: &App) -> Result<u64, AppendError> {
        let created = NewEvent {
            id: Uuid::new_v5(&self.command, &0_u32.to_be_bytes()),
            event_type: "UserCreated.v1".into(),
            data: Bytes::from_static(b"{}"),
            metadata: Bytes::new(),
        };
        append(app, &user_stream(self.user), Expected::NoStream, created).await
    }
}

/// A change or deletion of a user whose process died: it was accepted, and nothing else is stored.
async fn interrupted_change(
    app: &App,
    (method, key): (&str, &str),
    of: &Value,
    body: Option<&str>,
) -> Uuid {
    let stream = stream_of(method, &format!("/{}", id(of)), key);
    let command = Uuid::new_v4();
    let print = match body {
        Some(username) => {
            let id = crate::erasing::key(app, of).await;
            let found = app.keys.find(id).await.unwrap();
            let users_service::privacy::subject_keys::Lookup::Found(subject) = found else {
                panic!("the user has no key");
            };
            let names = profile(username);
            let names = [Some(names.username.personal()), None, None];
            Some((id, subject.fingerprint(&stream, &names)))
        }
        None => None,
    };
    let accepted = CommandEvent::Accepted(AcceptedCommand {
        command,
        user: id(of).parse().unwrap(),
        body: print,
        revision: Some(0),
    });
    let accepted = accepted.encode(Uuid::new_v4());
    append(app, &stream, Expected::NoStream, accepted)
        .await
        .unwrap();
    command
}

#[tokio::test]
async fn a_repeated_creation_is_answered_with_the_same_user() {
    let app = spawn_app().await;
    let first = post(&app, "k", "ada").await;
    assert_eq!(told(&first), (201, false));
    let location = first.headers()["location"].clone();
    let ada = created(first).await;
    let events = app.log().await.len();
    for _ in 0..3 {
        let again = post(&app, "k", "ada").await;
        assert_eq!(told(&again), (201, true));
        assert_eq!(again.headers()["location"], location);
        assert_eq!(created(again).await, ada);
    }
    assert_eq!(app.log().await.len(), events);
    assert_eq!(told(&post(&app, "other", "ada").await), (409, false));
}

#[tokio::test]
async fn a_creation_with_a_key_costs_one_more_append_and_the_life_span_of_its_memory() {
    let app = spawn_app().await;
    app.created("eve").await;
    let (calls, before) = (app.store_calls().await, app.whole_log().await.len());
    created(post(&app, "k", "ada").await).await;
    // The test read the log once. The appends share one session.
    assert_eq!(app.store_calls().await - calls - 1, 0);
    let memory = stream_of("POST", "/", "k");
    until("the life span is stored", || async {
        let log = app.whole_log().await.split_off(before);
        let mut streams: Vec<_> = log.iter().map(|event| event.stream.as_str()).collect();
        streams.sort_unstable();
        let life_span = format!("$${memory}");
        let all = streams.len() == 4 && streams.contains(&life_span.as_str());
        all.then(|| assert!(streams.contains(&memory.as_str())))
    })
    .await;
}

#[tokio::test]
async fn a_key_with_another_body_is_refused() {
    let app = spawn_app().await;
    let ada = created(post(&app, "k", "ada").await).await;
    assert_eq!(told(&post(&app, "k", "eve").await), (422, false));
    let augusta = json!({"given_name": "Augusta"});
    assert_eq!(told(&patch(&app, "k", &ada, &augusta).await), (204, false));
    for other in [
        json!({"given_name": "A."}),
        json!({}),
        json!({"family_name": "Augusta"}),
    ] {
        assert_eq!(told(&patch(&app, "k", &ada, &other).await), (422, false));
    }
    assert_eq!(given_name(&app, &ada).await, "Augusta");
    assert_eq!(told(&post(&app, "new", "eve").await), (201, false));
}

#[tokio::test]
async fn a_repeated_change_is_not_made_again() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let augusta = json!({"given_name": "Augusta"});
    assert_eq!(told(&patch(&app, "k", &ada, &augusta).await), (204, false));
    app.patch(&ada, &json!({"given_name": "A."})).await;
    assert_eq!(told(&patch(&app, "k", &ada, &augusta).await), (204, true));
    assert_eq!(given_name(&app, &ada).await, "A.");
    assert_eq!(app.events(&format!("users-{}", id(&ada))).await.len(), 3);
}

#[tokio::test]
async fn refusals_and_commands_that_change_nothing_are_remembered() {
    let app = spawn_app().await;
    let (ada, eve) = (app.created("ada").await, app.created("eve").await);
    let to_ada = json!({"username": "ada"});
    assert_eq!(told(&post(&app, "k", "ada").await), (409, false));
    assert_eq!(told(&patch(&app, "k", &eve, &to_ada).await), (409, false));
    assert_eq!(
        told(&patch(&app, "same", &eve, &json!({"given_name": "Ada"})).await),
        (204, false)
    );
    let nobody = json!({"id": "12345"});
    assert_eq!(
        told(&patch(&app, "k", &nobody, &to_ada).await),
        (404, false)
    );
    assert_eq!(told(&delete(&app, "k", &nobody).await), (404, false));
    app.delete(&ada).await;
    app.patch(&eve, &json!({"given_name": "E."})).await;

    assert_eq!(told(&post(&app, "k", "ada").await), (409, true));
    assert_eq!(told(&patch(&app, "k", &eve, &to_ada).await), (409, true));
    assert_eq!(
        told(&patch(&app, "same", &eve, &json!({"given_name": "Ada"})).await),
        (204, true)
    );
    assert_eq!(told(&patch(&app, "k", &nobody, &to_ada).await), (404, true));
    assert_eq!(told(&delete(&app, "k", &nobody).await), (404, true));
    assert_eq!(given_name(&app, &eve).await, "E.");
    assert_eq!(told(&patch(&app, "new", &eve, &to_ada).await), (204, false));
}

#[tokio::test]
async fn after_the_erasure_a_repeated_deletion_is_done_and_all_else_is_gone() {
    let app = spawn_app().await;
    let ada = created(post(&app, "k", "ada").await).await;
    let augusta = json!({"given_name": "Augusta"});
    patch(&app, "k", &ada, &augusta).await;
    assert_eq!(told(&delete(&app, "k", &ada).await), (204, false));
    let answers = async || {
        assert_eq!(told(&delete(&app, "k", &ada).await), (204, true));
        assert_eq!(told(&post(&app, "k", "ada").await), (410, false));
        assert_eq!(told(&patch(&app, "k", &ada, &augusta).await), (410, false));
        assert_eq!(told(&delete(&app, "late", &ada).await).0, 404);
    };
    answers().await;
    let stream = format!("users-{}", id(&ada));
    app.store.tombstone(&stream, Expected::Any).await.unwrap();
    answers().await;
    let log = app.log().await;
    let created = log
        .iter()
        .filter(|event| event.event_type == "UserCreated.v1");
    assert_eq!(created.count(), 1, "somebody was made anew");
}

#[tokio::test]
async fn a_command_for_an_erased_user_is_accepted_together_with_its_refusal() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    let before = app.whole_log().await.len();
    assert_eq!(told(&delete(&app, "late", &ada).await), (404, false));
    let types = app.whole_log().await.split_off(before);
    let types: Vec<_> = types.into_iter().map(|event| event.event_type).collect();
    assert_eq!(types, ["CommandAccepted.v1", "CommandDone.v1", "$metadata"]);
    assert_eq!(told(&delete(&app, "late", &ada).await), (404, true));
}

#[tokio::test]
async fn concurrent_duplicates_have_one_outcome() {
    let app = spawn_app().await;
    let answers = join_all((0..16).map(|_| post(&app, "k", "ada"))).await;
    assert_eq!(
        answers.iter().filter(|answer| !is_replayed(answer)).count(),
        1
    );
    let users = join_all(answers.into_iter().map(created)).await;
    assert!(users.iter().all(|user| *user == users[0]));
    for round in 0..5 {
        let key = format!("r{round}");
        let rename = json!({"username": format!("lady{round}"), "given_name": "Augusta"});
        let stream = format!("users-{}", id(&users[0]));
        let before = app.events(&stream).await.len();
        let answers = join_all((0..16).map(|_| patch(&app, &key, &users[0], &rename))).await;
        assert!(
            answers
                .iter()
                .all(|answer| answer.status() == StatusCode::NO_CONTENT)
        );
        assert_eq!(app.events(&stream).await.len(), before + 1);
    }
    let taken = join_all((0..16).map(|_| post(&app, "taken", "lady4"))).await;
    assert!(
        taken
            .iter()
            .all(|answer| answer.status() == StatusCode::CONFLICT)
    );
    let deleted = join_all((0..16).map(|_| delete(&app, "k", &users[0]))).await;
    assert!(
        deleted
            .iter()
            .all(|answer| answer.status() == StatusCode::NO_CONTENT)
    );
}

#[tokio::test]
async fn deletions_under_one_key_have_one_answer_also_if_another_command_deletes_the_user() {
    let app = spawn_app().await;
    for round in 0..10 {
        let ada = app.created(&format!("ada{round}")).await;
        let at_once = async |key: &str| {
            let answers = join_all((0..4).map(|_| delete(&app, key, &ada))).await;
            answers.iter().map(Response::status).collect::<HashSet<_>>()
        };
        let (answers, _) = tokio::join!(at_once("k"), app.delete(&ada));
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(at_once("k").await, answers);
        let late = at_once("late").await;
        assert_eq!(late, [StatusCode::NOT_FOUND].into());
    }
}

#[tokio::test]
async fn a_key_belongs_to_one_method_and_path() {
    let app = spawn_app().await;
    let ada = created(post(&app, "k", "ada").await).await;
    let eve = created(post(&app, "e", "eve").await).await;
    let given = json!({"given_name": "X"});
    for user in [&ada, &eve] {
        assert_eq!(told(&patch(&app, "k", user, &given).await), (204, false));
        assert_eq!(given_name(&app, user).await, "X");
        assert_eq!(told(&delete(&app, "k", user).await), (204, false));
    }
}

#[tokio::test]
async fn a_key_that_is_too_long_empty_double_or_not_ascii_is_refused() {
    let app = spawn_app().await;
    let before = app.whole_log().await.len();
    let long = "k".repeat(10 * 1024);
    let keys: [&[&[u8]]; 6] = [
        &[long.as_bytes()],
        &["k".repeat(256).as_bytes().to_vec().leak()],
        &[b""],
        &[b"one", b"two"],
        &["schlüssel".as_bytes()],
        &[b"tab\there"],
    ];
    for values in keys {
        let mut request = app.request(Method::POST, "/").json(&user("ada"));
        for value in values {
            let value = reqwest::header::HeaderValue::from_bytes(value).unwrap();
            request = request.header("Idempotency-Key", value);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let problem: Value = answer.json().await.unwrap();
        assert!(
            problem["message"]
                .as_str()
                .unwrap()
                .contains("Idempotency-Key")
        );
    }
    assert_eq!(app.whole_log().await.len(), before);
    assert_eq!(
        told(&post(&app, &"k".repeat(255), "ada").await),
        (201, false)
    );
}

#[tokio::test]
async fn a_creation_whose_process_died_before_the_claim_is_finished_under_the_same_id() {
    let app = spawn_app().await;
    let died = Interrupted::creation(&app, "k", "ada", 4_711).await;
    assert_eq!(told(&post(&app, "k", "eve").await), (422, false));
    let again = post(&app, "k", "ada").await;
    assert_eq!(told(&again), (201, false));
    let ada = created(again).await;
    assert_eq!(id(&ada), died.user.to_string());
    assert!(app.is_there(&ada).await);
    assert_eq!(told(&post(&app, "k", "ada").await), (201, true));
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    assert_eq!(told(&post(&app, "k", "ada").await), (410, false));
}

#[tokio::test]
async fn a_creation_whose_process_died_between_claim_and_commit_is_finished() {
    let app = spawn_app().await;
    let died = Interrupted::creation(&app, "k", "ada", 4_711).await;
    died.claim(&app, "ada").await;
    let ada = created(post(&app, "k", "ada").await).await;
    assert_eq!(id(&ada), died.user.to_string());
    assert_eq!(
        app.create(&user("ada")).await.status(),
        StatusCode::CONFLICT
    );
}

#[tokio::test]
async fn a_creation_whose_id_was_abandoned_while_a_rival_took_the_name_is_refused() {
    let app = spawn_app().await;
    let died = Interrupted::creation(&app, "k", "ada", 4_711).await;
    died.claim(&app, "ada").await;
    app.created("ada").await;
    assert_eq!(
        app.events("users-4711").await.len(),
        1,
        "the id is abandoned"
    );
    let refused = post(&app, "k", "ada").await;
    assert_eq!(told(&refused), (409, false));
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "urn:problem-type:username-taken");
    assert_eq!(told(&post(&app, "k", "ada").await), (409, true));
}

#[tokio::test]
async fn a_creation_whose_process_died_and_whose_claim_was_swept_is_finished_under_another_id() {
    let app = spawn_app().await;
    let died = Interrupted::creation(&app, "k", "ada", 4_711).await;
    died.claim(&app, "ada").await;
    let sweeper = app.sweeper(Duration::from_millis(10));
    until("the claim is released", || async {
        let name = secret().reservation(&profile("ada").username);
        let last = app.store.read_last(name.as_str()).await.unwrap()?;
        (last.event_type == "UsernameReleased.v1").then_some(())
    })
    .await;
    drop(sweeper);
    assert!(matches!(
        died.commit(&app).await,
        Err(AppendError::Conflict { .. })
    ));
    let again = post(&app, "k", "ada").await;
    assert_eq!(told(&again), (201, false));
    let ada = created(again).await;
    assert_ne!(id(&ada), died.user.to_string());
    assert!(app.is_there(&ada).await);
    let once_more = post(&app, "k", "ada").await;
    assert_eq!(told(&once_more), (201, true));
    assert_eq!(created(once_more).await, ada);
}

#[tokio::test]
async fn a_change_whose_process_died_is_finished() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    interrupted_change(&app, ("PATCH", "k"), &ada, Some("lady")).await;
    app.patch(&ada, &json!({"given_name": "Augusta"})).await;
    let rename = json!({"username": "lady"});
    assert_eq!(told(&patch(&app, "k", &ada, &rename).await), (204, false));
    assert_eq!(told(&patch(&app, "k", &ada, &rename).await), (204, true));
    let read: Value = app.get(&ada).await.json().await.unwrap();
    assert_eq!(
        (&read["username"], &read["given_name"]),
        (&json!("lady"), &json!("Augusta"))
    );
    assert_eq!(app.create(&user("ada")).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_deletion_whose_process_died_is_finished_wherever_it_stopped() {
    let app = spawn_app().await;
    let (ada, eve) = (app.created("ada").await, app.created("eve").await);
    interrupted_change(&app, ("DELETE", "k"), &ada, None).await;
    let command = interrupted_change(&app, ("DELETE", "k"), &eve, None).await;
    let of_eve = id(&eve).parse().unwrap();
    let deleted = tombstone(Uuid::new_v5(&command, &0_u32.to_be_bytes()), of_eve);
    append(&app, &user_stream(of_eve), Expected::Revision(0), deleted)
        .await
        .unwrap();
    let keys = [
        crate::erasing::key(&app, &ada).await,
        crate::erasing::key(&app, &eve).await,
    ];
    assert_eq!(told(&delete(&app, "k", &ada).await), (204, false));
    assert_eq!(told(&delete(&app, "k", &eve).await), (204, true));
    for key in keys {
        assert!(crate::erasing::is_destroyed(&app, key).await);
    }
}

#[tokio::test]
async fn a_change_that_died_before_an_unfinished_deletion_is_gone() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    interrupted_change(&app, ("PATCH", "k"), &ada, Some("lady")).await;
    crate::erasing::interrupted_delete(&app, &ada).await;
    let rename = json!({"username": "lady"});
    assert_eq!(told(&patch(&app, "k", &ada, &rename).await), (410, false));
    assert_eq!(told(&patch(&app, "new", &ada, &rename).await).0, 404);
}

#[tokio::test]
async fn a_creation_that_died_and_was_then_erased_makes_nobody() {
    let app = spawn_app().await;
    let died = Interrupted::creation(&app, "k", "ada", 4_711).await;
    app.keys.destroy(died.key.id()).await.unwrap();
    assert_eq!(told(&post(&app, "k", "ada").await), (410, false));
    assert!(app.events("users-4711").await.is_empty());
}

#[tokio::test]
async fn a_stalled_process_cannot_commit_after_its_command_was_refused() {
    let app = spawn_app().await;
    app.created("ada").await;
    let stalled = Interrupted::creation(&app, "k", "ada", 4_711).await;
    assert_eq!(told(&post(&app, "k", "ada").await), (409, false));
    assert!(matches!(
        stalled.commit(&app).await,
        Err(AppendError::Conflict { .. })
    ));
    assert_eq!(told(&post(&app, "k", "ada").await), (409, true));
}

#[tokio::test]
async fn a_key_whose_time_is_over_is_a_new_command() {
    let app = spawn_app().await;
    let app = app.with_handler(|handler| handler.remembering_for(Duration::from_secs(1)));
    let ada = app.created("ada").await;
    let augusta = json!({"given_name": "Augusta"});
    assert_eq!(told(&patch(&app, "k", &ada, &augusta).await), (204, false));
    app.patch(&ada, &json!({"given_name": "A."})).await;
    until("the key is forgotten", || async {
        let answer = patch(&app, "k", &ada, &augusta).await;
        (told(&answer) == (204, false)).then_some(())
    })
    .await;
    assert_eq!(given_name(&app, &ada).await, "Augusta");
}

#[tokio::test]
async fn a_command_is_remembered_for_thirty_days() {
    let app = spawn_app().await;
    post(&app, "k", "ada").await;
    let life_span = format!("$${}", stream_of("POST", "/", "k"));
    let metadata = until("the life span is stored", || async {
        app.store.read_last(&life_span).await.unwrap()
    })
    .await;
    assert_eq!(metadata.data, r#"{"$maxAge":2592000}"#);
}

#[tokio::test]
async fn a_command_that_failed_is_not_remembered() {
    let app = spawn_app().await;
    let without_ids = app.handler_with(IdSource::new(vec![Box::new(NoIds)]));
    let stuck = app.with_handler(|_| without_ids);
    assert_eq!(told(&post(&stuck, "k", "ada").await), (503, false));
    let ids = IdSource::new(vec![Box::new(Counter::from(1_000))]);
    let with_ids = stuck.handler_with(ids);
    let app = stuck.with_handler(|_| with_ids);
    assert_eq!(told(&post(&app, "k", "ada").await), (201, false));
    let without_ids = app.handler_with(IdSource::new(vec![Box::new(NoIds)]));
    let stuck = app.with_handler(|_| without_ids);
    assert_eq!(told(&post(&stuck, "k", "ada").await), (201, true));
}

#[tokio::test]
async fn the_key_of_a_refused_creation_is_used_for_nobody_else() {
    let app = spawn_app().await;
    app.created("ada").await;
    assert_eq!(told(&post(&app, "k", "ada").await), (409, false));
    let memory = app.events(&stream_of("POST", "/", "k")).await;
    let accepted: Value = serde_json::from_slice(&memory[0].data).unwrap();
    let eve = created(post(&app, "k2", "eve").await).await;
    let of_eve = crate::erasing::key(&app, &eve).await.to_string();
    assert_ne!(accepted["key"], of_eve);
    // Otherwise the erasure of the one would destroy the memory of the other.
    app.delete(&eve).await;
    assert_eq!(told(&post(&app, "k", "ada").await), (409, true));
}

#[tokio::test]
async fn the_memory_of_a_command_says_nothing_about_its_body_or_its_key() {
    let app = spawn_app().await;
    let ada = created(post(&app, "key-of-lovelace", "adalovelace").await).await;
    patch(
        &app,
        "key-of-lovelace",
        &ada,
        &json!({"given_name": "Augusta"}),
    )
    .await;
    let log = app.whole_log().await;
    let memories: Vec<_> = log
        .iter()
        .filter(|event| event.stream.starts_with("command-"))
        .collect();
    assert_eq!(memories.len(), 2);
    for memory in memories {
        let text = format!("{} {:?} {:?}", memory.stream, memory.data, memory.metadata);
        let text = text.to_lowercase();
        for name in ["lovelace", "augusta", "key-of"] {
            assert!(!text.contains(name), "{text}");
        }
    }
}
