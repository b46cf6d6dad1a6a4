//! The guarantees of the command API to its clients.

use crate::support::{App, Counter, create, id, spawn_app, user};
use event_streams::{EventStreams, Expected};
use futures::future::{BoxFuture, FutureExt as _, join_all};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use users_service::command::error::CommandError;
use users_service::domain::{UserError, UserId};
use users_service::ids::{FetchError, IdService, IdSource};
use users_service::stored_event::{Fence, user_stream};
use uuid::Uuid;

/// How many keys are generated in one batch.
const KEYS_OF_A_BATCH: i64 = 256;

/// Abandons each id before it is handed out, so the commit of every creation is refused.
pub(crate) struct Fenced {
    store: EventStreams,
    ids: Counter,
}

impl Fenced {
    pub(crate) fn ids(app: &App) -> IdSource {
        let store = app.store.clone();
        let ids = Counter::from(1_000_000);
        IdSource::new(vec![Box::new(Self { store, ids })])
    }
}

impl IdService for Fenced {
    fn fetch(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        async move {
            let ids = self.ids.fetch(count, after).await?;
            for id in &ids {
                let fence = Fence::RegistrationAbandoned.encode(Uuid::new_v4(), *id);
                let stream = user_stream(*id);
                let appended = self.store.append(&stream, Expected::NoStream, vec![fence]);
                appended.await.map_err(anyhow::Error::from)?;
            }
            Ok(ids)
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_user_is_created_read_patched_and_deleted() {
    let app = spawn_app().await;
    let answer = app.create(&user("ada")).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let location = answer.headers()[header::LOCATION].clone();
    let created: Value = answer.json().await.unwrap();
    assert_eq!(location, format!("/{}", id(&created)).as_str());
    let mut expected = user("ada");
    expected["id"] = created["id"].clone();
    assert_eq!(created, expected);
    let read: Value = app.get(&created).await.json().await.unwrap();
    assert_eq!(read, expected);
    let patch = json!({"given_name": "Augusta"});
    assert_eq!(app.patch(&created, &patch).await, StatusCode::NO_CONTENT);
    expected["given_name"] = json!("Augusta");
    let read: Value = app.get(&created).await.json().await.unwrap();
    assert_eq!(read, expected);
    assert_eq!(app.delete(&created).await, StatusCode::NO_CONTENT);
    assert!(!app.is_there(&created).await);
    assert_eq!(app.delete(&created).await, StatusCode::NOT_FOUND);
    assert_eq!(app.patch(&created, &patch).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_uncontended_creation_costs_two_appends_and_no_read() {
    let app = spawn_app().await;
    app.created("ada").await;
    let calls = app.store_calls().await;
    let created = app.created("eve").await;
    // Appends share one session, which is already open.
    assert_eq!(app.store_calls().await - calls, 0);
    let log = app.log().await.split_off(2);
    let names: Vec<_> = log.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(names, ["UsernameClaimed.v1", "UserCreated.v1"]);
    assert_eq!(log[1].stream, format!("users-{}", id(&created)));
}

#[tokio::test]
async fn reads_and_changes_of_a_user_cost_one_read_of_the_store() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let (calls, events) = (app.store_calls().await, app.log().await.len());
    assert_eq!(app.get(&ada).await.status(), StatusCode::OK);
    // The log was read once by this test.
    let get = app.store_calls().await - calls - 1;
    assert_eq!((get, app.log().await.len() - events), (1, 0));
    let calls = app.store_calls().await;
    let patch = json!({"given_name": "Augusta"});
    assert_eq!(app.patch(&ada, &patch).await, StatusCode::NO_CONTENT);
    let patched = app.store_calls().await - calls;
    assert_eq!((patched, app.log().await.len() - events), (1, 1));
}

#[tokio::test]
async fn requests_for_taken_names_cost_requests_for_new_names_nothing() {
    let app = spawn_app().await;
    app.created("ada").await;
    let calls = app.store_calls().await;
    for hundred in 0..10 {
        let names: Vec<_> = (0..100).map(|one| format!("eve{hundred}-{one}")).collect();
        let new = names.iter().map(|name| create(&app.handler, name));
        let taken = (0..100).map(|_| create(&app.handler, "ada"));
        let (new, taken) = tokio::join!(join_all(new), join_all(taken));
        assert!(new.iter().all(Result::is_ok));
        assert!(taken.iter().all(Result::is_err));
    }
    let reads_of_the_refused = 1_000 * 2;
    assert_eq!(app.store_calls().await - calls, reads_of_the_refused);
    assert_eq!(app.log().await.len(), 2 + 1_000 * 2);
}

#[tokio::test]
async fn one_of_sixty_four_concurrent_requests_gets_a_username() {
    let app = spawn_app().await;
    let body = user("ada");
    let answers = join_all((0..64).map(|_| app.create(&body))).await;
    let count = |status| {
        answers
            .iter()
            .filter(|answer| answer.status() == status)
            .count()
    };
    assert_eq!(count(StatusCode::CREATED), 1);
    assert_eq!(count(StatusCode::CONFLICT), 63);
}

#[tokio::test]
async fn other_spellings_are_the_same_name() {
    let app = spawn_app().await;
    app.created("Ada").await;
    for spelling in ["ada", "ADA", "Ａda", "a\u{200C}da"] {
        let answer = app.create(&user(spelling)).await;
        assert_eq!(answer.status(), StatusCode::CONFLICT, "{spelling}");
    }
    // A capital and its small letter, which Unicode 17 added.
    app.created("a\u{16EA0}a").await;
    let answer = app.create(&user("a\u{16EBB}a")).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
}

#[tokio::test]
async fn after_a_rename_the_new_name_is_reserved_and_the_old_one_is_free() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let rename = json!({"username": "lady"});
    assert_eq!(app.patch(&ada, &rename).await, StatusCode::NO_CONTENT);
    assert_eq!(
        app.create(&user("lady")).await.status(),
        StatusCode::CONFLICT
    );
    let other = app.created("ada").await;
    assert_eq!(app.patch(&other, &rename).await, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_patch_with_the_users_own_name_makes_no_claim() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    for own in ["ada", "ADA"] {
        let patch = json!({"username": own, "given_name": "Augusta"});
        assert_eq!(app.patch(&ada, &patch).await, StatusCode::NO_CONTENT);
    }
    let claims = app.log().await;
    let claims = claims
        .iter()
        .filter(|event| event.stream.starts_with("username-"));
    assert_eq!(claims.count(), 1);
    assert_eq!(
        app.create(&user("ada")).await.status(),
        StatusCode::CONFLICT
    );
}

#[tokio::test]
async fn the_name_of_a_deleted_user_is_free_at_once() {
    let app = spawn_app().await;
    for _ in 0..3 {
        let ada = app.created("ada").await;
        assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn two_concurrent_patches_both_take_effect() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    for round in 0..10 {
        let (given, family) = (format!("G{round}"), format!("F{round}"));
        let patches = [json!({"given_name": given}), json!({"family_name": family})];
        let done = join_all(patches.iter().map(|patch| app.patch(&ada, patch))).await;
        assert_eq!(done, [StatusCode::NO_CONTENT; 2]);
        let read: Value = app.get(&ada).await.json().await.unwrap();
        assert_eq!(
            (&read["given_name"], &read["family_name"]),
            (&json!(given), &json!(family))
        );
    }
}

#[tokio::test]
async fn after_many_concurrent_renames_each_name_has_one_holder() {
    let app = spawn_app().await;
    let names = ["ada", "bob", "cyd"];
    let users = join_all(names.map(|name| app.created(name))).await;
    for round in 0..5 {
        let renames = users.iter().enumerate().flat_map(|(index, user)| {
            let to = |name| json!({"username": name});
            let next = [names[(index + round) % 3], "dan"];
            next.map(|name| (user, to(name)))
        });
        let renames: Vec<_> = renames.collect();
        join_all(renames.iter().map(|(user, patch)| app.patch(user, patch))).await;
        let held = join_all(users.iter().map(|user| username(&app, user))).await;
        let distinct: std::collections::HashSet<_> = held.iter().collect();
        assert_eq!(distinct.len(), 3, "{held:?}");
        for name in &held {
            assert_eq!(app.create(&user(name)).await.status(), StatusCode::CONFLICT);
        }
    }
}

#[tokio::test]
async fn a_refused_creation_costs_no_key() {
    let app = spawn_app().await;
    app.created("ada").await;
    for _ in 0..100 {
        let answers = join_all((0..100).map(|_| create(&app.handler, "ada"))).await;
        let refused = |answer: &Result<_, CommandError>| {
            matches!(
                answer,
                Err(CommandError::Rejected(UserError::UsernameTaken))
            )
        };
        assert!(answers.iter().all(refused));
    }
    assert_eq!(app.rows_of_keys().await, KEYS_OF_A_BATCH);
}

#[tokio::test]
async fn a_creation_whose_commit_is_refused_leaves_its_key_to_the_next() {
    let app = spawn_app().await;
    let handler = app.handler_with(Fenced::ids(&app));
    for number in 0..60 {
        let refused = create(&handler, &format!("ada{number}")).await;
        assert!(matches!(refused, Err(CommandError::Conflict)));
    }
    assert_eq!(app.rows_of_keys().await, KEYS_OF_A_BATCH);
    app.created("ada").await;
}

#[tokio::test]
async fn each_event_of_a_command_names_the_caller_the_conversation_and_the_command() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let stream = format!("users-{}", id(&ada));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let patch = app.request(Method::PATCH, &format!("/{}", id(&ada)));
    let patch = patch
        .header("traceparent", parent)
        .json(&json!({"given_name": "Augusta"}));
    assert_eq!(patch.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    let events = app.events(&stream).await;
    let origins: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_slice(&event.metadata).unwrap())
        .collect();
    for origin in &origins {
        assert_eq!(origin["caller"], "anonymous");
        let command: Uuid = origin["$causationId"].as_str().unwrap().parse().unwrap();
        assert!(!command.is_nil());
    }
    let conversation = |index: usize| origins[index]["$correlationId"].as_str().unwrap().parse();
    assert_eq!(conversation(1), Uuid::parse_str(trace));
    assert_ne!(conversation(0), conversation(2));
    assert_eq!(origins.len(), 3);
}

async fn username(app: &App, user: &Value) -> String {
    let read: Value = app.get(user).await.json().await.unwrap();
    read["username"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_malformed_or_unknown_id_is_not_found() {
    let app = spawn_app().await;
    for id in ["abc", "-1", "01", "99999999999999999999", "12345"] {
        let user = json!({"id": id});
        assert_eq!(app.get(&user).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(app.delete(&user).await, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn while_the_store_is_unavailable_clients_are_told_to_retry() {
    let mut app = spawn_app().await;
    let ada = app.created("ada").await;
    app.stop_store().await;
    let eve = user("eve");
    let (created, read) = tokio::join!(app.create(&eve), app.get(&ada));
    for answer in [created, read] {
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key(header::RETRY_AFTER));
        let problem: Value = answer.json().await.unwrap();
        assert!(problem["message"].is_string());
    }
}
