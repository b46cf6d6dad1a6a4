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
    pub(crate) store: EventStreams,
    pub(crate) ids: Counter,
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
    for spelling in ["ada", "ADA", "Ａda", "a\u{200B}da"] {
        let answer = app.create(&user(spelling)).await;
        assert_eq!(answer.status(), StatusCode::CONFLICT, "{spelling}");
    }
    // A capital and its small letter, which Unicode 17 added.
    app.created("\u{16EA0}").await;
    let answer = app.create(&user("\u{16EBB}")).await;
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
    let names = ["a", "b", "c"];
    let users = join_all(names.map(|name| app.created(name))).await;
    for round in 0..5 {
        let renames = users.iter().enumerate().flat_map(|(index, user)| {
            let to = |name| json!({"username": name});
            let next = [names[(index + round) % 3], "d"];
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
    let fenced = Fenced {
        store: app.store.clone(),
        ids: Counter::from(1_000_000),
    };
    let handler = app.handler_with(IdSource::new(vec![Box::new(fenced)]));
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
async fn bad_input_changes_nothing_and_names_the_field() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let before = app.log().await.len();
    for (field, value) in [
        ("username", json!("")),
        ("username", json!(null)),
        ("given_name", json!("x".repeat(10_000))),
        ("family_name", json!(5)),
        ("username", json!("\u{2800}")),
        ("username", json!("eve ")),
        ("username", json!("e  ve")),
        ("username", json!("eve\u{378}")),
        ("given_name", json!("\u{200B}")),
        ("family_name", json!(" Eve")),
    ] {
        let mut body = user("eve");
        body[field] = value.clone();
        let change = json!({ field: value });
        let of_ada = format!("/{}", id(&ada));
        for answer in [
            app.create(&body).await,
            app.send(Method::PATCH, &of_ada, &change).await,
        ] {
            assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["field"], field);
            assert!(problem["message"].is_string());
        }
    }
    let mut without = user("eve");
    without.as_object_mut().unwrap().remove("family_name");
    let problem: Value = app.create(&without).await.json().await.unwrap();
    assert_eq!(problem["field"], "family_name");
    assert_eq!(app.log().await.len(), before);
}

#[tokio::test]
async fn the_answer_of_a_get_can_be_changed_and_sent_back() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let mut read: Value = app.get(&ada).await.json().await.unwrap();
    read["given_name"] = json!("Augusta");
    assert_eq!(app.patch(&ada, &read).await, StatusCode::NO_CONTENT);
    let after: Value = app.get(&ada).await.json().await.unwrap();
    assert_eq!(after, read);
}

#[tokio::test]
async fn an_unknown_member_is_refused_and_named() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let of_ada = format!("/{}", id(&ada));
    let mut with_id = user("eve");
    with_id["id"] = ada["id"].clone();
    let mut misspelled = user("eve");
    misspelled["givenname"] = json!("X");
    for (method, path, body, field) in [
        (Method::POST, "/", with_id, "id"),
        (Method::POST, "/", misspelled, "givenname"),
        (
            Method::PATCH,
            &of_ada,
            json!({"givenname": "X"}),
            "givenname",
        ),
        (Method::PATCH, &of_ada, json!({"id": "12345"}), "id"),
        (Method::PATCH, &of_ada, json!({"id": null}), "id"),
        (Method::PATCH, &of_ada, json!({"id": 1}), "id"),
    ] {
        let answer = app.send(method.clone(), path, &body).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["field"], field, "{method} {body}");
    }
    let after: Value = app.get(&ada).await.json().await.unwrap();
    assert_eq!(after, ada);
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
